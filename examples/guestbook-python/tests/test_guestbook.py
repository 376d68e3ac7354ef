"""What can be tested without engines. tests/integration/examples tests the rest over HTTP."""

import hashlib
import json
from datetime import datetime
from pathlib import Path

import pytest
from flask import Flask, render_template
from flask.testing import FlaskClient
from guestbook import create_app
from guestbook.errors import InvalidError
from guestbook.fingerprint import fingerprinted
from guestbook.messages import Message, Messages
from guestbook.pictures import LIMIT_BYTES, Pictures
from guestbook.settings import Settings
from guestbook.text import clean

ROOT = Path(__file__).parent.parent
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
# Port 1 refuses every connection: the engines that nobody runs.
NOWHERE = {"DATABASE_URL": "mysql://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1/0"}


@pytest.fixture
def app() -> Flask:
    return create_app(Settings.from_environment(NOWHERE))


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def test_text_is_trimmed_bounded_and_free_of_control_characters() -> None:
    assert clean("  a\r\nb\x00\u202e \u2003", 3, "It") == "a\nb"
    assert clean("é" * 60, 60, "It") == "é" * 60


@pytest.mark.parametrize("text", ["", " \n\t\x07", "é" * 61])
def test_bad_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        clean(text, 60, "It")


@pytest.mark.parametrize("key", ["", "short", "with space", "x" * 101, "abcdefgh\n", "schlüssel"])
def test_bad_keys_are_refused_before_the_database_is_asked(app: Flask, key: str) -> None:
    messages = app.extensions["messages"]
    assert isinstance(messages, Messages)
    with pytest.raises(InvalidError) as refused:
        messages.add(key, "Ada", "x", None)
    assert refused.value.status == 400


def test_pictures_are_named_after_their_content(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path / "uploads")
    name = pictures.keep(PNG)
    assert name == f"{hashlib.sha256(PNG).hexdigest()[:40]}.png"
    assert pictures.keep(PNG) == name
    assert [path.name for path in pictures.folder.iterdir()] == [name]
    assert pictures.keep(b"RIFF\x10\0\0\0WEBPVP8L").endswith(".webp")


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"<?php", 422), (b"<svg/>", 422), (b"", 422), (b"RIFF....WAVE", 422), (PNG + b"x" * LIMIT_BYTES, 413)],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes, status: int) -> None:
    with pytest.raises(InvalidError) as refused:
        Pictures(tmp_path).keep(content)
    assert refused.value.status == status
    assert list(tmp_path.iterdir()) == []


def test_templates_escape_what_they_print(app: Flask) -> None:
    message = Message(1, "<b>", "\"&'<script>", None, datetime.fromisoformat("2026-01-02T03:04:05"))
    with app.test_request_context():
        page = render_template("message.html", title="</title>", message=message)
    assert "<script>" not in page
    assert "<b><b>" not in page
    assert "&#34;&amp;&#39;&lt;script&gt;" in page
    assert 'datetime="2026-01-02T03:04:05Z"' in page
    assert "<title>&lt;/title&gt;</title>" in page


def test_assets_carry_the_fingerprint_of_their_content() -> None:
    assets = ROOT / "public" / "assets"
    manifest = json.loads((assets / "manifest.json").read_text())
    for name, current in manifest.items():
        assert current == fingerprinted(name, (assets / current).read_bytes())
    assert {path.name for path in assets.iterdir()} == {*manifest.values(), "manifest.json"}


def test_files_are_served_and_nothing_else(client: FlaskClient) -> None:
    name = json.loads((ROOT / "public" / "assets" / "manifest.json").read_text())["app.css"]
    assert client.get(f"/assets/{name}").status_code == 200
    for path in ["/assets/..%2f..%2frequirements.in", "/uploads/../../requirements.in", "/guestbook/wsgi.py"]:
        assert client.get(path).status_code == 404


def test_unknown_pages_and_methods(client: FlaskClient) -> None:
    assert client.get("/nothing").status_code == 404
    wrong = client.delete("/login")
    assert wrong.status_code == 405
    assert "POST" in wrong.headers["Allow"]


def test_without_engines_pages_answer_503_and_health_says_which(client: FlaskClient) -> None:
    page = client.get("/")
    assert page.status_code == 503
    assert page.headers["Retry-After"]
    assert page.headers["Cache-Control"] == "no-store"
    health = client.get("/healthz")
    assert health.status_code == 503
    assert health.get_json()["failing"] == ["database", "cache"]
    assert client.get("/sign").status_code == 503  # a form needs a session, a session its store


def test_a_form_without_its_token_changes_nothing(client: FlaskClient) -> None:
    assert client.post("/messages", data={"body": "x"}).status_code == 403
    assert client.post("/login", data={"csrf": ""}).status_code == 403


def test_the_last_proxy_is_believed_and_no_other(client: FlaskClient) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7", "X-Forwarded-Proto": "https"}
    who = client.get("/whoami", headers=headers).get_json()
    assert (who["client"], who["scheme"]) == ("198.51.100.7", "https")
