"""When a release is taken back: its errors and times against those of the old one, in the same window. Pure."""

import math
from collections import Counter
from dataclasses import dataclass, field

GROWTH = 1.05
"""Times are counted in classes, each 5 % above the one before: percentiles are right within that."""
SMALLEST = 0.0005
"""Seconds; faster ones share a class."""
SURE = 0.005
"""How likely it may be that a release within its budget is taken back by bad luck, at one look."""
LEAST_FAILED = 3
LEAST_TIMED = 100
"""Requests on both sides before their times are compared."""
NOTICEABLE = 0.05
"""Seconds; nobody notices a difference below."""


@dataclass
class Tally:
    """Requests to one release."""

    requests: int = 0
    failed: int = 0
    times: Counter[int] = field(default_factory=Counter[int])
    longest: float = 0.0

    def add(self, failed: bool, seconds: float) -> None:
        """Count one request."""
        self.requests += 1
        self.failed += failed
        self.longest = max(self.longest, seconds)
        self.times[_class(seconds)] += 1

    def rate(self) -> float:
        """Share of failed requests."""
        return self.failed / self.requests if self.requests else 0.0

    def percentile(self, share: float) -> float:
        """Seconds that this share (0 to 1) of the requests needed at most; 0 without any."""
        wanted, seen = math.ceil(share * self.requests), 0
        for number, count in sorted(self.times.items()):
            seen += count
            if seen >= wanted:
                return min(self.longest, SMALLEST * GROWTH**number)
        return self.longest

    def summary(self) -> dict[str, float]:
        """As receipts show it. Times in seconds."""
        return {
            "requests": self.requests,
            "failed_requests": self.failed,
            "p50_seconds": round(self.percentile(0.5), 4),
            "p99_seconds": round(self.percentile(0.99), 4),
            "longest_seconds": round(self.longest, 4),
        }


def _class(seconds: float) -> int:
    return max(0, math.ceil(math.log(max(seconds, SMALLEST) / SMALLEST, GROWTH)))


def errors_breach(new: Tally, old: Tally, budget: float) -> str:
    """Why the new release fails too often, empty when it does not (or nobody can tell yet).

    `budget` is a share (0.01). What the old release fails in the same window (a failover of the database) is not the
    new one's fault. More failures than chance explains are needed: the number of failures of a release that is just
    within its budget has a Poisson distribution.
    """
    allowed = new.requests * (budget + old.rate())
    if new.failed < LEAST_FAILED or new.failed <= allowed or at_least(new.failed, allowed) > SURE:
        return ""
    than = f"; of the old release {old.rate():.1%} failed" if old.requests else ""
    return (
        f"{new.failed} of {new.requests} requests to the new release failed ({new.rate():.1%}), "
        f"and {budget:.1%} may{than}"
    )


def times_breach(new: Tally, old: Tally, budget: float) -> str:
    """Why the new release is too slow, empty when it is not. `budget` says how many times the old p99 it may need."""
    if min(new.requests, old.requests) < LEAST_TIMED:
        return ""
    mine, theirs = new.percentile(0.99), old.percentile(0.99)
    if mine <= budget * theirs or mine - theirs < NOTICEABLE:
        return ""
    return (
        f"the new release needs {mine * 1000:.0f} ms (p99), the old one {theirs * 1000:.0f} ms, "
        f"and {budget:g} times that may be"
    )


def at_least(count: int, mean: float) -> float:
    """Probability of `count` or more of something that happens `mean` times on average (Poisson)."""
    if count <= 0:
        return 1.0
    if mean <= 0:
        return 0.0
    if mean > 500:  # where exp(-mean) is getting lost, the normal distribution is the same
        return 0.5 * math.erfc((count - 0.5 - mean) / math.sqrt(2 * mean))
    term = total = math.exp(-mean)
    for number in range(1, count):
        term *= mean / number
        total += term
    return max(0.0, 1.0 - total)
