"""What a build reads before it runs anything: requirements, composer.json, the source of an entry."""

from pathlib import Path

import pytest

from lampstand.engines import BOOKWORM
from lampstand.errors import Finding, LampstandError
from lampstand.site import Site
from lampstand.tiers.web import interface
from lampstand.tiers.web.build import link_uploads, prune, recipe
from lampstand.tiers.web.build_php import needed_packages
from lampstand.tiers.web.build_python import read_requirements
from lampstand.tiers.web.warnings import warnings, written_files


def test_requirements_include_what_they_include(tmp_path: Path) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements.txt").write_text("-r requirements/base.txt\nflask==3.0\n")
    (tmp_path / "requirements/base.txt").write_text("-c pins.txt\nredis\n-r ../requirements.txt\n")
    (tmp_path / "requirements/pins.txt").write_text("redis==5.0\n")
    assert set(read_requirements(tmp_path).split()) >= {"flask==3.0", "redis", "redis==5.0"}


def test_dependencies_of_pyproject_are_requirements(tmp_path: Path) -> None:
    assert read_requirements(tmp_path) == ""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["flask>=3", "redis"]\n')
    assert read_requirements(tmp_path) == "flask>=3\nredis\n"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("requirements.txt", "-e .\n", "editable"),
        ("requirements.txt", "-r nowhere.txt\n", "nowhere.txt"),
        ("pyproject.toml", "[project", "cannot be read"),
        ("pyproject.toml", "[tool.poetry.dependencies]\nflask = '*'\n", "Poetry"),
        ("pyproject.toml", "[project]\nname = 'x'\ndynamic = ['dependencies']\n", "dynamic"),
    ],
)
def test_what_cannot_be_installed_says_why(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(LampstandError) as caught:
        read_requirements(tmp_path)
    assert says in str(caught.value)
    assert caught.value.mend


def test_composer_packages_are_those_that_are_no_part_of_php(tmp_path: Path) -> None:
    file = tmp_path / "composer.json"
    file.write_text(
        '{"require": {"php": ">=8.1", "ext-redis": "*", "monolog/monolog": "^3", "lib-curl": "*"}}'
    )
    assert needed_packages(file) == ["monolog/monolog"]
    for broken in ("{", "[]", '{"require": 3}'):
        file.write_text(broken)
        with pytest.raises(LampstandError, match="cannot be read"):
            needed_packages(file)


@pytest.mark.parametrize(
    ("entry", "source", "expected"),
    [
        ("shop.wsgi:application", "", "wsgi"),
        ("shop.asgi:application", "", "asgi"),
        ("main:app", "from fastapi import FastAPI\napp = FastAPI()\n", "asgi"),
        ("main:app", "import fastapi as f\napp: f.FastAPI = f.FastAPI()\n", "asgi"),
        ("main:app", "from starlette.applications import Starlette as S\napp = S()\n", "asgi"),
        ("main:app", "from flask import Flask\napp = Flask(__name__)\n", "wsgi"),
        ("main:app", "import falcon\napp = falcon.App()\n", "wsgi"),
        ("main:app", "import falcon.asgi\napp = falcon.asgi.App()\n", "asgi"),
        ("main:app", "async def app(scope, receive, send): ...\n", "asgi"),
        ("main:app", "def app(environ, start_response): ...\n", "wsgi"),
        ("main:app", "from own import make\napp = make()\n", None),
        ("main:make()", "def make(): ...\n", None),
        ("main:app", "this is no Python", None),
        ("missing:app", "", None),
    ],
)
def test_the_source_says_whether_it_is_wsgi_or_asgi(
    tmp_path: Path, entry: str, source: str, expected: str | None
) -> None:
    (tmp_path / "main.py").write_text(source)
    assert interface.by_source(tmp_path, entry) == expected


def test_a_loaded_application_says_it_by_how_it_is_called() -> None:
    class Awaited:
        async def __call__(self, scope: object, receive: object, send: object) -> None: ...

    class Called:
        def __call__(self, environ: object, start_response: object) -> list[bytes]:
            return []

    assert interface.of(Awaited()) == "asgi"
    assert interface.of(Called()) == "wsgi"
    assert interface.of(lambda scope, receive, send: None) == "asgi"
    assert interface.of(print) == "wsgi"


def test_uploads_become_links_to_the_shared_folder(tmp_path: Path) -> None:
    site = Site.model_validate({"app": {"uploads": ["storage/uploads", "files"]}})
    release, uploads = tmp_path / "release", tmp_path / "uploads"
    (release / "files").mkdir(parents=True)
    (release / "files/.gitkeep").touch()
    uploads.mkdir()
    for _ in range(2):  # repeating it changes nothing
        link_uploads(site, release, uploads)
        assert (release / "files").readlink() == uploads / "files"
        assert (release / "storage/uploads").readlink() == uploads / "storage/uploads"
    assert (uploads / "storage/uploads").is_dir()


def test_files_of_the_application_are_never_hidden_by_an_upload_link(tmp_path: Path) -> None:
    site = Site.model_validate({"app": {"uploads": ["files"]}})
    (tmp_path / "release/files").mkdir(parents=True)
    (tmp_path / "release/files/logo.png").touch()
    with pytest.raises(LampstandError, match="not empty"):
        link_uploads(site, tmp_path / "release", tmp_path / "uploads")


def test_the_recipe_changes_with_what_the_build_does() -> None:
    site = Site()
    assert recipe(site, BOOKWORM) == recipe(site, BOOKWORM)
    changed = Site.model_validate({"app": {"build": "make"}})
    assert recipe(changed, BOOKWORM) != recipe(site, BOOKWORM)
    assert recipe(Site.model_validate({"app": {"env": {"A": "b"}}}), BOOKWORM) == recipe(site, BOOKWORM)


def test_prune_keeps_what_a_release_uses(tmp_path: Path) -> None:
    cache, releases = tmp_path / "builds", tmp_path / "releases"
    for name in ("venv-1", "venv-2", "local-1", "vendor-1", "home"):
        (cache / name).mkdir(parents=True)
    (releases / "r1/.lampstand").mkdir(parents=True)
    (releases / "r1/.lampstand/venv").symlink_to(cache / "venv-1")
    (releases / "r1/local").symlink_to(cache / "local-1")
    assert prune(cache, releases) == ["venv-2"]
    assert sorted(p.name for p in cache.iterdir()) == ["home", "local-1", "vendor-1", "venv-1"]


def test_warnings_name_key_and_mend() -> None:
    def keys(found: tuple[Finding, ...]) -> list[str]:
        assert all(f.mend for f in found)
        return [f.key for f in found]

    good = Site.model_validate({"app": {"health": "/healthz"}})
    assert warnings(good) == ()
    assert keys(warnings(Site())) == ["app.health"]
    written = warnings(good, ["var/a.txt", "var/b.txt"])
    assert keys(written) == ["app.uploads"]
    assert "2 web servers" in written[0].what
    assert "var" in (written[0].mend or "")
    odd = Site.model_validate(
        {
            "app": {
                "runtime": "perl", "entry": "app.psgi", "health": "/", "php_ini": {"a": 1},
                "env": {"DATABASE_URL": "x"},
            },
            "web": {"threads": 2},
        }
    )  # fmt: skip
    assert keys(warnings(odd)) == ["app.env", "app.php_ini", "web.threads"]


def test_files_written_into_a_release_are_seen(tmp_path: Path) -> None:
    (tmp_path / ".lampstand").mkdir()
    (tmp_path / "uploads").mkdir()
    for name in ("index.php", ".lampstand/x", "uploads/new.png"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("uploads")
    built = (tmp_path / "index.php").stat().st_mtime
    assert written_files(tmp_path, built + 10) == []
    assert written_files(tmp_path, built - 10) == ["index.php", "uploads/new.png"]
