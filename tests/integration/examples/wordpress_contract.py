"""What an unmodified WordPress does, from its installation on: checks over a base URL, with nothing but HTTP."""

import re
import secrets
from dataclasses import dataclass, field

import httpx

from tests.integration.examples.guestbook_contract import png

TITLE = "Lampstand & Daughters"
USER = "editor"


@dataclass(frozen=True)
class Wordpress:
    """Where a WordPress answers, and the password of its first user."""

    base_url: str
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    verify: str | bool = True
    """Certificate authority file for an https base URL."""

    def client(self) -> httpx.Client:
        """A visitor of its own, with its own cookies."""
        return httpx.Client(base_url=self.base_url, timeout=60.0, verify=self.verify)

    def at(self, base_url: str) -> "Wordpress":
        """The same WordPress through another door: another edge, or one web server."""
        return Wordpress(base_url, self.password, self.verify)


@dataclass(frozen=True)
class Post:
    """A published post with a picture."""

    id: int
    title: str
    path: str
    picture_path: str
    picture: bytes
    sizes: tuple[str, ...]
    """Paths of the smaller pictures that WordPress made."""


def install(site: Wordpress) -> None:
    """Installs it as its administrator does in the browser. Once for a database."""
    with site.client() as client:
        first = client.get("/")
        assert first.status_code == 302, "not installed yet: every page leads to the installation"
        assert first.headers["Location"].endswith("/wp-admin/install.php")
        form = client.get("/wp-admin/install.php", params={"step": 1})
        assert form.status_code == 200
        assert 'name="weblog_title"' in form.text
        answer = client.post(
            "/wp-admin/install.php",
            params={"step": 2},
            data={
                "weblog_title": TITLE,
                "user_name": USER,
                "admin_password": site.password,
                "admin_password2": site.password,
                "pw_weak": "1",
                "admin_email": "editor@example.com",
                "blog_public": "0",
                "Submit": "Install WordPress",
                "language": "",
            },
        )
        assert answer.status_code == 200
        assert "Success!" in answer.text, answer.text[:3000]


def log_in(client: httpx.Client, site: Wordpress) -> str:
    """Logs in through the form; returns the token that the REST interface asks for."""
    form = client.get("/wp-login.php")
    assert form.status_code == 200
    assert 'name="log"' in form.text
    answer = client.post(
        "/wp-login.php",
        data={"log": USER, "pwd": site.password, "wp-submit": "Log In", "testcookie": "1"},
    )
    assert answer.status_code == 302, answer.text
    assert answer.headers["Location"].startswith(site.base_url), answer.headers["Location"]
    assert "wp-admin" in answer.headers["Location"]
    nonce = client.get("/wp-admin/admin-ajax.php", params={"action": "rest-nonce"})
    assert nonce.status_code == 200
    assert re.fullmatch(r"[0-9a-f]{10}", nonce.text), nonce.text
    return nonce.text


def publish(site: Wordpress) -> Post:
    """Uploads a picture and publishes a post that shows it, as the editor in the browser does."""
    picture, title = png(900, 600), f"Post {secrets.token_hex(6)}"
    with site.client() as client:
        token = {"X-WP-Nonce": log_in(client, site)}
        upload = client.post(
            "/",
            params={"rest_route": "/wp/v2/media"},
            content=picture,
            headers=token
            | {"Content-Type": "image/png", "Content-Disposition": f'attachment; filename="{title}.png"'},
        )
        assert upload.status_code == 201, upload.text
        media = upload.json()
        answer = client.post(
            "/",
            params={"rest_route": "/wp/v2/posts"},
            headers=token,
            json={
                "title": title,
                "status": "publish",
                "content": f'<p>Grüße 🎉</p><img src="{media["source_url"]}" alt="">',
                "featured_media": media["id"],
            },
        )
        assert answer.status_code == 201, answer.text
        post = answer.json()
        assert post["status"] == "publish"
        sizes = media["media_details"]["sizes"]
        assert {"thumbnail", "medium"} <= set(sizes), "PHP's gd makes smaller pictures"
        return Post(
            id=post["id"],
            title=title,
            path=path_of(site, post["link"]),
            picture_path=path_of(site, media["source_url"]),
            picture=picture,
            sizes=tuple(path_of(site, size["source_url"]) for size in sizes.values()),
        )


def path_of(site: Wordpress, url: str) -> str:
    """The path of a URL that must lie below the address that the visitor used."""
    assert url.startswith(f"{site.base_url}/"), f"{url} is not below {site.base_url}"
    return url.removeprefix(site.base_url)


def check_post(site: Wordpress, post: Post) -> None:
    """The post and its pictures can be read, whichever server is asked."""
    with site.client() as client:
        page = client.get(post.path)
        assert page.status_code == 200, page.text[:2000]
        assert page.headers["Content-Type"].startswith("text/html")
        assert post.title in page.text
        assert "Grüße 🎉" in page.text
        served = client.get(post.picture_path)
        assert served.status_code == 200
        assert served.headers["Content-Type"] == "image/png"
        assert served.content == post.picture
        for path in post.sizes:
            smaller = client.get(path)
            assert smaller.status_code == 200, path
            assert smaller.content.startswith(b"\x89PNG")
        listing = client.get("/", params={"rest_route": f"/wp/v2/posts/{post.id}"})
        assert listing.json()["title"]["rendered"] == post.title


def check_theme_assets(site: Wordpress) -> None:
    """What the front page, the login and the dashboard refer to exists."""
    kinds = {
        "css": "text/css", "js": "javascript", "svg": "image/svg+xml", "png": "image/png", "woff2": "font/woff2",
        "gif": "image/gif", "php": "",
    }  # fmt: skip
    with site.client() as client:
        home = client.get("/")
        assert home.status_code == 200
        assert "Lampstand &#038; Daughters" in home.text or "Lampstand &amp; Daughters" in home.text
        log_in(client, site)
        pages = [
            home,
            client.get("/wp-login.php"),
            client.get("/wp-admin/"),
            client.get("/wp-admin/upload.php"),
        ]
        for page in pages:
            assert page.status_code == 200, page.url
        end = r"\s\"'<>()\\"
        start = rf"(?:{re.escape(site.base_url)}|['\"])"
        pattern = start + rf"(/wp-(?:content|includes|admin)/[^?{end}]+\.([a-z0-9]+)(?:\?[^{end}]*)?)"
        found = {(path.replace("&amp;", "&").replace("&#038;", "&"), ending) for page in pages
                 for path, ending in re.findall(pattern, page.text)}  # fmt: skip
        assets = sorted(
            (path, ending) for path, ending in found if ending in kinds and "admin-ajax" not in path
        )
        assert {"css", "js", "woff2"} <= {ending for _, ending in assets}
        assert any("/themes/" in path for path, _ in assets)
        for path, ending in assets:
            asset = client.get(path)
            if ending == "php":
                assert asset.status_code < 500, path
                continue
            assert asset.status_code == 200, path
            assert kinds[ending] in asset.headers["Content-Type"], (path, asset.headers["Content-Type"])
            assert asset.content, path


def check_linked_files_are_there(site: Wordpress) -> None:
    """Files that Debian's package only links to."""
    with site.client() as client:
        for path in [
            "js/underscore.min.js",
            "js/crop/cropper.js",
            "js/crop/cropper.css",
            "js/crop/marqueeHoriz.gif",
        ]:
            assert client.get(f"/wp-includes/{path}").status_code == 200, path


def check_nothing_private_is_served(site: Wordpress) -> None:
    """The configuration and the site file lie outside the document root."""
    with site.client() as client:
        for path in ["/wp-config.php", "/lampstand.yaml", "/bin/upgrade.php", "/../wp-config.php"]:
            answer = client.get(path, follow_redirects=True)
            assert answer.status_code in {400, 404}, (
                f"{path}: {answer.status_code} {answer.url} {answer.text[:500]}"
            )
            assert "DB_PASSWORD" not in answer.text


def check_code_cannot_be_changed_in_the_browser(site: Wordpress) -> None:
    """A plug-in put on one of several web servers would be lost with the next release."""
    with site.client() as client:
        log_in(client, site)
        assert client.get("/wp-admin/plugin-install.php").status_code == 403
        assert client.get("/wp-admin/plugins.php").status_code == 200


def check_comments_are_written(site: Wordpress, post: Post) -> None:
    """A visitor's form, with the redirect that shows the result."""
    with site.client() as client:
        words = f"Nice. {secrets.token_hex(6)}"
        answer = client.post(
            "/wp-comments-post.php",
            data={
                "comment": words,
                "author": "Visitor",
                "email": "visitor@example.com",
                "comment_post_ID": str(post.id),
                "comment_parent": "0",
            },
        )
        assert answer.status_code == 302, answer.text
        assert words in client.get(path_of(site, answer.headers["Location"].partition("#")[0])).text


def check_health(site: Wordpress) -> None:
    """The path for health checks works before and after the installation."""
    with site.client() as client:
        answer = client.get("/healthz.php")
        assert answer.status_code == 200, answer.text
        assert answer.json()["checks"] == {"database": "ok"}
