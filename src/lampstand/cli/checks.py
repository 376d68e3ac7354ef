"""doctor."""

from typing import Annotated

import typer

from lampstand.cli.options import verb
from lampstand.cli.session import Session
from lampstand.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("doctor")(doctor)


@verb
def doctor(
    session: Session,
    fix: Annotated[bool, typer.Option("--fix", help="Install what is missing, after asking.")] = False,
) -> None:
    """Check what the site needs on this machine: engines, memory, disk, and what will hurt later."""
    from lampstand.doctor import examine, fix_engines

    if fix:
        fix_engines(session)
    checks = examine(session)
    if session.json:
        rows = [{"check": c.name, "outcome": c.outcome, "text": c.text, "mend": c.mend} for c in checks]
        session.document({"version": 1, "checks": rows})
    else:
        marks = {"good": ("✓", "green"), "warning": ("!", "yellow"), "bad": ("✗", "red")}
        for check in checks:
            mark, style = marks[check.outcome]
            session.console().print(f"{mark} {check.name}: {check.text}", style=style)
            if check.mend:
                session.console().print(f"    {check.mend}")
    if any(c.outcome == "bad" for c in checks):
        raise typer.Exit(int(ExitCode.FAILED))
