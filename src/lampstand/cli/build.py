"""build: the images of a site, for the targets that run containers."""

import asyncio
from typing import Annotated

import typer

from lampstand.cli.options import verb
from lampstand.cli.session import Session
from lampstand.errors import UnavailableError


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("build")(build)


@verb
def build(
    session: Session,
    push: Annotated[
        bool, typer.Option("--push", help="Send the images to the registry of the site file.")
    ] = False,
    anew: Annotated[
        bool, typer.Option("--no-cache", help="Build all of them, with the packages that Debian has now.")
    ] = False,
    lists: Annotated[
        bool, typer.Option("--sbom", help="Also write the packages (SBOM) and the files of each image.")
    ] = False,
) -> None:
    """Build the images of the site that are missing: one for each tier, one with the application."""
    from lampstand.cli.progress import progress_of
    from lampstand.targets.docker.deployment import DockerDeployment

    if session.target == "local":
        session.target = "docker"
    deployment = session.deployment
    if not isinstance(deployment, DockerDeployment):
        raise UnavailableError(
            f"the target {session.target} builds its images itself", mend="lampstand build -t docker"
        )
    with progress_of(session) as progress:
        outcome = asyncio.run(deployment.build(progress, push=push, anew=anew, lists=lists))
    if session.json:
        session.document(outcome)
        return
    rows = [
        [
            name,
            image["tag"],
            f"{image['bytes'] / 1e6:.0f} MB",
            "built" if image["tag"] in outcome["built"] else "",
        ]
        for name, image in outcome["images"].items()
    ]
    session.table(["IMAGE", "TAG", "SIZE", ""], rows, lambda cell: "green" if cell == "built" else None)
