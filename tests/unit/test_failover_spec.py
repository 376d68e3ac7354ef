"""The promotion protocol keeps its promises in every order of events, and every rule is needed for that."""

import pytest

from spec.promotion import RULES, Bounds, explore


@pytest.mark.parametrize("bounds", [Bounds(2, 1, 0), Bounds(1, 2, 0), Bounds(1, 1, 1)], ids=str)
def test_no_promise_is_broken(bounds: Bounds) -> None:
    way, states = explore(bounds=bounds)
    assert way is None
    assert states > 2000


BREAKS_WITHIN = {
    "all-voters-answer": (Bounds(1, 2, 0), "an acknowledged write is lost"),
    "fence-or-silence": (Bounds(1, 1, 1), "two servers can acknowledge writes"),
    "most-received": (Bounds(1, 1, 0), "an acknowledged write is lost"),
    "drain-first": (Bounds(1, 2, 0), "an acknowledged write is lost"),
    "joined-at": (Bounds(1, 2, 0), "an acknowledged write is lost"),
    "keep-unless-deposed": (Bounds(1, 1, 0), "an acknowledged write is lost"),
    "remember-first": (Bounds(2, 1, 1), "an acknowledged write is lost"),
    "close-sessions": (Bounds(1, 0, 1), "an acknowledged write is lost"),
}


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_needed(rule: str) -> None:
    bounds, broken = BREAKS_WITHIN[rule]
    way, _ = explore(rule, bounds)
    assert way is not None
    assert way[-1] == broken
