"""The unmodified WordPress, fetched as a user does, on one web server with a real database."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.integration.examples import servers
from tests.integration.examples import wordpress_contract as contract
from tests.integration.examples.servers import EXAMPLES, Engines
from tests.integration.examples.wordpress_contract import Post, Wordpress

pytestmark = pytest.mark.integration


def fetch(folder: Path) -> None:
    """Runs the example's own command."""
    done = subprocess.run(
        [str(EXAMPLES / "wordpress" / "fetch"), str(folder)],
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder)


@dataclass(frozen=True)
class Installed:
    """A WordPress that was installed over HTTP, with one post."""

    site: Wordpress
    post: Post
    release: Path
    environment: dict[str, str]
    engines: Engines

    def php(self, script: str) -> str:
        """Runs a script of the application as a release step or a job does."""
        done = subprocess.run(
            ["php", script], cwd=self.release, env=self.environment,
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def wordpress(folder: Path, engines: Engines) -> Iterator[Installed]:
    """Fetched, started, installed, one post published."""
    cached = servers.cache_folder() / "wordpress"
    fetch(cached)
    place = folder / "wordpress"
    place.mkdir()
    release = servers.copy_release(cached, place / "release")
    servers.link_uploads(release, "public/wp-content/uploads", place / "uploads")
    engines.new_database("wordpress")
    environment = engines.environment("wordpress", 3)
    with ExitStack() as stack:
        url = servers.start_php(stack, place, release / "public", environment, engines, 3)
        site = Wordpress(url)
        contract.check_health(site)
        contract.install(site)
        yield Installed(site, contract.publish(site), release, environment, engines)


def test_a_post_and_its_picture_are_read(wordpress: Installed) -> None:
    contract.check_post(wordpress.site, wordpress.post)
    assert list((wordpress.release.parent / "uploads").rglob("*.png")), "the picture is in the shared folder"


def test_theme_assets(wordpress: Installed) -> None:
    contract.check_theme_assets(wordpress.site)


def test_linked_files_are_there(wordpress: Installed) -> None:
    contract.check_linked_files_are_there(wordpress.site)


def test_nothing_private_is_served(wordpress: Installed) -> None:
    contract.check_nothing_private_is_served(wordpress.site)


def test_code_cannot_be_changed_in_the_browser(wordpress: Installed) -> None:
    contract.check_code_cannot_be_changed_in_the_browser(wordpress.site)


def test_comments_are_written(wordpress: Installed) -> None:
    contract.check_comments_are_written(wordpress.site, wordpress.post)


def test_every_door_is_good_on_loopback(wordpress: Installed) -> None:
    """Another edge, another port: the same pages, and links that stay there."""
    other = wordpress.site.at(wordpress.site.base_url.replace("127.0.0.1", "localhost"))
    contract.check_post(other, wordpress.post)


def test_https_at_the_edge_is_no_redirect_loop(wordpress: Installed) -> None:
    headers = {"X-Forwarded-Proto": "https", "Host": "localhost"}
    with wordpress.site.client() as client:
        page = client.get("/", headers=headers)
        assert page.status_code == 200
        assert "https://localhost/wp-includes/" in page.text
        assert "http://localhost" not in page.text
        login = client.get("/wp-login.php", headers=headers)
        assert login.status_code == 200
        assert "secure" in login.headers["Set-Cookie"].lower()


def test_a_public_address_is_the_configured_one(folder: Path, wordpress: Installed) -> None:
    """Behind a public name, whatever Host the visitor sends, links lead to APP_URL."""
    place = folder / "wordpress-public"
    place.mkdir()
    environment = wordpress.environment | {"APP_URL": "https://www.example.com"}
    with ExitStack() as stack:
        url = servers.start_php(stack, place, wordpress.release / "public", environment, wordpress.engines, 3)
        headers = {"Host": "www.example.com", "X-Forwarded-Proto": "https"}
        page = httpx.get(f"{url}/", headers=headers, timeout=60.0)
        assert page.status_code == 200
        assert "https://www.example.com/wp-includes/" in page.text
        forged = httpx.get(f"{url}/wp-login.php", headers=headers | {"Host": "evil.example"}, timeout=60.0)
        assert "evil.example" not in forged.text
        # Without https on the way the dashboard asks for it once; with it, it does not ask again.
        asked = httpx.get(f"{url}/wp-admin/", headers={"Host": "www.example.com"}, timeout=60.0)
        assert asked.headers["Location"].startswith("https://www.example.com/")
        admin = httpx.get(f"{url}/wp-admin/", headers=headers, timeout=60.0)
        assert admin.headers["Location"].startswith("https://www.example.com/wp-login.php")


def test_health_follows_the_database(wordpress: Installed) -> None:
    contract.check_health(wordpress.site)
    with wordpress.site.client() as client:
        wordpress.engines.execute("SET GLOBAL read_only = 1")
        try:
            assert client.get("/healthz.php").json()["checks"] == {"database": "read-only"}
        finally:
            wordpress.engines.execute("SET GLOBAL read_only = 0")
        wordpress.engines.mariadb.stop()
        try:
            answer = client.get("/healthz.php")
            assert answer.status_code == 503
            assert answer.json()["failing"] == ["database"]
        finally:
            wordpress.engines.mariadb.start()
        assert client.get("/healthz.php").status_code == 200
    contract.check_post(wordpress.site, wordpress.post)


def test_release_step_and_cron(wordpress: Installed) -> None:
    assert "tables of version" in wordpress.php("bin/upgrade.php")
    assert wordpress.php("public/wp-cron.php") == ""
    wordpress.engines.new_database("wordpress_empty")
    empty = Installed(
        wordpress.site, wordpress.post, wordpress.release,
        wordpress.engines.environment("wordpress_empty", 3), wordpress.engines,
    )  # fmt: skip
    assert "not installed yet" in empty.php("bin/upgrade.php")
    empty.php("public/wp-cron.php")


def test_fetch_is_complete_and_careful(tmp_path: Path) -> None:
    cached = servers.cache_folder() / "wordpress"
    fetch(cached)
    assert [path for path in cached.rglob("*") if path.is_symlink()] == []
    assert not (cached / "public" / "wp-config.php").exists()
    stranger = tmp_path / "mine"
    stranger.mkdir()
    (stranger / "keep").touch()
    done = subprocess.run(
        [str(EXAMPLES / "wordpress" / "fetch"), str(stranger)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "is not empty and was not made by this command" in done.stderr
    assert (stranger / "keep").exists()
    shutil.rmtree(stranger)
