"""The command line: one small module per verb, one error boundary.

Verb modules import only what reading their options needs; everything else is imported by the verb that runs.
"""

import os
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from lampstand import __version__
from lampstand.cli import aws, build, cdn, changes, checks, data, drill, looks, operations, releases, tools
from lampstand.cli.options import Common, parameters
from lampstand.cli.session import fail
from lampstand.errors import ExitCode, LampstandError

app = typer.Typer(
    name="lampstand",
    help="One file describes a web site; Lampstand turns it into the whole infrastructure that serves it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"lampstand {__version__}")
        raise typer.Exit


def _root(context: typer.Context, version: bool = False, **given: object) -> None:
    del version  # printed already
    context.obj = Common(**given)  # type: ignore[arg-type]  # Typer parsed them by Common's own annotations


def _describe_root() -> None:
    import inspect

    version = inspect.Parameter(
        "version",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[
            bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
        ],
    )
    first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    _root.__signature__ = inspect.Signature([first, version, *parameters()])  # type: ignore[attr-defined]
    _root.__annotations__ = {p.name: p.annotation for p in [first, version, *parameters()]}
    app.callback()(_root)


_describe_root()
for _module in (changes, looks, cdn, data, releases, operations, drill, tools, checks, build, aws):
    _module.register(app)


def main() -> int:
    """The `lampstand` command: every error ends here as a message and an exit code."""
    verbose = any(a in ("-v", "--verbose") for a in sys.argv[1:])
    as_json = "--json" in sys.argv[1:]
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(prog_name="lampstand")
    except LampstandError as error:
        if verbose:
            import traceback

            traceback.print_exc()
        fail(error, as_json)
        return int(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write(
            "\nlampstand: interrupted; what was begun is known, and `lampstand up` goes on from here\n"
        )
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.DONE)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(ExitCode.USAGE)
    except Exception as error:  # the one boundary: a person gets a sentence, not a traceback
        if verbose:
            raise
        sys.stderr.write(
            f"lampstand: this should not happen: {type(error).__name__}: {error}\n  -v shows where\n"
        )
        return int(ExitCode.FAILED)
    return int(ExitCode.DONE)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
