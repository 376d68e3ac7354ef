"""Every row of the tables for cache and sessions, on values."""

from dataclasses import replace

import pytest

from lampstand.controller.cache_failover import CACHE_PROBLEMS
from lampstand.controller.problems import Memory, View
from lampstand.observed import CacheFacts, Health, Observed, ObservedInstance, ObservedProcess, State
from lampstand.topology import Endpoint, Instance, Probe, Process, Topology

NOW = 1_000_000.0
PRIMARY = CacheFacts(True, role="master", offset=500)
REPLICA = CacheFacts(True, role="slave", source="127.0.0.1:6301", link_up=True, offset=500)
NOBODYS = CacheFacts(True, role="slave", link_up=False, offset=0)
REFUSED = CacheFacts(False, error="refuses connections")
HUNG = CacheFacts(False, error="does not answer within 0.5 s")


def server(number: int) -> Instance:
    name = f"sessions-{number}"
    endpoint = Endpoint(name, "redis", "127.0.0.1", 6300 + number, "redis")
    process = Process("redis", ("redis-server",), "redis")
    return Instance(
        name,
        "cache",
        "sessions",
        (process,),
        endpoints=(endpoint,),
        probe=Probe("redis", "redis"),
        index=number,
    )


TOPOLOGY = Topology("shop", (server(1), server(2)))


def seen(
    number: int,
    facts: CacheFacts | None,
    state: State = State.RUNNING,
    *,
    ill: float | None = None,
    age: float = 1000.0,
) -> ObservedInstance:
    health = Health.GOOD if ill is None else Health.BAD
    return ObservedInstance(
        f"sessions-{number}", "sessions", state, (ObservedProcess("redis", number, NOW - age),), health=health,
        health_since=NOW - (ill or 0.0), facts=facts,
    )  # fmt: skip


def view(*servers: ObservedInstance, primary: str = "sessions-1") -> View:
    everything = {
        "sessions-1": seen(1, PRIMARY),
        "sessions-2": seen(2, REPLICA),
        **{s.name: s for s in servers},
    }
    memory = Memory(primaries={"sessions": primary} if primary else {})
    return View(TOPOLOGY, Observed(NOW, everything), memory, NOW)


def codes(at: View) -> list[str]:
    return [f"{f.code.removeprefix('sessions-')} {f.subject}" for p in CACHE_PROBLEMS for f in p.matches(at)]


def steps(at: View, code: str) -> list[str]:
    problem = next(p for p in CACHE_PROBLEMS if p.code == code)
    assert problem.recover
    return [s.name for f in problem.matches(at) for s in problem.recover(at, f)]


CASES: dict[str, tuple[View, list[str]]] = {
    "healthy": (view(), []),
    "first start": (view(seen(1, NOBODYS), seen(2, NOBODYS), primary=""), ["no-primary sessions"]),
    "down": (
        view(seen(1, REFUSED, State.STOPPED, ill=0.1), seen(2, replace(REPLICA, link_up=False))),
        ["primary-lost sessions-1"],
    ),
    "frozen": (view(seen(1, HUNG, State.FROZEN)), ["primary-lost sessions-1"]),
    "hung once": (view(seen(1, HUNG), seen(2, replace(REPLICA, link_up=False))), []),
    "hung for longer": (
        view(seen(1, HUNG, ill=1.0), seen(2, replace(REPLICA, link_up=False))),
        ["primary-lost sessions-1"],
    ),
    "hung only from here": (view(seen(1, HUNG, ill=1.0)), []),
    "just started": (view(seen(1, REFUSED, age=0.5)), []),
    "came back": (view(seen(1, NOBODYS)), ["primary-read-only sessions-1"]),
    "loading": (view(seen(1, replace(NOBODYS, loading=True))), []),
    "two take writes": (view(seen(2, PRIMARY)), ["two-writable sessions-2"]),
    "replica of nobody": (view(seen(2, NOBODYS)), ["replica-lost sessions-2"]),
    "replica down": (view(seen(2, REFUSED, State.STOPPED, ill=1.0)), ["replica-down sessions-2"]),
}


@pytest.mark.parametrize("name", CASES)
def test_row(name: str) -> None:
    at, expected = CASES[name]
    assert codes(at) == expected


def test_a_lost_primary_is_replaced_when_a_replica_answers() -> None:
    at = view(seen(1, REFUSED, State.STOPPED, ill=0.1), seen(2, replace(REPLICA, link_up=False)))
    assert steps(at, "sessions-primary-lost")[0] == "fence the old primary"


def test_a_lost_primary_without_replicas_is_started_again() -> None:
    at = view(seen(1, REFUSED, State.STOPPED, ill=0.1), seen(2, REFUSED, State.STOPPED, ill=0.1))
    assert steps(at, "sessions-primary-lost") == ["start sessions-1"]


def test_the_first_primary_is_chosen_when_all_answer_or_none_will() -> None:
    young = view(seen(1, NOBODYS, age=0.5), seen(2, REFUSED, age=0.5), primary="")
    assert steps(young, "sessions-no-primary") == []
    old = view(seen(1, NOBODYS, age=9.0), seen(2, REFUSED, age=9.0), primary="")
    assert "promote" in steps(old, "sessions-no-primary")
    nobody = view(seen(1, REFUSED), seen(2, REFUSED), primary="")
    assert steps(nobody, "sessions-no-primary") == []


def test_a_replica_that_is_down_for_long_is_started() -> None:
    assert steps(view(seen(2, REFUSED, State.STOPPED, ill=1.0)), "sessions-replica-down") == []
    assert steps(view(seen(2, REFUSED, State.STOPPED, ill=60.0)), "sessions-replica-down") == [
        "start sessions-2"
    ]
