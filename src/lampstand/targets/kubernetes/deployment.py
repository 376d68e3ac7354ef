"""The verbs of one site in a cluster. What was decided is in the cluster itself, so every operator sees the same."""

import asyncio
import base64
import json
import os
import secrets as random_source
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lampstand.errors import LampstandError, TimedOutError, UnavailableError
from lampstand.observed import ObservedInstance, ObservedProcess, State
from lampstand.plan import Plan
from lampstand.site import Site
from lampstand.site.secrets import application_secret_values
from lampstand.targets.base import Progress, Shell
from lampstand.targets.kubernetes.apply import Applier, Difference, collection, served
from lampstand.targets.kubernetes.client import Client
from lampstand.targets.kubernetes.export import write_export
from lampstand.targets.kubernetes.images import Images
from lampstand.targets.kubernetes.manifests import release_job, render
from lampstand.targets.kubernetes.placement import CONTROLLER, ENTRY, workload_of
from lampstand.targets.kubernetes.pods import CONTAINER
from lampstand.targets.kubernetes.project import RELEASE, SECRETS, SITE, SITE_MAP, Manifest, Served
from lampstand.targets.kubernetes.wish import Wish
from lampstand.targets.scaling import merged, scaled
from lampstand.targets.status import document, server
from lampstand.topology import SECRETS as GENERATED
from lampstand.topology import Topology

if TYPE_CHECKING:
    from lampstand.drills.runner import Site as DrillSite

READY_SECONDS = 600.0
STOP_SECONDS = 180.0
ADDRESS_SECONDS = 60.0
"""Seconds that a load balancer may take to get an address."""
LOOK = 1.0


@dataclass(frozen=True)
class Steps:
    """What a command would do."""

    wish: Wish
    manifests: tuple[Manifest, ...]
    job: Manifest | None
    differences: list[Difference]
    gone: list[Manifest]
    plan: Plan


class KubernetesDeployment:
    """Implements `targets.base.Deployment`."""

    name = "kubernetes"

    def __init__(self, site: Site, project: Path, environment: str | None) -> None:
        self.project = project
        self._file_site = site
        default = f"{site.site}-{environment}" if environment else site.site
        self.namespace = site.targets.kubernetes.namespace or default

    @cached_property
    def client(self) -> Client:
        """The cluster of the kubeconfig. Raises LampstandError when it leads to none."""
        return Client.of_kubeconfig(self._file_site.targets.kubernetes.context)

    @cached_property
    def served(self) -> Served:
        """The API versions of the cluster."""
        return served(self.client)

    @cached_property
    def applier(self) -> Applier:
        """Changes objects of this site."""
        return Applier(self.client, self.namespace, self._file_site.site)

    def _path(self, kind: str, name: str, version: str = "v1") -> str:
        return f"{collection(version, kind, self.namespace)}/{name}"

    # -- what the cluster knows --------------------------------------------------------------------------------------
    def kept(self) -> Wish | None:
        """What the last command wished for; None before the first `up`."""
        found = self.client.get(self._path("ConfigMap", SITE_MAP))
        return Wish.of(json.loads(found["data"]["desired.json"])) if found else None

    def secrets(self) -> dict[str, str]:
        """The passwords that the site has, with those that are new; they are written when the site is applied."""
        found: dict[str, Any] = self.client.get(self._path("Secret", SECRETS)) or {}
        data: dict[str, str] = found.get("data") or {}
        known = {name: base64.b64decode(value).decode() for name, value in data.items()}
        missing = {name: random_source.token_urlsafe(24) for name in GENERATED if name not in known}
        return known | missing

    def _published(self) -> dict[str, Any] | None:
        """What a living controller said last."""
        pods = self.applier.pods(CONTROLLER)
        if not any(_ready(p) for p in pods):
            return None
        found = self.client.get(self._path("ConfigMap", "status"))
        return json.loads(found["data"]["status.json"]) if found else {}

    # -- plan, up, scale ---------------------------------------------------------------------------------------------
    async def plan(self) -> Plan:
        """What `up` would do, by a dry run on the API server; changes nothing."""
        return (await asyncio.to_thread(self._steps, self._wish(None))).plan

    async def up(self, confirm: Callable[[Plan], bool], progress: Progress) -> bool:
        """Bring it up, or change what differs; returns when it is ready."""
        return await self._change(self._wish(None), confirm, progress)

    async def scale(
        self, changes: Mapping[str, str], confirm: Callable[[Plan], bool], progress: Progress
    ) -> bool:
        """Keep the new numbers in the cluster, and bring them about; the release stays."""
        kept = self.kept()
        if kept is None:
            raise LampstandError("the site is not up", mend="run `lampstand up -t kubernetes` first")
        numbers = merged(self._file_site, kept.scaled, changes)
        wish = replace(kept, site=scaled(kept.site, numbers), scaled=numbers, generation=kept.generation + 1)
        return await self._change(wish, confirm, progress)

    def _wish(self, url: str | None) -> Wish:
        """What the site file asks for, with the application as it lies in the folder."""
        kept = self.kept()
        numbers: Mapping[str, str] = kept.scaled if kept else {}
        site = scaled(self._file_site, numbers)
        made = Images(site, self.project)
        application = made.application()
        found = made.wanted(application)
        releases = {application.release: found["web"].tag}
        if kept:
            # The last release stays, so that pages which visitors have open find their files.
            before = {kept.release: kept.release_images[kept.release]}
            older = {r: tag for r, tag in kept.release_images.items() if r != application.release}
            releases = (
                before if kept.release != application.release else dict([*older.items()][-1:])
            ) | releases
        return Wish(
            site=site,
            namespace=self.namespace,
            url=url or self.front_url() or "http://localhost",
            release=application.release,
            images={name: image.tag for name, image in found.items() if name != "web"},
            release_images=releases,
            scaled=numbers,
            generation=(kept.generation if kept else 0) + 1,
        )

    def _steps(self, wish: Wish) -> Steps:
        values = application_secret_values(self._file_site, self.project)
        secrets = self.secrets() | {f"env.{name}": value for name, value in values.items()}
        topology, project = wish.topology(secrets), wish.project(secrets)
        manifests = render(topology, project, self.served)
        job = release_job(topology, project, self.served)
        every = (*manifests, *([job] if job else []))
        differences = self.applier.differences(every)
        # The generation counts commands; alone it is no difference.
        differences = [d for d in differences if not (d.live and d.manifest["metadata"]["name"] == SITE_MAP)]
        gone = self.applier.superfluous(every, self.served)
        return Steps(wish, manifests, job, differences, gone, self.applier.plan(differences, gone))

    async def _change(self, wish: Wish, confirm: Callable[[Plan], bool], progress: Progress) -> bool:
        steps = await asyncio.to_thread(self._steps, wish)
        if steps.plan and not confirm(steps.plan):
            return False
        made = Images(wish.site, self.project)
        wanted = {
            name: image
            for name, image in made.wanted(made.application()).items()
            if image.tag in (*wish.images.values(), *wish.release_images.values())
        }
        await made.bring(wanted, self._running_images(), progress)
        if not self._file_site.targets.kubernetes.host and self.front_url() is None:
            steps = await asyncio.to_thread(self._with_address, steps, progress)
        await asyncio.to_thread(self._bring_about, steps, progress)
        return True

    def _running_images(self) -> set[str]:
        """Tags of what the site's pods run: their nodes have them, or can pull them."""
        pods = self.client.list(collection("v1", "Pod", self.namespace), {SITE: self._file_site.site})
        return {c["image"] for p in pods if _ready(p) for c in p["spec"]["containers"]}

    def _with_address(self, steps: Steps, progress: Progress) -> Steps:
        """The entry first: the application is told the site's URL, which its load balancer decides."""
        first = [m for m in steps.manifests if m["kind"] == "Namespace" or _is_entry(m)]
        self.applier.apply(first)
        entry = next(m for m in first if m["kind"] == "Service")
        if entry["spec"]["type"] != "LoadBalancer":
            return steps
        end = time.monotonic() + ADDRESS_SECONDS
        while (url := self.front_url()) is None and time.monotonic() < end:
            progress.waiting("the load balancer has no address yet")
            time.sleep(LOOK)
        if url is None:
            progress.say(
                "The load balancer has no address yet: the site goes on without; run `up` again later."
            )
            return steps
        return self._steps(replace(steps.wish, url=url))

    def _bring_about(self, steps: Steps, progress: Progress) -> None:
        """Apply: first what web servers need, then the release step, then the web tier. Prune at the end."""
        late = ("web", "worker", "scheduler")
        manifests = steps.manifests
        web = [m for m in manifests if m["kind"] == "Deployment" and _kind(m) in late]
        progress.say(f"Applying {len(manifests)} objects to the namespace {self.namespace}")
        for difference in steps.differences:
            if difference.manifest["kind"] in ("Deployment", "StatefulSet"):
                progress.action(difference.action(), "begin")
        self.applier.apply([m for m in manifests if m not in web])
        self.applier.until_ready([m for m in manifests if m not in web], READY_SECONDS, progress.waiting)
        self._replace_outdated(progress)
        if steps.job is not None:
            progress.say("Running the release step")
            self.applier.apply([steps.job])
            limit = steps.wish.site.app.release_timeout
            self.applier.until_ready([steps.job], limit + 30.0, progress.waiting)
        self.applier.apply(web)
        self.applier.until_ready(web, READY_SECONDS, progress.waiting)
        for difference in steps.differences:
            if difference.manifest["kind"] in ("Deployment", "StatefulSet"):
                progress.action(difference.action(), "done")
        self.applier.delete(steps.gone)
        self._until_well(progress)

    def _replace_outdated(self, progress: Progress) -> None:
        """Data servers whose files changed, one after the other, primaries last."""
        for pod in self.applier.outdated():
            progress.say(f"Replacing {pod['metadata']['name']}")
            self.applier.replace_pod(pod, READY_SECONDS, progress.waiting)

    def _until_well(self, progress: Progress) -> None:
        end = time.monotonic() + READY_SECONDS
        while not (status := self.status())["well"]:
            if time.monotonic() > end:
                raise TimedOutError(f"the site is not well: {status['sentence']}", self.namespace)
            progress.waiting(str(status["sentence"]))
            time.sleep(LOOK)

    # -- down --------------------------------------------------------------------------------------------------------
    async def down(self, progress: Progress) -> Sequence[str]:
        """Delete everything that runs; volumes, passwords and the wish stay."""
        return await asyncio.to_thread(self._down, progress)

    def _down(self, progress: Progress) -> list[str]:
        # The controller first, so that it starts nothing again that is being stopped.
        labels = {SITE: self._file_site.site}
        self.client.delete(self._path("Deployment", CONTROLLER, "apps/v1"))
        stopped: list[str] = []
        for kind in ("Deployment", "StatefulSet"):
            for item in self.client.list(collection("apps/v1", kind, self.namespace), labels):
                stopped.append(str(item["metadata"]["name"]))
                self.client.delete(self._path(kind, stopped[-1], "apps/v1"))
        end = time.monotonic() + STOP_SECONDS
        while left := self.client.list(collection("v1", "Pod", self.namespace), labels):
            progress.waiting(f"{len(left)} pods are stopping")
            if time.monotonic() > end:
                raise TimedOutError(f"{len(left)} pods did not stop", self.namespace)
            if all(p["status"].get("phase") in ("Succeeded", "Failed") for p in left):
                break
            time.sleep(LOOK)
        return stopped

    def data(self) -> Sequence[str]:
        """The volumes, and the namespace."""
        claims = self.client.list(collection("v1", "PersistentVolumeClaim", self.namespace))
        found = [f"volume {c['metadata']['name']}" for c in claims]
        there = self.client.get(f"/api/v1/namespaces/{self.namespace}") is not None
        return [*found, *([f"namespace {self.namespace}"] if there else [])]

    def delete_data(self) -> None:
        """Delete the namespace with all that is in it."""
        self.client.delete(f"/api/v1/namespaces/{self.namespace}")

    # -- looking -----------------------------------------------------------------------------------------------------
    def topology(self) -> Topology | None:
        """What the last command wished for."""
        kept = self.kept()
        if kept is None:
            return None
        found = kept.topology(self.secrets())
        return Topology(found.site, tuple(i for i in found.instances if i.kind != "gateway"))

    def status(self) -> dict[str, Any]:
        """The document of `status --json`, version 1. Pods of a Deployment are its servers, the oldest first."""
        kept, topology = self.kept(), self.topology()
        published = self._published() if kept else None
        seen: dict[str, ObservedInstance] = {}
        pods: dict[str, str] = {}
        known: dict[str, Any] = {}
        if topology is not None:
            for name, pod in self._pods_of(topology).items():
                seen[name] = _seen(name, topology.by_name[name].kind, pod)
                pods[name] = str(pod["metadata"]["name"])
                known[name] = {"health": "good" if _ready(pod) else "starting", "role": None}
        if published is not None:
            published = {**published, "instances": known | published.get("instances", {})}
        url = self.front_url()
        return document(
            site=self._file_site.site,
            target=self.name,
            folder=self.namespace,
            topology=topology,
            seen=seen,
            published=published,
            controller={"deployment": CONTROLLER},
            lock=None,
            release=kept.release if kept else None,
            scaled=dict(kept.scaled) if kept else {},
            urls={"site": url} if kept and url else {},
            pods=pods,
        )

    def _pods_of(self, topology: Topology) -> dict[str, dict[str, Any]]:
        """Server -> its pod."""
        found: dict[str, dict[str, Any]] = {}
        workloads: dict[str, list[str]] = {}
        for instance in topology.instances:
            workloads.setdefault(workload_of(instance.name), []).append(instance.name)
        for workload, names in workloads.items():
            alive = [p for p in self.applier.pods(workload) if "deletionTimestamp" not in p["metadata"]]
            found |= dict(zip(names, alive, strict=False))
        return found

    def front_url(self) -> str | None:
        """Where visitors come in; None as long as it is not known."""
        site, kubernetes = self._file_site, self._file_site.targets.kubernetes
        if kubernetes.host:
            return f"{'https' if kubernetes.tls_secret or site.tls.enabled else 'http'}://{kubernetes.host}"
        entry = self.client.get(self._path("Service", ENTRY))
        if entry is None:
            return None
        scheme = "https" if site.tls.enabled else "http"
        for ingress in entry.get("status", {}).get("loadBalancer", {}).get("ingress") or ():
            host = str(ingress.get("ip") or ingress.get("hostname"))
            return f"{scheme}://{f'[{host}]' if ':' in host else host}"
        return None if kubernetes.entry == "loadbalancer" else f"{scheme}://{entry['spec']['clusterIP']}"

    def logs(self, names: Sequence[str], lines: int, follow: bool) -> Iterator[tuple[str, str]]:
        """Lines of the pods' logs, a pod after the other; followed, those of one server."""
        topology = self.topology()
        pods = self._pods_of(topology) if topology else {}
        wanted: list[str] = []
        for name in names or [*pods, CONTROLLER]:
            of_kind = [i.name for i in topology.of_kind(name)] if topology else []
            wanted += [name] if name in (*pods, CONTROLLER) else of_kind or [server(topology, name).name]
        if follow and len(wanted) > 1:
            raise UnavailableError(
                "logs of one server at a time are followed here", mend=f"name one: {wanted[0]}"
            )
        for name in wanted:
            found = [pods[name]] if name in pods else self.applier.pods(name)
            for pod in found:
                query = {"tailLines": str(lines)}
                meta = pod["metadata"]
                for line in self.client.logs(self.namespace, meta["name"], follow=follow, query=query):
                    yield name, line

    def events(self, follow: bool) -> Iterator[dict[str, Any]]:
        """The controller's audit log: its last 200 lines."""
        shown = 0
        while True:
            found = self.client.get(self._path("ConfigMap", "journal"))
            events = [
                json.loads(line)
                for line in (found or {}).get("data", {}).get("events.ndjson", "").splitlines()
            ]
            new = [e for e in events if e.get("time", 0) > shown]
            yield from new
            if new:
                shown = new[-1].get("time", 0)
            if not follow:
                return
            time.sleep(LOOK)

    # -- shells ------------------------------------------------------------------------------------------------------
    def _exec(self, pod: str, argv: Sequence[str]) -> Shell:
        """By kubectl, which hands the terminal through."""
        context = self._file_site.targets.kubernetes.context
        terminal = ("--stdin", *(("--tty",) if os.isatty(0) and os.isatty(1) else ()))
        command = (
            "kubectl", *(("--context", context) if context else ()), "--namespace", self.namespace, "exec", *terminal,
            pod, "--container", CONTAINER, "--", *argv,
        )  # fmt: skip
        return Shell(command, dict(os.environ))

    def _pod(self, name: str) -> tuple[str, str]:
        """Name of the pod of a server, and the server's name in its configuration."""
        topology = self.topology()
        instance = server(topology, name)
        assert topology is not None
        pod = self._pods_of(topology).get(instance.name)
        if pod is None:
            raise LampstandError("has no pod", instance.name, "run `lampstand up -t kubernetes`")
        return str(pod["metadata"]["name"]), str(pod["spec"]["containers"][0]["args"][0])

    def shell(self, instance: str, argv: Sequence[str]) -> Shell:
        """A program in the folder and environment of a server, in its pod."""
        pod, name = self._pod(instance)
        return self._exec(pod, ("lampstand-init", "exec", name, *argv))

    def _with_role(self, kind: str, primary: bool) -> tuple[str, str]:
        chosen = (self._published() or {}).get("primaries", {}).get(kind)
        topology = self.topology()
        servers = [i.name for i in topology.of_kind(kind)] if topology else []
        found = [n for n in servers if (n == chosen) is primary] or servers
        if not found:
            raise LampstandError(
                "the site was never brought up here", mend="run `lampstand up -t kubernetes`"
            )
        return self._pod(found[0])

    def database_shell(self, replica: bool, arguments: Sequence[str]) -> Shell:
        """The MariaDB client, as the administrator, in the pod of the primary (or of a replica)."""
        pod, name = self._with_role("database", not replica)
        file, socket = f"/etc/lampstand/{name}/admin.cnf", f"/run/lampstand/{name}/mysql.sock"
        client = ("mariadb", f"--defaults-file={file}", f"--socket={socket}", *arguments)
        return self._exec(pod, (*client, self._file_site.database.name))

    def redis_shell(self, sessions: bool, arguments: Sequence[str]) -> Shell:
        """redis-cli, in the pod of the primary. The list of processes within that pod shows the password."""
        kind = "sessions" if sessions else "cache"
        pod, _ = self._with_role(kind, True)
        return self._exec(pod, ("env", f"REDISCLI_AUTH={self.secrets()[kind]}", "redis-cli", *arguments))

    async def operate(self, operation: str, **arguments: object) -> dict[str, Any]:
        """Ask the controller, by its socket in its pod."""
        return await asyncio.to_thread(self._operate, operation, arguments)

    def _operate(self, operation: str, arguments: Mapping[str, object]) -> dict[str, Any]:
        pod = next((p for p in self.applier.pods(CONTROLLER) if _ready(p)), None)
        if pod is None:
            raise LampstandError("the controller does not run", CONTROLLER, "see `lampstand logs controller`")
        program = (
            "import http.client,socket,sys\n"
            "c=http.client.HTTPConnection('controller')\n"
            "c.sock=socket.socket(socket.AF_UNIX)\n"
            "c.sock.connect('/site/controller.sock')\n"
            "c.request('POST','/'+sys.argv[1],sys.argv[2],{'Content-Type':'application/json'})\n"
            "a=c.getresponse()\n"
            "print(a.status,a.read().decode(),end='')\n"
        )
        argv = ("/usr/bin/python3", "-I", "-c", program, operation, json.dumps(arguments))
        code, text = self.client.execute(self.namespace, pod["metadata"]["name"], argv, 120.0)
        status, _, body = text.partition(" ")
        if code or not status.isdecimal():
            raise LampstandError(f"the controller does not answer: {text.strip()[-300:]}", CONTROLLER)
        answer: dict[str, Any] = json.loads(body or "{}")
        if int(status) >= 400:
            raise LampstandError(str(answer.get("error", body)), str(answer.get("where") or CONTROLLER))
        return answer

    def drill_site(self) -> "DrillSite":
        """Not here yet."""
        raise UnavailableError("drills do not run on Kubernetes yet", mend="use the target docker or local")

    # -- walking away ------------------------------------------------------------------------------------------------
    def export(self, folder: str) -> Sequence[str]:
        """The folder for kustomize. Passwords are the cluster's where the site is up, new ones otherwise.

        It asks no cluster for what it serves: the newest API versions are written.
        """
        site, kubernetes = self._file_site, self._file_site.targets.kubernetes
        made = Images(site, self.project)
        application = made.application()
        found = made.wanted(application)
        url = f"{'https' if kubernetes.tls_secret or site.tls.enabled else 'http'}://{kubernetes.host or 'localhost'}"
        wish = Wish(
            site=site,
            namespace=self.namespace,
            url=url,
            release=application.release,
            images={name: image.tag for name, image in found.items() if name != "web"},
            release_images={application.release: found["web"].tag},
            generation=1,
        )
        secrets = {name: random_source.token_urlsafe(24) for name in GENERATED}
        secrets |= {f"env.{n}": v for n, v in application_secret_values(site, self.project).items()}
        kept = Path(folder) / "secrets.yaml"
        if kept.exists():
            secrets |= _exported_secrets(kept.read_text("utf-8"))
        return write_export(Path(folder), wish.topology(secrets), wish.project(secrets))


def _exported_secrets(text: str) -> dict[str, str]:
    from ruamel.yaml import YAML

    yaml: Any = YAML(typ="safe", pure=True)
    data: dict[str, str] = (yaml.load(text) or {}).get("data", {})
    return {name: base64.b64decode(value).decode() for name, value in data.items()}


def _ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _kind(manifest: Manifest) -> str:
    return str(manifest["metadata"]["labels"].get("lampstand.org/kind", ""))


def _is_entry(manifest: Manifest) -> bool:
    return bool(manifest["kind"] == "Service" and manifest["metadata"]["name"] == ENTRY)


def _seen(name: str, kind: str, pod: Mapping[str, Any]) -> ObservedInstance:
    """A server as its pod shows it."""
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    running = next((s["state"]["running"] for s in statuses if "running" in s.get("state", {})), None)
    started = datetime.fromisoformat(running["startedAt"]).timestamp() if running else None
    return ObservedInstance(
        name,
        kind,
        State.RUNNING if running else State.STOPPED,
        (ObservedProcess("pod", 1 if running else None, started),),
        release=pod["metadata"]["labels"].get(RELEASE),
        restarts=sum(int(s.get("restartCount", 0)) for s in statuses),
    )
