"""Builds, lists and pushes the images of a site with `docker build`: BuildKit where the engine has it, or without."""

import asyncio
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from lampstand.errors import EngineMissingError
from lampstand.targets.docker.engine import DockerCli
from lampstand.targets.docker.images import BUILD_ARGUMENTS, Image, write_context

BUILD_SECONDS = 1800.0
AT_ONCE = 3
"""Builds side by side: they wait for packages most of the time."""
ALWAYS_DIFFERENT = ("etc/hostname", "etc/hosts", "etc/resolv.conf", ".dockerenv")
"""Files that `docker export` shows of a container and that are not the image's."""


async def build(
    cli: DockerCli, images: Iterable[Image], project: Path, folder: Path, say: Callable[[str], None], *,
    anew: bool = False,
) -> list[str]:  # fmt: skip
    """Build the images that are missing (`anew`: all of them, without the cache of layers). Returns their tags.

    Raises LampstandError with the end of the output of a build that fails.
    """
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(image: Image) -> str | None:
        if not anew and await asyncio.to_thread(cli.has_image, image.tag):
            return None
        async with limit:
            context = folder / "images" / image.name
            await asyncio.to_thread(write_context, image, project, context)
            say(f"Building {image.tag}")
            argv = ["docker", "build", "--tag", image.tag, *(["--no-cache", "--pull=false"] if anew else [])]
            for name in BUILD_ARGUMENTS:
                if name in os.environ and f"ARG {name}" in image.files["Dockerfile"]:
                    argv += ["--build-arg", name]
            await cli.run([*argv, str(context)], deadline=BUILD_SECONDS)
        return image.tag

    found = await asyncio.gather(*(one(image) for image in images))
    return [tag for tag in found if tag]


async def push(cli: DockerCli, images: Iterable[Image], say: Callable[[str], None]) -> None:
    """Send them to their registry, which their tags name."""
    for image in images:
        say(f"Pushing {image.tag}")
        await cli.run(["docker", "push", "--quiet", image.tag], deadline=BUILD_SECONDS)


async def inventory(cli: DockerCli, tag: str) -> Mapping[str, str]:
    """Path -> mode, owner and SHA-256 of every file of an image: equal for two builds from the same input."""
    container = (await cli.run(["docker", "create", tag, "inventory"])).strip()
    try:
        with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
            await cli.run(["docker", "export", "--output", archive.name, container], deadline=300.0)
            return await asyncio.to_thread(_inventory, archive.name)
    finally:
        await cli.run(["docker", "rm", "--force", container])


def _inventory(archive: str) -> dict[str, str]:
    found: dict[str, str] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name in ALWAYS_DIFFERENT or member.name.startswith(("dev/", "proc/", "sys/")):
                continue
            content = member.linkname
            if member.isfile() and (handle := tar.extractfile(member)):
                content = hashlib.file_digest(handle, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]
            found[member.name] = f"{member.type.decode()} {member.mode:o} {member.uid}:{member.gid} {content}"
    return dict(sorted(found.items()))


async def sbom(cli: DockerCli, image: Image, folder: Path) -> Path:
    """Write the packages of an image as CycloneDX JSON, with debsbom (https://github.com/siemens/debsbom), which reads
    dpkg's own records and knows source packages. Raises EngineMissingError when it is not installed."""
    program = _debsbom()
    folder.mkdir(parents=True, exist_ok=True)
    container = (await cli.run(["docker", "create", image.tag, "sbom"])).strip()
    try:
        with tempfile.TemporaryDirectory() as root:
            for path in ("var/lib/dpkg", "var/lib/apt", "etc/apt", "etc/os-release", "usr/lib/os-release"):
                target = Path(root, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                await cli.run(["docker", "cp", "--quiet", f"{container}:/{path}", str(target)])
            out = folder / image.name
            await cli.run(
                [
                    program,
                    "generate",
                    "--root",
                    root,
                    "--sbom-type",
                    "cdx",
                    "--distro-name",
                    image.tag,
                    "--out",
                    str(out),
                ]
            )
            return out.with_suffix(".cdx.json")
    finally:
        await cli.run(["docker", "rm", "--force", container])


def _debsbom() -> str:
    import sys

    beside = Path(sys.executable).with_name("debsbom")
    program = str(beside) if beside.exists() else shutil.which("debsbom")
    if not program:
        raise EngineMissingError("debsbom is not installed", mend="pip install 'lampstand[docker]'")
    return program


def write_inventory(path: Path, found: Mapping[str, str]) -> str:
    """Write a list of files; returns its own digest, which stands for the image's content."""
    text = "".join(f"{name}\t{what}\n" for name, what in found.items())
    path.write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


def sizes(inspect: str) -> int:
    """Bytes of an image, from `docker image inspect`."""
    return int(json.loads(inspect)[0]["Size"])
