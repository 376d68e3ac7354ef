"""What one may know of a site in a cluster, and the shells into its pods. Nothing here changes anything."""

import asyncio
import base64
import json
import os
import secrets as random_source
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from lampstand.errors import LampstandError, UnavailableError
from lampstand.observed import ObservedInstance, ObservedProcess, State
from lampstand.site import Site
from lampstand.targets.base import Shell
from lampstand.targets.kubernetes.apply import Applier, collection, served
from lampstand.targets.kubernetes.client import Client
from lampstand.targets.kubernetes.placement import CONTROLLER, ENTRY, workload_of
from lampstand.targets.kubernetes.pods import CONTAINER
from lampstand.targets.kubernetes.project import RELEASE, SECRETS, SITE_MAP, Served
from lampstand.targets.kubernetes.wish import Wish
from lampstand.targets.status import document, server
from lampstand.topology import SECRETS as GENERATED
from lampstand.topology import Topology

LOOK = 1.0
"""Seconds between two looks."""


class ClusterSite:
    """A site as its cluster shows it: the part of `targets.base.Deployment` that looks."""

    name = "kubernetes"

    def __init__(self, site: Site, project: Path, environment: str | None) -> None:
        self.project = project
        self.file_site = site
        default = f"{site.site}-{environment}" if environment else site.site
        self.namespace = site.targets.kubernetes.namespace or default

    @cached_property
    def client(self) -> Client:
        """The cluster of the kubeconfig. Raises LampstandError when it leads to none."""
        return Client.of_kubeconfig(self.file_site.targets.kubernetes.context)

    @cached_property
    def served(self) -> Served:
        """The API versions of the cluster."""
        return served(self.client)

    @cached_property
    def applier(self) -> Applier:
        """Changes objects of this site."""
        return Applier(self.client, self.namespace, self.file_site.site)

    def path(self, kind: str, name: str, version: str = "v1") -> str:
        return f"{collection(version, kind, self.namespace)}/{name}"

    # -- what the cluster knows --------------------------------------------------------------------------------------
    def kept(self) -> Wish | None:
        """What the last command wished for; None before the first `up`."""
        found = self.client.get(self.path("ConfigMap", SITE_MAP))
        return Wish.of(json.loads(found["data"]["desired.json"])) if found else None

    def secrets(self) -> dict[str, str]:
        """The passwords that the site has, with those that are new; they are written when the site is applied."""
        found: dict[str, Any] = self.client.get(self.path("Secret", SECRETS)) or {}
        data: dict[str, str] = found.get("data") or {}
        known = {name: base64.b64decode(value).decode() for name, value in data.items()}
        missing = {name: random_source.token_urlsafe(24) for name in GENERATED if name not in known}
        return known | missing

    def _published(self) -> dict[str, Any] | None:
        """What a living controller said last."""
        pods = self.applier.pods(CONTROLLER)
        if not any(is_ready(p) for p in pods):
            return None
        found = self.client.get(self.path("ConfigMap", "status"))
        return json.loads(found["data"]["status.json"]) if found else {}

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
                known[name] = {"health": "good" if is_ready(pod) else "starting", "role": None}
        if published is not None:
            published = {**published, "instances": known | published.get("instances", {})}
        url = self.front_url()
        return document(
            site=self.file_site.site,
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
        site, kubernetes = self.file_site, self.file_site.targets.kubernetes
        if kubernetes.host:
            return f"{'https' if kubernetes.tls_secret or site.tls.enabled else 'http'}://{kubernetes.host}"
        entry = self.client.get(self.path("Service", ENTRY))
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
            found = self.client.get(self.path("ConfigMap", "journal"))
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
        context = self.file_site.targets.kubernetes.context
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
        return self._exec(pod, (*client, self.file_site.database.name))

    def redis_shell(self, sessions: bool, arguments: Sequence[str]) -> Shell:
        """redis-cli, in the pod of the primary. kubectl hands on no environment: as long as it runs, the list of
        processes of this machine shows the password to whoever may read it."""
        kind = "sessions" if sessions else "cache"
        pod, _ = self._with_role(kind, True)
        return self._exec(pod, ("env", f"REDISCLI_AUTH={self.secrets()[kind]}", "redis-cli", *arguments))

    async def operate(self, operation: str, **arguments: object) -> dict[str, Any]:
        """Ask the controller, by its socket in its pod."""
        return await asyncio.to_thread(self._operate, operation, arguments)

    def _operate(self, operation: str, arguments: Mapping[str, object]) -> dict[str, Any]:
        pod = next((p for p in self.applier.pods(CONTROLLER) if is_ready(p)), None)
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


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


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
