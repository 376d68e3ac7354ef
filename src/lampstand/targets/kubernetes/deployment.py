"""The verbs of one site in a cluster. What was decided is in the cluster itself, so every operator sees the same."""

import asyncio
import base64
import secrets as random_source
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lampstand.errors import LampstandError, TimedOutError, UnavailableError
from lampstand.plan import Plan
from lampstand.site import Site
from lampstand.site.secrets import application_secret_values
from lampstand.targets.base import Progress
from lampstand.targets.kubernetes.apply import Difference, collection
from lampstand.targets.kubernetes.export import write_export
from lampstand.targets.kubernetes.images import Images
from lampstand.targets.kubernetes.looking import LOOK, ClusterSite, is_ready
from lampstand.targets.kubernetes.manifests import release_job, render
from lampstand.targets.kubernetes.placement import CONTROLLER, ENTRY
from lampstand.targets.kubernetes.pods import GROUPED
from lampstand.targets.kubernetes.project import KIND, ROLE, SITE, SITE_MAP, Manifest
from lampstand.targets.kubernetes.wish import Wish
from lampstand.targets.scaling import merged, scaled
from lampstand.topology import SECRETS as GENERATED

if TYPE_CHECKING:
    from lampstand.drills.runner import Site as DrillSite

READY_SECONDS = 600.0
STOP_SECONDS = 180.0
LOST_WITH_THE_NAMESPACE = (
    ("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"), ("v1", "Pod"), ("v1", "Service"), ("v1", "Secret"),
    ("v1", "ConfigMap"),
)  # fmt: skip
"""Versions and kinds of what others may have put there: it is named before it goes."""
ADDRESS_SECONDS = 60.0
"""Seconds that a load balancer may take to get an address."""


@dataclass(frozen=True)
class Steps:
    """What a command would do."""

    wish: Wish
    manifests: tuple[Manifest, ...]
    job: Manifest | None
    differences: list[Difference]
    gone: list[Manifest]
    plan: Plan


class KubernetesDeployment(ClusterSite):
    """Implements `targets.base.Deployment`."""

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
        numbers = merged(self.file_site, kept.scaled, changes)
        wish = replace(kept, site=scaled(kept.site, numbers), scaled=numbers, generation=kept.generation + 1)
        wish = replace(wish, web_replicas=self._autoscaled(wish.site))
        return await self._change(wish, confirm, progress)

    def _wish(self, url: str | None) -> Wish:
        """What the site file asks for, with the application as it lies in the folder."""
        kept = self.kept()
        numbers: Mapping[str, str] = kept.scaled if kept else {}
        site = scaled(self.file_site, numbers)
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
            web_replicas=self._autoscaled(site),
            scaled=numbers,
            generation=(kept.generation if kept else 0) + 1,
        )

    def _autoscaled(self, site: Site) -> int | None:
        """How many web servers the autoscaler has now. It is written as it is: left out, the field would fall back to 1
        on a site that had a fixed number before."""
        most = site.web.max_servers
        if most is None:
            return None
        live = self.client.get(self.path("Deployment", "web", "apps/v1")) or {}
        now = int(live.get("spec", {}).get("replicas", site.web.servers))
        return min(max(now, site.web.servers), most)

    def _steps(self, wish: Wish) -> Steps:
        values = application_secret_values(self.file_site, self.project)
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
        if not self.file_site.targets.kubernetes.host and self.front_url() is None:
            steps = await asyncio.to_thread(self._with_address, steps, progress)
        await asyncio.to_thread(self._bring_about, steps, progress)
        return True

    def _running_images(self) -> set[str]:
        """Tags of what the site's pods run: their nodes have them, or can pull them."""
        pods = self.client.list(collection("v1", "Pod", self.namespace), {SITE: self.file_site.site})
        return {c["image"] for p in pods if is_ready(p) for c in p["spec"]["containers"]}

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
        self._until_primaries(progress)
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

    def _until_primaries(self, progress: Progress) -> None:
        """The controller has said who takes writes: a release step that fails from then on has reasons of its own."""
        path, end = collection("v1", "Pod", self.namespace), time.monotonic() + READY_SECONDS
        for kind in GROUPED:
            labels = {SITE: self.file_site.site, KIND: kind, ROLE: "primary"}
            while not self.client.list(path, labels):
                if time.monotonic() > end:
                    raise TimedOutError(
                        f"{kind} has no primary", self.namespace, "see `lampstand logs controller`"
                    )
                progress.waiting(f"{kind} has no primary yet")
                time.sleep(LOOK)

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
        labels = {SITE: self.file_site.site}
        self.client.delete(self.path("Deployment", CONTROLLER, "apps/v1"))
        stopped: list[str] = []
        for kind in ("Deployment", "StatefulSet"):
            for item in self.client.list(collection("apps/v1", kind, self.namespace), labels):
                stopped.append(str(item["metadata"]["name"]))
                self.client.delete(self.path(kind, stopped[-1], "apps/v1"))
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
        """The volumes, what else the namespace holds that is not of this site, and the namespace."""
        claims = self.client.list(collection("v1", "PersistentVolumeClaim", self.namespace))
        found = [f"volume {c['metadata']['name']}" for c in claims]
        for version, kind in LOST_WITH_THE_NAMESPACE:
            others = of_others(
                self.client.list(collection(version, kind, self.namespace)), self.file_site.site
            )
            found += [f"{kind} {name}, which is not of this site" for name in others]
        there = self.client.get(f"/api/v1/namespaces/{self.namespace}") is not None
        return [*found, *([f"namespace {self.namespace}"] if there else [])]

    def delete_data(self) -> None:
        """Delete the namespace with all that is in it."""
        self.client.delete(f"/api/v1/namespaces/{self.namespace}")

    def drill_site(self) -> "DrillSite":
        """Not here yet."""
        raise UnavailableError("drills do not run on Kubernetes yet", mend="use the target docker or local")

    # -- walking away ------------------------------------------------------------------------------------------------
    def export(self, folder: str) -> Sequence[str]:
        """The folder for kustomize. Passwords are the cluster's where the site is up, new ones otherwise.

        It asks no cluster for what it serves: the newest API versions are written.
        """
        site, kubernetes = self.file_site, self.file_site.targets.kubernetes
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


def of_others(items: Iterable[Mapping[str, Any]], site: str) -> list[str]:
    """Names of objects that neither this site nor the cluster itself made."""
    found: list[str] = []
    for item in items:
        meta = item["metadata"]
        token = item.get("type") == "kubernetes.io/service-account-token"
        made = meta.get("ownerReferences") or meta.get("labels", {}).get(SITE) == site
        if not (token or made or meta["name"] == "kube-root-ca.crt"):
            found.append(str(meta["name"]))
    return found


def _exported_secrets(text: str) -> dict[str, str]:
    from ruamel.yaml import YAML

    yaml: Any = YAML(typ="safe", pure=True)
    manifest: dict[str, Any] = yaml.load(text) or {}
    data: dict[str, str] = manifest.get("data") or {}
    return {name: base64.b64decode(value).decode() for name, value in data.items()}


def _kind(manifest: Manifest) -> str:
    return str(manifest["metadata"]["labels"].get("lampstand.org/kind", ""))


def _is_entry(manifest: Manifest) -> bool:
    return bool(manifest["kind"] == "Service" and manifest["metadata"]["name"] == ENTRY)
