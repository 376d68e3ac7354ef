"""From answers to health, and from deaths to restarts."""

from dataclasses import replace
from itertools import pairwise

import pytest

from lampstand.controller.health import Facts, Judge, complaint
from lampstand.controller.problems import Memory, View
from lampstand.controller.supervision import Supervision
from lampstand.observed import CacheFacts, DatabaseFacts, Health, HttpFacts, Observed, ObservedInstance, State
from lampstand.topology import Instance, Probe, Process, Topology

PROBE = Probe("http", "http", rises=2, falls=2)
REPLICA = DatabaseFacts(
    True, read_only=True, source="a:1", io_running="Yes", sql_running=True, lag_seconds=0.1
)


@pytest.mark.parametrize(
    ("facts", "primary", "text"),
    [
        (HttpFacts(True, 200), False, ""),
        (HttpFacts(True, 302), False, ""),
        (HttpFacts(True, 503, body="no database"), False, "answers 503: no database"),
        (HttpFacts(False, error="refuses connections"), False, "refuses connections"),
        (DatabaseFacts(True, read_only=False), True, ""),
        (DatabaseFacts(True, read_only=True), True, "is read-only"),
        (REPLICA, False, ""),
        (replace(REPLICA, io_running="Connecting", last_io_error="gone"), False, "does not receive (gone)"),
        (replace(REPLICA, sql_running=False, last_sql_error="dup"), False, "does not apply (dup)"),
        (replace(REPLICA, lag_seconds=7.25), False, "is 7.2 s behind"),
        (replace(REPLICA, source=""), False, "replicates from nobody"),
        (DatabaseFacts(False, error="hangs"), False, "hangs"),
        (CacheFacts(True, "master"), True, ""),
        (CacheFacts(True, "slave", link_up=True), False, ""),
        (CacheFacts(True, "slave", link_up=False), False, "has lost its primary"),
        (CacheFacts(True, "master"), False, "replicates from nobody"),
        (CacheFacts(True, "slave"), True, "replicates from another"),
        (CacheFacts(True, "master", loading=True), True, "is loading its data"),
    ],
)
def test_complaint(facts: Facts, primary: bool, text: str) -> None:
    assert complaint(facts, primary=primary, lag_limit=5.0) == text


def test_the_first_good_answer_is_enough_and_one_bad_one_is_not() -> None:
    judge = Judge()
    assert judge.of("web-1").health is Health.UNKNOWN
    assert judge.hear("web-1", PROBE, "refuses connections", 1.0)
    assert judge.of("web-1").health is Health.STARTING
    assert judge.hear("web-1", PROBE, "", 2.0)
    assert judge.of("web-1").health is Health.GOOD
    assert not judge.hear("web-1", PROBE, "answers 500", 3.0)
    assert judge.of("web-1").health is Health.GOOD
    assert judge.hear("web-1", PROBE, "answers 500", 4.0)
    assert (judge.of("web-1").health, judge.of("web-1").text) == (Health.BAD, "answers 500")


def test_a_good_answer_between_two_bad_ones_starts_the_count_anew() -> None:
    judge = Judge()
    for text in ("", "bad", "", "bad"):
        judge.hear("web-1", PROBE, text, 1.0)
    assert judge.of("web-1").health is Health.GOOD


def test_a_death_needs_no_second_answer() -> None:
    judge = Judge()
    judge.hear("web-1", PROBE, "", 1.0)
    assert judge.gone("web-1", 2.0)
    assert (judge.of("web-1").health, judge.of("web-1").text) == (Health.BAD, "is down")
    assert not judge.gone("web-1", 3.0)


def view(state: State, *, primaries: dict[str, str] | None = None, kinds: tuple[str, ...] = ("web",)) -> View:
    process = Process("p", ("/p",), "www-data")
    instances = tuple(Instance(f"{k}-{n}", "web", k, (process,)) for k in kinds for n in (1, 2))
    seen = {i.name: ObservedInstance(i.name, i.kind, state) for i in instances}
    return View(Topology("s", instances), Observed(0.0, seen), Memory(primaries=primaries or {}), 0.0)


def test_restarts_back_off_and_are_forgiven() -> None:
    supervision, down = Supervision(), view(State.STOPPED)
    times = [t / 4 for t in range(400) if supervision.due(down, (), (), t / 4)]
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps[:5] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert max(gaps) <= 30.0
    assert supervision.restarts("web-1", 100.0) == len(times)
    supervision.due(down, (), (), 1000.0)
    assert supervision.restarts("web-1", 1000.0) == 1


def test_neither_the_fenced_nor_a_primary_with_replicas_is_restarted() -> None:
    assert [i.name for i in Supervision().due(view(State.STOPPED), ("web-1",), (), 0.0)] == ["web-2"]
    group = view(State.STOPPED, primaries={"database": "database-1"}, kinds=("database",))
    assert [i.name for i in Supervision().due(group, (), (), 0.0)] == ["database-2"]
    assert Supervision().due(view(State.RUNNING), (), (), 0.0) == []
