"""The verbs that change what runs: up, down, scale."""

import asyncio
from typing import Annotated

import typer

from lampstand.cli.options import verb
from lampstand.cli.session import Session
from lampstand.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("up")(up)
    app.command("down")(down)
    app.command("scale")(scale)


@verb
def up(session: Session) -> None:
    """Bring the site up, or change what runs to what the site file says."""
    from lampstand.cli.progress import progress_of

    deployment = session.deployment
    with progress_of(session) as progress:
        done = asyncio.run(
            deployment.up(lambda plan: progress.paused(lambda: session.confirm_plan(plan)), progress)
        )
    if not done:
        session.say("Nothing was changed.")
        return
    report(session)


@verb
def down(
    session: Session,
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Also delete data, after naming them.")
    ] = False,
    yes_really: Annotated[
        bool, typer.Option("--yes-really", help="Delete the data of a protected site.")
    ] = False,
) -> None:
    """Stop the site. Data stay, unless --delete-data."""
    from lampstand.cli.progress import progress_of

    deployment = session.deployment
    if delete_data:
        if session.site.protected and not yes_really:
            raise UsageError(
                "the site file says `protected: true`", "protected", "add --yes-really to delete its data"
            )
        for path in deployment.data():
            session.say(f"  delete  {path}", style="red")
        if not session.confirm("Stop the site and delete all of this?"):
            session.say("Nothing was changed.")
            return
    with progress_of(session) as progress:
        stopped = asyncio.run(deployment.down(progress))
    if delete_data:
        deployment.delete_data()
    if session.json:
        session.document({"version": 1, "stopped": list(stopped), "deleted_data": delete_data})
    else:
        what = f"Stopped {len(stopped)} servers" if stopped else "Nothing ran"
        session.say(f"{what}; the data are deleted." if delete_data else f"{what}; the data stay.")


@verb
def scale(
    session: Session,
    changes: Annotated[list[str], typer.Argument(help="web=6 database.replicas=3 edge+=tokyo edge-=iad …")],
) -> None:
    """Change how many servers there are, without a failed request."""
    from lampstand.cli.progress import progress_of

    wanted: dict[str, str] = {}
    for change in changes:
        name, sign, value = change.partition("=")
        if not sign or not name or not value:
            raise UsageError(f"{change!r} is not NAME=NUMBER", mend="for example: lampstand scale web=4")
        wanted[name] = value
    deployment = session.deployment
    with progress_of(session) as progress:
        done = asyncio.run(
            deployment.scale(
                wanted, lambda plan: progress.paused(lambda: session.confirm_plan(plan)), progress
            )
        )
    if done:
        report(session)
    else:
        session.say("Nothing was changed.")


def report(session: Session) -> None:
    """What there is now: the status document, or its URLs for a person."""
    status = session.deployment.status()
    if session.json:
        session.document(status)
        return
    session.say(str(status["sentence"]), style="green" if status["well"] else "yellow")
    for name, url in status["urls"].items():
        session.out(f"{name:12} {url}")
