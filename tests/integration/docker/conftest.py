"""A Docker Engine, and a site in it. A machine without one gets one; where that fails the tests fail."""

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[3]
ENGINE = ROOT / "tests/testbed/docker/engine.sh"


def run(
    *argv: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 300.0
) -> str:
    """Standard output of a command that must end well."""
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == 0, (
        f"{' '.join(argv)}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    )
    return done.stdout


@dataclass(frozen=True)
class DockerSite:
    """A site on Docker, driven by the command line as a user does it."""

    name: str
    project: Path
    state: Path

    def tried(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`lampstand -t docker -y ARGUMENTS`; it may fail."""
        return subprocess.run(
            [sys.executable, "-m", "lampstand", "-C", str(self.project), "-t", "docker", "-y", *arguments],
            capture_output=True, text=True, check=False, timeout=500,
            env={**os.environ, "XDG_STATE_HOME": str(self.state), "NO_COLOR": "1"},
        )  # fmt: skip

    def lampstand(self, *arguments: str) -> str:
        """The same, which must end well; its standard output."""
        done = self.tried(*arguments)
        assert done.returncode == 0, (
            f"{arguments}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )
        return done.stdout

    def status(self) -> dict[str, Any]:
        """The status document."""
        return json.loads(self.lampstand("status", "--json"))

    def primary(self, kind: str = "database") -> str:
        """The name of the primary of a kind."""
        return next(
            i["name"] for i in self.status()["instances"] if i["kind"] == kind and i["role"] == "primary"
        )

    def docker(self, *arguments: str) -> str:
        """`docker ARGUMENTS`."""
        return run("docker", *arguments)

    def inspect(self, server: str, template: str) -> str:
        """A fact about a container."""
        return self.docker("inspect", "-f", template, f"{self.name}-{server}").strip()

    def inside(self, server: str, *argv: str) -> subprocess.CompletedProcess[str]:
        """A program in a container; it may fail."""
        return subprocess.run(
            ["docker", "exec", f"{self.name}-{server}", *argv],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @property
    def url(self) -> str:
        """What visitors use."""
        return str(self.status()["urls"]["site"])

    def get(self, path: str = "/") -> httpx.Response:
        """One request of a visitor."""
        return httpx.get(f"{self.url}{path}", timeout=10.0)

    def write(self, change: Mapping[str, str]) -> None:
        """Replace texts in the site file."""
        path = self.project / "lampstand.yaml"
        text = path.read_text()
        for old, new in change.items():
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)


@pytest.fixture(scope="session")
def engine() -> str:
    """The version of the engine."""
    return run(str(ENGINE), timeout=600).strip().splitlines()[-1]


def make_site(folder: Path) -> DockerSite:
    """A copy of the example with a name of its own; nothing runs yet."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    project = folder / "app"
    shutil.copytree(ROOT / "examples/guestbook-php", project)
    site = DockerSite(name, project, folder / "state")
    site.write({"site: guestbook-php": f"site: {name}", "edges: [fra, iad]": "edges: [fra]"})
    return site


@pytest.fixture(scope="session")
def site(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerSite]:
    """One site for all tests of a worker: each leaves it well."""
    assert engine
    made = make_site(tmp_path_factory.mktemp("docker"))
    try:
        made.lampstand("up")
        yield made
    finally:
        made.lampstand("down", "--delete-data")
        for tag in run("docker", "images", "-q", f"lampstand/{made.name}-web").split():
            run("docker", "rmi", "--force", tag)
