"""Receipts, what a rollback returns to, what is pruned, what is refused, what is asked."""

from pathlib import Path
from typing import Any

import pytest

from lampstand.errors import LampstandError
from lampstand.observed import Health
from lampstand.releases.budget import Tally
from lampstand.releases.preconditions import refusals, refuse
from lampstand.releases.probe import Sample, asks, lanes, phases
from lampstand.releases.receipts import Outcome, Receipt, Receipts, good_releases, rollback_to
from lampstand.releases.store import superfluous
from lampstand.releases.traffic import Ledger, Traffic
from lampstand.releases.watch import ILL_BESIDE_WELL, Watch
from lampstand.releases.words import TakenBackError
from lampstand.site import Site
from lampstand.targets.local.connections import count


def done(verb: str, serves: str, outcome: Outcome = "done") -> Receipt:
    return Receipt(1, verb, serves, "", 0.0, outcome=outcome, serves=serves)


def test_a_rollback_returns_to_the_last_good_release_before() -> None:
    history = [done("up", "a"), done("deploy", "b"), done("deploy", "c"), done("deploy", "bad", "returned")]
    assert good_releases(history) == ["a", "b", "c"]
    assert rollback_to(history, "c", ["a", "b", "c"]) == "b"
    assert rollback_to(history, "c", ["a", "c"]) == "a"
    assert rollback_to(history, "c", ["c"]) is None


def test_a_second_rollback_goes_further_back_and_never_to_what_was_left() -> None:
    history = [done("up", "a"), done("deploy", "b"), done("deploy", "c"), done("rollback", "b")]
    assert rollback_to(history, "b", ["a", "b", "c"]) == "a"
    history.append(done("rollback", "a"))
    assert rollback_to(history, "a", ["a", "b", "c"]) is None
    history.append(done("deploy", "c"))
    assert rollback_to(history, "c", ["a", "b", "c"]) == "a"


def test_pruning_keeps_what_is_needed() -> None:
    assert superfluous(["e", "d", "c", "b", "a"], 2, {"e", "a"}) == ["c", "b"]
    assert superfluous(["a"], 0, set()) == []


def test_receipts_are_kept_read_and_forgotten(tmp_path: Path) -> None:
    receipts = Receipts(tmp_path / "deploys", history=3)
    for number in range(5):
        receipt = receipts.begin("deploy", "old", "me")
        receipt.release, receipt.outcome = f"release{number}", "done"
        receipt.moment("web-1", "let in")
        receipts.keep(receipt)
    assert [r.number for r in receipts.all()] == [3, 4, 5]
    last = receipts.last()
    assert last is not None
    assert last == receipts.of("5") == receipts.of("release4") == receipts.of("")
    assert last.timeline[0].what == "let in"
    assert {"version", "requests", "failed_requests", "duration_seconds", "outcome"} <= last.document().keys()
    with pytest.raises(LampstandError):
        receipts.of("6")
    (tmp_path / "deploys/00005.json").write_text("{}")
    assert [r.number for r in receipts.all()] == [3, 4]
    assert receipts.begin("up", "", "me").number == 6


# -- refusals --------------------------------------------------------------------------------------------------


def site(**web: object) -> Site:
    return Site.model_validate({"site": "shop", "app": {"health": "/healthz"}, "web": web})


def row(name: str, kind: str, health: str = "good") -> dict[str, Any]:
    return {"name": name, "kind": kind, "health": health, "text": "answers 500", "state": "running"}


def status(*rows: dict[str, Any], controller: bool = True) -> dict[str, Any]:
    return {"instances": list(rows), "controller": {"running": controller}}


WELL = (
    row("web-1", "web"),
    row("web-2", "web"),
    row("database-1", "database"),
    row("database-2", "database"),
)


def test_a_site_that_is_well_is_not_refused() -> None:
    assert refusals(site(), status(*WELL)) == []
    refuse([], force=False)


@pytest.mark.parametrize(
    ("found", "where", "forcible"),
    [
        (refusals(Site.model_validate({"site": "shop"}), status(*WELL)), "app.health", False),
        (refusals(site(), status()), "shop", False),
        (refusals(site(), status(*WELL, controller=False)), "shop", False),
        (refusals(site(), status(row("web-1", "web", "bad"), *WELL[1:])), "web", True),
        (refusals(site(), status(*WELL[:3], row("database-2", "database", "bad"))), "database-2", True),
        (refusals(site(surge=0, max_unavailable=2), status(*WELL)), "web.max_unavailable", False),
    ],
)
def test_refusals(found: Any, where: str, forcible: bool) -> None:  # noqa: ANN401 - a list of refusals
    assert [(r.where, r.forcible) for r in found] == [(where, forcible)]
    with pytest.raises(LampstandError, match="refused"):
        refuse(found, force=False)
    if forcible:
        refuse(found, force=True)


def test_one_that_stands_in_counts_as_well() -> None:
    found = refusals(site(), status(row("web-1", "web", "bad"), WELL[1], row("web-3", "web"), *WELL[2:]))
    assert found == []
    fewer = refusals(site(max_unavailable=1), status(row("web-1", "web", "bad"), *WELL[1:]))
    assert fewer == []


# -- the deploy's own requests ---------------------------------------------------------------------------------


def test_what_is_asked() -> None:
    found = asks(("GET /a", "POST /b x=1&y=2 3", "HEAD /c"), "/healthz")
    assert [(a.method, a.path, a.body) for a in found] == [
        ("GET", "/a", ""),
        ("POST", "/b", "x=1&y=2 3"),
        ("HEAD", "/c", ""),
    ]
    assert [(lane.kept, [a.path for a in lane.asks]) for lane in lanes(found)] == [
        (True, ["/a", "/c"]),
        (False, ["/a", "/c"]),
        (True, ["/b"]),
    ]
    assert [a.path for a in asks((), "/healthz")] == ["/healthz", "/"]


def test_phases() -> None:
    samples = [Sample(1.0, 0.1, ""), Sample(1.9, 0.3, ""), Sample(2.5, 0.1, "no"), Sample(3.5, 0.1, "")]
    found = phases(samples, 2.0, 3.0)
    assert [(found[p]["requests"], found[p]["failed_requests"]) for p in ("before", "during", "after")] == [
        (1, 0),
        (2, 1),
        (1, 0),
    ]


# -- the watch -------------------------------------------------------------------------------------------------


def watch() -> Watch:
    receipt = Receipt(1, "deploy", "new", "old", 0.0)
    ledger = Ledger()
    limits = Site.model_validate({"site": "shop"}).deploy
    return Watch(receipt, limits, Traffic((), ledger), ledger, lambda _: None)


def published(**web: tuple[str, str]) -> dict[str, Any]:
    return {
        "instances": {
            n.replace("_", "-"): {"kind": "web", "state": s, "health": h, "health_text": "answers 500"}
            for n, (s, h) in web.items()
        }
    }


def test_nothing_is_judged_before_anybody_met_the_new_release() -> None:
    found = watch()
    assert not found.exposed
    found.check(published(web_1=("stopped", "bad")))


def test_a_new_server_that_ends_is_taken_back_and_one_that_was_taken_away_is_not() -> None:
    found = watch()
    found.serves("127.0.0.1:1", "web-3", "new")
    assert found.exposed
    found.check(published(web_3=("running", "good")))
    with pytest.raises(TakenBackError, match="web-3 ended"):
        found.check(published(web_3=("partial", "good")))
    found.gone("web-3")
    found.check(published(web_3=("stopped", "bad")))
    assert found.exposed


def test_an_ill_new_server_beside_a_well_old_one_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("lampstand.releases.watch.time.monotonic", lambda: now)
    found = watch()
    found.serves("127.0.0.1:1", "web-3", "new")
    ill = published(web_1=("running", "good"), web_3=("running", "bad"))
    all_ill = published(web_1=("running", Health.BAD), web_3=("running", "bad"))
    found.check(ill)
    now += ILL_BESIDE_WELL + 1
    found.check(all_ill)  # a failover of the database
    with pytest.raises(TakenBackError, match="became ill"):
        found.check(ill)
    found.lenient = True
    found.check(ill)


def test_tallies_of_nobody() -> None:
    assert watch().summary() == {"old": Tally().summary(), "new": Tally().summary()}


TABLE = """  sl  local_address rem_address   st tx_queue rx_queue
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000
   1: 0100007F:1F90 0100007F:A1B2 01 00000000:00000000
   2: 0100007F:A1B2 0100007F:1F90 01 00000000:00000000
   3: 0100007F:1F90 0100007F:A1B3 06 00000000:00000000
"""


def test_connections_of_a_port() -> None:
    assert count(TABLE, 8080) == 1
    assert count(TABLE, 0xA1B2) == 1
    assert count(TABLE, 80) == 0
    assert count("", 80) == 0
