"""The verbs that hand the terminal to a program: exec, db, redis."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from lampstand.cli.options import verb
from lampstand.cli.session import Session
from lampstand.errors import LampstandError

if TYPE_CHECKING:
    from lampstand.targets.base import Shell

THROUGH = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def _through(function: Callable[..., Any]) -> Callable[..., Any]:
    return verb(function, common=False)


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("exec", context_settings=THROUGH)(exec_)
    app.command("db", context_settings=THROUGH)(db)
    app.command("redis", context_settings=THROUGH)(redis)


@_through
def exec_(
    session: Session,
    server: Annotated[str, typer.Argument(help="A server or a kind, such as web-1 or web.")],
    command: Annotated[list[str], typer.Argument(help="The program and its arguments.")],
) -> None:
    """Run a program in the folder and environment of a server."""
    become(session.deployment.shell(server, command[1:] if command[0] == "--" else command))


@_through
def db(
    session: Session,
    arguments: Annotated[
        list[str] | None, typer.Argument(help="For the MariaDB client, such as -e 'SELECT 1'.")
    ] = None,
    replica: Annotated[bool, typer.Option("--replica", help="A replica instead of the primary.")] = False,
) -> None:
    """Open the MariaDB client on the primary."""
    become(session.deployment.database_shell(replica, arguments or []))


@_through
def redis(
    session: Session,
    arguments: Annotated[list[str] | None, typer.Argument(help="For redis-cli, such as INFO.")] = None,
    sessions: Annotated[
        bool, typer.Option("--sessions", help="The session store instead of the cache.")
    ] = False,
) -> None:
    """Open redis-cli on the cache."""
    become(session.deployment.redis_shell(sessions, arguments or []))


def become(shell: "Shell") -> NoReturn:
    """Replace this process by the program, so that signals and the terminal are its own."""
    try:
        os.chdir(shell.cwd)
        os.execvpe(shell.argv[0], list(shell.argv), dict(shell.env))
    except OSError as error:
        raise LampstandError(f"cannot run it: {error.strerror}", shell.argv[0]) from error
