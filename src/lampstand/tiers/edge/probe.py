"""What edges say: whether one keeps a URL (`lampstand cdn explain`), and its counters (`lampstand cdn status`)."""

import asyncio
import contextlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from lampstand.topology import Endpoint, Instance


@dataclass(frozen=True, slots=True)
class Kept:
    """What one edge has of a URL. Asking fetches nothing from the origin and changes nothing."""

    edge: str
    state: str
    """`hit`, `stale` (too old, may be given while a new one is fetched), `absent`, or `unreachable`."""
    status: int = 0
    age: int = 0
    """Seconds since the application made it."""
    ttl: int = 0
    """Seconds that it is still fresh; negative when it is too old."""
    cache_status: str = ""
    """The field of RFC 9211, as the visitor would get it."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """Counters of one edge since it started."""

    seconds: int
    requests: int
    hits: int
    """Answered from memory, the old ones included."""
    stale: int
    """Of those, the ones that were too old."""
    misses: int
    passes: int
    """Not looked up, or not to be kept."""
    fetches: int
    """Answers fetched from the balancers or the shield."""
    fetch_failures: int
    kept: int
    """Answers in memory."""
    bytes_used: int
    bytes_free: int
    evicted: int
    """Answers that had to make room."""
    bytes_sent: int
    """Bodies given to visitors; tunnels (large files) are not counted."""
    bytes_fetched: int
    """Bodies fetched from the balancers or the shield. Varnish counts anew when its VCL is reloaded."""
    bans: int
    """Prefix purges that are still being worked off."""

    @property
    def hit_ratio(self) -> float:
        """Share of the requests for the site that needed no fetch, 0 to 1. Probes and purges are not for the site."""
        total = self.hits + self.misses + self.passes
        return self.hits / total if total else 0.0

    @property
    def bytes_saved(self) -> int:
        """Bytes of bodies that visitors got and nobody had to fetch."""
        return max(0, self.bytes_sent - self.bytes_fetched)


async def look(
    endpoints: Sequence[Endpoint], url: str, *, host: str = "", timeout: float = 2.0
) -> tuple[Kept, ...]:
    """What each edge keeps of a URL for a visitor without cookies. `host` is for a URL without one."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return tuple(
        await asyncio.gather(
            *(_look(e, target, parts.netloc or host or e.address, timeout) for e in endpoints)
        )
    )


async def _look(endpoint: Endpoint, target: str, host: str, timeout: float) -> Kept:
    # RFC 9111 section 5.2.1.7: an edge that has nothing to give answers 504.
    request = f"HEAD {target} HTTP/1.1\r\nHost: {host}\r\nCache-Control: only-if-cached\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
            try:
                writer.write(request.encode())
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        return Kept(endpoint.instance, "unreachable", error=f"no answer within {timeout:g} s")
    except (OSError, asyncio.IncompleteReadError) as error:
        return Kept(endpoint.instance, "unreachable", error=str(error))
    return parse_look(endpoint.instance, head)


def parse_look(edge: str, head: str) -> Kept:
    """The head of an edge's answer, read."""
    first, *lines = head.strip().split("\r\n")
    fields = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
    status, state = int(first.split(" ")[1]), fields.get("x-cache", "").partition(" ")[0]
    if status == 504 or state not in ("hit", "stale"):
        return Kept(edge, "absent")
    said = fields.get("cache-status", "")
    ttl = re.search(r"ttl=(-?[0-9]+)[^,]*$", said)
    return Kept(edge, state, status, int(fields.get("age", "0")), int(ttl[1]) if ttl else 0, said)


def figures_command(instance: Instance, varnishstat: str) -> tuple[str, ...]:
    """What to run beside an edge for `parse_figures`."""
    argv = instance.processes[0].argv
    return (varnishstat, "-n", argv[argv.index("-n") + 1], "-j")


def parse_figures(text: str) -> Figures:
    """The output of `varnishstat -j` (varnish-counters(7)). Raises ValueError when it is none."""
    document: object = json.loads(text)
    outer = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
    counters: dict[str, Any] = outer.get("counters", outer)
    if "MAIN.uptime" not in counters:
        raise ValueError("this is not the output of varnishstat -j")

    def total(names: Iterable[str]) -> int:
        return sum(int(counters[name]["value"]) for name in names if name in counters)

    def main(*names: str) -> int:
        return total(f"MAIN.{name}" for name in names)

    storage = "SMA.s0"
    return Figures(
        seconds=main("uptime"),
        requests=main("client_req"),
        hits=main("cache_hit"),
        stale=main("cache_hit_grace"),
        misses=main("cache_miss"),
        passes=main("s_pass"),
        fetches=main("s_fetch"),
        fetch_failures=main("backend_fail", "fetch_failed"),
        kept=main("n_object"),
        bytes_used=total([f"{storage}.g_bytes"]),
        bytes_free=total([f"{storage}.g_space"]),
        evicted=main("n_lru_nuked"),
        bytes_sent=main("s_resp_bodybytes"),
        bytes_fetched=total(n for n in counters if n.startswith("VBE.") and n.endswith(".beresp_bodybytes")),
        bans=main("bans"),
    )
