"""What every guestbook does, whatever its language: checks over a base URL, with nothing but HTTP.

The same checks run against one application server (see ``conftest.py``) and against a whole site. Behind an edge a
page may be a few seconds old, so a check that must see what it has just written asks an address that was never asked
before, or polls.
"""

import hashlib
import re
import secrets
import struct
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx

PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Guestbook:
    """Where a guestbook answers, and what is known about the way to it."""

    base_url: str
    language: str
    server_names: frozenset[str] = field(default_factory=frozenset)
    """The web servers that may answer (``X-Served-By``); empty: any."""
    verify: str | bool = True
    """Certificate authority file for an https base URL."""

    def client(self) -> httpx.Client:
        """A visitor of its own, with its own cookies; 35 s per step, more than the longest page takes."""
        return httpx.Client(base_url=self.base_url, timeout=35.0, verify=self.verify)


def new_key() -> str:
    """An Idempotency-Key that nobody has used."""
    return secrets.token_hex(16)


def write(client: httpx.Client, body: str, *, author: str = "Ada", key: str | None = None) -> httpx.Response:
    """Writes a message the way a program does: no session, the key in the header."""
    headers = {"Idempotency-Key": key or new_key(), "Accept": "application/json"}
    return client.post("/messages", data={"author": author, "body": body}, headers=headers)


def token_in(page: httpx.Response) -> str:
    """The CSRF token of a form."""
    return found(r'name="csrf" value="([^"]+)"', page)


def key_in(page: httpx.Response) -> str:
    """The idempotency key of a form."""
    return found(r'name="idempotency_key" value="([^"]+)"', page)


def found(pattern: str, page: httpx.Response) -> str:
    """The first group of a pattern that must be on the page."""
    match = re.search(pattern, page.text)
    assert match, f"{pattern} is not on {page.url} ({page.status_code}): {page.text[:2000]}"
    return match[1]


def log_in(client: httpx.Client, name: str | None = None, password: str = "correct horse") -> str:
    """Logs a (new) visitor in and returns the name."""
    name = name or f"Visitor {secrets.token_hex(4)}"
    form = client.get("/login")
    assert form.status_code == 200, form.text
    answer = client.post("/login", data={"csrf": token_in(form), "name": name, "password": password})
    assert answer.status_code == 303, answer.text
    return name


def png(width: int = 2, height: int = 2, padding: int = 0) -> bytes:
    """A real picture of a random colour, made larger by a chunk of `padding` bytes that viewers skip."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + secrets.token_bytes(3) * width) * height
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    if padding:
        parts.append(chunk(b"paDd", b"\0" * padding))
    parts += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Polls until something is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS} s: {what}"
        time.sleep(0.1)


# --- the checks -------------------------------------------------------------------------------------------------------


def check_home_is_cacheable_for_anonymous_visitors(site: Guestbook) -> None:
    with site.client() as client:
        page = client.get("/")
        assert page.status_code == 200, page.text
        assert page.headers["Content-Type"].startswith("text/html")
        assert "public" in page.headers["Cache-Control"]
        assert re.search(r"max-age=[1-9]", page.headers["Cache-Control"])
        assert "Set-Cookie" not in page.headers
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]
        assert not site.server_names or page.headers["X-Served-By"] in site.server_names
        assert f"Served by <b>{page.headers['X-Served-By']}</b>" in page.text
        head = client.head("/")
        assert head.status_code == 200
        assert head.content == b""


def check_health_names_its_checks(site: Guestbook) -> None:
    with site.client() as client:
        answer = client.get("/healthz")
        assert answer.status_code == 200, answer.text
        assert "no-store" in answer.headers["Cache-Control"]
        health = answer.json()
        assert health["status"] == "ok"
        assert health["failing"] == []
        assert health["checks"] == {"database": "ok", "cache": "ok"}
        assert health["server"] == answer.headers["X-Served-By"]


def check_a_message_is_written_and_read(site: Guestbook) -> None:
    body = f"Grüße, שלום, 你好 🎉 {secrets.token_hex(6)}"
    with site.client() as client:
        answer = write(client, body, author="Zoë 🦊")
        assert answer.status_code == 201, answer.text
        assert answer.json()["replayed"] is False
        assert answer.headers["Location"] == answer.json()["url"]
        page = client.get(answer.json()["url"])
        assert page.status_code == 200
        assert body in page.text
        assert "Zoë 🦊" in page.text
        # An address that no cache has seen; a replica may be a moment behind.
        listing = f"/?before={answer.json()['id'] + 1}&fresh="
        eventually(lambda: body in client.get(listing + new_key()).text, "the message is on the list")


def check_a_key_is_executed_once(site: Guestbook) -> None:
    key, body = new_key(), f"once {secrets.token_hex(6)}"
    with site.client() as client, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: write(client, body, key=key), range(4)))
        answers.append(write(client, body, key=f'"{key}"'))  # the quoted form of the header's draft standard
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert [answer.json()["replayed"] for answer in answers].count(False) == 1
        other = write(client, "something else", key=key)
        assert other.status_code == 422, other.text


def check_a_message_needs_a_good_key_or_a_token(site: Guestbook) -> None:
    with site.client() as client:
        assert write(client, "x", key="short").status_code == 400
        assert write(client, "x", key="spaces are not allowed").status_code == 400
        form = {"author": "Eve", "body": "forged", "idempotency_key": new_key()}
        assert client.post("/messages", data=form).status_code == 403
        assert client.post("/messages", data=form | {"csrf": "0" * 32}).status_code == 403


def check_invalid_messages_are_refused(site: Guestbook) -> None:
    with site.client() as client:
        for author, body in [("", "x"), ("Ada", ""), ("Ada", " \n "), ("Ada", "x" * 1001), ("x" * 61, "x")]:
            answer = write(client, body, author=author)
            assert answer.status_code == 422, (author, body, answer.text)
            assert answer.json()["error"]
        assert write(client, "é" * 1000, author="é" * 60).status_code == 201  # characters, not bytes
        raw = {"Idempotency-Key": new_key(), "Content-Type": "application/x-www-form-urlencoded"}
        answer = client.post("/messages", content=b"author=Ada&body=%ff%fe", headers=raw)
        assert answer.status_code in {303, 422}  # some frameworks make text of what is none


def check_output_is_escaped(site: Guestbook) -> None:
    body = f"<script>alert('{secrets.token_hex(6)}')</script> & \"quoted\""
    with site.client() as client:
        url = write(client, body, author="<b>Bobby</b>'; DROP TABLE messages; --").json()["url"]
        page = client.get(url).text
        assert "<script>alert" not in page
        assert "<b>Bobby" not in page
        assert "&lt;script&gt;alert" in page
        assert "&lt;b&gt;Bobby" in page


def check_the_form_works_without_scripts(site: Guestbook) -> None:
    body = f"by hand\n{secrets.token_hex(6)}"
    with site.client() as client:
        form = client.get("/sign")
        assert form.status_code == 200
        assert "no-store" in form.headers["Cache-Control"]
        fields = {
            "csrf": token_in(form),
            "idempotency_key": key_in(form),
            "author": "Grace",
            "body": body.replace("\n", "\r\n"),
        }
        first = client.post("/messages", data=fields)
        second = client.post("/messages", data=fields)  # the impatient visitor's second click
        assert first.status_code == second.status_code == 303
        assert first.headers["Location"] == second.headers["Location"]
        assert body in client.get(first.headers["Location"]).text
        empty = client.post("/messages", data=fields | {"idempotency_key": new_key(), "body": ""})
        assert empty.status_code == 422
        assert 'role="alert"' in empty.text
        assert 'value="Grace"' in empty.text  # nothing has to be typed again


def check_login_lives_in_the_session_store(site: Guestbook) -> None:
    with site.client() as client, site.client() as stranger:
        form = client.get("/login")
        cookies = [cookie for cookie in client.cookies.jar if cookie.has_nonstandard_attr("HttpOnly")]
        assert len(cookies) == 1
        planted = cookies[0].value
        name = f"Lovelace {secrets.token_hex(4)}"
        fields = {"csrf": token_in(form), "name": name, "password": "correct horse"}
        assert client.post("/login", data=fields | {"csrf": "wrong"}).status_code == 403
        answer = client.post("/login", data=fields)
        assert answer.status_code == 303, answer.text
        assert "samesite=lax" in answer.headers["Set-Cookie"].lower()
        assert client.cookies[cookies[0].name] != planted, "the session id must change at login"

        for _ in range(4):  # whichever web server is asked
            page = client.get("/")
            assert f"Log out {name}" in page.text
            assert page.headers["Cache-Control"] == "private, no-store"
        assert client.get("/whoami").json()["user"] == name
        assert name not in stranger.get("/").text.split("<main>")[0]

        wrong = stranger.get("/login")
        fields = {"csrf": token_in(wrong), "name": name, "password": "incorrect horse"}
        assert stranger.post("/login", data=fields).status_code == 422
        fields["password"] = "short"
        assert stranger.post("/login", data=fields).status_code == 422

        out = client.post("/logout", data={"csrf": token_in(client.get("/"))})
        assert out.status_code == 303
        assert not client.cookies
        assert "public" in client.get("/").headers["Cache-Control"]


def check_an_unknown_session_is_nobody(site: Guestbook) -> None:
    with site.client() as client:
        client.get("/login")
        (name,) = client.cookies.keys()
        with site.client() as forger:
            forger.cookies.set(name, "0123456789abcdef0123456789abcdef")
            page = forger.get("/")
            assert page.status_code == 200
            assert "Log out" not in page.text
            assert forger.post("/logout", data={"csrf": ""}).status_code == 403


def check_a_picture_is_uploaded_and_served(site: Guestbook) -> None:
    picture = png()
    body = f"look {secrets.token_hex(6)}"
    with site.client() as client:
        name = log_in(client)
        form = client.get("/sign")
        fields = {"csrf": token_in(form), "idempotency_key": key_in(form), "body": body, "author": "Mallory"}
        answer = client.post(
            "/messages", data=fields, files={"picture": ("../../../etc/x.php", picture, "text/x-php")}
        )
        assert answer.status_code == 303, answer.text
        page = client.get(answer.headers["Location"])
        assert name in page.text
        assert "Mallory" not in page.text  # whoever is logged in signs with that name
        url = found(r'src="(/uploads/[0-9a-f]{40}\.png)"', page)
        for _ in range(4):  # whichever web server is asked
            served = client.get(url)
            assert served.status_code == 200
            assert served.headers["Content-Type"] == "image/png"
            assert served.content == picture


def check_bad_pictures_are_refused(site: Guestbook) -> None:
    with site.client() as client:
        anonymous = client.get("/sign")
        fields = {
            "csrf": token_in(anonymous),
            "idempotency_key": key_in(anonymous),
            "author": "A",
            "body": "b",
        }
        answer = client.post("/messages", data=fields, files={"picture": ("a.png", png(), "image/png")})
        assert answer.status_code == 403

        log_in(client)
        form = client.get("/sign")
        fields = {"csrf": token_in(form), "idempotency_key": key_in(form), "body": "b"}
        for content, status in [
            (b"<?php phpinfo();", 422),
            (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", 422),
            (png(padding=2 * 1024 * 1024), 413),
            (png(padding=4 * 1024 * 1024), 413),
        ]:
            answer = client.post("/messages", data=fields, files={"picture": ("a.png", content, "image/png")})
            assert answer.status_code == status, (content[:40], answer.text)
        # The form without a file is a message without a picture.
        answer = client.post(
            "/messages", data=fields, files={"picture": ("", b"", "application/octet-stream")}
        )
        assert answer.status_code == 303, answer.text


def check_assets_are_fingerprinted(site: Guestbook) -> None:
    with site.client() as client:
        page = client.get("/")
        assets = re.findall(r'(?:href|src)="(/assets/[^"]+)"', page.text)
        assert {path.rsplit(".", 1)[1] for path in assets} == {"css", "js", "svg"}
        kinds = {"css": "text/css", "js": "javascript", "svg": "image/svg+xml"}
        for path in assets:
            asset = client.get(path)
            assert asset.status_code == 200, path
            assert kinds[path.rsplit(".", 1)[1]] in asset.headers["Content-Type"]
            assert hashlib.sha256(asset.content).hexdigest()[:8] == path.split(".")[1]
        assert client.get("/assets/app.00000000.css").status_code == 404


def check_visits_are_counted(site: Guestbook) -> None:
    with site.client() as client:
        first = client.post("/visits").json()["visits"]
        second = client.post("/visits").json()["visits"]
        assert second > first > 0
        answer = client.get("/visits")
        assert answer.json()["visits"] >= second
        assert "no-store" in answer.headers["Cache-Control"]


def check_scheme_and_client_arrive(site: Guestbook) -> None:
    request_id = secrets.token_hex(8)
    with site.client() as client:
        answer = client.get("/whoami", headers={"X-Request-Id": request_id})
        who = answer.json()
        base = httpx.URL(site.base_url)
        assert who["scheme"] == base.scheme
        assert who["host"] == base.netloc.decode()
        assert who["client"] in {"127.0.0.1", "::1"} or base.host not in {"127.0.0.1", "localhost"}
        assert who["request_id"] == request_id
        assert who["session"] is False
        assert who["language"] == site.language
        assert who["server"] == answer.headers["X-Served-By"]
        assert who["release"]
        client.get("/login")
        assert client.get("/whoami").json()["session"] is True


def check_slow_pages_are_bounded(site: Guestbook) -> None:
    with site.client() as client:
        started = time.monotonic()
        assert client.get("/slow", params={"seconds": "0.4"}).json()["slept"] == 0.4
        assert time.monotonic() - started >= 0.4
        assert client.get("/slow", params={"seconds": "-5"}).json()["slept"] == 0
        assert client.get("/slow", params={"seconds": "nan"}).json()["slept"] <= 1


def check_events_arrive_one_by_one(site: Guestbook) -> None:
    with (
        site.client() as client,
        client.stream("GET", "/events", params={"count": 3, "interval": 0.4}) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        arrivals: dict[str, float] = {}
        for line in answer.iter_lines():
            if line.startswith(("id:", "event:")):
                arrivals[line] = time.monotonic()
        assert list(arrivals) == ["id: 1", "id: 2", "id: 3", "event: done"]
        assert arrivals["id: 2"] - arrivals["id: 1"] > 0.2, "events must not be held back"
        assert arrivals["id: 3"] - arrivals["id: 2"] > 0.2


def check_wrong_addresses_and_methods(site: Guestbook) -> None:
    with site.client() as client:
        for path in [
            "/nothing",
            "/messages/0",
            "/messages/999999999999",
            "/messages/abc",
            "/uploads/nothing.png",
        ]:
            assert client.get(path).status_code == 404, path
        answer = client.get("/messages")
        assert answer.status_code == 405
        assert "POST" in answer.headers["Allow"]
        assert client.delete("/sign").status_code == 405
        assert client.get("/?before=abc").status_code == 200
        for path in ["/lampstand.yaml", "/README.md", "/../lampstand.yaml", "/migrations/001_messages.sql"]:
            assert client.get(path).status_code in {400, 404}, path


def check_older_messages_are_a_page_away(site: Guestbook) -> None:
    with site.client() as client:
        for number in range(21):
            assert write(client, f"page filler {number}").status_code == 201
        page = client.get(f"/?fresh={new_key()}")
        older = client.get(found(r'href="(/\?before=[0-9]+)"', page))
        assert older.status_code == 200
        assert 'class="message"' in older.text


CHECKS: list[Callable[[Guestbook], None]] = [
    check for name, check in list(globals().items()) if name.startswith("check_")
]


def main(arguments: list[str]) -> int:
    """Runs every check against a site that is already there; prints one line each."""
    if len(arguments) not in {2, 3}:
        print(
            "usage: python -m tests.integration.examples.guestbook_contract BASE_URL php|python|perl [CA_FILE]"
        )
        return 2
    base_url, language, *authority = arguments
    site = Guestbook(base_url.rstrip("/"), language, verify=authority[0] if authority else True)
    failed = 0
    for check in CHECKS:
        try:
            check(site)
        except (AssertionError, httpx.HTTPError, LookupError, ValueError) as error:
            failed += 1
            print(f"FAILED {check.__name__}: {type(error).__name__}: {str(error)[:1000]}")
        else:
            print(f"ok     {check.__name__}")
    print(f"{len(CHECKS)} checks, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
