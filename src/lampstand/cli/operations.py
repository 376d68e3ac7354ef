"""What an operator does to a running site: `database switchover`, `database promote`."""

import asyncio
from typing import Annotated

import typer

from lampstand.cli.options import verb
from lampstand.cli.session import Session

database = typer.Typer(
    no_args_is_help=True, help="Change which database server is the primary.", rich_markup_mode=None
)


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.add_typer(database, name="database")


@verb
def switchover(
    session: Session,
    to: Annotated[
        str | None, typer.Argument(help="The server that becomes the primary; the best replica without.")
    ] = None,
) -> None:
    """Make another server the primary, as planned: no acknowledged write is lost, writes pause for a moment."""
    if not session.confirm(f"Make {to or 'the best replica'} the primary?"):
        return
    outcome = asyncio.run(session.deployment.operate("switchover", kind="database", to=to))
    if session.json:
        session.document({"version": 1, **outcome})
    else:
        session.say(
            f"{outcome['primaries']['database']} is the primary, after {outcome['seconds']} s.", style="green"
        )


@verb
def promote(
    session: Session,
    name: Annotated[str, typer.Argument(help="The server that becomes the primary.")],
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss", help="Also when a server that may hold acknowledged writes is missing."
        ),
    ] = False,
) -> None:
    """Make a server the primary when the controller refuses to decide by itself."""
    if not session.confirm(
        f"Make {name} the primary{', accepting the loss of writes' if accept_loss else ''}?"
    ):
        return
    outcome = asyncio.run(session.deployment.operate("promote", instance=name, accept_loss=accept_loss))
    if session.json:
        session.document({"version": 1, **outcome})
    else:
        session.say(
            f"{outcome['primaries']['database']} is the primary, after {outcome['seconds']} s.", style="green"
        )


database.command("switchover")(switchover)
database.command("promote")(promote)
