"""The 12-factor variables: the same everywhere, and safe to split."""

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lampstand.errors import LampstandError
from lampstand.site import Site
from lampstand.tiers.web.environment import (
    application_environment,
    language_environment,
    secret_variables,
    session_save_path,
)
from lampstand.topology import Context
from tests.web_support import paper_context

NAMES = """DATABASE_URL DATABASE_REPLICA_URL REDIS_URL SESSION_REDIS_URL DB_HOST DB_PORT DB_NAME DB_DATABASE DB_USER
DB_USERNAME DB_PASSWORD DB_REPLICA_HOST DB_REPLICA_PORT REDIS_HOST REDIS_PORT REDIS_PASSWORD SESSION_REDIS_HOST
SESSION_REDIS_PORT SESSION_REDIS_PASSWORD APP_URL APP_RELEASE APP_SECRET UPLOADS_DIR LAMPSTAND_SERVER LAMPSTAND_SITE"""

LANGUAGES: list[dict[str, object]] = [
    {"runtime": "php"},
    {"runtime": "python", "entry": "shop.wsgi:application"},
    {"runtime": "perl", "entry": "app.psgi"},
]


@pytest.mark.parametrize("app", LANGUAGES, ids=lambda app: str(app["runtime"]))
def test_every_variable_is_there_in_every_language_and_sorted(app: dict[str, object]) -> None:
    found = application_environment(paper_context({"app": app}), "web-1")
    assert set(NAMES.split()) <= set(found)
    assert list(found) == sorted(found)
    assert found["LAMPSTAND_SERVER"] == "web-1"
    assert found["DB_PORT"] == "3306"
    assert found["DB_REPLICA_PORT"] == "3307"
    assert found["APP_URL"] == "http://127.0.0.1:8000"


def test_the_site_file_wins() -> None:
    context = paper_context(
        {"app": {"env": {"DB_HOST": "elsewhere", "MODE": "x y"}, "url": "https://shop.example"}}
    )
    found = application_environment(context, "web-1")
    assert found["DB_HOST"] == "elsewhere"
    assert found["MODE"] == "x y"
    assert found["APP_URL"] == "https://shop.example"


def test_secrets_come_from_the_context_and_their_absence_is_an_error() -> None:
    site: dict[str, object] = {"app": {"secrets": ["STRIPE_KEY"]}}
    found = application_environment(paper_context(site, secrets={"env.STRIPE_KEY": "sk'\"$"}), "web-1")
    assert found["STRIPE_KEY"] == "sk'\"$"
    with pytest.raises(LampstandError, match="STRIPE_KEY has no value"):
        application_environment(paper_context(site), "web-1")


def test_every_variable_with_a_password_is_a_secret_one() -> None:
    context = paper_context({"app": {"secrets": ["K"]}}, secrets={"env.K": "<k>"})
    found = application_environment(context, "web-1")
    with_password = {name for name, value in found.items() if "<" in value or "%3C" in value}
    assert with_password <= secret_variables(context.site)
    assert "K" in secret_variables(context.site)


@given(password=st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))))
def test_any_password_survives_the_urls(password: str) -> None:
    context = paper_context({}, secrets={"database_app": password, "cache": password, "sessions": password})
    found = application_environment(context, "web-1")
    for name in ("DATABASE_URL", "DATABASE_REPLICA_URL", "REDIS_URL", "SESSION_REDIS_URL"):
        url = urlsplit(found[name])
        assert unquote(url.password or "") == password
        assert url.hostname == "127.0.0.1"
        assert isinstance(url.port, int)
    assert _auth(context) == password


def _auth(context: Context) -> str:
    return unquote(session_save_path(context).partition("auth=")[2])


def test_the_language_finds_the_packages_of_the_release() -> None:
    python = language_environment(Site.model_validate({"app": LANGUAGES[1]}), "/r", "/etc")
    assert python["PATH"].startswith("/r/.lampstand/venv/bin:")
    perl = language_environment(Site.model_validate({"app": LANGUAGES[2]}), "/r", "/etc")
    assert perl["PERL5LIB"] == "/r/lib:/r/local/lib/perl5"
    assert language_environment(Site(), "/r", "/etc")["PHPRC"] == "/etc"
