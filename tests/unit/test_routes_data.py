"""Which database and Redis servers are behind the ports of the gateway."""

import pytest

from lampstand.controller.problems import Memory, View
from lampstand.controller.routes import routes
from lampstand.observed import DatabaseFacts, Health, Observed, ObservedInstance, State
from lampstand.tiers.balancer import live
from lampstand.topology import Endpoint, File, Instance, Probe, Topology

GATEWAY = Instance(
    "gateway-1",
    "balancer",
    "gateway",
    (),
    live_files=(File("/etc/gateway/live/routes.conf", live.gateway_routes(())),),
)
PORTS = {"database": 3000, "cache": 6000, "sessions": 7000}
ALL = Memory(primaries={"database": "database-1", "cache": "cache-1", "sessions": "sessions-1"})


def server(name: str) -> Instance:
    kind, _, number = name.partition("-")
    protocol = "mysql" if kind == "database" else "redis"
    endpoint = Endpoint(name, protocol, "127.0.0.1", PORTS[kind] + int(number), protocol)
    tier = "database" if kind == "database" else "cache"
    return Instance(
        name, tier, kind, (), endpoints=(endpoint,), probe=Probe(protocol, protocol, lag_limit=2.0)
    )


def seen(
    name: str,
    *,
    lag: float | None = 0.1,
    health: Health = Health.GOOD,
    state: State = State.RUNNING,
    answered: bool = True,
) -> ObservedInstance:
    facts = DatabaseFacts(answered, lag_seconds=lag) if name.startswith("database") else None
    return ObservedInstance(name, name.partition("-")[0], state, health=health, facts=facts)


def behind(*observed: ObservedInstance, memory: Memory = ALL) -> dict[str, list[str]]:
    """Port -> names of the servers behind it; several are sorted as in the text."""
    names = [o.name for o in observed]
    topology = Topology("shop", (GATEWAY, *(server(name) for name in names)))
    text = routes(View(topology, Observed(0.0, {o.name: o for o in observed}), memory, 0.0))["gateway-1"][
        0
    ].content
    found: dict[str, list[str]] = {}
    for block in text.split("upstream ")[1:]:
        lines = [line for line in block.split("}")[0].splitlines() if " server " in line]
        found[block.split()[0]] = [line.split("# ")[1] for line in lines if " down;" not in line]
    return found


def three(two: ObservedInstance | None = None, **first: object) -> tuple[ObservedInstance, ...]:
    return seen("database-1", **first), two or seen("database-2"), seen("database-3")  # pyright: ignore[reportArgumentType]


def test_roles_decide() -> None:
    found = behind(*three(), seen("cache-1"), seen("cache-2"), seen("sessions-1"), seen("sessions-2"))
    assert found == {
        "writer": ["database-1"],
        "reader": ["database-2", "database-3"],
        "cache": ["cache-1"],
        "sessions": ["sessions-1"],
    }
    moved = Memory(primaries={"database": "database-3", "cache": "cache-2"})
    found = behind(*three(), seen("cache-1"), seen("cache-2"), seen("sessions-1"), memory=moved)
    assert found == {
        "writer": ["database-3"],
        "reader": ["database-1", "database-2"],
        "cache": ["cache-2"],
        "sessions": [],
    }


def test_without_a_chosen_primary_nobody_takes_writes() -> None:
    found = behind(*three(), seen("cache-1"), memory=Memory())
    assert (found["writer"], found["cache"], found["sessions"]) == ([], [], [])
    assert found["reader"] == ["database-1", "database-2", "database-3"]


def test_a_primary_that_is_gone_from_the_site_or_held_takes_no_writes() -> None:
    assert behind(seen("database-2"), memory=ALL)["writer"] == []
    held = Memory(primaries=ALL.primaries, held={"database-1": "switchover", "cache-1": "fenced"})
    found = behind(*three(), seen("cache-1"), memory=held)
    assert (found["writer"], found["cache"]) == ([], [])


@pytest.mark.parametrize("health", list(Health))
def test_a_primary_that_is_not_well_stays_the_writer(health: Health) -> None:
    assert behind(*three(health=health))["writer"] == ["database-1"]


def test_replicas_that_lag_or_do_not_know_it_get_no_reads() -> None:
    for two in (
        seen("database-2", lag=2.1),
        seen("database-2", lag=None),
        seen("database-2", health=Health.BAD),
        seen("database-2", state=State.FROZEN),
    ):
        assert behind(*three(two))["reader"] == ["database-3"]
    assert behind(*three(seen("database-2", lag=2.0)))["reader"] == ["database-2", "database-3"]


def test_with_no_replica_in_time_the_primary_reads() -> None:
    assert behind(seen("database-1"), seen("database-2", lag=9.0))["reader"] == ["database-1"]
    assert behind(seen("database-1"))["reader"] == ["database-1"]


def test_while_the_primary_is_gone_old_rows_are_better_than_none() -> None:
    late = seen("database-2", lag=9.0)
    dead = seen("database-1", health=Health.BAD, state=State.STOPPED, answered=False)
    assert behind(dead, late)["reader"] == ["database-2"]
    gone = seen("database-2", health=Health.BAD, state=State.STOPPED, answered=False)
    assert behind(dead, gone)["reader"] == ["database-1"]


def test_held_replicas_get_no_reads() -> None:
    memory = Memory(primaries=ALL.primaries, held={"database-2": "drain"})
    assert behind(*three(), memory=memory)["reader"] == ["database-3"]
