"""Builds with the real tools: venvs that are used again, failures that say why, an account that is not root."""

import gzip
import io
import json
import os
import subprocess
import tarfile
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


def test_composer_installs_what_composer_json_names(state: Path) -> None:
    files = {
        "index.php": "<?php require 'vendor/autoload.php'; echo Acme\\Greeting::TEXT;",
        "composer.json": json.dumps(
            {
                # Packages beside the application: nothing is asked of the network.
                "repositories": [
                    {"type": "path", "url": "packages/greeting", "options": {"symlink": False}},
                    {"packagist.org": False},
                ],
                "require": {"acme/greeting": "1.0.0"},
            }
        ),
        "packages/greeting/composer.json": json.dumps(
            {"name": "acme/greeting", "version": "1.0.0", "autoload": {"psr-4": {"Acme\\": "src"}}}
        ),
        "packages/greeting/src/Greeting.php": "<?php namespace Acme; class Greeting { const TEXT = 'hello'; }",
    }
    made_, log = made(state, "one", files, runtime="php")
    assert "composer install" in log
    shown = subprocess.run(
        [ENGINES.php.path, "index.php"], cwd=made_, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "hello"


def test_cpanm_installs_what_a_cpanfile_names(state: Path) -> None:
    place = state / "mirror"  # a mirror of CPAN with one distribution
    distribution = place / "authors/id/A/AC/ACME/Acme-Greeting-1.0.tar.gz"
    distribution.parent.mkdir(parents=True)
    made_of = {
        "Makefile.PL": "use ExtUtils::MakeMaker; WriteMakefile(NAME => 'Acme::Greeting', VERSION => '1.0');",
        "lib/Acme/Greeting.pm": "package Acme::Greeting;\nour $VERSION = '1.0';\nsub text { 'hello' }\n1;",
    }
    with tarfile.open(distribution, "w:gz") as archive:
        for name, text in made_of.items():
            entry = tarfile.TarInfo(f"Acme-Greeting-1.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    index = place / "modules/02packages.details.txt.gz"
    index.parent.mkdir()
    index.write_bytes(
        gzip.compress(b"Line-Count: 1\n\nAcme::Greeting 1.0 A/AC/ACME/Acme-Greeting-1.0.tar.gz\n")
    )
    files = {"cpanfile": "requires 'Acme::Greeting', '1.0';", "app.psgi": "sub {}"}
    options = {"PERL_CPANM_OPT": f"--mirror file://{place} --mirror-only"}
    made_, log = made(state, "one", files, runtime="perl", entry="app.psgi", env=options)
    assert "cpanm" in log
    assert (made_ / "local/lib/perl5/Acme/Greeting.pm").is_file()


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
