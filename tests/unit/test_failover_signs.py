"""Every row of the database's table of problems, on values: what it sees, and what it leaves alone."""

from dataclasses import replace
from typing import Any

import pytest

from lampstand.controller.failover import DATABASE_PROBLEMS, promote_steps, switchover_steps
from lampstand.controller.problems import Memory, View
from lampstand.errors import LampstandError, UsageError
from lampstand.observed import DatabaseFacts, Health, Observed, ObservedInstance, ObservedProcess, State
from lampstand.topology import Endpoint, Instance, Preparation, Probe, Process, Topology

NOW = 1_000_000.0


def server(number: int) -> Instance:
    name = f"database-{number}"
    return Instance(
        name, "database", "database", (Process("mariadbd", ("mariadbd",), "mysql"),),
        endpoints=(Endpoint(name, "mysql", "127.0.0.1", 3300 + number, "mysql"),),
        prepare=(Preparation(f"/data/{name}/db", ("prepare",), "mysql"),),
        probe=Probe("mysql", "mysql", lag_limit=5.0), index=number,
    )  # fmt: skip


TOPOLOGY = Topology("shop", tuple(server(n) for n in (1, 2, 3)))
MEMORY = Memory(
    primaries={"database": "database-1"},
    known={"database": {"database-2": "0-1-1", "database-3": "0-1-1"}},
    terms={"database": 1},
)
PRIMARY = DatabaseFacts(
    True, read_only=False, server_id=1, gtid_current_pos="0-1-50", gtid_binlog_pos="0-1-50", gtid_binlog_state="0-1-50",
    term=1, semi_sync_master=True, semi_sync_slave=True, semi_sync_clients=2, semi_sync_no_tx=0, connections=5,
    max_connections=200,
)  # fmt: skip
REPLICA = DatabaseFacts(
    True, read_only=True, server_id=2, gtid_current_pos="0-1-50", gtid_binlog_pos="0-1-50", gtid_binlog_state="0-1-50",
    gtid_slave_pos="0-1-50", gtid_io_pos="0-1-50", io_running="Yes", sql_running=True, source="127.0.0.1:3301", term=1,
    lag_seconds=0.0, semi_sync_master=False, semi_sync_slave=True, connections=3, max_connections=200,
)  # fmt: skip
REFUSED = DatabaseFacts(False, failure="refused", error="refuses connections")
HUNG = DatabaseFacts(False, failure="hung", error="timed out")


def lost(facts: DatabaseFacts) -> DatabaseFacts:
    return replace(facts, io_running="Connecting")


def seen(
    number: int, facts: DatabaseFacts | None, state: State = State.RUNNING, *, ill: float | None = None,
    age: float = 1000.0, restarts: int = 0,
) -> ObservedInstance:  # fmt: skip
    health = Health.GOOD if ill is None else Health.BAD
    since = NOW - (ill if ill is not None else age)
    process = ObservedProcess("mariadbd", 100 + number, NOW - age)
    return ObservedInstance(
        f"database-{number}", "database", state, (process,), health=health, health_since=since, facts=facts,
        restarts=restarts,
    )  # fmt: skip


def view(*servers: ObservedInstance, memory: Memory = MEMORY, topology: Topology = TOPOLOGY) -> View:
    """A healthy group in which some servers are replaced."""
    everything = {
        i.name: i for i in (seen(1, PRIMARY), seen(2, REPLICA), seen(3, replace(REPLICA, server_id=3)))
    }
    everything |= {s.name: s for s in servers}
    everything = {
        n: i for n, i in everything.items() if n in topology.by_name or n in {s.name for s in servers}
    }
    return View(topology, Observed(NOW, everything), memory, NOW)


def codes(at: View) -> list[str]:
    return [
        f"{f.code.removeprefix('database-')} {f.subject}" for p in DATABASE_PROBLEMS for f in p.matches(at)
    ]


def steps(at: View, code: str) -> list[str]:
    problem = next(p for p in DATABASE_PROBLEMS if p.code == code)
    assert problem.recover
    return [s.name for f in problem.matches(at) for s in problem.recover(at, f)]


def test_a_healthy_group_has_no_problem() -> None:
    assert codes(view()) == []


CASES: dict[str, tuple[View, list[str]]] = {
    "first start, all answer": (
        view(*(seen(n, DatabaseFacts(True, read_only=True)) for n in (1, 2, 3)), memory=Memory()),
        ["no-primary database"],
    ),
    "dead, and the replicas lost it too": (
        view(seen(1, REFUSED, State.STOPPED, ill=0.1), seen(2, lost(REPLICA)), seen(3, lost(REPLICA))),
        ["primary-dead database-1"],
    ),
    "its process runs and nobody listens": (
        view(seen(1, REFUSED), seen(2, lost(REPLICA)), seen(3, lost(REPLICA))),
        ["primary-dead database-1"],
    ),
    "it was just started": (
        view(seen(1, REFUSED, age=1.0), seen(2, lost(REPLICA)), seen(3, lost(REPLICA))),
        [],
    ),
    "frozen": (view(seen(1, HUNG, State.FROZEN)), ["primary-frozen database-1"]),
    "hung once is not lost": (view(seen(1, HUNG), seen(2, lost(REPLICA)), seen(3, lost(REPLICA))), []),
    "hung for longer, to its replicas too": (
        view(seen(1, HUNG, ill=1.0), seen(2, lost(REPLICA)), seen(3, lost(REPLICA))),
        ["primary-lost database-1"],
    ),
    "hung only from here": (
        view(seen(1, HUNG, ill=60.0), seen(3, lost(REPLICA))),
        ["primary-unreachable database-1"],
    ),
    "no connection left": (
        view(seen(1, replace(REFUSED, failure="full"), ill=60.0)),
        ["connections database-1"],
    ),
    "nearly no connection left": (
        view(seen(1, replace(PRIMARY, connections=190))),
        ["connections database-1"],
    ),
    "dead, and a voter is missing": (
        view(
            seen(1, REFUSED, State.STOPPED, ill=0.1), seen(2, lost(REPLICA)), seen(3, REFUSED, State.STOPPED)
        ),
        ["promotion-refused database-1"],
    ),
    "dead, and no replica has ever followed": (
        view(seen(1, REFUSED, State.STOPPED, ill=0.1), memory=replace(MEMORY, known={"database": {}})),
        ["promotion-refused database-1"],
    ),
    "everything is down": (
        view(*(seen(n, REFUSED, State.STOPPED, ill=5.0) for n in (1, 2, 3))),
        [
            "promotion-refused database-1",
            "down database",
            "replica-down database-2",
            "replica-down database-3",
        ],
    ),
    "back with older data": (
        view(seen(1, DatabaseFacts(True, read_only=True, server_id=1)), seen(2, lost(REPLICA))),
        ["primary-behind database-1"],
    ),
    "read-only": (view(seen(1, replace(PRIMARY, read_only=True))), ["primary-read-only database-1"]),
    "two take writes": (
        view(seen(2, replace(REPLICA, read_only=False))),
        ["two-writable database-2"],
    ),
    "semi-sync is off": (
        view(seen(1, replace(PRIMARY, semi_sync_master=False))),
        ["semi-sync-off database-1"],
    ),
    "semi-sync fell back": (
        view(seen(1, replace(PRIMARY, semi_sync_no_tx=3))),
        ["semi-sync-fallback database-1"],
    ),
    "a replica stopped": (
        view(
            seen(2, replace(REPLICA, io_running="No", sql_running=False)),
            seen(1, replace(PRIMARY, semi_sync_clients=1)),
        ),
        ["replica-lost database-2"],
    ),
    "a replica follows another": (
        view(seen(2, replace(REPLICA, source="127.0.0.1:3303"))),
        ["replica-lost database-2"],
    ),
    "a replica connects": (view(seen(2, lost(REPLICA), ill=1.0)), []),
    "a replica connects for long": (view(seen(2, lost(REPLICA), ill=10.0)), ["replica-lost database-2"]),
    "a replica lags": (view(seen(2, replace(REPLICA, lag_seconds=9.0))), ["replica-lagging database-2"]),
    "a replica has what the primary has not": (
        view(
            seen(1, replace(PRIMARY, server_id=1, gtid_binlog_state="0-3-20,0-1-50")),
            seen(
                2,
                replace(
                    REPLICA,
                    io_running="No",
                    gtid_current_pos="0-3-21",
                    gtid_binlog_pos="0-3-21",
                    gtid_binlog_state="0-3-21",
                    gtid_slave_pos="",
                ),
            ),
        ),
        ["replica-diverged database-2"],
    ),
    "a replica cannot apply": (
        view(
            seen(2, replace(REPLICA, sql_running=False, last_sql_error="Could not execute; Error_code: 1062"))
        ),
        ["replica-diverged database-2"],
    ),
    "a new replica on an old site": (
        view(
            seen(
                1,
                replace(
                    PRIMARY,
                    gtid_current_pos="0-1-90000",
                    gtid_binlog_pos="0-1-90000",
                    gtid_binlog_state="0-1-90000",
                ),
            ),
            seen(2, replace(REPLICA, gtid_current_pos="0-1-90000")),
            seen(3, DatabaseFacts(True, read_only=True, server_id=3)),
        ),
        ["replica-diverged database-3"],
    ),
    "a new replica on a young site": (
        view(seen(3, DatabaseFacts(True, read_only=True, server_id=3))),
        ["replica-lost database-3"],
    ),
    "a replica crashes again and again": (
        view(seen(2, REFUSED, State.STOPPED, ill=1.0, restarts=5)),
        ["replica-diverged database-2", "replica-down database-2"],
    ),
    "a replica is down for long": (
        view(seen(2, REFUSED, State.STOPPED, ill=20.0), seen(1, replace(PRIMARY, semi_sync_clients=1))),
        ["replica-down database-2", "voter-gone database-2"],
    ),
    "its replicas cannot reach it, which it does not notice": (
        view(
            seen(
                1,
                replace(PRIMARY, semi_sync_clients=2, write_failure="blocked", write_failing_for=4.0),
            ),
            seen(2, lost(REPLICA), ill=8.0),
            seen(3, lost(REPLICA), ill=8.0),
        ),
        [
            "primary-cut-off database-1",
            "replica-lost database-2",
            "replica-lost database-3",
            "writes-blocked database-1",
        ],
    ),
    "its replicas cannot reach it": (
        view(
            seen(1, replace(PRIMARY, semi_sync_clients=0, write_failure="blocked", write_error="timed out")),
            seen(2, lost(REPLICA), ill=8.0),
            seen(3, lost(REPLICA), ill=8.0),
        ),
        [
            "primary-cut-off database-1",
            "replica-lost database-2",
            "replica-lost database-3",
            "too-few-acknowledge database-1",
        ],
    ),
    "nobody acknowledges": (
        view(
            seen(1, replace(PRIMARY, semi_sync_clients=0, write_failure="blocked", write_error="timed out"))
        ),
        ["too-few-acknowledge database-1"],
    ),
    "a write does not complete": (
        view(seen(1, replace(PRIMARY, write_failure="blocked", write_error="timed out"))),
        ["writes-blocked database-1"],
    ),
    "commits wait for an acknowledgement that was lost": (
        view(
            seen(
                1,
                replace(
                    PRIMARY,
                    write_failure="blocked",
                    write_error="timed out",
                    write_failing_for=4.0,
                    semi_sync_waiting=3,
                ),
            )
        ),
        ["acknowledgements-lost database-1"],
    ),
    "commits have only just begun to wait": (
        view(
            seen(
                1,
                replace(PRIMARY, write_failure="blocked", write_failing_for=1.0, semi_sync_waiting=3),
            )
        ),
        ["writes-blocked database-1"],
    ),
    "commits wait for an acknowledgement that may still come": (
        view(
            seen(
                1,
                replace(
                    PRIMARY,
                    gtid_binlog_pos="0-1-51",
                    write_failure="blocked",
                    write_failing_for=4.0,
                    semi_sync_waiting=3,
                ),
            )
        ),
        ["writes-blocked database-1"],
    ),
    "the disk is full": (
        view(seen(1, replace(PRIMARY, write_failure="disk-full", write_error="No space left on device"))),
        ["disk-full database-1"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_row(name: str) -> None:
    at, expected = CASES[name]
    assert codes(at) == expected


def test_codes_are_unique_and_every_row_is_explained() -> None:
    assert len({p.code for p in DATABASE_PROBLEMS}) == len(DATABASE_PROBLEMS)
    assert all(p.sentence.endswith(".") for p in DATABASE_PROBLEMS)
    assert all(p.recover or p.mend or p.code == "database-replica-lagging" for p in DATABASE_PROBLEMS)


def test_the_first_election_waits_for_everybody_and_says_for_whom() -> None:
    fresh = DatabaseFacts(True, read_only=True)
    at = view(seen(1, fresh), seen(2, fresh), seen(3, REFUSED), memory=Memory())
    (finding,) = [f for p in DATABASE_PROBLEMS for f in p.matches(at)]
    assert "database-3" in finding.sentence
    assert steps(at, "database-no-primary") == []
    at = view(*(seen(n, fresh) for n in (1, 2, 3)), memory=Memory())
    assert "promote" in steps(at, "database-no-primary")


def test_the_primary_that_comes_back_waits_a_moment_for_the_others() -> None:
    back = replace(PRIMARY, read_only=True)
    waiting = view(seen(1, back, age=1.0), seen(2, REFUSED, age=1.0))
    assert codes(waiting)[0] == "primary-read-only database-1"
    assert steps(waiting, "database-primary-read-only") == []
    long = view(seen(1, back, age=5.0), seen(2, REFUSED, age=5.0))
    assert steps(long, "database-primary-read-only") == ["let it take writes", "point replicas at it"]


def test_the_fallback_counter_of_a_restarted_server_begins_again() -> None:
    memory = replace(MEMORY, baselines={"database-1/semi_sync_no_tx": 7})
    assert codes(view(seen(1, replace(PRIMARY, semi_sync_no_tx=0)), memory=memory)) == []
    assert codes(view(seen(1, replace(PRIMARY, semi_sync_no_tx=8)), memory=memory)) == [
        "semi-sync-fallback database-1"
    ]


def test_a_server_that_left_the_site_is_no_voter_once_it_is_stopped() -> None:
    known = {"database": {**MEMORY.known["database"], "database-4": "0-1-9"}}
    memory = replace(MEMORY, known=known)
    assert codes(view(memory=memory)) == ["voter-gone database-4"]
    assert codes(view(seen(4, REPLICA), memory=memory)) == []


SINGLE = Topology("shop", (server(1),))


def test_a_single_server_is_never_failed_over() -> None:
    memory = replace(MEMORY, known={"database": {}})
    alone = replace(PRIMARY, semi_sync_master=False, semi_sync_clients=0)
    assert codes(view(seen(1, alone), memory=memory, topology=SINGLE)) == []
    down = view(seen(1, REFUSED, State.STOPPED, ill=1.0), memory=memory, topology=SINGLE)
    assert codes(down) == ["promotion-refused database-1", "down database"]


def test_a_site_without_a_database_has_no_database_problem() -> None:
    assert codes(View(Topology("shop", ()), Observed(NOW), Memory(), NOW)) == []


def test_switchover_is_refused_for_wrong_names_and_ill_groups() -> None:
    with pytest.raises(UsageError, match="database-9"):
        switchover_steps(view(), "database-9")
    with pytest.raises(UsageError, match="already"):
        switchover_steps(view(), "database-1")
    with pytest.raises(LampstandError, match="does not follow"):
        switchover_steps(view(seen(2, lost(REPLICA))), "database-2")
    with pytest.raises(LampstandError, match="no primary"):
        switchover_steps(view(memory=Memory()), None)


def test_promotion_by_hand_tells_what_would_be_lost() -> None:
    missing: dict[str, Any] = {"state": State.STOPPED, "ill": 1.0}
    at = view(seen(1, REFUSED, **missing), seen(2, REFUSED, **missing), seen(3, lost(REPLICA)))
    with pytest.raises(LampstandError, match="database-2 may hold") as refused:
        promote_steps(at, "database-3", accept_loss=False)
    assert "--accept-loss" in str(refused.value)
    assert [s.name for s in promote_steps(at, "database-3", accept_loss=True)][-2:] == [
        "point gateways and replicas at it", "start the old primary as a replica",
    ]  # fmt: skip
    with pytest.raises(UsageError):
        promote_steps(at, "web-1", accept_loss=True)
    with pytest.raises(LampstandError, match="does not answer"):
        promote_steps(at, "database-2", accept_loss=True)
