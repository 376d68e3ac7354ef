"""Measures a deploy while it happens, and fills its receipt."""

import contextlib
from collections.abc import Generator, Sequence

from lampstand.releases.probe import Ask, Lane, Probe, lanes, phases
from lampstand.releases.watch import Watch
from lampstand.tiers.balancer.live import COOKIE

SHOWN = 20
"""Failed requests that a receipt names."""


class Measure:
    """The deploy's own requests, and what the balancers' logs say of everybody's."""

    def __init__(self, url: str, host: str | None, asks: Sequence[Ask], watch: Watch) -> None:
        """`url` is where visitors come in; `host` the name of the site where it has one."""
        self._reads = tuple(a for a in asks if a.method in ("GET", "HEAD"))
        self._probe = Probe(url, host, lanes(asks))
        self._watch = watch
        self._started = False

    def start(self) -> None:
        """Begin to send requests."""
        self._started = True
        self._probe.start()

    @contextlib.contextmanager
    def sides(self) -> Generator[None]:
        """Requests to the canary and to the old release, each with the cookie of its side."""
        release = self._watch.receipt.release
        sides = (release, "old") if self._reads and self._started else ()
        ends = [self._probe.add(Lane(self._reads, True, {"Cookie": f"{COOKIE}={side}"})) for side in sides]
        try:
            yield
        finally:
            for end in ends:
                end()

    def stop(self, begin: float, end: float) -> None:
        """End, and write down what was seen; the change went on from `begin` to `end` (unix time)."""
        receipt = self._watch.receipt
        receipt.visitors = self._watch.summary()
        if not self._started:
            return
        self._probe.stop()
        failed = [s for s in self._probe.samples if s.failure]
        receipt.requests, receipt.failed_requests = len(self._probe.samples), len(failed)
        receipt.phases = phases(self._probe.samples, begin, end)
        receipt.failures = [f"{s.begun - receipt.begun:.3f} s: {s.failure}" for s in failed[:SHOWN]]
