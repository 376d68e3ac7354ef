"""What `lampstand init` writes loads, and says what was found; so does every line it leaves as a comment."""

import re
from pathlib import Path

import pytest

from lampstand.site.init import starter
from lampstand.site.load import load

APPS: dict[str, dict[str, str]] = {
    "plain": {"index.php": ""},
    "static": {"index.html": ""},
    "wordpress": {"wp-includes/x.php": "", "index.php": ""},
    "laravel": {"artisan": "", "public/index.php": ""},
    "symfony": {"composer.json": '{"require": {"symfony/framework-bundle": "*"}}', "public/index.php": ""},
    "drupal": {"web/core/lib/Drupal.php": "", "web/index.php": ""},
    "django": {
        "manage.py": "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')",
        "shop/wsgi.py": "",
        "shop/settings.py": 'STATIC_ROOT = BASE_DIR / "static files"\nMEDIA_ROOT = BASE_DIR / "media"\n',
    },
    "fastapi": {"main.py": "app = FastAPI()", "static/a.css": ""},
    "perl": {"app.psgi": "", "public/a.css": ""},
    "odd perl": {"it's # a: {x}.psgi": ""},
}


def make(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize("name", APPS)
def test_it_loads_and_says_the_same_as_detection(tmp_path: Path, name: str) -> None:
    make(tmp_path, APPS[name])
    (tmp_path / "lampstand.yaml").touch()
    empty = load(tmp_path)
    (tmp_path / "lampstand.yaml").write_text(starter(tmp_path))
    assert load(tmp_path) == empty


@pytest.mark.parametrize("name", APPS)
def test_its_comments_load_too(tmp_path: Path, name: str) -> None:
    make(tmp_path, APPS[name])
    # Whatever looks like a key behind a `#` becomes one; what is written already stays as it is.
    text = re.sub(r"^( *)# ((?:[a-z_]+: ?\S?| {2}- \{).*)$", r"\1\2", starter(tmp_path), flags=re.MULTILINE)
    assert "\nweb: " in text
    assert "\n  jobs: " in text
    (tmp_path / "lampstand.yaml").write_text(text)
    site = load(tmp_path)
    assert site.app.jobs
    assert site.app.workers
    assert site.app.release
    assert site.cdn.rules[0].immutable
    assert site.tls.mode == "acme"


def test_what_is_not_recognised_is_said(tmp_path: Path) -> None:
    (tmp_path / "package.json").touch()
    text = starter(tmp_path)
    assert "# Not recognised: package.json is there" in text
    assert "  runtime: php" in text


def test_the_name_of_the_folder_is_the_name_of_the_site(tmp_path: Path) -> None:
    folder = tmp_path / "Müller's Läden\n#"
    folder.mkdir()
    assert "site: muller-s-laden\n" in starter(folder)
