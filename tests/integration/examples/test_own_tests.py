"""The examples' own tests, in their own languages, and what the three have in common."""

import subprocess
from pathlib import Path

import pytest

from tests.integration.examples.servers import EXAMPLES, python_environment

pytestmark = pytest.mark.integration


def run(arguments: list[str], folder: Path) -> None:
    """Runs a test program; its output is the failure's text."""
    done = subprocess.run(arguments, cwd=folder, check=False, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


def test_php() -> None:
    run(["php", "tests/run.php"], EXAMPLES / "guestbook-php")


def test_python() -> None:
    folder = EXAMPLES / "guestbook-python"
    python = python_environment(folder / "requirements-dev.txt") / "python"
    run([str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider"], folder)


def test_perl() -> None:
    run(["prove", "--lib", "--recurse", "t"], EXAMPLES / "guestbook-perl")


@pytest.mark.parametrize("language", ["python", "perl"])
def test_assets_and_tables_are_the_same_in_all_languages(language: str) -> None:
    """Each example is complete, so it has a copy of its own; the copies must not drift apart."""
    for pattern in ["public/assets/*", "migrations/001_messages.sql", "migrations/002_users.sql"]:
        php = {path.name: path.read_bytes() for path in (EXAMPLES / "guestbook-php").glob(pattern)}
        other = {path.name: path.read_bytes() for path in (EXAMPLES / f"guestbook-{language}").glob(pattern)}
        assert php == other
