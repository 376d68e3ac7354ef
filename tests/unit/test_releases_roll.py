"""The roll as a plan: its text is the test; what is wished while each wave runs."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lampstand.observed import Observed, ObservedInstance, State
from lampstand.plan import Plan, Verb, plan
from lampstand.releases.roll import rolled, rolling, stages, stand_ins, surge_of
from lampstand.site import Web
from lampstand.topology import Instance, Process, Topology


def server(name: str, kind: str, release: str | None = None) -> Instance:
    return Instance(
        name, "web", kind, (Process("p", ("/bin/p", release or ""), "www-data"),), release=release
    )


def topology(servers: int, release: str, *more: Instance) -> Topology:
    web = [server(f"web-{n}", "web", release) for n in range(1, servers + 1)]
    return Topology("shop", (server("balancer-1", "balancer"), *web, *more))


def running(found: Topology) -> Observed:
    return Observed(
        0.0,
        {
            i.name: ObservedInstance(
                i.name, i.kind, State.RUNNING, restart_hash=i.restart_hash, config_hash=i.config_hash,
                release=i.release,
            )
            for i in found.instances
        },
    )  # fmt: skip


def roll(
    web: Web, before: Topology, after: Topology, wide: Topology | None = None
) -> tuple[Plan, int, Observed]:
    observed = running(before)
    surge = surge_of(plan(after, observed), web)
    extra = tuple(server(n, "web", "new") for n in stand_ins(web, surge))
    wished = wide or replace(after, instances=(*after.instances, *extra))
    return rolled(plan(wished, observed), web, surge), surge, observed


FOLLOWERS = ("worker-mail-1", "worker"), ("scheduler-1", "scheduler")


def followers(release: str) -> tuple[Instance, ...]:
    return tuple(server(name, kind, release) for name, kind in FOLLOWERS)


def test_the_default_roll() -> None:
    before, after = topology(2, "old", *followers("old")), topology(2, "new", *followers("new"))
    found, surge, observed = roll(Web(), before, after)
    assert str(found) == (
        "create     web-3            stands in while others are replaced\n"
        "restart    web-1            release old -> new\n"
        "restart    web-2            release old -> new\n"
        "restart    scheduler-1      release old -> new\n"
        "restart    worker-mail-1    release old -> new\n"
        "remove     web-3            stood in while others were replaced\n"
    )
    assert [(dict(s.releases), s.surge) for s in stages(found, observed, "new", Web(), surge)] == [
        (dict.fromkeys(("web-1", "web-2", "worker-mail-1", "scheduler-1"), "old"), 1),
        (dict.fromkeys(("web-2", "worker-mail-1", "scheduler-1"), "old"), 1),
        (dict.fromkeys(("worker-mail-1", "scheduler-1"), "old"), 1),
        ({}, 1),
        ({}, 0),
    ]


def test_without_stand_ins_as_many_go_as_may_be_missing() -> None:
    web = Web(servers=5, surge=0, max_unavailable=2)
    found, surge, _ = roll(web, topology(5, "old"), topology(5, "new"))
    assert surge == 0
    assert [[a.instance for a in wave] for wave in found.waves] == [
        ["web-1", "web-2"],
        ["web-3", "web-4"],
        ["web-5"],
    ]


def test_what_a_killed_roll_left_is_used() -> None:
    """The server that stood in runs the new release already, and one is replaced."""
    before = topology(2, "old")
    left = replace(
        before,
        instances=(
            before.instances[0],
            server("web-1", "web", "new"),
            before.instances[2],
            server("web-3", "web", "new"),
        ),
    )
    found, _, _ = roll(Web(), left, topology(2, "new"))
    assert str(found) == (
        "restart    web-2            release old -> new\n"
        "remove     web-3            stood in while others were replaced\n"
    )
    other, _, _ = roll(Web(), left, topology(2, "third"), topology(3, "third"))
    assert [a.instance for a in other.actions] == ["web-3", "web-1", "web-2", "web-3"]


def test_nothing_to_replace_is_nothing_to_roll() -> None:
    found = plan(topology(2, "old"), running(topology(2, "old")))
    assert rolling(found) == ()
    assert surge_of(found, Web()) == 0
    assert not rolled(found, Web(), 0)


def test_data_go_first_and_removals_last() -> None:
    before = topology(3, "old", server("database-1", "database", "a"))
    after = topology(2, "new", server("database-1", "database", "b"), server("cache-1", "cache"))
    wide = topology(3, "new", server("database-1", "database", "b"), server("cache-1", "cache"))
    found, _, _ = roll(Web(), before, after, wide)
    assert [(str(a.verb), a.instance) for a in found.actions] == [
        ("create", "cache-1"),
        ("restart", "database-1"),
        ("restart", "web-3"),
        ("restart", "web-1"),
        ("restart", "web-2"),
        ("remove", "web-3"),
    ]


@given(servers=st.integers(1, 9), surge=st.integers(0, 4), missing=st.integers(0, 4))
def test_never_are_more_servers_missing_than_may_be(servers: int, surge: int, missing: int) -> None:
    if surge == 0 and missing == 0:
        return  # the site file refuses that
    web = Web(servers=servers, surge=surge, max_unavailable=missing)
    found, used, observed = roll(web, topology(servers, "old"), topology(servers, "new"))
    serving = {f"web-{n}" for n in range(1, servers + 1)}
    for stage in stages(found, observed, "new", web, used):
        taken = {a.instance for a in stage.actions if a.verb in (Verb.RESTART, Verb.REMOVE)}
        assert len(serving - taken) >= servers - missing
        serving |= {a.instance for a in stage.actions}
        serving -= {a.instance for a in stage.actions if a.verb is Verb.REMOVE}
    assert serving == {f"web-{n}" for n in range(1, servers + 1)}
    restarts = [a.instance for a in found.actions if a.verb is Verb.RESTART]
    assert sorted(restarts) == sorted(f"web-{n}" for n in range(1, servers + 1))


@pytest.mark.parametrize("servers", [1, 400])
def test_a_roll_of_many_is_planned_in_one_go(servers: int) -> None:
    web = Web(servers=servers)
    found, surge, observed = roll(web, topology(servers, "old"), topology(servers, "new"))
    assert len(stages(found, observed, "new", web, surge)) == servers + 2
