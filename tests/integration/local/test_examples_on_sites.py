"""The examples as whole sites: every contract through an edge, as a visitor meets it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.examples import guestbook_contract, wordpress_contract
from tests.integration.local.site import ROOT, WholeSite, kill, whole_site
from tests.support import eventually

WORDPRESS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lampstand-tests/wordpress-site"


@pytest.fixture
def site() -> Iterator[WholeSite]:
    with whole_site() as found:
        yield found


def use(site: WholeSite, folder: Path) -> None:
    """Serve an example instead of the small application."""
    shutil.rmtree(site.project)
    shutil.copytree(
        folder, site.project, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache")
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("language", ["php", "python", "perl"])
def test_guestbook(site: WholeSite, language: str) -> None:
    use(site, ROOT / f"examples/guestbook-{language}")
    assert site.up()["well"]
    assert guestbook_contract.main([site.url, language]) == 0


@pytest.mark.timeout(300)
def test_wordpress(site: WholeSite) -> None:
    if not (WORDPRESS / "lampstand.yaml").exists():
        subprocess.run([str(ROOT / "examples/wordpress/fetch"), str(WORDPRESS)], check=True)
    use(site, WORDPRESS)
    site.up()
    blog = wordpress_contract.Wordpress(site.url)
    wordpress_contract.install(blog)
    post = wordpress_contract.publish(blog)
    wordpress_contract.check_theme_assets(blog)
    kill(site.pids("web-1")["web-1"])
    wordpress_contract.check_post(blog, post)
    wordpress_contract.check_comments_are_written(blog, post)
    site.wait_well()
    for edge in ("site", "edge-iad"):
        url = site.status()["urls"][edge]
        eventually(lambda url=url: httpx.get(url, timeout=10).status_code == 200)
