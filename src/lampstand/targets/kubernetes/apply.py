"""Server-side apply (field owner `lampstand`): what differs, applying it, pruning, and waiting with a reason."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from lampstand.errors import LampstandError, TimedOutError
from lampstand.plan import Action, Plan, Verb
from lampstand.targets.kubernetes.client import ApiError, Client
from lampstand.targets.kubernetes.pods import GROUPED
from lampstand.targets.kubernetes.project import (
    INSTANCE,
    KIND,
    MANAGER,
    READS,
    RELEASE,
    RENDERED,
    ROLE,
    SITE,
    Manifest,
    Served,
)

PLURALS: Mapping[str, str] = {
    "Namespace": "namespaces", "ServiceAccount": "serviceaccounts", "Role": "roles", "RoleBinding": "rolebindings",
    "NetworkPolicy": "networkpolicies", "Secret": "secrets", "ConfigMap": "configmaps", "Service": "services",
    "PersistentVolumeClaim": "persistentvolumeclaims", "Ingress": "ingresses", "HTTPRoute": "httproutes",
    "Deployment": "deployments", "StatefulSet": "statefulsets", "Job": "jobs", "Pod": "pods",
    "PodDisruptionBudget": "poddisruptionbudgets", "HorizontalPodAutoscaler": "horizontalpodautoscalers",
}  # fmt: skip
WORKLOADS = ("Deployment", "StatefulSet")
KEPT = ("Namespace", "PersistentVolumeClaim", "Pod")
"""Kinds that are never pruned: data are deleted by `down --delete-data` alone."""
AT_ONCE = 8
"""Requests side by side."""
_OF_THE_SERVER = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
_HOPELESS = ("ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError")
"""Reasons that do not go away by waiting."""
ATTEMPTS = 3
"""How often a release step may fail before `up` gives up."""
LOOK = 1.0
"""Seconds between two looks."""


def served(client: Client) -> Served:
    """The API versions of the cluster."""
    groups = client.request("GET", "/apis").get("groups", ())
    return Served(frozenset(["v1", *(str(v["groupVersion"]) for g in groups for v in g["versions"])]))


def collection(version: str, kind: str, namespace: str) -> str:
    """The path of all objects of a kind."""
    top = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    return (
        f"{top}/{PLURALS[kind]}" if kind == "Namespace" else f"{top}/namespaces/{namespace}/{PLURALS[kind]}"
    )


def path_of(manifest: Manifest) -> str:
    """The path of one object."""
    meta = manifest["metadata"]
    return f"{collection(manifest['apiVersion'], manifest['kind'], meta.get('namespace', ''))}/{meta['name']}"


@dataclass(frozen=True)
class Difference:
    """What applying one object would do."""

    manifest: Manifest
    live: Manifest | None
    paths: tuple[str, ...]
    """Of the fields that would change; empty for a new object."""

    def action(self) -> Action:
        """As a step of a plan. It names fields, never values: some are passwords."""
        kind, name = str(self.manifest["kind"]), str(self.manifest["metadata"]["name"])
        known = _kind(self.manifest)
        workload = kind in WORKLOADS
        name = name if workload else f"{kind}/{name}"
        if self.live is None:
            return Action(Verb.CREATE, name, known, "not there yet")
        before, after = (_label(m, RELEASE) for m in (self.live, self.manifest))
        if workload and before != after:
            return Action(Verb.RESTART, name, known, f"release {before} -> {after}")
        if workload and any(p.startswith("spec.template") for p in self.paths):
            return Action(Verb.RESTART, name, known, _cause(self.paths))
        return Action(Verb.RELOAD, name, known, _cause(self.paths))


def _kind(manifest: Manifest) -> str:
    return str(manifest["metadata"]["labels"].get(KIND, manifest["kind"].lower()))


def _label(manifest: Manifest, name: str) -> str:
    template = manifest.get("spec", {}).get("template", {})
    return str(template.get("metadata", {}).get("labels", {}).get(name, ""))


def _cause(paths: Sequence[str]) -> str:
    if any("projected" in p for p in paths):
        return "its configuration changed"
    if any(p.endswith("image") for p in paths):
        return "its image changed"
    return f"{paths[0]} changed" if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more changed"


class Applier:
    """Brings objects of one site about."""

    def __init__(self, client: Client, namespace: str, site: str) -> None:
        self.client = client
        self.namespace = namespace
        self.site = site

    # -- looking -----------------------------------------------------------------------------------------------------
    def differences(self, manifests: Sequence[Manifest]) -> list[Difference]:
        """What would change, by a dry run on the server. Raises ApiError when it would refuse an object."""
        if self.client.get(f"/api/v1/namespaces/{self.namespace}") is None:
            return [Difference(m, None, ()) for m in manifests]
        return [d for d in _each(self._difference, manifests) if d is not None]

    def _difference(self, manifest: Manifest) -> Difference | None:
        live = self.client.get(path_of(manifest))
        if live is None:
            return Difference(manifest, None, ())
        if manifest["kind"] == "Job":
            return None  # what has run is not run again
        wanted = self._patch(manifest, dry=True)
        paths = tuple(changed(_plain(live), _plain(wanted)))
        return Difference(manifest, live, paths) if paths else None

    def plan(self, differences: Iterable[Difference], gone: Iterable[Manifest]) -> Plan:
        """The steps for people: servers one by one, new objects beside them as one."""
        actions = [d.action() for d in differences if not d.manifest["metadata"]["labels"].get(RENDERED)]
        beside = [a for a in actions if a.verb is Verb.CREATE and "/" in a.instance]
        steps = [a for a in actions if a not in beside]
        if beside:
            cause = f"{len(beside)} objects beside the servers: {', '.join(a.instance for a in beside[:4])}…"
            steps.insert(0, Action(Verb.CREATE, self.namespace, "namespace", cause))
        removals = [
            Action(Verb.REMOVE, str(m["metadata"]["name"]), _kind(m), "is no longer in the site")
            for m in gone
            if m["kind"] in WORKLOADS
        ]
        waves = [tuple(steps), tuple(removals)]
        return Plan(tuple(wave for wave in waves if wave))

    def superfluous(self, manifests: Sequence[Manifest], cluster: Served) -> list[Manifest]:
        """Objects with our labels that are not wanted any more."""
        wanted = {(m["kind"], m["metadata"]["name"]) for m in manifests}
        labels = {"app.kubernetes.io/managed-by": "lampstand", SITE: self.site}
        found: list[Manifest] = []
        for version, kind in _pruned(cluster):
            for item in self.client.list(collection(version, kind, self.namespace), labels):
                meta = item["metadata"]
                rendered = meta["labels"].get(RENDERED) == "yes"
                if (kind, meta["name"]) not in wanted and (kind not in ("ConfigMap", "Secret") or rendered):
                    found.append({**item, "apiVersion": version, "kind": kind})
        return found

    # -- changing ----------------------------------------------------------------------------------------------------
    def apply(self, manifests: Iterable[Manifest]) -> None:
        """Apply objects in order, those of one kind side by side."""
        group: list[Manifest] = []
        for manifest in manifests:
            if group and group[0]["kind"] != manifest["kind"]:
                list(_each(self._apply, group))
                group = []
            group.append(manifest)
        list(_each(self._apply, group))

    def _apply(self, manifest: Manifest) -> None:
        if manifest["kind"] == "Job" and self.client.get(path_of(manifest)) is not None:
            return
        self._patch(manifest, dry=False)

    def _patch(self, manifest: Manifest, *, dry: bool) -> Manifest:
        options = {"fieldManager": MANAGER, "force": "true", **({"dryRun": "All"} if dry else {})}
        try:
            return self.client.patch(path_of(manifest), manifest, "apply", **options)
        except ApiError as error:
            if error.status == 422 and manifest["kind"] in WORKLOADS:
                raise LampstandError(
                    f"the cluster does not let this change: {error.what}",
                    f"{manifest['kind']}/{manifest['metadata']['name']}",
                    "sizes and classes of volumes stay as they were made; change them in the cluster",
                ) from error
            raise

    def delete(self, manifests: Iterable[Manifest]) -> None:
        """Delete objects, and what belongs to them."""
        for manifest in manifests:
            self.client.delete(path_of(manifest))

    # -- waiting -----------------------------------------------------------------------------------------------------
    def until_ready(
        self, manifests: Iterable[Manifest], deadline: float, waiting: Callable[[str], None]
    ) -> None:
        """Until every workload and Job is what it should be; `waiting` hears what is waited for.

        Raises TimedOutError with the reason of what is not, and LampstandError at once for what never will be.
        """
        end = time.monotonic() + deadline
        left = [m for m in manifests if m["kind"] in (*WORKLOADS, "Job")]
        while left:
            states = [(m, self._lacking(m)) for m in left]
            left = [m for m, lacking in states if lacking]
            if not left:
                return
            sentences = [f"{m['metadata']['name']}: {lacking}" for m, lacking in states if lacking]
            waiting("; ".join(sentences[:3]))
            if time.monotonic() > end:
                reasons = [
                    f"{m['metadata']['name']}: {self.reason(m) or lacking}"
                    for m, lacking in states
                    if lacking
                ]
                raise TimedOutError(
                    f"not ready within {deadline:g} s:\n  " + "\n  ".join(reasons), self.namespace
                )
            for manifest in left:
                self._refuse_hopeless(manifest)
            time.sleep(LOOK)

    def _lacking(self, manifest: Manifest) -> str:
        """What a workload lacks; empty when it lacks nothing."""
        live = self.client.get(path_of(manifest))
        if live is None:
            return "is not there"
        status, wanted = live.get("status", {}), int(live["spec"].get("replicas", 1))
        if manifest["kind"] == "Job":
            if status.get("succeeded"):
                return ""
            self._refuse_failed(manifest, status)
            return "runs"
        if int(status.get("observedGeneration", 0)) < int(live["metadata"]["generation"]):
            return "was not looked at yet"
        ready = int(status.get("readyReplicas") or 0)
        if manifest["kind"] == "StatefulSet":
            return "" if ready >= wanted else f"{ready} of {wanted} ready"
        updated, there = (int(status.get(k) or 0) for k in ("updatedReplicas", "replicas"))
        available = int(status.get("availableReplicas") or 0)
        if updated < wanted:
            return f"{updated} of {wanted} are new"
        if there > updated:
            return f"{there - updated} old ones are going"
        return "" if available >= wanted else f"{available} of {wanted} ready"

    def _refuse_failed(self, manifest: Manifest, status: Mapping[str, Any]) -> None:
        """A step that failed three times is not tried for the rest of its time: there is a primary to write to already.
        The Job is deleted, so that the next `up` runs it again."""
        path, name = collection("v1", "Pod", self.namespace), str(manifest["metadata"]["name"])
        pods = self.client.list(path, {"job-name": name})
        restarts = max((int(s.get("restartCount", 0)) for p in pods for s in _containers(p)), default=0)
        given_up = any(
            c["type"] == "Failed" and c["status"] == "True" for c in status.get("conditions") or ()
        )
        if given_up or restarts >= ATTEMPTS:
            why = self.reason(manifest) or "it took longer than app.release_timeout"
            self.delete([manifest])
            raise LampstandError(f"the release step failed: {why}", name)

    def pods(self, workload: str) -> list[dict[str, Any]]:
        """The pods of a workload, the oldest first."""
        path = collection("v1", "Pod", self.namespace)
        found = self.client.list(path, {SITE: self.site, INSTANCE: workload})
        return sorted(found, key=lambda p: (p["metadata"]["creationTimestamp"], p["metadata"]["name"]))

    def _refuse_hopeless(self, manifest: Manifest) -> None:
        for pod in self.pods(str(manifest["metadata"]["labels"].get(INSTANCE, ""))):
            for state in _states(pod):
                if state.get("waiting", {}).get("reason") in _HOPELESS:
                    raise LampstandError(_waiting_text(state["waiting"]), str(pod["metadata"]["name"]))

    def reason(self, manifest: Manifest) -> str:
        """Why a workload is not ready: image, scheduling, probe, or crash with the last lines of its log."""
        for pod in reversed(self.pods(str(manifest["metadata"]["labels"].get(INSTANCE, "")))):
            if why := self._why(pod):
                return f"{pod['metadata']['name']}: {why}"
        return ""

    def _why(self, pod: dict[str, Any]) -> str:
        name, status = str(pod["metadata"]["name"]), pod.get("status", {})
        for condition in status.get("conditions") or ():
            if condition["type"] == "PodScheduled" and condition["status"] != "True":
                return f"no node takes it: {condition.get('message', condition.get('reason'))}"
        for state in _states(pod):
            waiting = state.get("waiting", {})
            if waiting.get("reason") == "CrashLoopBackOff":
                return f"it crashes again and again\n{self._tail(name, previous=True)}"
            if waiting and waiting.get("reason") not in ("PodInitializing", "ContainerCreating"):
                return _waiting_text(waiting)
        if any(not s.get("ready") for s in status.get("containerStatuses") or ()):
            return self._event(name) or f"its probe does not succeed\n{self._tail(name)}"
        return ""

    def _tail(self, pod: str, *, previous: bool = False) -> str:
        query = {"tailLines": "5", **({"previous": "true"} if previous else {})}
        try:
            return "\n".join(f"    {line}" for line in self.client.logs(self.namespace, pod, query=query))
        except ApiError:
            return ""

    def _event(self, pod: str) -> str:
        """The newest warning about a pod."""
        path = f"/api/v1/namespaces/{self.namespace}/events"
        found = self.client.get(path, fieldSelector=f"involvedObject.name={pod},type=Warning")
        events = sorted((found or {}).get("items") or (), key=lambda e: str(e.get("lastTimestamp")))
        return str(events[-1].get("message", "")) if events else ""

    # -- data servers ------------------------------------------------------------------------------------------------
    def outdated(self) -> list[dict[str, Any]]:
        """Pods of data servers that do not run what their StatefulSet says, primaries last."""
        found: list[dict[str, Any]] = []
        for stateful in self.client.list(
            collection("apps/v1", "StatefulSet", self.namespace), {SITE: self.site}
        ):
            if stateful["metadata"]["labels"].get(KIND) not in GROUPED:
                continue
            revision = stateful.get("status", {}).get("updateRevision")
            found += [
                pod
                for pod in self.pods(str(stateful["metadata"]["name"]))
                if revision and pod["metadata"]["labels"].get("controller-revision-hash") != revision
            ]
        return sorted(
            found, key=lambda p: (p["metadata"]["labels"].get(ROLE) == "primary", p["metadata"]["name"])
        )

    def replace_pod(self, pod: dict[str, Any], deadline: float, waiting: Callable[[str], None]) -> None:
        """Delete one pod and wait until its successor does what it did: it is ready, has a role, and serves reads."""
        name, labels = str(pod["metadata"]["name"]), pod["metadata"]["labels"]
        path = f"{collection('v1', 'Pod', self.namespace)}/{name}"
        uid = str(pod["metadata"]["uid"])
        self.client.delete(path, uid=uid)
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            now = self.client.get(path)
            waiting(f"{name} is replaced")
            if now is not None and now["metadata"]["uid"] != uid and succeeds(labels, now):
                return
            time.sleep(LOOK)
        raise TimedOutError(f"its successor is not ready within {deadline:g} s", name)


def succeeds(labels: Mapping[str, str], pod: Mapping[str, Any]) -> bool:
    """Whether a pod does what one with these labels did, so that the next of its group may be replaced."""
    new = pod["metadata"]["labels"]
    ready = any(s.get("ready") for s in pod.get("status", {}).get("containerStatuses") or ())
    reads = labels.get(READS) != "yes" or new.get(READS) == "yes"
    return ready and reads and (ROLE not in labels or ROLE in new)


def _pruned(cluster: Served) -> Iterator[tuple[str, str]]:
    """Versions and kinds that may hold what is not wanted any more."""
    policy = cluster.pick("policy/v1", "policy/v1beta1")
    scaling = cluster.pick("autoscaling/v2", "autoscaling/v2beta2")
    yield from (("apps/v1", kind) for kind in WORKLOADS)
    yield from ((policy, "PodDisruptionBudget"), (scaling, "HorizontalPodAutoscaler"))
    yield from (("networking.k8s.io/v1", kind) for kind in ("Ingress", "NetworkPolicy"))
    for version in ("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"):
        if cluster.versions is None or version in cluster.versions:
            yield version, "HTTPRoute"
            break
    yield from (("v1", kind) for kind in ("Service", "ConfigMap", "Secret", "ServiceAccount"))
    yield from (("rbac.authorization.k8s.io/v1", kind) for kind in ("RoleBinding", "Role"))
    yield "batch/v1", "Job"


def _each(function: Callable[[Manifest], Any], items: Sequence[Manifest]) -> Iterator[Any]:
    """The results in order; the first error is raised."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(function, items)


def _plain(manifest: Manifest) -> Manifest:
    """Without what the server adds by itself."""
    meta = {k: v for k, v in manifest["metadata"].items() if k not in _OF_THE_SERVER}
    return {**{k: v for k, v in manifest.items() if k != "status"}, "metadata": meta}


def changed(before: Any, after: Any, path: str = "") -> Iterator[str]:  # noqa: ANN401 - JSON
    """Paths of the fields in which two documents differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}, key=str):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            yield from changed(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):  # pyright: ignore[reportUnknownArgumentType]
        for number, (one, other) in enumerate(zip(before, after, strict=True)):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            yield from changed(one, other, f"{path}[{number}]")
    elif before != after:
        yield path


def _containers(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    status = pod.get("status", {})
    yield from (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))


def _states(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (found.get("state", {}) for found in _containers(pod))


def _waiting_text(waiting: Mapping[str, Any]) -> str:
    return f"{waiting.get('reason')}: {waiting.get('message', '')}".rstrip(": ")
