"""Watches a roll while it happens: who serves what since when, and whether the new release must be taken back."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from lampstand.observed import Health, State
from lampstand.releases.budget import Tally, errors_breach, times_breach
from lampstand.releases.receipts import Receipt
from lampstand.releases.traffic import Ledger, Traffic
from lampstand.releases.words import BudgetError, TakenBackError
from lampstand.site import Deploy

ILL_BESIDE_WELL = 2.0
"""Seconds that a new server may be ill while an old one is well."""
ILL_WITH_ALL = 15.0
"""Seconds that new servers may be ill while no old one is well either: a failover of the database makes all ill."""


@dataclass(frozen=True)
class Trial:
    """How a canary is compared."""

    facts: Mapping[str, str]
    """The intent: release and percent."""
    seconds: float
    sides: Callable[[], AbstractContextManager[None]]
    """Sends requests to either release, so that there is something to compare also without visitors."""

    @property
    def sentence(self) -> str:
        """What begins."""
        share = float(self.facts["percent"])
        return f"Canary: {share:g}% of the visitors get {self.facts['release']} for {self.seconds:g} s"


class Watch:
    """What is known about the new release during one roll."""

    def __init__(
        self,
        receipt: Receipt,
        limits: Deploy,
        traffic: Traffic,
        ledger: Ledger,
        keep: Callable[[Receipt], None],
    ) -> None:
        """`keep` is called when something was added to the receipt."""
        self.receipt = receipt
        self._keep = keep
        self.canary: Mapping[str, str] | None = None
        """The intent under which new servers are let in: release and percent of a canary."""
        self.lenient = False
        """While a release is taken back, nothing is judged."""
        self.exposed = False
        """Whether any visitor may have met the new release."""
        self._limits = limits
        self._traffic = traffic
        self._ledger = ledger
        self._new: dict[str, str] = {}
        """Servers let in so far -> the release they run."""
        self._ill_since: dict[str, float] = {}

    def moment(self, server: str, what: str) -> None:
        """Something happened to a server."""
        self.receipt.moment(server, what)
        self._keep(self.receipt)

    def serves(self, address: str, name: str, release: str) -> None:
        """From now on a server answers there with a release."""
        if not self.exposed:
            self.exposed = True
            self._traffic.begin(time.time())
        self._ledger.note(address, release, time.time())
        self._new[name] = release

    def gone(self, name: str) -> None:
        """A server is taken away, so that it ends is no illness."""
        self._new.pop(name, None)

    def check(self, status: Mapping[str, Any], *, times: bool = False) -> None:
        """Raises TakenBackError when a new server is ill, BudgetError when the new release fails too often or, where
        `times` are compared too, is too slow. `status` is the controller's."""
        if not self._new or self.lenient:
            return
        if why := self._illness(status.get("instances", {})):
            raise TakenBackError(why)
        if self.receipt.release == self.receipt.previous:
            return
        for kind in ("visitors", "own"):
            new, old = self._tallies(kind)
            why = errors_breach(new, old, self._limits.error_budget)
            if not why and times:
                why = times_breach(new, old, self._limits.latency_budget)
            if why:
                raise BudgetError(why)

    def summary(self) -> dict[str, Mapping[str, float]]:
        """What visitors got from either release."""
        new, old = self._tallies("visitors")
        return {"old": old.summary(), "new": new.summary()}

    def _tallies(self, kind: str) -> tuple[Tally, Tally]:
        counts = self._traffic.read()
        found = [counts.get(r) for r in (self.receipt.release, self.receipt.previous)]
        new, old = (getattr(c, kind) if c else Tally() for c in found)
        return new, old

    def _illness(self, instances: Mapping[str, Mapping[str, Any]]) -> str:
        now = time.monotonic()
        web = {n: i for n, i in instances.items() if i["kind"] == "web"}
        others_well = any(i["health"] == Health.GOOD for n, i in web.items() if n not in self._new)
        for name in self._new:
            entry = web.get(name)
            if entry is not None and entry["state"] in (State.STOPPED, State.PARTIAL):
                return f"{name} ended after it was let in"
            if entry is None or entry["health"] == Health.GOOD:
                self._ill_since.pop(name, None)
                continue
            since = self._ill_since.setdefault(name, now)
            if now - since > (ILL_BESIDE_WELL if others_well else ILL_WITH_ALL):
                return f"{name} became ill after it was let in: {entry['health_text']}"
        return ""
