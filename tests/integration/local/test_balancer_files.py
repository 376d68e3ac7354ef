"""What a real nginx with the rendered configuration gives away as files, and what it never does."""

import gzip
from collections.abc import Iterator

import pytest

from lampstand.tiers.balancer import live
from tests.integration.local.balancer_backend import Backend, ask, backend
from tests.integration.local.test_balancer_http import Site, balanced, put

YEAR = "public, max-age=31536000, immutable"
SHORT = "public, max-age=300"

PHP = {
    "releases/r2/public/app.css": "new",
    "releases/r1/public/app.css": "old",
    "releases/r1/public/old.1a2b3c4d.js": "old script",
    "releases/r2/public/index.php": "<?php secret",
    "releases/r2/public/config.php.css/deep.txt": "a folder with a name like a file",
    "releases/r2/public/.env.txt": "SECRET=1",
    "releases/r2/public/.git/config.txt": "secret",
    "releases/r2/public/.well-known/security.txt": "Contact: mailto:a@example.com",
    "releases/r2/public/backup.sql": "secret",
    "releases/r2/public/notes.md": "not a static file",
    "releases/r2/public/shell.phtml": "<?php",
    "releases/r2/public/img/a b'c\"$x;.png": "a picture",
    "releases/r2/public/img/größe.png": "another",
    "releases/r2/public/assets/index-BkH3d4a1.js": "built",
    "releases/r2/public/assets/index-holidays.js": "not built",
    "releases/r2/public/photo-20190101.jpg": "a date is no hash",
    "releases/r2/public/movie.mp4": "0123456789" * 1000,
    "releases/r2/public/text.txt": "plain",
    "releases/r2/private.txt": "A-CLOSED-FOLDER",
    "releases/r2/public/uploads/shadow.txt": "in the release, not in the shared folder",
    "uploads/public/uploads/cat.png": "a cat",
    "uploads/public/uploads/evil.php": "<?php system('id');",
    "uploads/public/uploads/evil.svg": "<svg onload='alert(1)'/>",
    "uploads/public/uploads/page.html": "<script>alert(1)</script>",
    "uploads/public/uploads/.htaccess": "AddType",
    "uploads/public/uploads/doc.pdf": "%PDF",
    "uploads/secret.txt": "A-CLOSED-FOLDER",
}


@pytest.fixture(scope="module")
def web() -> Iterator[Backend]:
    with backend() as made:
        yield made


@pytest.fixture(scope="module")
def php(web: Backend) -> Iterator[Site]:
    described = {"app": {"root": "public", "uploads": ["public/uploads", "storage"]}}
    with balanced(web.server, site=described, files=PHP) as site:
        place = site.place
        put(place, "releases/r2/public/gz.css", "body{}" * 500)
        zipped = place.root / "releases/r2/public/gz.css.gz"
        zipped.write_bytes(gzip.compress(b"precompressed"))
        zipped.chmod(0o644)
        put(place, "releases/r2/public/gz.css.br", "brotli")
        (place.root / "uploads/public/uploads/link.txt").symlink_to("/etc/passwd")
        releases = live.releases([place.release("r2"), place.release("r1")])
        etc = place.folder("balancer-1", "etc")
        with open(f"{etc}/live/releases.conf", "w") as file:
            file.write(releases)
        site.reload()
        yield site


def asked_web(site: Site, path: str) -> bool:
    """Whether the web server was asked for it."""
    return site.get(path).headers.get("content-type") == "application/json"


def test_files_of_the_newest_release_come_first_and_those_of_older_ones_after(php: Site) -> None:
    assert php.get("/app.css").body == b"new"
    assert php.get("/app.css").headers["content-type"] == "text/css"
    assert php.get("/old.1a2b3c4d.js").body == b"old script"
    assert asked_web(php, "/nowhere.css")
    assert php.get("/.well-known/security.txt").body.startswith(b"Contact")


def test_names_with_a_hash_live_for_a_year_and_others_for_minutes(php: Site) -> None:
    lives = {path: php.get(path).headers["cache-control"] for path in (
        "/old.1a2b3c4d.js", "/assets/index-BkH3d4a1.js", "/app.css", "/assets/index-holidays.js", "/photo-20190101.jpg",
    )}  # fmt: skip
    assert lives == {
        "/old.1a2b3c4d.js": YEAR, "/assets/index-BkH3d4a1.js": YEAR, "/app.css": SHORT,
        "/assets/index-holidays.js": SHORT, "/photo-20190101.jpg": SHORT,
    }  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [
        "/index.php", "/INDEX.PHP", "/index.php/app.css", "/app.css/index.php", "/shell.phtml", "/backup.sql",
        "/notes.md", "/", "/index.php~", "/config.php.css", "/img/", "/img", "/index.php%20", "/private.txt",
    ],
)  # fmt: skip
def test_what_is_no_static_file_is_the_web_servers_business(php: Site, path: str) -> None:
    assert asked_web(php, path)


@pytest.mark.parametrize(
    "path", ["/.env.txt", "/.git/config.txt", "/img/.hidden/x.png", "/.env", "/a/.git/config", "/%2eenv.txt"]
)
def test_hidden_names_are_never_answered(php: Site, path: str) -> None:
    assert php.get(path).status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/../private.txt", "/img/../../private.txt", "/%2e%2e/private.txt", "/img/..%2f..%2fprivate.txt",
        "/uploads/../../../secret.txt", "/uploads/..%2fsecret.txt", "/uploads../secret.txt", "//etc/passwd",
        "/app.css/../../../../etc/passwd",
        "/img/..;/private.txt", "/%2e%2e%2fprivate.txt", "/..%5cprivate.txt", "/..%c0%af/private.txt",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_folders(php: Site, path: str) -> None:
    answer = php.get(path)
    assert b"A-CLOSED-FOLDER" not in answer.body
    assert b"root:" not in answer.body
    assert answer.status in (400, 404) or answer.headers.get("content-type") == "application/json"


def test_a_nul_in_a_path_is_refused(php: Site) -> None:
    assert php.get("/index.php%00.css").status == 400


def test_any_name_is_found(php: Site) -> None:
    assert php.get("/img/a%20b'c%22$x;.png").body == b"a picture"
    assert php.get("/img/gr%C3%B6%C3%9Fe.png").body == b"another"


def test_ranges_and_conditions(php: Site) -> None:
    part = php.get("/movie.mp4", Range="bytes=5-9")
    assert (part.status, part.body, part.headers["content-range"]) == (206, b"56789", "bytes 5-9/10000")
    assert php.get("/movie.mp4", Range="bytes=20000-").status == 416
    whole = php.get("/movie.mp4")
    assert php.get("/movie.mp4", If_None_Match=whole.headers["etag"]).status == 304
    assert php.get("/movie.mp4", If_Modified_Since=whole.headers["last-modified"]).status == 304
    assert ask(php.port(), "/movie.mp4", "HEAD").headers["content-length"] == "10000"


def test_a_file_that_was_compressed_before_is_sent_as_it_is(php: Site) -> None:
    packed = php.get("/gz.css", Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == b"precompressed"
    smaller = php.get("/gz.css", Accept_Encoding="br, gzip")
    assert (smaller.headers["content-encoding"], smaller.body) == ("br", b"brotli")
    assert "Accept-Encoding" in smaller.headers["vary"]
    assert php.get("/gz.css").body == b"body{}" * 500


def test_answers_of_the_application_are_compressed_for_those_who_accept_it(php: Site) -> None:
    long = "/echo?" + "x" * 3000
    packed = php.get(long, Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["vary"]
    assert "content-encoding" not in php.get(long).headers


def test_uploads_are_shown_or_saved_and_never_run(php: Site) -> None:
    cat = php.get("/uploads/cat.png")
    assert (cat.body, cat.headers["content-type"]) == (b"a cat", "image/png")
    assert cat.headers["x-content-type-options"] == "nosniff"
    assert "content-disposition" not in cat.headers
    assert "content-disposition" not in php.get("/uploads/doc.pdf").headers
    assert php.get("/uploads/page.html").headers["content-disposition"] == "attachment"
    assert "sandbox" in php.get("/uploads/evil.svg").headers["content-security-policy"]
    for path in (
        "evil.php",
        "evil.php/cat.png",
        "cat.png/evil.php",
        ".htaccess",
        "nothing.png",
        "shadow.txt",
        "link.txt",
    ):
        answer = php.get(f"/uploads/{path}")
        assert answer.status in (403, 404), path
        assert b"<?php" not in answer.body


def test_an_upload_is_there_at_once_and_gone_at_once(php: Site) -> None:
    assert php.get("/uploads/new.png").status == 404
    put(php.place, "uploads/public/uploads/new.png", "one")
    assert php.get("/uploads/new.png").body == b"one"
    put(php.place, "uploads/public/uploads/new.png", "three")
    assert php.get("/uploads/new.png").body == b"three"
    (php.place.root / "uploads/public/uploads/new.png").unlink()
    assert php.get("/uploads/new.png").status == 404


def test_files_are_not_written_to(php: Site) -> None:
    assert ask(php.port(), "/app.css", "DELETE").status == 405
    assert ask(php.port(), "/uploads/cat.png", "PUT", body=b"x").status == 405


def test_folders_of_their_own_with_any_name(web: Backend) -> None:
    folder = 'st at"ic$HOME'
    described = {
        "app": {
            "runtime": "python", "entry": "shop:app", "uploads": ["media"],
            "static": [{"match": "/static/*", "folder": folder}, {"match": "/favicon.ico", "folder": "icons"},
                       {"match": "/media/*", "folder": "media"}, {"match": ["*.txt", "/docs/*"]}],
        }
    }  # fmt: skip
    files = {
        f"releases/r1/{folder}/css/site.0123abcd.css": "css", f"releases/r1/{folder}/.secret.css": "secret",
        f"releases/r1/{folder}/tool.py": "import os", "releases/r1/icons/favicon.ico": "icon",
        "releases/r1/requirements.txt": "secret", "releases/r1/docs/a.html": "docs", "uploads/media/a.png": "picture",
    }  # fmt: skip
    with balanced(web.server, site=described, files=files) as site:
        css = site.get("/static/css/site.0123abcd.css")
        assert (css.body, css.headers["cache-control"]) == (b"css", YEAR)
        assert site.get("/favicon.ico").body == b"icon"
        assert site.get("/docs/a.html").body == b"docs"
        assert site.get("/media/a.png").body == b"picture"
        # The sources of the application lie in the same folder as everything else: no ending alone opens it.
        assert asked_web(site, "/requirements.txt")
        assert asked_web(site, "/static/.secret.css")
        assert asked_web(site, "/static/tool.py")
        assert asked_web(site, "/static/nothing.css")


def test_a_site_without_static_files_asks_its_web_servers_for_everything(web: Backend) -> None:
    with balanced(web.server, site={"app": {"runtime": "perl", "entry": "app.psgi"}}) as site:
        assert asked_web(site, "/site.css")
