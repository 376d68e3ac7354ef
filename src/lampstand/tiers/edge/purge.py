"""Purging: what is kept of URLs, tags or a prefix is forgotten (hard) or made old (soft) on every edge.

An edge that cannot be reached must not come back with what should be gone, so a purge is written to a journal first and
struck out edge by edge; the controller calls `replay` in each of its cycles.
"""

import asyncio
import contextlib
import fcntl
import json
import re
import time
import uuid
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from lampstand.errors import LampstandError, UsageError
from lampstand.topology import Endpoint

_TAGS_A_REQUEST = 100
"""Tags that one request carries; a hundred of the longest still fit into a header."""

_REMEMBERED = 7 * 86_400.0
"""Seconds after which an unreachable edge's purge is dropped: what was kept then is long too old."""


@dataclass(frozen=True, slots=True)
class Purge:
    """What to purge. At least one of the four kinds."""

    urls: tuple[str, ...] = ()
    """URLs or paths with their query. The host does not matter."""
    tags: tuple[str, ...] = ()
    prefix: str | None = None
    """Path prefix. Always hard: what matches is found when it is asked for."""
    everything: bool = False
    soft: bool = True
    """Make old instead of forgetting: the old answer is given while a new one is fetched."""

    def __post_init__(self) -> None:
        if not (self.urls or self.tags or self.prefix or self.everything):
            raise UsageError("nothing to purge", mend="name URLs, tags, a prefix, or everything")
        wrong = [t for t in (*self.urls, *self.tags, self.prefix or "") if re.search(r'[\s"\x00-\x20]', t)]
        wrong += [t for t in self.tags if not t or "," in t]
        if wrong:
            raise UsageError(
                f"{wrong[0]!r} cannot be purged",
                mend="spaces, quotation marks and commas in tags are not allowed",
            )

    def requests(self) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
        """Request targets and headers, one for each request that every edge gets."""
        mode = (("X-Purge-Mode", "soft" if self.soft else "hard"),)
        for url in self.urls:
            parts = urlsplit(url)
            yield (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), mode
        for start in range(0, len(self.tags), _TAGS_A_REQUEST):
            yield "/", (*mode, ("Surrogate-Key", " ".join(self.tags[start : start + _TAGS_A_REQUEST])))
        if self.prefix:
            yield "/", (("X-Purge-Prefix", re.escape(self.prefix)),)
        if self.everything:
            yield "/", (*mode, ("X-Purge-All", "1"))


@dataclass(frozen=True, slots=True)
class EdgeReport:
    """What one edge did."""

    edge: str
    ms: float
    """Milliseconds from the beginning of the purge to the edge's last answer."""
    purged: int = 0
    """Answers that were found and purged; those that a prefix will find are not counted."""
    error: str = ""
    """Why it did not; empty when it did."""


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """What all edges did."""

    edges: tuple[EdgeReport, ...]
    ms: float

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the edges that did not answer."""
        return tuple(e.edge for e in self.edges if e.error)


class PurgeRefusedError(LampstandError):
    """An edge answered a purge with something else than 200."""


async def purge(
    endpoints: Sequence[Endpoint],
    token: str,
    what: Purge,
    *,
    shield: str | None = None,
    journal: "Journal | None" = None,
    timeout: float = 2.0,
) -> PurgeReport:
    """Purges on all edges at once; the shield first, because the others fetch from it.

    `endpoints` are the edges' `http` endpoints, `timeout` seconds for each edge. An edge that fails is in the report
    (and stays in the journal); nothing is raised for it.
    """
    began = time.perf_counter()
    entry = journal.begin(what, [e.instance for e in endpoints]) if journal else ""
    first = [e for e in endpoints if e.instance == shield]
    rest = [e for e in endpoints if e.instance != shield]
    reports: list[EdgeReport] = []
    for group in (first, rest):
        reports += await asyncio.gather(*(_one(e, token, what, began, timeout) for e in group))
    if journal:
        journal.done(entry, [r.edge for r in reports if not r.error])
    order = {e.instance: i for i, e in enumerate(endpoints)}
    reports.sort(key=lambda r: order[r.edge])
    return PurgeReport(tuple(reports), _ms(began))


async def replay(
    journal: "Journal",
    endpoints: Sequence[Endpoint],
    token: str,
    *,
    shield: str | None = None,
    timeout: float = 1.0,
) -> tuple[EdgeReport, ...]:
    """Does what edges have missed, for those that answer again, and hard: they have given old answers for long enough.

    Cheap when there is nothing to do.
    """
    by_name = {e.instance: e for e in endpoints}
    reports: list[EdgeReport] = []
    for entry in journal.pending():
        edges = [by_name[name] for name in entry.edges if name in by_name]
        gone = [name for name in entry.edges if name not in by_name]
        report = await purge(edges, token, replace(entry.what, soft=False), shield=shield, timeout=timeout)
        journal.done(entry.key, [*gone, *(r.edge for r in report.edges if not r.error)])
        reports += report.edges
    return tuple(reports)


async def _one(endpoint: Endpoint, token: str, what: Purge, began: float, timeout: float) -> EdgeReport:
    try:
        async with asyncio.timeout(timeout):
            purged = await _send(endpoint, token, what)
    except TimeoutError:
        return EdgeReport(endpoint.instance, _ms(began), error=f"no answer within {timeout:g} s")
    except (OSError, asyncio.IncompleteReadError, LampstandError, ValueError) as error:
        return EdgeReport(endpoint.instance, _ms(began), error=str(error))
    return EdgeReport(endpoint.instance, _ms(began), purged)


async def _send(endpoint: Endpoint, token: str, what: Purge) -> int:
    """All requests over one connection; the number of purged answers."""
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    purged = 0
    try:
        for target, headers in what.requests():
            lines = [
                f"PURGE {target} HTTP/1.1",
                "Host: localhost",
                f"X-Purge-Token: {token}",
                *(f"{n}: {v}" for n, v in headers),
            ]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = re.search(r"(?i)^content-length: *([0-9]+)", head, re.MULTILINE)
            body = await reader.readexactly(int(length[1]) if length else 0)
            if not head.startswith("HTTP/1.1 200"):
                raise PurgeRefusedError(head.partition("\r\n")[0].partition(" ")[2], endpoint.instance)
            purged += max(0, int(json.loads(body)["purged"]))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return purged


def _ms(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)


@dataclass(frozen=True, slots=True)
class Entry:
    """A purge that some edges have not done yet."""

    key: str
    at: float
    """Seconds since the epoch."""
    what: Purge
    edges: tuple[str, ...]


_ENTRY = TypeAdapter(Entry)


class Journal:
    """The purges that some edges still owe, in a file of one JSON object a line. Safe between processes.

    Nothing is forced to disk: what an edge keeps does not outlive a power cut either.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, what: Purge, edges: Iterable[str]) -> str:
        """Writes down a purge before it is sent. Its key is for `done`."""
        entry = Entry(uuid.uuid4().hex, time.time(), what, tuple(edges))
        with self._locked() as entries:
            entries[entry.key] = entry
        return entry.key

    def done(self, key: str, edges: Iterable[str]) -> None:
        """Strikes out edges that have done it; the entry goes with the last of them."""
        finished = set(edges)
        with self._locked() as entries:
            entry = entries.pop(key, None)
            if entry is not None and (left := tuple(e for e in entry.edges if e not in finished)):
                entries[key] = replace(entry, edges=left)

    def pending(self) -> tuple[Entry, ...]:
        """What is still owed, oldest first. Reads one small file, or none."""
        if not self._path.exists():
            return ()
        return tuple(sorted(self._read(self._path.read_text()).values(), key=lambda e: e.at))

    @contextlib.contextmanager
    def _locked(self) -> Generator[dict[str, Entry]]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path.with_suffix(".lock"), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            entries = self._read(self._path.read_text()) if self._path.exists() else {}
            yield entries
            fresh = self._path.with_suffix(".new")
            fresh.write_bytes(b"".join(_ENTRY.dump_json(e) + b"\n" for e in entries.values()))
            fresh.replace(self._path)

    @staticmethod
    def _read(text: str) -> dict[str, Entry]:
        oldest = time.time() - _REMEMBERED
        entries = (_ENTRY.validate_json(line) for line in text.splitlines())
        return {e.key: e for e in entries if e.at > oldest}
