"""When a release is taken back, and what the balancers' log says."""

import json
import math
import random
from pathlib import Path

import pytest

from lampstand.releases.budget import Tally, at_least, errors_breach, times_breach
from lampstand.releases.traffic import Attempt, Ledger, Tail, Traffic, attempts


def tally(requests: int, failed: int = 0, seconds: float = 0.01) -> Tally:
    found = Tally()
    for number in range(requests):
        found.add(number < failed, seconds)
    return found


@pytest.mark.parametrize(
    ("requests", "failed", "breach"),
    [
        (0, 0, False),
        (2, 2, False),
        (3, 3, True),
        (100, 1, False),
        (100, 5, True),
        (1000, 12, False),
        (1000, 30, True),
    ],
)
def test_failures_beyond_chance_are_a_breach(requests: int, failed: int, breach: bool) -> None:
    assert bool(errors_breach(tally(requests, failed), tally(1000), 0.01)) is breach


def test_what_the_old_release_fails_too_is_not_the_new_ones_fault() -> None:
    assert errors_breach(tally(500, 60), tally(500), 0.01)
    assert not errors_breach(tally(500, 60), tally(500, 60), 0.01)


def test_the_sentence_says_all_of_it() -> None:
    assert errors_breach(tally(200, 20), tally(100, 1), 0.01) == (
        "20 of 200 requests to the new release failed (10.0%), and 1.0% may; of the old release 1.0% failed"
    )


def test_a_release_within_its_budget_is_seldom_taken_back() -> None:
    """Looked at after each of 2,000 requests, half of the budget failing: almost never taken back."""
    taken = 0
    for seed in range(100):
        chance, found = random.Random(seed), Tally()
        for _ in range(2000):
            found.add(chance.random() < 0.005, 0.01)
            if errors_breach(found, tally(0), 0.01):
                taken += 1
                break
    assert taken <= 8


def test_a_release_that_fails_five_percent_is_taken_back_soon() -> None:
    needed: list[int] = []
    for seed in range(100):
        chance, found = random.Random(seed), Tally()
        while not errors_breach(found, tally(0), 0.01):
            found.add(chance.random() < 0.05, 0.01)
        needed.append(found.requests)
    assert sorted(needed)[90] < 400


def test_times_are_compared_only_when_it_matters() -> None:
    assert not times_breach(tally(50, seconds=1.0), tally(500), 2.0)
    assert not times_breach(tally(500, seconds=0.04), tally(500, seconds=0.01), 2.0)
    assert "p99" in times_breach(tally(500, seconds=0.4), tally(500, seconds=0.1), 2.0)
    assert not times_breach(tally(500, seconds=0.19), tally(500, seconds=0.1), 2.0)


def test_percentiles_are_right_within_five_percent() -> None:
    chance, found = random.Random(1), Tally()
    times = sorted(chance.lognormvariate(-4, 1) for _ in range(5000))
    for seconds in times:
        found.add(False, seconds)
    for share in (0.5, 0.9, 0.99):
        exact = times[math.ceil(share * len(times)) - 1]
        assert exact * 0.999 <= found.percentile(share) <= exact * 1.05
    assert found.percentile(1.0) == found.longest == times[-1]
    assert Tally().percentile(0.99) == 0.0


def test_poisson() -> None:
    assert at_least(0, 3.0) == pytest.approx(1.0)
    assert at_least(1, 0.5) == pytest.approx(1 - math.exp(-0.5))
    assert at_least(3, 0.0) == 0.0
    assert at_least(1000, 1000.0) == pytest.approx(0.5, abs=0.02)
    assert at_least(1100, 1000.0) < 0.001


LINE = {
    "time": "2026-01-02T03:04:05+00:00", "at": 1000.5, "agent": "curl", "seconds": 0.5, "upstream": "127.0.0.1:1",
    "upstream_status": "200", "upstream_seconds": "0.498",
}  # fmt: skip


def line(**more: object) -> bytes:
    return json.dumps({**LINE, **more}).encode()


def test_a_line_of_the_log() -> None:
    assert attempts(line()) == [Attempt("127.0.0.1:1", 1000.0, 0.498, False, False)]
    assert attempts(line(upstream_status="500", agent="lampstand-deploy"))[0].failed
    assert attempts(line(agent="lampstand-deploy"))[0].own


def test_a_request_that_was_tried_twice_counts_for_both() -> None:
    found = attempts(
        line(upstream="127.0.0.1:1, 127.0.0.1:2", upstream_status="502, 200", upstream_seconds="0.000, 0.100")
    )
    assert [(a.address, a.failed) for a in found] == [("127.0.0.1:1", True), ("127.0.0.1:2", False)]


def test_lines_that_tell_nothing() -> None:
    for text in (
        b"",
        b"{",
        line(upstream=""),
        line(upstream_status="-"),
        line(upstream_status="499"),
        b'{"at": 1}',
    ):
        assert attempts(text) == []


def test_requests_count_for_the_release_that_ran_when_they_began(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_bytes(line(at=1.0) + b"\n")
    ledger = Ledger()
    ledger.note("127.0.0.1:1", "old", 0.0)
    ledger.note("127.0.0.1:1", "new", 1000.2)
    traffic = Traffic([log], ledger)
    traffic.begin(999.0)
    with log.open("ab") as handle:
        handle.write(
            line() + b"\n" + line(at=1001.0) + b"\n" + line(at=1001.1, agent="lampstand-deploy/1") + b"\n"
        )
        handle.write(line(at=900.0) + b"\n" + line(upstream="127.0.0.1:9") + b"\n" + line()[:20])
    found = traffic.read()
    assert {r: (c.visitors.requests, c.own.requests) for r, c in found.items()} == {
        "old": (1, 0),
        "new": (1, 1),
    }
    traffic.close()


def test_a_log_is_followed_across_its_rotation(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tail = Tail(log)
    assert tail.read() == []
    log.write_bytes(b"one\ntw")
    assert tail.read() == [b"one"]
    with log.open("ab") as handle:
        handle.write(b"o\n")
    log.rename(tmp_path / "log.1")
    log.write_bytes(b"three\n")
    assert tail.read() == [b"two", b"three"]
    log.write_bytes(b"")
    log.write_bytes(b"4\n")
    assert tail.read() == [b"4"]
    tail.close()
