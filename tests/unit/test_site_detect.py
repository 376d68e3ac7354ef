"""Applications are recognised by their files, whatever those hold."""

from pathlib import Path

import pytest

from lampstand.site.detect import Detected, detect, interface_of

MANAGE = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings.production')\n"
SETTINGS = """
STATIC_URL = "/files/"
STATIC_ROOT = BASE_DIR / "build" / "static"
MEDIA_ROOT = os.path.join(BASE_DIR, "media")
"""


def make(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


PHP: list[tuple[dict[str, str], str, str | None, str | None]] = [
    ({"index.php": ""}, ".", None, None),
    ({"index.php": "", "composer.json": "{}"}, ".", "index.php", None),
    ({"public/index.php": "", "src/a.php": ""}, "public", "index.php", None),
    ({"wp-config-sample.php": "", "index.php": ""}, ".", "index.php", "wordpress"),
    ({"wp-includes/version.php": "", "index.php": ""}, ".", "index.php", "wordpress"),
    ({"web/wp-includes/version.php": "", "web/index.php": ""}, "web", "index.php", "wordpress"),
    ({"includes/WebStart.php": "", "load.php": "", "index.php": ""}, ".", "index.php", "mediawiki"),
    ({"web/core/lib/Drupal.php": "", "web/index.php": ""}, "web", "index.php", "drupal"),
    ({"composer.json": '{"require": {"drupal/core-recommended": "^10"}}'}, "web", "index.php", "drupal"),
    ({"artisan": "", "public/index.php": ""}, "public", "index.php", "laravel"),
    (
        {"composer.json": '{"require": {"symfony/framework-bundle": "*"}}', "public/index.php": ""},
        "public",
        "index.php",
        "symfony",
    ),
    ({"index.html": "", "a.css": ""}, ".", None, "static"),
    ({"dist/index.html": "", "package.json": "{}"}, "dist", None, "static"),
]


@pytest.mark.parametrize(("files", "root", "entry", "framework"), PHP)
def test_php(
    tmp_path: Path, files: dict[str, str], root: str, entry: str | None, framework: str | None
) -> None:
    found = detect(make(tmp_path, files))
    assert (found.runtime, found.root, found.entry, found.framework) == ("php", root, entry, framework)
    assert found.reasons


def test_uploads_of_wordpress(tmp_path: Path) -> None:
    found = detect(make(tmp_path, {"web/wp-includes/x.php": ""}))
    assert found.uploads == ("web/wp-content/uploads",)


PYTHON: list[tuple[dict[str, str], str, str]] = [
    ({"wsgi.py": "application = object()"}, "wsgi:application", "wsgi"),
    ({"app.py": "from flask import Flask\napp = Flask(__name__)"}, "app:app", "wsgi"),
    ({"app.py": "import flask\napp: flask.Flask = flask.Flask(__name__)"}, "app:app", "wsgi"),
    ({"main.py": "from fastapi import FastAPI\napp = FastAPI()"}, "main:app", "asgi"),
    (
        {"main.py": "from starlette.applications import Starlette\nserver = Starlette()\napp = server"},
        "main:app",
        "asgi",
    ),
    ({"asgi.py": "async def application(scope, receive, send): ..."}, "asgi:application", "asgi"),
    ({"wsgi.py": "def application(environ, start_response): ..."}, "wsgi:application", "wsgi"),
    ({"app.py": "def create_app():\n    return Flask(__name__)"}, "app:create_app()", "wsgi"),
    ({"app.py": "def create_app():\n    return FastAPI()\napp = create_app()"}, "app:app", "asgi"),
    ({"shop/__init__.py": "def create_app():\n    return Quart(__name__)"}, "shop:create_app()", "asgi"),
    (
        {"shop/__init__.py": "", "shop/web.py": "app = Flask('x')", "tests/__init__.py": ""},
        "shop.web:app",
        "wsgi",
    ),
    ({"app.py": "import falcon.asgi\napp = falcon.asgi.App()"}, "app:app", "asgi"),
    ({"app.py": "import falcon\napp = falcon.App()"}, "app:app", "wsgi"),
    ({"wsgi.py": "from shop import app as application"}, "wsgi:application", "wsgi"),
    ({"app.py": "def broken(:", "main.py": "app = Flask('x')"}, "main:app", "wsgi"),
]


@pytest.mark.parametrize(("files", "entry", "interface"), PYTHON)
def test_python(tmp_path: Path, files: dict[str, str], entry: str, interface: str) -> None:
    found = detect(make(tmp_path, files))
    assert (found.runtime, found.entry, found.interface) == ("python", entry, interface)
    assert found.root == "."
    assert interface_of(tmp_path, entry) in (interface, None)


def test_static_folder_beside_the_module(tmp_path: Path) -> None:
    found = detect(
        make(tmp_path, {"shop/__init__.py": "app = Flask('x')", "shop/static/a.css": "", "public/x": ""})
    )
    assert found.static == (("/static/*", "shop/static"),)
    assert found.root == "public"


def test_django(tmp_path: Path) -> None:
    files = {
        "manage.py": MANAGE,
        "shop/wsgi.py": "",
        "shop/settings/production.py": SETTINGS,
        "index.php": "",
    }
    found = detect(make(tmp_path, files))
    assert (found.runtime, found.framework, found.entry, found.interface) == (
        "python",
        "django",
        "shop.wsgi:application",
        "wsgi",
    )
    assert found.static == (("/files/*", "build/static"),)
    assert found.uploads == ("media",)
    assert found.release == "python manage.py migrate --noinput"


def test_django_with_asgi_only(tmp_path: Path) -> None:
    found = detect(make(tmp_path, {"manage.py": MANAGE, "shop/asgi.py": ""}))
    assert (found.entry, found.interface, found.static) == ("shop.asgi:application", "asgi", ())


PERL: list[tuple[dict[str, str], str]] = [
    ({"app.psgi": "", "cpanfile": ""}, "app.psgi"),
    ({"bin/app.psgi": ""}, "bin/app.psgi"),
    ({"shop.psgi": ""}, "shop.psgi"),
    ({"shop.pl": "#!/usr/bin/perl\nuse Mojolicious::Lite -signatures;\n"}, "shop.pl"),
    ({"app.psgi": "", "index.php": ""}, "app.psgi"),
]


@pytest.mark.parametrize(("files", "entry"), PERL)
def test_perl(tmp_path: Path, files: dict[str, str], entry: str) -> None:
    found = detect(make(tmp_path, files))
    assert (found.runtime, found.entry, found.root) == ("perl", entry, ".")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "there is none of"),
        ({"package.json": "{}"}, "Node.js applications are not run"),
        ({"cpanfile": ""}, "no .psgi file"),
        ({"requirements.txt": "flask"}, "no module has a WSGI or ASGI application"),
    ],
)
def test_nothing_found_says_why(tmp_path: Path, files: dict[str, str], reason: str) -> None:
    found = detect(make(tmp_path, files))
    assert found.runtime is None
    assert reason in found.reasons[0]


def test_a_language_of_the_users_choice(tmp_path: Path) -> None:
    make(tmp_path, {"index.php": "", "app.psgi": "", "app.py": "app = Flask('x')"})
    assert detect(tmp_path, "php").root == "."
    assert detect(tmp_path, "python").entry == "app:app"
    assert detect(tmp_path, "perl").entry == "app.psgi"


def test_odd_files_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "index.php").symlink_to("index.php")
    (tmp_path / "public").symlink_to(tmp_path)
    (tmp_path / "composer.json").write_text("[" * 100_000)
    (tmp_path / "wsgi.py").mkdir()
    (tmp_path / "app.py").write_bytes(b"\xff\xfe\0")
    (tmp_path / "main.py").write_text("app = " + "(" * 5_000)
    (tmp_path / "manage.py").write_text("os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'a.b')")
    assert detect(tmp_path).runtime is None
    assert detect(tmp_path / "missing") == Detected(reasons=detect(tmp_path / "missing").reasons)


@pytest.mark.parametrize("entry", ["", "x", "../x:app", "a b:app", "x:", ":x"])
def test_the_interface_of_nothing(tmp_path: Path, entry: str) -> None:
    assert interface_of(tmp_path, entry) is None
