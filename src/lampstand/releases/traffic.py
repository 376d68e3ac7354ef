"""What visitors get from each release, read from the balancers' access logs while a release rolls out."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from lampstand.releases.budget import Tally

AGENT = "lampstand-deploy"
"""User agent of the deploy's own requests: they are counted apart, so that they do not hide what visitors see."""
UNDECIDED = ("-", "", "499")
"""Statuses of attempts that tell nothing: the visitor went away."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to one web server."""

    address: str
    begun: float
    """Unix time."""
    seconds: float
    failed: bool
    own: bool
    """It is one of the deploy's own."""


def attempts(line: bytes) -> list[Attempt]:
    """What one line of the access log says; nothing for a line without a web server, or a torn one. Pure.

    nginx lists several servers where the first ones could not be reached, separated by commas (ngx_http_upstream,
    `$upstream_addr`), and by colons where a location led to another one.
    """
    try:
        value: dict[str, Any] = json.loads(line)
        addresses, statuses = _listed(value["upstream"]), _listed(value["upstream_status"])
        seconds = _listed(value["upstream_seconds"])
        begun = float(value["at"]) - float(value["seconds"])
        own = str(value["agent"]).startswith(AGENT)
    except (ValueError, KeyError, TypeError):
        return []
    return [
        Attempt(address, begun, float(took) if took != "-" else 0.0, status.startswith("5"), own)
        for address, status, took in zip(addresses, statuses, seconds, strict=False)
        if status not in UNDECIDED
    ]


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.replace(" : ", ", ").split(", ")] if text else []


@dataclass
class Ledger:
    """Which release a web server ran, and since when."""

    _known: dict[str, list[tuple[float, str]]] = field(default_factory=dict[str, list[tuple[float, str]]])

    def note(self, address: str, release: str, since: float) -> None:
        """From now on (unix time) the server at an address runs a release."""
        self._known.setdefault(address, []).append((since, release))

    def release(self, address: str, at: float) -> str | None:
        """The release that answered there at a moment; None where that is not known."""
        return next((r for since, r in reversed(self._known.get(address, [])) if since <= at), None)


@dataclass
class Counts:
    """Tallies of both releases: all requests of visitors, and the deploy's own."""

    visitors: Tally = field(default_factory=Tally)
    own: Tally = field(default_factory=Tally)

    def add(self, attempt: Attempt) -> None:
        """Count one."""
        (self.own if attempt.own else self.visitors).add(attempt.failed, attempt.seconds)


class Tail:
    """New whole lines of a log, across its rotation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: BinaryIO | None = self._open()
        self._rest = b""
        if self._handle:
            self._handle.seek(0, os.SEEK_END)

    def read(self) -> list[bytes]:
        """The lines since the last call."""
        lines: list[bytes] = []
        if self._handle:
            lines += self._lines(self._handle.read())
        if self._replaced():
            if self._handle:
                self._handle.close()
            self._handle, self._rest = self._open(), b""
            if self._handle:
                lines += self._lines(self._handle.read())
        return lines

    def close(self) -> None:
        """Let go of the file."""
        if self._handle:
            self._handle.close()

    def _open(self) -> BinaryIO | None:
        try:
            return self._path.open("rb")
        except FileNotFoundError:
            return None

    def _replaced(self) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        if self._handle is None:
            return True
        mine = os.fstat(self._handle.fileno())
        return there.st_ino != mine.st_ino or there.st_size < self._handle.tell()

    def _lines(self, data: bytes) -> list[bytes]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        return whole


class Traffic:
    """Counts by release, from the logs of all balancers."""

    def __init__(self, logs: Iterable[Path], ledger: Ledger) -> None:
        self._tails = [Tail(path) for path in logs]
        self._ledger = ledger
        self._since = float("inf")
        self.counts: dict[str, Counts] = {}

    def begin(self, since: float) -> None:
        """Count what begins from this moment on (unix time); forget what was counted."""
        self._since = since
        self.counts = {}

    def read(self) -> Mapping[str, Counts]:
        """Release -> its counts, with what was logged meanwhile."""
        for tail in self._tails:
            for line in tail.read():
                for attempt in attempts(line):
                    release = self._ledger.release(attempt.address, attempt.begun)
                    if attempt.begun >= self._since and release:
                        self.counts.setdefault(release, Counts()).add(attempt)
        return self.counts

    def close(self) -> None:
        """Let go of the logs."""
        for tail in self._tails:
            tail.close()
