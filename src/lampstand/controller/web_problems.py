"""Problems of the servers without a role: web, balancer, gateway, edge, workers.

A dead process is started again by the supervision, and a server that does not answer gets no requests (routes.py); what
is left for this table is what neither mends.
"""

from collections.abc import Iterable, Sequence

from lampstand.controller.problems import Finding, Hands, Problem, Step, View
from lampstand.observed import Health, HttpFacts, State

HUNG_AFTER = 3.0
"""Seconds that a server in the path of every request may run without answering before it is started anew."""

IN_EVERY_PATH = ("gateway", "balancer", "edge", "visitors")
WITHOUT_ROLE = (*IN_EVERY_PATH, "web", "worker", "scheduler")


def _frozen(view: View) -> Sequence[Finding]:
    return [
        Finding("server-frozen", seen.name, f"{seen.name} is frozen: its process exists and does not run")
        for seen in _of(view, WITHOUT_ROLE)
        if seen.state is State.FROZEN
    ]


def _hung(view: View) -> Sequence[Finding]:
    return [
        Finding("server-hung", seen.name, f"{seen.name} runs and does not answer: {seen.health_text}")
        for seen in _of(view, IN_EVERY_PATH)
        if seen.state is State.RUNNING
        and seen.health is Health.BAD
        and isinstance(seen.facts, HttpFacts)
        and not seen.facts.answered
        and view.now - (seen.health_since or view.now) > HUNG_AFTER
    ]


def _failing(view: View) -> Sequence[Finding]:
    return [
        Finding("application-failing", seen.name, f"{seen.name} {seen.health_text}")
        for seen in _of(view, ("web",))
        if seen.state is State.RUNNING and seen.health is Health.BAD
    ]


def _no_web(view: View) -> Sequence[Finding]:
    web = list(_of(view, ("web",)))
    if web and all(seen.health is Health.BAD for seen in web):
        return [Finding("no-web-server", "web", "no web server is well; all of them still get requests")]
    return []


def _looping(view: View) -> Sequence[Finding]:
    return [
        Finding(
            "restart-loop",
            seen.name,
            f"{seen.name} ended {seen.restarts} times; `lampstand logs {seen.name}` tells why",
        )
        for seen in view.observed.instances.values()
        if seen.restarts >= 5 and seen.name in view.topology.by_name
    ]


def _of(view: View, kinds: Iterable[str]):  # noqa: ANN202 - an iterator of what the view holds
    wanted = set(kinds)
    return (
        s for s in view.observed.instances.values() if s.kind in wanted and s.name in view.topology.by_name
    )


def _restart(view: View, finding: Finding) -> Sequence[Step]:
    instance = view.topology.by_name[finding.subject]

    async def restart(hands: Hands) -> None:
        await hands.restart(instance)

    return (Step("restart", 30.0, restart),)


WEB_PROBLEMS: tuple[Problem, ...] = (
    Problem(
        "no-web-server", "No web server is well, so visitors see errors or stale pages.", 40, _no_web,
        mend="look at `lampstand logs web`; after a bad release, `lampstand rollback`",
    ),
    Problem("server-frozen", "A server's process is stopped and answers nobody.", 50, _frozen, _restart),
    Problem("server-hung", "A server that every request passes runs without answering.", 51, _hung, _restart),
    Problem(
        "application-failing", "The application on one web server answers its health path badly.", 60, _failing,
        mend="look at `lampstand logs NAME`; the server gets no requests until it is well",
    ),
    Problem(
        "restart-loop", "A server ends again and again; it is started at most every 30 s.", 61, _looping,
        mend="look at `lampstand logs NAME` and `lampstand doctor`",
    ),
)  # fmt: skip
