"""The options that every verb has, declared once.

`verb` adds them to a function's own parameters, so that `lampstand -C shop status --json` and
`lampstand status -C shop --json` are the same. What the function gets is a Session.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from lampstand.cli.session import Session


@dataclass(frozen=True)
class Common:
    """The common options, as given in one place; None where they were not."""

    directory: Annotated[
        Path | None, typer.Option("-C", "--directory", help="Folder of the application.", show_default=False)
    ] = None
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", help="The site file; by default lampstand.yaml.", show_default=False),
    ] = None
    environment: Annotated[
        str | None,
        typer.Option("-e", "--environment", help="Overlay lampstand.ENVIRONMENT.yaml.", show_default=False),
    ] = None
    target: Annotated[
        str | None,
        typer.Option("-t", "--target", help="local, docker, kubernetes or aws.", show_default=False),
    ] = None
    yes: Annotated[bool | None, typer.Option("-y", "--yes", help="Do not ask.", show_default=False)] = None
    json: Annotated[bool | None, typer.Option("--json", help="One JSON document.", show_default=False)] = None
    quiet: Annotated[
        bool | None, typer.Option("-q", "--quiet", help="Say only what is wrong.", show_default=False)
    ] = None
    verbose: Annotated[
        bool | None,
        typer.Option("-v", "--verbose", help="Say more; tracebacks of errors.", show_default=False),
    ] = None
    no_color: Annotated[bool | None, typer.Option("--no-color", help="Plain text.", show_default=False)] = (
        None
    )

    def over(self, other: "Common") -> "Common":
        """These options, and those of `other` where these were not given."""
        return replace(other, **{f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None})


def parameters() -> list[inspect.Parameter]:
    """The common options as keyword parameters of a Typer function."""
    return [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=f.type)
        for f in fields(Common)
    ]


def verb(function: Callable[..., Any], *, common: bool = True) -> Callable[..., Any]:
    """Make `function(session, …)` a Typer command with the common options beside its own.

    Without `common` they stand before the verb only: what follows it belongs to another program.
    """
    more = parameters() if common else []

    @functools.wraps(function)
    def command(context: typer.Context, **given: Any) -> Any:  # noqa: ANN401 - Typer passes what it parsed
        names = {f.name for f in fields(Common)}
        own = {k: v for k, v in given.items() if k not in names}
        here = Common(**{k: v for k, v in given.items() if k in names})
        base = context.obj if isinstance(context.obj, Common) else Common()
        return function(Session.of(here.over(base)), **own)

    own = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for p in list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    ]
    first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    command.__signature__ = inspect.Signature([first, *own, *more])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [first, *own, *more]}
    return command
