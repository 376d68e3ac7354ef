"""init, config, export, completion."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lampstand.cli.options import verb
from lampstand.cli.session import Session
from lampstand.errors import LampstandError, UsageError


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("init")(init)
    app.command("config")(config)
    app.command("export")(export)
    app.command("completion")(completion)


@verb
def init(
    session: Session,
    force: Annotated[bool, typer.Option("--force", help="Replace a site file that is there.")] = False,
) -> None:
    """Recognise the application in this folder and write a commented lampstand.yaml."""
    from lampstand.site.init import starter

    path = session.file or session.project / "lampstand.yaml"
    if path.exists() and not force:
        raise UsageError("there is a site file already", str(path), "edit it, or add --force to replace it")
    text = starter(session.project)
    try:
        path.write_text(text)
    except OSError as error:
        raise LampstandError(f"cannot write: {error.strerror}", str(path)) from error
    session.say(f"Wrote {path}", style="green")
    session.say("`lampstand up` brings the site up.")


@verb
def config(
    session: Session,
    docs: Annotated[bool, typer.Option("--docs", help="Every option with a commented example.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="The JSON Schema, for editors.")] = False,
) -> None:
    """Show the site file as it is understood: overlays merged, defaults filled in, secrets left out."""
    import json

    if docs:
        from lampstand.site.docs import markdown

        session.out(markdown())
    elif schema:
        from lampstand.site.docs import json_schema

        session.out(json.dumps(json_schema(), indent=2))
    elif session.json:
        from lampstand.site.redact import redact

        session.document({"version": 1, "site": redact(session.site.model_dump(mode="json"))})
    else:
        from lampstand.site.redact import redact
        from lampstand.site.text import dump

        session.out(dump(redact(session.site.model_dump(mode="json"))))


@verb
def export(
    session: Session,
    what: Annotated[
        Literal["local", "docker", "kubernetes", "aws"],
        typer.Argument(metavar="TARGET", help="What to write."),
    ],
    folder: Annotated[
        Path | None, typer.Option("--to", help="Folder to write to; by default lampstand-TARGET.")
    ] = None,
) -> None:
    """Write everything that is generated to a folder, to be used without Lampstand."""
    session.target = what
    to = folder or session.project / f"lampstand-{what}"
    if to.exists() and any(to.iterdir()) and not session.confirm(f"{to} is not empty. Write into it?"):
        return
    written = session.deployment.export(str(to))
    if session.json:
        session.document({"version": 1, "files": list(written)})
    else:
        session.say(f"Wrote {len(written)} files to {to}", style="green")


@verb
def completion(
    session: Session, shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="Your shell.")]
) -> None:
    """Print the completion script of your shell: `eval "$(lampstand completion bash)"`."""
    from typer.completion import get_completion_script  # pyright: ignore[reportPrivateImportUsage]

    session.out(get_completion_script(prog_name="lampstand", complete_var="_LAMPSTAND_COMPLETE", shell=shell))
