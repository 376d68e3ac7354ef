"""Reloads of a real nginx: when they count, whom they cost a connection, and that under load they cost nothing."""

import asyncio
import contextlib
import http.client
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lampstand.errors import LampstandError, TimedOutError
from lampstand.tiers.balancer import live
from lampstand.tiers.balancer.live import Server
from lampstand.tiers.balancer.reload import drained, reload_nginx, workers
from tests.integration.local.balancer_backend import Backend, backend, fast_backend, route
from tests.integration.local.test_balancer_http import Site, balanced
from tests.support import eventually

RATE = 1000
"""Requests a second."""
SECONDS = 4.0


@pytest.fixture
def two() -> Iterator[tuple[Backend, Backend]]:
    with backend("web-1") as first, backend("web-2") as second:
        yield first, second


def master(site: Site) -> int:
    return site.running.children["nginx"].pid


def test_a_reload_counts_when_it_returns(two: tuple[Backend, Backend]) -> None:
    with balanced(two[0].server) as site:
        for number in range(6):
            target = two[number % 2]
            route(site.running.instance, live.web_routes([target.server]))
            site.reload()
            told = [site.get("/echo").json["server"] for _ in range(10)]
            assert told == [target.name] * 10
            eventually(lambda: not workers(master(site)).leaving)
            assert len(workers(master(site)).serving) == 1


def test_it_waits_for_an_nginx_that_is_only_starting(two: tuple[Backend, Backend]) -> None:
    with balanced(two[0].server) as site:
        site.running.stop()
        route(site.running.instance, live.web_routes([two[1].server]))
        site.running.start(site.running.instance.processes[0])
        site.reload()
        assert site.get("/echo").json["server"] == "web-2"


def test_files_that_nginx_refuses_change_nothing(two: tuple[Backend, Backend]) -> None:
    with balanced(two[0].server) as site:
        route(site.running.instance, "upstream web { nonsense; }\n")
        with pytest.raises(TimedOutError, match="error log"):
            asyncio.run(reload_nginx(master(site), deadline=0.5))
        assert site.get("/echo").json["server"] == "web-1"
        assert "nonsense" in site.running.log("error.log")
        route(site.running.instance, live.web_routes([two[1].server]))
        site.reload()
        assert site.get("/echo").json["server"] == "web-2"


def test_an_nginx_that_is_gone_cannot_be_reloaded(two: tuple[Backend, Backend]) -> None:
    with balanced(two[0].server) as site:
        site.running.stop()
        with pytest.raises(LampstandError, match="cannot be reloaded"):
            asyncio.run(reload_nginx(master(site), deadline=0.5))


def test_running_requests_are_finished_by_the_old_worker(two: tuple[Backend, Backend]) -> None:
    with balanced(two[0].server) as site:
        connection = http.client.HTTPConnection("127.0.0.1", site.port(), timeout=5)
        with contextlib.closing(connection):
            connection.request("POST", "/slow?seconds=1", b"x")
            eventually(lambda: two[0].paths("POST"))
            route(site.running.instance, live.web_routes([two[1].server]))
            site.reload()
            assert len(workers(master(site)).leaving) == 1
            assert site.get("/echo").json["server"] == "web-2"
            assert not asyncio.run(drained(master(site), deadline=0.1))
            assert connection.getresponse().read() == b"slow"
        assert asyncio.run(drained(master(site), deadline=5))


def test_dropping_ends_what_the_old_routes_made(two: tuple[Backend, Backend]) -> None:
    with balanced(two[0].server) as site:
        connection = http.client.HTTPConnection("127.0.0.1", site.port(), timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", "/slow?seconds=3")
            eventually(two[0].paths)
            begun = time.monotonic()
            asyncio.run(reload_nginx(master(site), drop_old_connections=True))
            with pytest.raises((OSError, http.client.HTTPException)):
                connection.getresponse()
            assert time.monotonic() - begun < 1.5
            assert site.get("/echo").status == 200


class Load:
    """Requests at a constant rate: GET over kept connections and POST over new ones, as an edge sends them."""

    def __init__(self, safe: int, unsafe: int) -> None:
        self._safe, self._unsafe = safe, unsafe
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.failures: list[str] = []
        self.done = {"GET": 0, "POST": 0}

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        begun = time.monotonic()
        tasks: set[asyncio.Task[None]] = set()
        for number in range(int(RATE * SECONDS)):
            await asyncio.sleep(max(0.0, begun + number / RATE - time.monotonic()))
            task = asyncio.create_task(self._one("POST" if number % 5 == 0 else "GET"))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        for _, writer in self._idle:
            writer.close()

    async def _one(self, method: str) -> None:
        try:
            async with asyncio.timeout(10):
                await (self._post() if method == "POST" else self._get())
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self.failures.append(f"{method}: {error!r}")
        else:
            self.done[method] += 1

    async def _post(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._unsafe)
        await self._exchange(reader, writer, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
        writer.close()

    async def _get(self) -> None:
        """Over an idle connection; when that turns out to be closed, over a new one (RFC 9112 section 9.3.1)."""
        while True:
            reused = bool(self._idle)
            reader, writer = (
                self._idle.pop() if reused else await asyncio.open_connection("127.0.0.1", self._safe)
            )
            try:
                kept = await self._exchange(reader, writer, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            except (ConnectionError, asyncio.IncompleteReadError):
                writer.close()
                if not reused:
                    raise
                continue
            if kept:
                self._idle.append((reader, writer))
            else:
                writer.close()
            return

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> bool:
        """Whether the connection may be used again."""
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200 "):
            raise OSError(head.split(b"\r\n")[0].decode())
        return b"connection: close" not in head.lower()


def test_servers_come_and_go_under_load_and_no_request_fails_or_runs_twice(tmp_path: Path) -> None:
    with (
        fast_backend("web-1", tmp_path / "one") as one,
        fast_backend("web-2", tmp_path / "two") as two,
    ):
        servers = [
            Server(f"web-{n}", "127.0.0.1", int((tmp_path / f / "port").read_text()))
            for n, f in ((1, "one"), (2, "two"))
        ]
        with balanced(*servers) as site:
            load = Load(site.port(), site.port("unsafe"))
            thread = threading.Thread(target=load.run)
            thread.start()
            reloads, slowest = 0, 0.0
            while thread.is_alive():
                chosen = (servers, servers[:1], servers, servers[1:])[reloads % 4]
                route(site.running.instance, live.web_routes(chosen))
                begun = time.monotonic()
                site.reload()
                slowest = max(slowest, time.monotonic() - begun)
                reloads += 1
                thread.join(0.25)
            assert load.failures == []
            assert reloads >= 4  # each server was alone once; more on a machine that is not busy
            methods = one() + two()
            assert methods.count("POST") == load.done["POST"] == RATE * SECONDS / 5
            assert load.done["GET"] == RATE * SECONDS * 4 / 5
            assert min(len(one()), len(two())) > RATE * SECONDS / 10
            print(
                f"{reloads} reloads, the slowest {slowest * 1000:.0f} ms, {sum(load.done.values())} requests"
            )
