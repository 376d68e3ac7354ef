"""The controller as a pod: the same loop and the same recoveries; what it decides becomes labels of pods."""

import asyncio
import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lampstand.controller.cache_switchover import cache_switchover_steps
from lampstand.controller.failover_switchover import switchover_steps
from lampstand.controller.journal import Journal
from lampstand.controller.loop import Controller
from lampstand.controller.problems import Finding, Memory
from lampstand.controller.routes import behind
from lampstand.errors import LampstandError
from lampstand.targets.kubernetes.client import Client
from lampstand.targets.kubernetes.placement import CONTROLLER
from lampstand.targets.kubernetes.project import SITE
from lampstand.targets.kubernetes.runtime import ANSWER, KubernetesRuntime, Object, labels, put_map

LEASE_SECONDS = 8.0
"""A lease that nobody renewed for so long belongs to nobody."""
RENEWALS = 0.25
"""Part of a lease's time between two renewals; who could not renew but for so long before its end, ends at once."""
PUBLISH = 2.0
"""Seconds between two writes of the status into the cluster."""
HEALTH_PORT = 8090
STALE = 30.0
"""Seconds without a cycle after which the controller counts as stuck."""
LINES = 200
"""Last lines of the journal that are kept in the cluster."""

log = logging.getLogger("lampstand.controller")


class KubernetesController(Controller):
    """Services select pods by the labels that this sets; a pod that was told to go hands its role over first."""

    runtime: KubernetesRuntime
    cycled = float("inf")
    """When the last cycle ended, of time.monotonic()."""

    async def route(self, *, drop_old: bool = False) -> None:
        """Role and readiness for reads of every server, as labels; effective when the cluster's proxies have them."""
        async with self._routing:
            view = self.view
            served = {port: {s.name for s in servers} for port, servers in behind(view).items()}
            wanted: dict[str, Mapping[str, str]] = {}
            for instance in view.topology.instances:
                port = "writer" if instance.kind == "database" else instance.kind
                reads = instance.name in served["reader"] if instance.kind == "database" else None
                wanted[instance.name] = labels(primary=instance.name in served[port], reads=reads)
            try:
                changed = await self.runtime.label(wanted)
            except LampstandError as error:
                log.warning("roles are not told: %s", error)
                if drop_old:
                    raise
                return
            for name in changed:
                self.event("routes", name, "label", "done", **wanted[name])

    async def cycle(self) -> None:
        """The cycle of every target, then what only pods do: leave when they are told to."""
        await super().cycle()
        self.cycled = time.monotonic()
        for name in self.runtime.leaving():
            instance = self.topology.by_name.get(name)
            if (
                instance is None
                or self.memory.primaries.get(instance.kind) != name
                or self.busy(instance.kind)
            ):
                continue
            finding = Finding("pod-leaves", name, f"{name} was told to go and hands its role over")
            with contextlib.suppress(
                LampstandError
            ):  # nobody is ready to take it: the failover comes when it is gone
                if instance.kind == "database":
                    steps = switchover_steps(self.view, None)
                else:
                    steps = cache_switchover_steps(self.view, instance.kind, None)
                self.begin(instance.kind, finding, steps)


class ClusterJournal(Journal):
    """The same files in the pod, and what must outlive it in ConfigMaps: `memory`, `status`, `journal`."""

    def __init__(self, folder: Path, client: Client, path: str, site: str) -> None:
        """`path` is that of the namespace's ConfigMaps."""
        super().__init__(folder)
        self._client = client
        self._path = path
        self._site = site
        self._told = 0.0
        self._lines: list[str] = []
        self._unsaid = False

    def read_memory(self) -> Memory:
        """The memory of the controller before this one. Raises LampstandError."""
        found = self._client.get(f"{self._path}/memory")
        journal = self._client.get(f"{self._path}/journal")
        self._lines = str(journal["data"]["events.ndjson"]).splitlines() if journal else []
        return Memory(**json.loads(found["data"]["memory.json"])) if found else Memory()

    def write_memory(self, memory: Memory) -> None:
        """In the cluster's store when this returns. Raises LampstandError: what is not remembered is not acted on."""
        self._put("memory", {"memory.json": json.dumps(asdict(memory))})

    def publish(self, status: Mapping[str, object]) -> None:
        """In the pod at once; in the cluster every two seconds at most."""
        super().publish(status)
        if time.monotonic() - self._told < PUBLISH:
            return
        self._told = time.monotonic()
        try:
            self._put("status", {"status.json": (self.folder / "status.json").read_text("utf-8")})
            if self._unsaid:
                self._put("journal", {"events.ndjson": "\n".join(self._lines)})
                self._unsaid = False
        except LampstandError as error:
            log.warning("%s", error)

    def append(self, line: str) -> None:
        """Keep a line of the audit log; the cluster gets it with the next status."""
        super().append(line)
        self._lines = [*self._lines[1 - LINES :], line]
        self._unsaid = True

    def _put(self, name: str, data: Mapping[str, str]) -> None:
        own = {SITE: self._site, "app.kubernetes.io/managed-by": "lampstand"}
        put_map(self._client, self._path, name, own, data)


class Health:
    """`GET /healthz` for the kubelet: 200 while it waits for its lease, and while its cycles go on."""

    def __init__(self) -> None:
        self.controller: KubernetesController | None = None

    def well(self) -> bool:
        """Whether it needs no restart."""
        return self.controller is None or time.monotonic() - self.controller.cycled < STALE

    def start(self) -> None:
        """Answers from a thread of its own: a busy loop is no dead one, and a stuck one is seen."""
        health = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if health.well() else 503)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
                pass

        server = ThreadingHTTPServer(("0.0.0.0", HEALTH_PORT), Handler)
        threading.Thread(target=server.serve_forever, daemon=True, name="health").start()


class Lease:
    """Two controllers never act at once: who does not hold the lease waits, who lost it ends (client-go does the same).

    Clocks of nodes differ, so what counts is how long this process has seen a lease unchanged.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        holder: str,
        *,
        seconds: float = LEASE_SECONDS,
        lost: Callable[[], None] = lambda: os._exit(1),
    ) -> None:
        """`lost` must end whatever acts, from any thread and at once."""
        self._client = client
        self._holder = holder
        self._seconds = seconds
        self._lost = lost
        self._released = threading.Event()
        self._renewer: threading.Thread | None = None
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._document: Object = {}
        self._renewed = 0.0

    async def acquire(self) -> None:
        """Returns when this process holds it."""
        seen, since = "", time.monotonic()
        while True:
            try:
                found = await asyncio.to_thread(self._client.get, f"{self._path}/{CONTROLLER}")
                spec: Object = found["spec"] if found else {}
                now = f"{spec.get('holderIdentity')} {spec.get('renewTime')}"
                if now != seen:
                    seen, since = now, time.monotonic()
                free = not spec.get("holderIdentity") or spec["holderIdentity"] == self._holder
                if found is None or free or time.monotonic() - since > self._seconds:
                    await asyncio.to_thread(self._take, found)
                    return
            except LampstandError as error:
                log.info("waiting for the lease: %s", error)
            await asyncio.sleep(0.5)

    def keep(self) -> None:
        """Renews it from now on. `lost` is called when that was impossible for too long: another one may act by then.

        Renewing and counting are threads of their own: neither a busy loop nor a missing answer delays the end.
        """
        self._renewer = threading.Thread(target=self._renew, daemon=True, name="lease")
        self._renewer.start()
        threading.Thread(target=self._count, daemon=True, name="lease-end").start()

    def _renew(self) -> None:
        while not self._released.wait(self._seconds * RENEWALS):
            try:
                # Read first: a renewal without an answer may have been written all the same, and is no conflict.
                found = self._client.request("GET", f"{self._path}/{CONTROLLER}", deadline=ANSWER)
                if found["spec"].get("holderIdentity") != self._holder:
                    log.warning("the lease is another's")
                    self._lost()
                    return
                self._take(found)
            except LampstandError as error:
                log.warning("the lease is not renewed: %s", error)

    def _count(self) -> None:
        last = self._seconds * (1 - RENEWALS)
        while (left := self._renewed + last - time.monotonic()) > 0:
            if self._released.wait(left):
                return
        log.warning("the lease is lost: another controller may act")
        self._lost()

    def release(self) -> None:
        """Whoever comes next need not wait."""
        self._released.set()
        if self._renewer is not None:
            self._renewer.join(ANSWER)
        self._holder = ""
        with contextlib.suppress(LampstandError):
            self._take(self._document)

    def _take(self, found: Object | None) -> None:
        """A conflict (409) when somebody else wrote it since."""
        begun = time.monotonic()
        spec: dict[str, Any] = {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": max(1, int(self._seconds)),
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        if found is None:
            body: Object = {
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": CONTROLLER}, "spec": spec,
            }  # fmt: skip
            self._document = self._client.request("POST", self._path, body, deadline=ANSWER)
        else:
            path = f"{self._path}/{CONTROLLER}"
            self._document = self._client.request("PUT", path, {**found, "spec": spec}, deadline=ANSWER)
        self._renewed = begun
