"""What the controller, as a pod of the site, needs of the cluster: what runs, fencing, roles as labels.

Only servers with a role are its concern. All others are Deployments behind Services, which Kubernetes itself keeps
running and out of the way when they are not ready.
"""

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lampstand.errors import LampstandError, TimedOutError
from lampstand.observed import ObservedInstance, State
from lampstand.targets.kubernetes.client import PATCHES, ApiError, Client
from lampstand.targets.kubernetes.configuration import role_map
from lampstand.targets.kubernetes.observing import leaving, observed, started
from lampstand.targets.kubernetes.pods import CONTAINER, GROUPED, INIT
from lampstand.targets.kubernetes.project import INSTANCE, KIND, READS, ROLE, SITE, SITE_MAP
from lampstand.targets.kubernetes.wish import Wish
from lampstand.topology import File, Instance, Topology

Object = dict[str, Any]

SECRET_FILES = Path("/etc/lampstand/secrets")
HOLD = "hold"
"""Key of a server's ConfigMap: while it is there, a pod that starts does not start the server's programs."""
LOOK = 2.0
"""Seconds between two looks at what should run; pods are watched."""
DEATH = 2.5
"""Seconds within which a node that lives has killed a pod. Less than any step that fences may take (3 s): a fence that
is not confirmed is known as such, and the recovery goes on without it."""
YOUNG = 4.5
"""Seconds that a start waits for a pod to run before it asks whether it is held."""
ANSWER = 4.0
"""Seconds for an answer of the API server while a primary is missing."""
BACK = 60.0
"""Seconds within which a deleted pod's successor runs."""

log = logging.getLogger("lampstand.controller")


class KubernetesRuntime:
    """Implements `targets.base.Runtime`."""

    supervises = False
    """The kubelet restarts what ends. A server that comes back does so as a replica, whatever it was."""

    def __init__(self, client: Client, namespace: str, site: str, secrets: Path = SECRET_FILES) -> None:
        self.client = client
        self.namespace = namespace
        self.site = site
        self.generation = 0
        self._secret_files = secrets
        self._topology: Topology | None = None
        self._text: str = ""
        self._read = 0.0
        self._pods: dict[str, Object] = {}
        self._maps: dict[str, dict[str, str]] = {}
        self._held: set[str] = set()
        self._lock = threading.Lock()

    # -- looking -----------------------------------------------------------------------------------------------------
    def load(self) -> Topology | None:
        """The servers with a role, of the ConfigMap that `up` and `kubectl apply` write."""
        if time.monotonic() - self._read < LOOK:
            return self._topology
        self._read = time.monotonic()
        try:
            found = self.client.get(self.path("configmaps", SITE_MAP))
            text = str(found["data"]["desired.json"]) if found else ""
            if text and text != self._text:
                wish = Wish.of(json.loads(text))
                secrets = {f.name: f.read_text("utf-8") for f in self._secret_files.iterdir() if f.is_file()}
                whole = wish.topology(secrets)
                self._topology = Topology(whole.site, tuple(i for i in whole.instances if i.kind in GROUPED))
                self.generation, self._text = wish.generation, text
        except LampstandError as error:
            log.warning("%s", error)  # what it knows is better than nothing
        return self._topology

    def path(self, plural: str, name: str = "") -> str:
        """Of an object of the core API in the site's namespace."""
        return f"/api/v1/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def observe(self) -> Mapping[str, ObservedInstance]:
        """As the last event left it; asks nobody."""
        with self._lock:
            return observed(self._pods.values(), self._held)

    def leaving(self) -> frozenset[str]:
        """Servers whose pods were told to go and still run."""
        with self._lock:
            return frozenset(
                name for name, pod in self._pods.items() if leaving(pod) and started(pod) is not None
            )

    def watch(self, wake: Callable[[str], None]) -> None:
        """`wake(instance)` is called when its pod changes. Raises LampstandError when pods cannot be listed."""
        loop = asyncio.get_running_loop()
        version = self._list()

        def heard(name: str) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(wake, name)

        threading.Thread(target=self._follow, args=(version, heard), daemon=True, name="pods").start()

    def _list(self) -> str:
        found = self.client.request("GET", self.path("pods"), query={"labelSelector": self._selection()})
        with self._lock:
            self._pods = {p["metadata"]["labels"][INSTANCE]: p for p in found["items"]}
        for name in list(self._pods):
            if name not in self._maps:
                document = self.client.get(self.path("configmaps", role_map(name))) or {}
                self._maps[name] = dict(document.get("data") or {})
                if HOLD in self._maps[name]:
                    self._held.add(name)
        return str(found["metadata"]["resourceVersion"])

    def _selection(self) -> str:
        return f"{SITE}={self.site},{KIND} in ({','.join(GROUPED)})"

    def _follow(self, version: str, heard: Callable[[str], None]) -> None:
        while True:
            with contextlib.suppress(LampstandError, OSError, ValueError, KeyError):
                for event in self.client.watch(self.path("pods"), {SITE: self.site}, version):
                    self._take(event["type"], event["object"], heard)
            try:
                version = self._list()
            except (LampstandError, OSError, ValueError, KeyError) as error:
                log.warning("%s", error)
                time.sleep(0.5)

    def _take(self, kind: str, pod: Object, heard: Callable[[str], None]) -> None:
        labels = pod["metadata"].get("labels", {})
        if kind == "BOOKMARK" or labels.get(KIND) not in GROUPED:
            return
        name = labels[INSTANCE]
        with self._lock:
            known = self._pods.get(name)
            if kind == "DELETED":
                if known is not None and known["metadata"]["uid"] == pod["metadata"]["uid"]:
                    del self._pods[name]
            else:
                self._pods[name] = pod
        heard(name)

    def may_supervise(self) -> bool:
        """Commands change objects; what runs is the cluster's and the controller's."""
        return True

    # -- changing ----------------------------------------------------------------------------------------------------
    async def fence(self, instance: Instance) -> None:
        """Delete the pod and have its node confirm the death. Its successor is held until `start`.

        Never by force: a node that is only cut off would run the server on, beside its successor, on one volume.
        Raises LampstandError when the node does not confirm; then the replicas' silence is the fence.
        """
        await self._hold(instance, True)
        self._held.add(instance.name)
        pod = self._pod(instance.name)
        if pod is None or started(pod) is None:
            return  # nothing runs; its successor, which may be young, is left alone
        await self._delete(pod)
        end = time.monotonic() + DEATH
        while (now := self._pod(instance.name)) is not None and now["metadata"]["uid"] == pod["metadata"][
            "uid"
        ]:
            if started(now) is None:
                return
            if time.monotonic() > end:
                node = pod["spec"].get("nodeName", "its node")
                raise LampstandError(
                    f"{node} does not confirm within {DEATH:g} s that it is dead", instance.name
                )
            await asyncio.sleep(0.02)

    async def start(self, instance: Instance) -> None:
        """Let the server's programs run: at once where its pod comes up anyhow, in a new pod where one is held.

        Does not wait for it. Raises LampstandError while it cannot be known whether the pod is held.
        """
        await self._hold(instance, False)
        if instance.name not in self._held:
            return
        pod = self._pod(instance.name)
        if pod is not None and not leaving(pod):
            name = await self._running(instance, YOUNG)
            pod = self._pod(instance.name)
            code, _ = await asyncio.to_thread(
                self.client.execute, self.namespace, name, (INIT, "health"), ANSWER, container=CONTAINER
            )
            if code and pod is not None and pod["metadata"]["name"] == name:
                await self._delete(pod)
        self._held.discard(instance.name)

    async def _delete(self, pod: Object) -> None:
        """Ask for the end of exactly this pod."""
        options = {"gracePeriodSeconds": 1, "preconditions": {"uid": pod["metadata"]["uid"]}}
        path = self.path("pods", pod["metadata"]["name"])
        try:
            await asyncio.to_thread(self.client.request, "DELETE", path, options, deadline=ANSWER)
        except ApiError as error:
            if error.status not in (404, 409):  # gone, or another pod has its name by now
                raise

    def _pod(self, name: str) -> Object | None:
        with self._lock:
            return self._pods.get(name)

    async def _hold(self, instance: Instance, held: bool) -> None:
        if held != (HOLD in self._maps.get(instance.name, {})):
            await asyncio.to_thread(self._write_map, instance.name, {HOLD: "held" if held else None})

    def _write_map(self, name: str, data: Mapping[str, str | None]) -> None:
        own = {SITE: self.site, INSTANCE: name, "app.kubernetes.io/managed-by": "lampstand"}
        put_map(self.client, self.path("configmaps"), role_map(name), own, data)
        known = self._maps.setdefault(name, {})
        for key, value in data.items():
            if value is None:
                known.pop(key, None)
            else:
                known[key] = value

    async def clear_data(self, instance: Instance, keep_as: str) -> str:
        """Move the data folder beside itself, within the volume."""
        return (await self._ask(instance, "aside", (keep_as,), 10.0)).strip()

    async def run(self, instance: Instance, argv: Sequence[str], deadline: float) -> str:
        """A program in the server's pod. Where that does not run, it comes back without the server's programs."""
        return await self._ask(instance, "run", argv, deadline)

    async def _ask(self, instance: Instance, verb: str, arguments: Sequence[str], deadline: float) -> str:
        if self.observe().get(instance.name, _MISSING).state is State.STOPPED:
            await self._hold(instance, True)
            self._held.add(instance.name)
        pod = await self._running(instance)
        argv = (INIT, "ask", verb, f"{deadline:g}", *arguments)
        code, output = await asyncio.to_thread(
            self.client.execute, self.namespace, pod, argv, deadline + 2.0, container=CONTAINER
        )
        if code:
            raise LampstandError(
                "\n".join(output.strip().splitlines()[-5:]) or f"`{verb}` failed", instance.name
            )
        return output

    async def _running(self, instance: Instance, seconds: float = BACK) -> str:
        end = time.monotonic() + seconds
        while True:
            pod = self._pod(instance.name)
            if pod is not None and started(pod) is not None and not leaving(pod):
                return str(pod["metadata"]["name"])
            if time.monotonic() > end:
                raise TimedOutError(f"its pod does not run within {seconds:g} s", instance.name)
            await asyncio.sleep(0.1)

    # -- roles -------------------------------------------------------------------------------------------------------
    async def label(self, wanted: Mapping[str, Mapping[str, str]]) -> list[str]:
        """Give pods the labels that Services select by; those that lose a role first. Returns whose changed."""
        changed: list[tuple[str, Object]] = []
        with self._lock:
            pods = dict(self._pods)
        for name, pod in pods.items():
            labels = pod["metadata"].get("labels", {})
            if any(labels.get(key) != value for key, value in wanted.get(name, {}).items()):
                changed.append((name, pod))
        changed.sort(key=lambda c: wanted[c[0]].get(ROLE) == "primary")
        for name, pod in changed:
            path = self.path("pods", pod["metadata"]["name"])
            body: Object = {"metadata": {"uid": pod["metadata"]["uid"], "labels": dict(wanted[name])}}
            new = await asyncio.to_thread(self.client.patch, path, body)
            with self._lock:
                if name in self._pods:
                    self._pods[name] = new
        return [name for name, _ in changed]

    # -- files -------------------------------------------------------------------------------------------------------
    def secret(self, name: str) -> str:
        """A generated secret. Raises KeyError."""
        try:
            return (self._secret_files / name).read_text("utf-8")
        except FileNotFoundError:
            raise KeyError(name) from None

    def read_live(self, file: File) -> str | None:
        """What a server reads at its next start instead of what was rendered; None where nobody wrote it."""
        parts = file.path.split("/")
        return self._maps.get(parts[-2], {}).get(parts[-1])

    def write_live(self, instance: Instance, file: File) -> None:
        """Replace a live file."""
        name = file.path.rpartition("/")[2]
        if self._maps.get(instance.name, {}).get(name) != file.content:
            self._write_map(instance.name, {name: file.content})

    async def reload_routes(self, instance: Instance, drop_old: bool) -> None:
        """There are no routes: Services select by label."""


def put_map(
    client: Client, path: str, name: str, own: Mapping[str, str], data: Mapping[str, str | None]
) -> None:
    """Make keys of a ConfigMap what `data` says (None: absent); it is created where it is missing."""
    body: Object = {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": dict(own)}, "data": dict(data),
    }  # fmt: skip
    try:
        client.request("PATCH", f"{path}/{name}", body, content=PATCHES["merge"], deadline=ANSWER)
    except ApiError as error:
        if error.status != 404:
            raise
        there = {key: value for key, value in data.items() if value is not None}
        client.request("POST", path, {**body, "data": there}, deadline=ANSWER)


_MISSING = ObservedInstance("", "", State.STOPPED)

PRIMARY: Mapping[str, str] = {ROLE: "primary"}
REPLICA: Mapping[str, str] = {ROLE: "replica"}


def labels(*, primary: bool, reads: bool | None) -> dict[str, str]:
    """The labels of one pod; `reads` is None for kinds that have no readers."""
    role = dict(PRIMARY if primary else REPLICA)
    return role if reads is None else {**role, READS: "yes" if reads else "no"}
