"""drill: inject a fault under load and judge what happened."""

from typing import TYPE_CHECKING, Annotated

import typer

from lampstand.cli.options import verb
from lampstand.cli.session import Session
from lampstand.errors import BreachedError, UsageError

if TYPE_CHECKING:
    from lampstand.drills.words import Verdict


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("drill")(drill)


@verb
def drill(
    session: Session,
    name: Annotated[str, typer.Argument(help="`list`, `soak`, `all`, or the name of a drill.")] = "list",
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How often the fault is made.")] = 1,
    rate: Annotated[float, typer.Option("--rate", min=1, help="Writes a second to the ledger.")] = 200.0,
    http_rate: Annotated[
        float, typer.Option("--http-rate", min=1, help="Requests a second through an edge.")
    ] = 100.0,
    minutes: Annotated[float, typer.Option("--minutes", help="How long `soak` lasts.")] = 5.0,
    seed: Annotated[int | None, typer.Option("--seed", help="Repeats the order of an earlier soak.")] = None,
    yes_really: Annotated[
        bool, typer.Option("--yes-really", help="Also against a site that is protected.")
    ] = False,
) -> None:
    """Break something on purpose, under load, and judge what happened. Exit code 4 on a breach."""
    from lampstand.drills.words import CATALOGUE, VISITOR_DRILLS
    from lampstand.drills.words import drill as find

    if name == "list":
        _list(session)
        return
    found = find(name)
    if found is None and name not in ("soak", "all"):
        raise UsageError(f"there is no drill {name!r}", mend="`lampstand drill list` shows them")
    if session.site.protected and not yes_really:
        raise UsageError(
            "the site file says `protected: true`", "protected", "add --yes-really to drill it nevertheless"
        )
    from random import SystemRandom

    from lampstand.drills.runner import Options, run_drill

    site = session.deployment.drill_site()
    options = Options(rounds=rounds, rate=rate, http_rate=http_rate, seed=seed, say=session.say)
    if found in VISITOR_DRILLS:
        from lampstand.drills.visitors import run_visitors_drill

        verdict = run_visitors_drill(site, found, options)
    elif found is not None:
        verdict = run_drill(site, [found], name, options)
    else:
        options.seed = seed if seed is not None else SystemRandom().randrange(2**31)
        chosen = [
            d for d in CATALOGUE if not site.faults.unavailable(d.fault) and site.topology.of_kind(d.kind)
        ]
        verdict = run_drill(site, chosen, name, options, until=minutes * 60 if name == "soak" else None)
    if session.json:
        session.document(verdict.document())
    else:
        _print(session, verdict)
    if not verdict.passed:
        raise BreachedError("; ".join(verdict.breaches), f"drill {name}")


def _list(session: Session) -> None:
    from lampstand.drills.words import CATALOGUE, VISITOR_DRILLS

    drills = (*CATALOGUE, *VISITOR_DRILLS)
    if session.json:
        rows = [
            {
                "name": d.name,
                "summary": d.summary,
                "kind": d.kind,
                "fault": d.fault,
                "deadline_seconds": d.deadline,
            }
            for d in drills
        ]
        session.document({"version": 1, "drills": rows})
        return
    session.table(
        ["DRILL", "DEADLINE", ""],
        [[d.name, f"{d.deadline:g} s", d.summary] for d in drills],
        lambda _: None,
    )
    alone = ", ".join(d.name for d in VISITOR_DRILLS)
    session.out(f"\nsoak: random ones for --minutes; all: each of them, --rounds times; {alone} run alone")


def _print(session: Session, verdict: object) -> None:
    from lampstand.drills.words import Verdict, percentile

    assert isinstance(verdict, Verdict)
    if verdict.visitors:
        _print_visitors(session, verdict)
        return
    times = verdict.failover_seconds
    for n, r in enumerate(verdict.rounds, 1):
        bar = "█" * min(60, round((r.back_after or verdict.deadline_seconds) * 10))
        back = f"{r.back_after:6.2f} s" if r.back_after is not None else "  never "
        session.out(f"{n:4} {r.subject:28} {back} {bar}")
    middle, worst = percentile(times, 50), percentile(times, 99)
    if middle is not None and worst is not None:
        session.out(
            f"service back: p50 {middle:.2f} s, p99 {worst:.2f} s (deadline {verdict.deadline_seconds:g} s)"
        )
    session.out(
        f"writes: {verdict.acknowledged} acknowledged, {verdict.lost} lost, {verdict.duplicated} duplicated, "
        f"{verdict.unknown} unknown, {verdict.failed_writes} refused"
    )
    session.out(f"requests: {verdict.requests}, {verdict.failed_requests} failed")
    session.out(
        f"two primaries: {verdict.two_primaries}; rows that differ between servers: {verdict.diverged}"
    )
    for note in verdict.notes:
        session.out(note)
    if verdict.seed is not None:
        session.out(f"seed {verdict.seed}")
    _print_outcome(session, verdict)


def _print_visitors(session: Session, verdict: "Verdict") -> None:
    seen = verdict.visitors
    rows = [
        [when, *("" if value is None else f"{value}" for value in seen[when].values())]
        for when in ("calm", "during")
    ]
    session.out(seen["url"])
    session.table(["VISITORS", "REQUESTS", "FAILED", "P50 MS", "P99 MS"], rows, lambda _: None)
    for what, count in seen["attack"].items():
        session.out(f"attack: {count} {what}")
    _print_outcome(session, verdict)


def _print_outcome(session: Session, verdict: "Verdict") -> None:
    session.console().print(
        "passed" if verdict.passed else "BREACHED", style="green" if verdict.passed else "bold red"
    )
