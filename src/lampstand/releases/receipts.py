"""Receipts: what every deploy did, as measured meanwhile. One JSON file each; the newest `deploy.history` stay."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from lampstand.errors import LampstandError
from lampstand.files import write_json

Outcome = Literal["running", "done", "returned", "failed", "refused", "interrupted"]
"""`returned`: the old release serves again; `failed`: nothing had changed for visitors yet; `refused`: nothing was
begun. A receipt that says `running` while nobody holds the lock is of a command that was killed."""

ENDED = ("done", "returned")
"""Outcomes after which it is known which release serves."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened to one server (or to the deploy itself: an empty name), seconds after the begin."""

    at: float
    server: str
    what: str


@dataclass
class Receipt:
    """One deploy, rollback or `up` that changed the application. Times in seconds, `begun` is unix time."""

    number: int
    verb: str
    release: str
    """The release that was asked for; empty until it is known."""
    previous: str
    """The release that served before."""
    begun: float
    by: str = ""
    """Account of whoever asked."""
    commit: str | None = None
    outcome: Outcome = "running"
    reason: str = ""
    """Why it was refused, failed or taken back."""
    serves: str = ""
    """The release that serves at the end."""
    duration_seconds: float = 0.0
    requests: int = 0
    """Requests of the deploy's own, through the edge."""
    failed_requests: int = 0
    phases: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])
    """`before`, `during`, `after` -> requests, failed_requests, p50_seconds, p99_seconds, longest_seconds."""
    visitors: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])
    """`old`, `new` -> what the balancers' logs say of all requests to either release while both served."""
    steps: Mapping[str, float] = field(default_factory=dict[str, float])
    """Seconds that each step took: build, release_step, roll."""
    timeline: list[Moment] = field(default_factory=list[Moment])
    failures: list[str] = field(default_factory=list[str])
    """The first few failed requests of the deploy's own, as one line each."""
    notes: list[str] = field(default_factory=list[str])
    pruned: list[str] = field(default_factory=list[str])

    def moment(self, server: str, what: str) -> None:
        """Add to the timeline, now."""
        self.timeline.append(Moment(round(time.time() - self.begun, 3), server, what))

    def document(self) -> dict[str, Any]:
        """The document of `lampstand releases show --json`, version 1."""
        return {"version": 1, **asdict(self)}


class Receipts:
    """The receipts of one site."""

    def __init__(self, folder: Path, history: int) -> None:
        self.folder = folder
        self._history = history

    def begin(self, verb: str, previous: str, by: str) -> Receipt:
        """A new receipt with the next number, on disk."""
        receipt = Receipt(self._last_number() + 1, verb, "", previous, time.time(), by)
        self.keep(receipt)
        return receipt

    def keep(self, receipt: Receipt) -> None:
        """Write it, and forget the oldest."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        write_json(self._path(receipt.number), receipt.document())
        numbers = self._numbers()
        for number in numbers[: max(0, len(numbers) - max(1, self._history))]:
            self._path(number).unlink(missing_ok=True)

    def all(self) -> list[Receipt]:
        """The oldest first; what cannot be read (another version's) is left out."""
        return [found for number in self._numbers() if (found := self._read(number))]

    def last(self) -> Receipt | None:
        """The newest."""
        return next((found for n in reversed(self._numbers()) if (found := self._read(n))), None)

    def of(self, name: str) -> Receipt:
        """The receipt with a number, or the newest of a release, or (without a name) of all. Raises LampstandError."""
        if not name and (last := self.last()):
            return last
        for receipt in reversed(self.all()):
            if str(receipt.number) == name or (len(name) >= 4 and receipt.release.startswith(name)):
                return receipt
        raise LampstandError("no such deploy", name, "`lampstand releases` lists releases and deploys")

    def _last_number(self) -> int:
        return max(self._numbers(), default=0)

    def _numbers(self) -> list[int]:
        return sorted(int(p.stem) for p in self.folder.glob("*.json") if p.stem.isdecimal())

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05}.json"

    def _read(self, number: int) -> Receipt | None:
        try:
            value = cast("dict[str, Any]", json.loads(self._path(number).read_text()))
            value.pop("version")
            value["timeline"] = [Moment(**m) for m in value["timeline"]]
            return Receipt(**value)
        except (OSError, ValueError, TypeError, KeyError):
            return None


def good_releases(receipts: Iterable[Receipt]) -> list[str]:
    """The releases that served well, the last one last; what a rollback left is not among them any more. Pure."""
    stack: list[str] = []
    for receipt in receipts:
        if receipt.outcome != "done" or not receipt.serves:
            continue
        if receipt.verb == "rollback" and receipt.serves in stack:
            del stack[stack.index(receipt.serves) + 1 :]
        elif not stack or stack[-1] != receipt.serves:
            stack.append(receipt.serves)
    return stack


def rollback_to(receipts: Sequence[Receipt], serves: str, there: Iterable[str]) -> str | None:
    """The release that `rollback` returns to without being told: the last good one before the one that serves and that
    is still there. Pure."""
    known = set(there)
    stack = good_releases(receipts)
    if serves in stack:
        stack = stack[: len(stack) - 1 - stack[::-1].index(serves)]
    return next((r for r in reversed(stack) if r != serves and r in known), None)
