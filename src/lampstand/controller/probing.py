"""Asks instances how they are: one task per instance, each at its own interval, none waiting for another."""

import asyncio
import contextlib
import http.client
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from lampstand.controller.health import Facts
from lampstand.observed import HttpFacts
from lampstand.tiers.cache.probe import CacheProber
from lampstand.tiers.database.probe import DatabaseProber
from lampstand.topology import Endpoint, Instance, Topology

Heard = Callable[[Instance, Facts | None], None]
"""Called with every answer; None where being alive is all that is asked."""


class Prober:
    """Runs the probes of a topology and reports each answer.

    `primary` names the primary of a kind, so that the heartbeat is written there and read back on the replicas;
    `impatient` says which instances are asked ten times a second, because they are not well yet.
    """

    def __init__(
        self,
        secret: Callable[[str], str],
        primary: Callable[[str], str | None],
        impatient: Callable[[str], bool],
        heard: Heard,
    ) -> None:
        self._heard = heard
        self._impatient = impatient
        self._primary = primary
        self._threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="probe")
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._instances: dict[str, Instance] = {}
        self._database = DatabaseProber(secret)
        self._cache = CacheProber(secret)

    def follow(self, topology: Topology) -> None:
        """Probe the instances of this topology from now on, and no others."""
        for name in [n for n in self._tasks if self._instances[n] != topology.by_name.get(n)]:
            self._tasks.pop(name).cancel()
        self._instances = dict(topology.by_name)
        for offset, instance in enumerate(topology.instances):
            if instance.name not in self._tasks and instance.probe.protocol != "process":
                # Spread over the interval: no burst of probes at every full second.
                first = (offset % 10) / 10 * min(instance.probe.interval, 1.0) / 10
                self._tasks[instance.name] = asyncio.create_task(self._loop(instance, first))

    async def ask(self, instance: Instance) -> Facts | None:
        """One probe now, bounded by the instance's own time-out."""
        probe = instance.probe
        loop = asyncio.get_running_loop()
        match probe.protocol:
            case "process":
                return None
            case "mysql":
                primary = self._primary(instance.kind) == instance.name
                return await loop.run_in_executor(self._threads, self._database.ask, instance, primary)
            case "redis":
                return await self._cache.ask(instance)
            case "http" | "tcp":
                endpoint = instance.endpoint(probe.endpoint)
                if probe.protocol == "tcp":
                    return await _connect(endpoint, probe.timeout)
                return await loop.run_in_executor(
                    self._threads, ask_http, endpoint, probe.path, {"Host": probe.host}, probe.timeout
                )

    async def ask_now(self, instances: list[Instance]) -> None:
        """Probe these side by side and report each answer."""

        async def one(instance: Instance) -> None:
            self._heard(instance, await self.ask(instance))

        await asyncio.gather(*(one(i) for i in instances if i.probe.protocol != "process"))

    async def _loop(self, instance: Instance, first: float) -> None:
        await asyncio.sleep(first)
        while True:
            begun = time.monotonic()
            self._heard(instance, await self.ask(instance))
            pace = (
                min(0.1, instance.probe.interval)
                if self._impatient(instance.name)
                else instance.probe.interval
            )
            await asyncio.sleep(max(0.02, pace - (time.monotonic() - begun)))

    async def close(self) -> None:
        """Stop all probes."""
        for task in self._tasks.values():
            task.cancel()
        for task in self._tasks.values():
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._threads.shutdown(wait=False, cancel_futures=True)


def ask_http(endpoint: Endpoint, path: str, headers: Mapping[str, str], timeout: float) -> HttpFacts:
    """One GET. `timeout` in seconds, for connecting and for every read. Never raises."""
    begun = time.monotonic()
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout)
    try:
        connection.request(
            "GET", path, headers={"User-Agent": "lampstand-probe", "Connection": "close", **headers}
        )
        answer = connection.getresponse()
        body = answer.read(500)
    except TimeoutError:
        return HttpFacts(False, error=f"does not answer within {timeout:g} s")
    except ConnectionRefusedError:
        return HttpFacts(False, error="refuses connections")
    except (OSError, http.client.HTTPException) as error:
        return HttpFacts(False, error=str(error) or type(error).__name__)
    finally:
        connection.close()
    good = 200 <= answer.status < 400
    text = "" if good else " ".join(body.decode(errors="replace").split())
    return HttpFacts(True, answer.status, time.monotonic() - begun, text)


async def _connect(endpoint: Endpoint, timeout: float) -> HttpFacts:
    begun = time.monotonic()
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(endpoint.host, endpoint.port), timeout)
    except (OSError, TimeoutError) as error:
        return HttpFacts(False, error=str(error) or "does not answer")
    writer.close()
    return HttpFacts(True, 200, time.monotonic() - begun)
