"""Discovery of the engines that are really on this machine."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from lampstand.engines import discover, missing, site_needs
from tests.fresh.facts import differences, release_of_machine


def test_the_facts_about_this_release_are_as_written() -> None:
    assert differences(release_of_machine()) == []


@pytest.mark.parametrize("runtime", ["php", "python", "perl"])
def test_nothing_is_missing_here(runtime: Literal["php", "python", "perl"], tmp_path: Path) -> None:
    assert missing(discover(tmp_path / "engines.json"), site_needs(runtime)) == ()


def test_an_ordinary_path_is_enough(tmp_path: Path) -> None:
    """Debian's PATH for ordinary users has no /usr/sbin, where most engines are."""
    code = "from lampstand.engines import discover; e = discover(); print(e.nginx.path, e.php_fpm.version)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    path, version = done.stdout.split()
    assert path == "/usr/sbin/nginx"
    assert version.count(".") == 2
    assert (tmp_path / "lampstand" / "engines.json").is_file()


def test_a_second_look_asks_no_program(tmp_path: Path) -> None:
    cache = tmp_path / "engines.json"
    first = discover(cache)
    assert discover(cache) == first
    kept = json.loads(cache.read_text("utf-8"))
    key = next(k for k in kept if k.startswith(f"{first.nginx.path} "))
    cache.write_text(json.dumps(kept | {key: "9.9.9"}), "utf-8")
    assert discover(cache).nginx.version == "9.9.9"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"/usr/sbin/nginx 1 2 3": 4}'])
def test_a_spoilt_cache_only_costs_time(content: str, tmp_path: Path) -> None:
    cache = tmp_path / "engines.json"
    cache.write_text(content, "utf-8")
    assert discover(cache).nginx.version.startswith("1.")
    assert json.loads(cache.read_text("utf-8"))


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", "utf-8")
    assert discover(tmp_path / "file" / "engines.json").nginx
