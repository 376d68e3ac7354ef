"""What a drill is and what it says at its end. Pure values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

FaultName = Literal[
    "kill",
    "freeze",
    "restart",
    "kill-controller",
    "kill-two",
    "cut-replicas",
    "cut-clients",
    "slow-replica",
    "fill-disk",
    "flood",
    "slowloris",
    "origin-down",
]
Subject = Literal["primary", "replica", "any", "all"]


@dataclass(frozen=True, slots=True)
class Drill:
    """One row of the catalogue."""

    name: str
    summary: str
    fault: FaultName
    kind: str
    """Kind of the servers it hits: database, sessions, web, balancer, edge, gateway."""
    subject: Subject = "any"
    deadline: float = 10.0
    """Seconds from the fault until the service of that kind works again for a client."""
    heals_within: float = 30.0
    """Seconds from healing the fault until every server is well again."""
    hold: float = 0.0
    """Seconds that the fault lasts after service is back, before it is healed (a frozen ghost returns then)."""
    judged: tuple[str, ...] = ("lost", "duplicated", "diverged", "two_primaries")
    """Counts of the verdict that must be zero; `failed_requests` for servers that have companions."""
    rounds: int = 1


@dataclass(frozen=True, slots=True)
class Round:
    """One injection."""

    subject: str
    at: float
    """Seconds since the drill began."""
    back_after: float | None
    """Seconds until service was back; None when it was not within the deadline."""
    well_after: float | None
    """Seconds from healing until every server was well; None when they were not in time."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of a drill: the documented contract of `lampstand drill --json`, version 1."""

    drill: str
    target: str
    rounds: Sequence[Round]
    deadline_seconds: float
    acknowledged: int
    lost: int
    unknown: int
    failed_writes: int
    duplicated: int
    requests: int
    failed_requests: int
    two_primaries: int
    diverged: int
    seconds: float
    judged: Sequence[str] = ()
    seed: int | None = None
    notes: Sequence[str] = field(default=())
    also_breached: Sequence[str] = ()
    """What else was not as expected, in sentences."""
    visitors: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What legitimate visitors saw: `calm` and `during` (requests, failed, p50_ms, p99_ms); counts of the `attack`."""

    @property
    def failover_seconds(self) -> list[float]:
        """Seconds until service was back, for each round in which it came back."""
        return [round(r.back_after, 3) for r in self.rounds if r.back_after is not None]

    @property
    def breaches(self) -> list[str]:
        """One sentence for everything that was not as expected; empty when the drill passed."""
        found = [
            f"round {n} ({r.subject}): service was not back within {self.deadline_seconds:g} s"
            for n, r in enumerate(self.rounds, 1)
            if r.back_after is None or r.back_after > self.deadline_seconds
        ]
        found += [
            f"round {n} ({r.subject}): not every server was well again in time"
            for n, r in enumerate(self.rounds, 1)
            if r.well_after is None
        ]
        return (
            found
            + [
                f"{getattr(self, name)} {name.replace('_', ' ')}"
                for name in self.judged
                if getattr(self, name)
            ]
            + list(self.also_breached)
        )

    @property
    def passed(self) -> bool:
        """Whether nothing was breached."""
        return not self.breaches

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        times = self.failover_seconds
        return {
            "version": 1,
            "drill": self.drill,
            "target": self.target,
            "rounds": len(self.rounds),
            "passed": self.passed,
            "breaches": self.breaches,
            "failover_seconds": times,
            "failover_p50": percentile(times, 50),
            "failover_p99": percentile(times, 99),
            "acknowledged": self.acknowledged,
            "lost": self.lost,
            "unknown": self.unknown,
            "failed_writes": self.failed_writes,
            "duplicated": self.duplicated,
            "requests": self.requests,
            "failed_requests": self.failed_requests,
            "two_primaries": self.two_primaries,
            "diverged": self.diverged,
            "deadline_seconds": self.deadline_seconds,
            "seconds": round(self.seconds, 1),
            "seed": self.seed,
            "notes": list(self.notes),
            **({"visitors": dict(self.visitors)} if self.visitors else {}),
            "timeline": [asdict(r) for r in self.rounds],
        }


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The nearest-rank percentile; None of nothing."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


CATALOGUE: tuple[Drill, ...] = (
    Drill("primary-kill", "kill -9 of the database's primary", "kill", "database", "primary", deadline=5),
    Drill(
        "primary-freeze",
        "SIGSTOP of the primary; the ghost returns later",
        "freeze",
        "database",
        "primary",
        10,
        hold=2,
    ),
    Drill(
        "primary-restart",
        "the primary is stopped politely behind the controller's back",
        "restart",
        "database",
        "primary",
        10,
    ),
    Drill("replica-kill", "kill -9 of a replica", "kill", "database", "replica", deadline=5),
    Drill("replica-freeze", "SIGSTOP of a replica", "freeze", "database", "replica", deadline=10, hold=2),
    Drill(
        "two-databases-kill",
        "kill -9 of the primary and a replica at once",
        "kill-two",
        "database",
        "primary",
        deadline=15,
    ),
    Drill(
        "power-cut",
        "kill -9 of every database server at once",
        "kill",
        "database",
        "all",
        deadline=20,
        heals_within=60,
    ),
    Drill(
        "primary-cut-replicas",
        "packets between the primary and its replicas are dropped",
        "cut-replicas",
        "database",
        "primary",
        deadline=20,
        hold=2,
        heals_within=60,
    ),
    Drill(
        "primary-cut-clients",
        "packets between the primary and everybody but its replicas are dropped",
        "cut-clients",
        "database",
        "primary",
        deadline=20,
        hold=2,
        heals_within=60,
    ),
    Drill(
        "controller-and-primary-kill",
        "kill -9 of the controller, then of the primary; a new controller comes",
        "kill-controller",
        "database",
        "primary",
        deadline=15,
    ),
    Drill(
        "slow-replica",
        "a replica stops applying for a while",
        "slow-replica",
        "database",
        "replica",
        deadline=5,
        hold=3,
    ),
    Drill(
        "disk-full",
        "the disk of a replica fills up",
        "fill-disk",
        "database",
        "replica",
        deadline=10,
        hold=2,
        heals_within=60,
    ),
    Drill(
        "sessions-kill",
        "kill -9 of the primary of the session store",
        "kill",
        "sessions",
        "primary",
        deadline=2.5,
    ),
    Drill(
        "sessions-freeze",
        "SIGSTOP of the primary of the session store",
        "freeze",
        "sessions",
        "primary",
        5,
        hold=2,
    ),
    Drill("cache-kill", "kill -9 of the primary of the cache", "kill", "cache", "primary", deadline=2.5),
    Drill(
        "web-kill", "kill -9 of a web server", "kill", "web", deadline=5, judged=("lost", "failed_requests")
    ),
    Drill(
        "web-freeze",
        "SIGSTOP of a web server",
        "freeze",
        "web",
        deadline=5,
        hold=2,
        judged=("lost", "failed_requests"),
    ),
    Drill("gateway-kill", "kill -9 of the gateway to the data tiers", "kill", "gateway", deadline=5),
    Drill("gateway-freeze", "SIGSTOP of the gateway", "freeze", "gateway", deadline=10, hold=1),
    Drill("balancer-kill", "kill -9 of a balancer", "kill", "balancer", deadline=5),
    Drill("edge-kill", "kill -9 of an edge; visitors are sent to another", "kill", "edge", deadline=10),
    Drill(
        "edge-freeze",
        "SIGSTOP of an edge; visitors are sent to another",
        "freeze",
        "edge",
        deadline=10,
        hold=2,
    ),
)
"""Drills that break a server, by name; `soak` and `all` draw from them."""

VISITOR_DRILLS: tuple[Drill, ...] = (
    Drill(
        "origin-down",
        "every balancer is frozen; the edges go on with what they keep",
        "origin-down",
        "balancer",
        "all",
        deadline=3.0,
        hold=5.0,
        judged=("failed_requests",),
    ),
    Drill(
        "flood",
        "300 requests a second from one address, none of them in a cache",
        "flood",
        "edge",
        "any",
        deadline=2.0,
        hold=8.0,
        judged=("failed_requests",),
    ),
    Drill(
        "slowloris",
        "300 connections that send a byte a second and never finish",
        "slowloris",
        "edge",
        "any",
        deadline=1.0,
        hold=20.0,
        judged=("failed_requests",),
    ),
)
"""Drills judged by what legitimate visitors see meanwhile; `deadline` is their slowest hundredth in seconds."""


def drill(name: str) -> Drill | None:
    """The drill of that name."""
    return next((d for d in (*CATALOGUE, *VISITOR_DRILLS) if d.name == name), None)
