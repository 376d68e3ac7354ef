"""Builds, lists and pushes the images of a site with `docker build`: BuildKit where the engine has it, or without."""

import asyncio
import hashlib
import os
import re
import shutil
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
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

    # Those with Lampstand in them take longest, and have most of what they need in common.
    found = await asyncio.gather(*(one(image) for image in sorted(images, key=lambda image: not image.code)))
    return [tag for tag in found if tag]


async def push(cli: DockerCli, images: Iterable[Image], say: Callable[[str], None]) -> None:
    """Send them to their registry, which their tags name."""
    for image in images:
        say(f"Pushing {image.tag}")
        await cli.run(["docker", "push", "--quiet", image.tag], deadline=BUILD_SECONDS)


@dataclass(frozen=True)
class Lists:
    """What is in an image."""

    files: Mapping[str, str]
    """Path -> type, mode, owner and SHA-256: equal for two builds from the same input."""
    sbom: Path | None
    """Its packages as CycloneDX JSON."""

    @property
    def digest(self) -> str:
        """One digest of all files."""
        return hashlib.sha256(files_text(self.files).encode()).hexdigest()


async def lists(cli: DockerCli, tag: str, sbom: Path | None) -> Lists:
    """Look into an image. With `sbom` (a path without its ending) also write its packages, by debsbom
    (https://github.com/siemens/debsbom), which reads dpkg's own records and knows source packages.

    Raises EngineMissingError when debsbom is wanted and not installed.
    """
    program = _debsbom() if sbom else ""
    container = (await cli.run(["docker", "create", tag, "lists"])).strip()
    try:
        with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
            await cli.run(["docker", "export", "--output", archive.name, container], deadline=300.0)
            files = await asyncio.to_thread(_files, archive.name)
            if sbom is None:
                return Lists(files, None)
            sbom.parent.mkdir(parents=True, exist_ok=True)
            # Nothing in it depends on when and where it was written.
            created = (await cli.run(["docker", "image", "inspect", "-f", "{{.Created}}", tag])).strip()
            argv = [program, "generate", "--root", archive.name, "--sbom-type", "cdx", "--out", str(sbom)]
            argv += ["--distro-name", tag, "--timestamp", re.sub(r"\.\d+Z?$", "+00:00", created)]
            argv += ["--cdx-serialnumber", str(uuid.uuid5(uuid.NAMESPACE_URL, tag))]
            await cli.run(argv, deadline=300.0)
            return Lists(files, sbom.with_name(f"{sbom.name}.cdx.json"))
    finally:
        await cli.run(["docker", "rm", "--force", container])


def files_text(files: Mapping[str, str]) -> str:
    """The list of files as text, one a line."""
    return "".join(f"{name}\t{what}\n" for name, what in files.items())


def _files(archive: str) -> dict[str, str]:
    found: dict[str, str] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name in ALWAYS_DIFFERENT or member.name.startswith(("dev/", "proc/", "sys/")):
                continue
            content = member.linkname
            if member.isfile() and (handle := tar.extractfile(member)):
                content = hashlib.sha256(handle.read()).hexdigest()
            found[member.name] = f"{member.type.decode()} {member.mode:o} {member.uid}:{member.gid} {content}"
    return dict(sorted(found.items()))


def _debsbom() -> str:
    beside = Path(sys.executable).with_name("debsbom")
    program = str(beside) if beside.exists() else shutil.which("debsbom")
    if not program:
        raise EngineMissingError("debsbom is not installed", mend="pip install 'lampstand[docker]'")
    return program
