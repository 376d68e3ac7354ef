"""The roll: how web servers pass to another release (or another configuration) without a failed request. Pure.

Servers that stand in (`surge`) are made beside the old ones, then the old ones are replaced in waves, then workers and
scheduler follow, and at last those that stood in are removed. A plan says all of it, so what is shown is what is done;
`stages` says what the site is wished to be while each wave runs, so that whoever looks at the site half-way (the
controller, the next command after a kill) knows which server is meant to run what.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lampstand.observed import Observed
from lampstand.plan import Action, Plan, Verb
from lampstand.site import Web

FOLLOWERS = ("worker", "scheduler")
"""Kinds that run the application beside the web servers; they change when visitors have the new release."""
ROLLED = ("web", *FOLLOWERS)
STARTING = (Verb.CREATE, Verb.START, Verb.RESTART)


@dataclass(frozen=True)
class Stage:
    """One wave, and what is wished while it runs and until the next."""

    actions: tuple[Action, ...]
    releases: Mapping[str, str]
    """Server -> the release it still runs; the others run the wished one."""
    surge: int


def rolling(plan: Plan) -> tuple[str, ...]:
    """Names of the web servers that a plan restarts."""
    return tuple(a.instance for a in plan.actions if a.kind == "web" and a.verb is Verb.RESTART)


def surge_of(plan: Plan, web: Web) -> int:
    """How many servers stand in while this plan is carried out."""
    return min(web.surge, len(rolling(plan)))


def stand_ins(web: Web, surge: int) -> tuple[str, ...]:
    """Names of the servers that stand in."""
    return tuple(f"web-{number}" for number in range(web.servers + 1, web.servers + surge + 1))


def rolled(plan: Plan, web: Web, surge: int) -> Plan:
    """The plan (made for a topology with `surge` more web servers) as a roll.

    What starts from nothing and the data tiers keep their place; a wave holds as many web servers as may be missing
    (`max_unavailable`) plus those that stand in; removals come last.
    """
    extra = stand_ins(web, surge)
    first: list[Action] = []
    servers: list[Action] = []
    followers: list[Action] = []
    before: list[tuple[Action, ...]] = []
    after: list[tuple[Action, ...]] = []
    removals: list[tuple[Action, ...]] = []
    for wave in plan.waves:
        first += [_standing_in(a) for a in wave if a.instance in extra]
        servers += [a for a in wave if _changes(a, "web") and a.instance not in extra]
        followers += [a for a in wave if _changes(a, *FOLLOWERS)]
        if others := tuple(a for a in wave if a.instance not in extra and not _changes(a, *ROLLED)):
            removes = any(a.verb is Verb.REMOVE for a in others)
            (removals if removes else after if servers else before).append(others)
    size = max(1, surge + web.max_unavailable)
    waves = [tuple(servers[i : i + size]) for i in range(0, len(servers), size)]
    gone = tuple(Action(Verb.REMOVE, name, "web", "stood in while others were replaced") for name in extra)
    found = (*before, tuple(first), *waves, tuple(followers), *after, *removals, gone)
    return Plan(tuple(wave for wave in found if wave))


def _changes(action: Action, *kinds: str) -> bool:
    return action.kind in kinds and action.verb in (Verb.RESTART, Verb.RELOAD)


def _standing_in(action: Action) -> Action:
    return Action(action.verb, action.instance, action.kind, "stands in while others are replaced")


def stages(plan: Plan, observed: Observed, release: str, web: Web, surge: int) -> tuple[Stage, ...]:
    """The waves of a rolled plan, each with what is wished while it runs."""
    extra = stand_ins(web, surge)
    found: list[Stage] = []
    for number, wave in enumerate(plan.waves):
        later = [a for w in plan.waves[number + 1 :] for a in w if a.verb is Verb.RESTART]
        still = {a.instance: old for a in later if (old := _runs(observed, a.instance)) and old != release}
        gone = any(a.verb is Verb.REMOVE and a.instance in extra for a in wave)
        found.append(Stage(wave, still, 0 if gone else surge))
    return tuple(found)


def admitted(stage: Stage) -> tuple[str, ...]:
    """Web servers that get requests for the first time, or again, at the end of a stage."""
    return tuple(a.instance for a in stage.actions if a.kind == "web" and a.verb in STARTING)


def _runs(observed: Observed, name: str) -> str | None:
    found = observed.instances.get(name)
    return found.release if found else None
