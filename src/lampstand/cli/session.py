"""What every verb works with: the options, the site, the target, and the ways to speak to a person or a program."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lampstand.errors import LampstandError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from lampstand.cli.options import Common
    from lampstand.plan import Plan
    from lampstand.site import Site
    from lampstand.targets.base import Deployment


@dataclass
class Session:
    """One call of the command line."""

    project: Path
    file: Path | None = None
    environment: str | None = None
    target: str = "local"
    yes: bool = False
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False
    _consoles: dict[bool, "Console"] = field(default_factory=dict)  # pyright: ignore[reportUnknownVariableType]

    @classmethod
    def of(cls, options: "Common") -> "Session":
        """The session of the options that were given. Raises UsageError for a folder that is not there."""
        project = options.directory or (options.file.parent if options.file else Path())
        if not project.is_dir():
            raise UsageError("no such folder", str(project), "name the folder of the application with -C")
        return cls(
            project=project.resolve(),
            file=options.file.resolve() if options.file else None,
            environment=options.environment,
            target=options.target or os.environ.get("LAMPSTAND_TARGET", "local"),
            yes=bool(options.yes),
            json=bool(options.json),
            quiet=bool(options.quiet),
            verbose=bool(options.verbose),
            no_color=bool(options.no_color) or bool(os.environ.get("NO_COLOR")),
        )

    # -- what it is about --------------------------------------------------------------------------------------------
    @cached_property
    def site(self) -> "Site":
        """The validated site. Raises SiteFileError."""
        from lampstand.site.load import load

        return load(self.project, self.file, self.environment)

    @cached_property
    def deployment(self) -> "Deployment":
        """The site on the chosen target. Raises UsageError for a target that does not exist."""
        from lampstand.targets import open_deployment

        return open_deployment(self.target, self.site, self.project, self.environment)

    # -- speaking ----------------------------------------------------------------------------------------------------
    def console(self, error: bool = False) -> "Console":
        """Where tables go (standard output), or progress and notes (standard error)."""
        from rich.console import Console

        if error not in self._consoles:
            self._consoles[error] = Console(
                stderr=error, no_color=self.no_color or None, highlight=False, soft_wrap=True, markup=False
            )
        return self._consoles[error]

    def say(self, text: str, style: str | None = None) -> None:
        """A line for a person: on standard error, so that standard output stays for results."""
        if not self.quiet:
            self.console(error=True).print(text, style=style)

    def out(self, text: str) -> None:
        """A result as plain text."""
        sys.stdout.write(text if text.endswith("\n") else text + "\n")

    def document(self, value: object) -> None:
        """A result as one JSON document."""
        sys.stdout.write(json.dumps(value, indent=2 if sys.stdout.isatty() else None, default=str) + "\n")

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], styles: Callable[[str], str | None]
    ) -> None:
        """A table for a person; `styles` colours a cell by its text."""
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*(Text(cell, style=styles(cell) or "") for cell in row))
        self.console().print(table)

    def confirm_plan(self, plan: "Plan") -> bool:
        """Show a plan and ask. Raises UsageError where there is nobody to ask and -y is missing."""
        self.show_plan(plan)
        return self.confirm("Go on?")

    def show_plan(self, plan: "Plan") -> None:
        """The plan, one line an action."""
        if not self.quiet:
            for action in plan.actions:
                self.say(
                    f"  {action}", style={"create": "green", "remove": "red"}.get(str(action.verb), "yellow")
                )

    def confirm(self, question: str) -> bool:
        """Ask yes or no; yes with -y."""
        if self.yes:
            return True
        if not sys.stdin.isatty():
            raise UsageError("nobody is there to answer", mend="add -y to go on without being asked")
        import typer

        return typer.confirm(question, default=True, err=True)


def fail(error: LampstandError, session_json: bool) -> None:
    """Print an error: for a person on standard error, for a program as a JSON document there too."""
    if session_json:
        value: dict[str, Any] = {"error": error.what, "where": error.where, "mend": error.mend}
        sys.stderr.write(json.dumps(value | {"exit_code": int(error.exit_code)}) + "\n")
    else:
        sys.stderr.write(f"lampstand: {error}\n")
