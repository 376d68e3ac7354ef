"""The verbs that only look: plan, status, logs, events, explain."""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lampstand.cli.aws import Offline, TrafficOption, deployment, estimate
from lampstand.cli.options import verb
from lampstand.cli.session import Session
from lampstand.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    from lampstand.plan import Plan


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("plan")(plan)
    app.command("status")(status)
    app.command("logs")(logs)
    app.command("events")(events)
    app.command("explain")(explain)


@verb
def plan(
    session: Session,
    cost: Annotated[
        bool, typer.Option("--cost", help="On AWS: what the site costs a month, by tier.")
    ] = False,
    offline: Offline = False,
    traffic: TrafficOption = None,
) -> None:
    """Show what `up` would do, and change nothing."""
    if not cost:
        _show(session, asyncio.run(session.deployment.plan()), {})
        return
    if session.target != "aws":
        raise UnavailableError("what a site costs is known for -t aws only", "--cost")
    estimated = estimate(session, offline, traffic)
    found = deployment(session).outline() if offline else asyncio.run(deployment(session).plan())
    _show(session, found, {"cost": estimated.document()})
    if not session.json:
        session.out(f"\n{estimated}")


def _show(session: Session, found: "Plan", more: dict[str, Any]) -> None:
    if session.json:
        waves = [
            [{"verb": str(a.verb), "instance": a.instance, "kind": a.kind, "cause": a.cause} for a in wave]
            for wave in found.waves
        ]
        session.document({"version": 1, "target": session.target, "waves": waves} | more)
    else:
        session.out(str(found))


@verb
def status(session: Session) -> None:
    """Show every server: whether it runs, is well, and what it does."""
    document = session.deployment.status()
    if session.json:
        session.document(document)
        return
    _print_status(session, document)


def _print_status(session: Session, document: dict[str, Any]) -> None:
    style = "green" if document["well"] else "yellow"
    session.console().print(
        f"{document['site']} on {document['target']}: {document['sentence']}", style=style
    )
    if document.get("lock"):
        session.console().print(f"locked by {document['lock']}", style="yellow")
    if document.get("scaled"):
        changed = ", ".join(f"{k}={v}" for k, v in document["scaled"].items())
        session.console().print(f"scaled beside the site file: {changed}")
    rows = [
        [
            row["name"],
            _condition(row),
            row.get("role") or "",
            row.get("release") or "",
            next(iter(row["endpoints"].values()), ""),
            " ".join(filter(None, [row["text"], f"{row['restarts']} restarts" if row["restarts"] else ""])),
        ]
        for row in document["instances"]
    ]
    if rows:
        session.console().print()
        session.table(["SERVER", "CONDITION", "ROLE", "RELEASE", "ADDRESS", ""], rows, _style)
    for problem in document["problems"]:
        session.console().print(f"\n{problem['code']}: {problem['sentence']}", style="red")
        session.console().print(f"  lampstand explain {problem['code']}")
    if document["urls"]:
        session.console().print()
        for name, url in document["urls"].items():
            session.console().print(f"{name:12} {url}")


def _condition(row: dict[str, Any]) -> str:
    if row["state"] != "running":
        return str(row["state"])
    return {"good": "well", "bad": "not well"}.get(row["health"], str(row["health"]))


def _style(cell: str) -> str | None:
    return {
        "well": "green", "primary": "bold", "not well": "red", "stopped": "red", "missing": "red", "partial": "red",
        "frozen": "red", "starting": "yellow", "unknown": "yellow",
    }.get(cell)  # fmt: skip


@verb
def logs(
    session: Session,
    servers: Annotated[
        list[str] | None, typer.Argument(help="Servers or kinds (web-1, database); all without.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-F", help="Go on with what comes.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Lines from the end of each log.")] = 20,
) -> None:
    """Show the logs of servers."""
    width = 0
    for name, line in session.deployment.logs(servers or [], lines, follow):
        if session.json:
            typer.echo(json.dumps({"server": name, "line": line}))
            continue
        width = max(width, len(name))
        typer.echo(f"{name:{width}} | {line}")


@verb
def events(
    session: Session,
    follow: Annotated[bool, typer.Option("--follow", "-F", help="Go on with what comes.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Events from the end.")] = 100,
) -> None:
    """Show the audit log: every recovery with its steps."""
    from collections import deque
    from datetime import UTC, datetime

    found = session.deployment.events(follow)
    for event in found if follow else deque(found, maxlen=lines):
        if session.json:
            typer.echo(json.dumps(event))
            continue
        when = datetime.fromtimestamp(event.pop("time"), UTC).astimezone().isoformat(timespec="milliseconds")
        words = [str(event.pop(k)) for k in ("code", "subject", "step", "outcome")]
        rest = " ".join(f"{k}={v}" for k, v in event.items())
        typer.echo(f"{when}  {words[0]:22} {words[1]:14} {words[2]:24} {words[3]:7} {rest}".rstrip())


@verb
def explain(
    session: Session,
    code: Annotated[
        str | None, typer.Argument(help="Code of a problem, as `status` shows it; all without.")
    ] = None,
) -> None:
    """Explain a problem: what it means, what the controller does about it, what you can do."""
    from lampstand.controller.table import PROBLEMS

    chosen = [p for p in PROBLEMS if code in (None, p.code)]
    if not chosen:
        raise UsageError(
            f"no problem has the code {code!r}", mend=f"the codes are {', '.join(p.code for p in PROBLEMS)}"
        )
    if session.json:
        rows = [
            {
                "code": p.code,
                "sentence": p.sentence,
                "priority": p.priority,
                "recovers": p.recover is not None,
                "mend": p.mend,
            }
            for p in chosen
        ]
        session.document({"version": 1, "problems": rows})
        return
    for p in chosen:
        session.out(f"{p.code}\n  {p.sentence}")
        session.out("  The controller mends it." if p.recover else "  The controller only reports it.")
        if p.mend:
            session.out(f"  You: {p.mend}")
