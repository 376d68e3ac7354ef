"""Runs the `docker` command line with argument lists, and says in plain words what is missing."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, cast

from lampstand.errors import EngineMissingError, LampstandError, TimedOutError
from lampstand.targets.docker.compose import LABEL

OLDEST_COMPOSE = (2, 20)


class DockerCli:
    """The Docker of this machine, as the user's own command line reaches it."""

    def __init__(self, project: str, folder: Path) -> None:
        self.project = project
        self.folder = folder

    def compose(self, *arguments: str) -> tuple[str, ...]:
        """`docker compose` for this project."""
        file = str(self.folder / "compose.yaml")
        return (
            "docker",
            "compose",
            "--project-name",
            self.project,
            "--file",
            file,
            "--progress",
            "plain",
            *arguments,
        )

    async def run(
        self, argv: Sequence[str], *, deadline: float = 120.0, environment: Mapping[str, str] | None = None
    ) -> str:
        """Standard output of a command. Raises LampstandError with its last lines when it fails."""
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), deadline)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise TimedOutError(f"did not end within {deadline:g} s", " ".join(argv[:4])) from None
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
        if process.returncode:
            lines = [line for line in err.decode(errors="replace").splitlines() if line.strip()]
            tail = "\n".join(f"  {line}" for line in lines[-12:])
            raise LampstandError(f"failed with exit code {process.returncode}:\n{tail}", " ".join(argv[:6]))
        return out.decode(errors="replace")

    # -- asking ------------------------------------------------------------------------------------------------------
    def require(self) -> None:
        """Raises EngineMissingError when Docker or Compose is missing, too old, or not running."""
        if not shutil.which("docker"):
            raise EngineMissingError(
                "Docker is not installed", mend="install docker.io, or see docs.docker.com"
            )
        remote = os.environ.get("DOCKER_HOST", "")
        if remote.startswith(("tcp:", "ssh:")):
            raise LampstandError(
                "the site needs a Docker Engine on this machine: its files are mounted into the containers",
                f"DOCKER_HOST {remote}",
                "run Lampstand on that machine, or copy what `lampstand export docker` writes there",
            )
        version = _output(("docker", "version", "--format", "{{.Server.Version}}"))
        if version is None:
            raise EngineMissingError(
                "Docker does not answer",
                mend="start it, or join the group `docker` (`docker version` tells more)",
            )
        found = _output(("docker", "compose", "version", "--short"))
        if found is None:
            raise EngineMissingError(
                "Docker Compose is not installed", mend="install docker-compose-plugin (or docker-compose-v2)"
            )
        parts = found.strip().lstrip("v").split(".")
        if tuple(int(p) for p in parts[:2] if p.isdecimal()) < OLDEST_COMPOSE:
            raise EngineMissingError(
                f"Docker Compose {found.strip()} is too old, {'.'.join(map(str, OLDEST_COMPOSE))} is needed",
                mend="install a newer one",
            )

    def version(self) -> int:
        """Major version of the engine."""
        text = _output(("docker", "version", "--format", "{{.Server.Version}}")) or ""
        major = text.partition(".")[0]
        return int(major) if major.isdecimal() else 20

    def containers(self) -> list[dict[str, Any]]:
        """`docker container inspect` of every container of the project."""
        ids = _output(
            ("docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.project}",
             "--filter", f"label={LABEL}.instance")
        )  # fmt: skip
        if not ids or not ids.strip():
            return []
        # One that is removed meanwhile is left out of the answer, which then has a nonzero exit code.
        done = subprocess.run(
            ("docker", "container", "inspect", *ids.split()), capture_output=True, text=True, check=False
        )
        return cast("list[dict[str, Any]]", json.loads(done.stdout or "[]"))

    def networks(self) -> tuple[IPv4Network, ...]:
        """Networks of other projects, and those that this machine routes: an address of them would go astray."""
        ids = (_output(("docker", "network", "ls", "--quiet")) or "").split()
        found: list[IPv4Network] = []
        if ids:
            text = _output(("docker", "network", "inspect", *ids)) or "[]"
            for network in cast("list[dict[str, dict[str, Any] | None]]", json.loads(text)):
                if (network.get("Labels") or {}).get("com.docker.compose.project") == self.project:
                    continue
                configurations = cast("list[dict[str, str]]", (network.get("IPAM") or {}).get("Config") or [])
                found += [IPv4Network(c["Subnet"]) for c in configurations if ":" not in c.get("Subnet", ":")]
        return (*found, *routes(Path("/proc/net/route").read_text()))

    def has_image(self, tag: str) -> bool:
        """Whether the image is on this machine."""
        return _output(("docker", "image", "inspect", "--format", "{{.Id}}", tag)) is not None

    def created(self, tag: str) -> str:
        """When an image was made; empty when it is not there."""
        return (_output(("docker", "image", "inspect", "--format", "{{.Created}}", tag)) or "").strip()


def _output(argv: Sequence[str]) -> str | None:
    """What a command prints; None when it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def routes(text: str) -> list[IPv4Network]:
    """The networks of /proc/net/route, without the default route: little-endian hexadecimal addresses and masks."""
    found: list[IPv4Network] = []
    for line in text.splitlines()[1:]:
        columns = line.split()
        if len(columns) < 8 or columns[1] == "00000000":
            continue
        address, mask = (int.from_bytes(bytes.fromhex(columns[i]), "little") for i in (1, 7))
        found.append(IPv4Network((address & mask, mask.bit_count())))
    return found
