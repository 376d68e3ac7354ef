"""One MariaDB and two Redis servers for all examples; one application server for each."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.examples import servers
from tests.integration.examples.guestbook_contract import Guestbook
from tests.integration.examples.servers import EXAMPLES, Engines

LANGUAGES = ["php", "python", "perl"]


@dataclass(frozen=True)
class Running:
    """An example that runs, and what a test needs to disturb it."""

    site: Guestbook
    engines: Engines
    database: str
    release: Path
    environment: dict[str, str]
    commands: dict[str, list[str]]
    """How this language runs its programs: migrate, and whatever else it has."""

    def run(self, command: str) -> str:
        """Runs one of the application's programs as a release step would; returns what it printed."""
        done = self.attempt(command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def attempt(self, command: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Runs one of the application's programs with more variables, whatever comes of it."""
        return subprocess.run(
            self.commands[command], cwd=self.release, env=self.environment | more,
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A short folder that the web servers' account may enter (pytest's own are closed to it)."""
    with tempfile.TemporaryDirectory(prefix="lampex", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="session")
def engines(folder: Path) -> Iterator[Engines]:
    """MariaDB and Redis, ended with the test run."""
    with ExitStack() as stack:
        yield servers.start_engines(stack, folder)


@pytest.fixture(scope="session")
def start(folder: Path, engines: Engines) -> Iterator[Callable[[str], Running]]:
    """Starts an example when it is first asked for."""
    running: dict[str, Running] = {}
    with ExitStack() as stack:

        def started(language: str) -> Running:
            if language not in running:
                running[language] = start_guestbook(stack, folder, engines, language)
            return running[language]

        yield started


@pytest.fixture(scope="session", params=LANGUAGES)
def guestbook(request: pytest.FixtureRequest, start: Callable[[str], Running]) -> Running:
    """The guestbook, once for each language."""
    return start(request.param)


def start_guestbook(stack: ExitStack, folder: Path, engines: Engines, language: str) -> Running:
    """Copies a guestbook as a release is copied, migrates its database, starts its application server."""
    number = LANGUAGES.index(language)
    database = f"guestbook_{language}"
    engines.new_database(database)
    environment = engines.environment(database, number)
    place = folder / language
    place.mkdir()
    release = servers.copy_release(EXAMPLES / f"guestbook-{language}", place / "release")
    servers.link_uploads(release, "public/uploads", place / "uploads")

    if language == "php":
        commands = {name: ["php", f"bin/{name}.php"] for name in ("migrate", "nightly", "worker")}
    elif language == "python":
        python = str(servers.python_environment(release / "requirements-dev.txt") / "python")
        commands = {"migrate": [python, "-m", "guestbook.migrate"]}
    else:
        commands = {"migrate": ["perl", "bin/migrate"]}
    running = Running(
        Guestbook("", language, frozenset({"web-1"})), engines, database, release, environment, commands
    )
    running.run("migrate")

    if language == "php":
        url = servers.start_php(stack, place, release / "public", environment, engines, number)
    else:
        port = servers.free_port()
        if language == "python":
            arguments = [
                commands["migrate"][0],
                "-m",
                "gunicorn",
                "--chdir",
                str(release),
                "guestbook.wsgi:application",
            ]
            arguments += ["--bind", f"127.0.0.1:{port}", "--workers=2", "--threads=4", "--no-control-socket"]
        else:
            arguments = [
                "starman",
                "--listen",
                f"127.0.0.1:{port}",
                "--workers=6",
                "-I",
                str(release / "lib"),
            ]
            arguments += [str(release / "app.psgi")]
        if os.geteuid() == 0:
            arguments += ["--user", servers.service_account(), "--group", servers.service_account()]
        url = servers.start_http(stack, arguments, port, place / "server.log", environment)
    return Running(
        Guestbook(url, language, frozenset({"web-1"})), engines, database, release, environment, commands
    )
