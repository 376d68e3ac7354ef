"""Builds with the real tools: venvs that are used again, failures that say why, an account that is not root."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lampstand.engines import discover
from lampstand.errors import LampstandError
from lampstand.site import Site
from lampstand.tiers.web.build import build
from lampstand.tiers.web.workshop import BUILDER

ENGINES = discover()


@pytest.fixture
def state() -> Iterator[Path]:
    """A state folder that service accounts can reach."""
    with tempfile.TemporaryDirectory(prefix="lstbuild") as folder:
        Path(folder).chmod(0o711)
        (Path(folder) / "releases").mkdir(mode=0o755)
        yield Path(folder)


def release(state: Path, name: str, files: dict[str, str]) -> Path:
    """An unpacked release under the name it has while it is built."""
    folder = state / "releases" / f".{name}.part"
    folder.mkdir(mode=0o755)
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def made(state: Path, name: str, files: dict[str, str], **app: object) -> tuple[Path, str]:
    """The built release at its final place, and the log."""
    folder, final = release(state, name, files), state / "releases" / name
    log = build(Site.model_validate({"app": app}), folder, final, ENGINES, state / "uploads")
    folder.rename(final)
    return final, log


def test_a_second_release_with_the_same_requirements_takes_no_time(state: Path) -> None:
    files = {
        "requirements.txt": "itsdangerous==2.2.0\n",
        "shop/wsgi.py": "import itsdangerous\napplication = None\n",
    }
    app = {"runtime": "python", "entry": "shop.wsgi:application"}
    first, log = made(state, "one", files, **app)
    assert "pip install" in log
    assert (first / ".lampstand/interface").read_text() == "wsgi\n"
    began = time.monotonic()
    second, log = made(state, "two", {**files, "new.txt": "new"}, **app)
    assert time.monotonic() - began < 1
    assert "same requirements" in log
    assert (first / ".lampstand/venv").resolve() == (second / ".lampstand/venv").resolve()
    python = second / ".lampstand/venv/bin/python"
    subprocess.run((str(python), "-I", "-c", "import itsdangerous, gunicorn"), check=True, timeout=20)


def test_what_only_running_can_tell_is_told_by_running(state: Path) -> None:
    source = (
        "class App:\n    async def __call__(self, scope, receive, send): ...\ndef make():\n    return App()\n"
    )
    final, log = made(state, "one", {"main.py": source}, runtime="python", entry="main:make()")
    assert (final / ".lampstand/interface").read_text() == "asgi\n"
    assert list((final / ".lampstand/venv/lib").glob("*/site-packages/uvicorn_worker"))
    assert "main:make() is ASGI" in log


def test_requirements_that_do_not_exist_say_so_and_leave_nothing_half_done(state: Path) -> None:
    app = {"runtime": "python", "entry": "a.wsgi:application"}
    folder = release(state, "bad", {"requirements.txt": "./no-such-folder\n"})
    for _ in range(2):  # the second finds no half-made venv that it takes for a whole one
        with pytest.raises(LampstandError, match="no-such-folder") as caught:
            build(
                Site.model_validate({"app": app}), folder, state / "releases/bad", ENGINES, state / "uploads"
            )
        assert "requirements" in (caught.value.mend or "")


def test_the_build_command_runs_in_the_release_and_not_as_root(state: Path) -> None:
    command = "id -un > who && echo $MODE > mode && pwd > where"
    final, log = made(state, "one", {"index.php": ""}, build=command, env={"MODE": "a b"})
    assert (final / "mode").read_text() == "a b\n"
    assert (final / "where").read_text().strip().endswith("/.one.part")
    assert "exit 0" in log
    if os.geteuid() == 0:
        assert (final / "who").read_text().strip() == BUILDER
        assert {p.lstat().st_uid for p in final.rglob("*")} == {0}  # nobody can change it afterwards


def test_a_failing_build_command_shows_its_last_lines(state: Path) -> None:
    with pytest.raises(LampstandError, match="exit code 3") as caught:
        made(state, "one", {"index.php": ""}, build="echo the reason; exit 3")
    assert "the reason" in str(caught.value)


def test_modules_of_a_cpanfile_that_are_there_need_no_installer(state: Path) -> None:
    cpanfile = """
requires 'perl', '5.010';
requires 'JSON::PP', '>= 2.0, < 99';
requires 'Plack';
on 'test' => sub { requires 'No::Such::Test' };
test_requires 'No::Such::Other';
"""
    app = {"runtime": "perl", "entry": "app.psgi"}
    _, log = made(state, "one", {"cpanfile": cpanfile, "app.psgi": "sub {}"}, **app)
    assert "everything is on this machine" in log


def test_modules_in_the_release_count(state: Path) -> None:
    files = {
        "cpanfile": "requires 'My::Own', '1.5';",
        "lib/My/Own.pm": "package My::Own; our $VERSION = '1.5'; 1;",
    }
    _, log = made(state, "one", files, runtime="perl", entry="app.psgi")
    assert "everything" in log


def test_a_broken_cpanfile_says_so(state: Path) -> None:
    with pytest.raises(LampstandError, match="cpanfile cannot be read"):
        made(state, "one", {"cpanfile": "requires 'unclosed"}, runtime="perl", entry="app.psgi")
