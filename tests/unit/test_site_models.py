"""The models: defaults, shorthands, what does not fit together, what is matched, what is hidden."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lampstand.site import Site
from lampstand.site.app import STATIC_PATTERNS
from lampstand.site.cdn import Query, Rule, glob_matches
from lampstand.site.redact import HIDDEN, is_secret_name, redact, redact_text


def site(**tree: Any) -> Site:  # noqa: ANN401
    return Site.model_validate(tree)


def test_the_default_site() -> None:
    default = Site()
    assert [edge.name for edge in default.cdn.edges] == ["fra", "iad"]
    assert (default.balancer.servers, default.web.servers) == (1, 2)
    assert (default.database.replicas, default.cache.replicas, default.sessions.replicas) == (2, 1, 1)
    assert default.tls.enabled is False
    assert default.targets.local.bind == "127.0.0.1"
    assert default == site()


def test_a_site_is_immutable() -> None:
    with pytest.raises(ValidationError):
        Site().web.servers = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_keys_of_the_users_own() -> None:
    written = site(
        **{"x-a": 1, "app": {"x-b": {}, "jobs": {"x-c": 1}}, "cdn": {"rules": [{"x-d": [], "ttl": "1s"}]}}
    )
    assert written.app.jobs == {}
    assert written.cdn.rules[0].ttl == 1.0
    # A header is not ours to drop.
    assert site(cdn={"rules": [{"headers": {"x-frame-options": "DENY"}}]}).cdn.rules[0].headers == {
        "x-frame-options": "DENY"
    }


def test_shorthands() -> None:
    written = site(
        app={"static": "/s/*", "workers": {"mail": "php w.php"}, "uploads": "up"},
        cdn={"edges": ["ber"], "rules": [{"redirect": "/new/*", "match": "/old/*"}]},
        tls="local",
        balancer={"rate_limit": "30/m"},
    )
    assert written.app.static[0].match == ("/s/*",)
    assert written.app.workers["mail"].run == ("php", "w.php")
    assert written.app.uploads == ("up",)
    assert written.cdn.edge("ber").weight == 1
    assert written.cdn.rules[0].redirect is not None
    assert written.cdn.rules[0].redirect.status == 301
    assert written.tls.mode == "local"
    assert written.balancer.rate_limit.per_client == 0.5


def test_environment_values_are_text() -> None:
    env = site(app={"env": {"A": 1, "B": True, "C": "x", "D": 1.5, "E": "a\nb", "F": ""}}).app.env
    assert env == {"A": "1", "B": "true", "C": "x", "D": "1.5", "E": "a\nb", "F": ""}


def test_code_is_not_served() -> None:
    python = {"runtime": "python", "entry": "shop.wsgi:application"}
    assert site(app=python).app.static == ()
    assert site(app={**python, "root": "public"}).app.static[0].match == STATIC_PATTERNS
    assert site(app={**python, "static": ["/s/*"]}).app.static[0].match == ("/s/*",)
    assert site(app={"runtime": "perl", "entry": "app.psgi"}).app.static == ()
    assert site().app.static[0].match == STATIC_PATTERNS


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"app": {"runtime": "python"}}, "needs its entry; add `entry: shop.wsgi:application`"),
    ({"app": {"runtime": "perl"}}, "needs its entry; add `entry: app.psgi`"),
    ({"app": {"runtime": "python", "entry": "wsgi.py"}}, "is not MODULE:NAME"),
    ({"app": {"runtime": "python", "entry": "a:b; import os"}}, "is not MODULE:NAME"),
    ({"app": {"entry": "a\nb"}}, "line break"),
    ({"app": {"env": {"K": "1"}, "secrets": ["K"]}}, "`K` is in app.env and in app.secrets"),
    ({"cdn": {"shield": "ber"}}, r"the shield `ber` is not an edge; choose one of the edges \(fra, iad\)"),
    ({"cdn": {"edges": ["a", "a"]}}, "two edges are called `a`"),
    ({"cdn": {"rules": [{"bypass": True, "ttl": "1s"}]}}, "bypasses the cache has no ttl"),
    ({"cdn": {"rules": [{"query": {"keep": [], "drop": []}}]}}, "exclude each other"),
    ({"cdn": {"rules": [{"query": "most"}]}}, "write all, none"),
    ({"cdn": {"rules": [{"headers": {"X": "a\r\nSet-Cookie: b"}}]}}, "line break or a control character"),
    ({"cdn": {"rules": [{"redirect": "javascript:x"}]}}, "pattern"),
    ({"web": {"surge": 0}}, "no server could be replaced"),
    ({"web": {"servers": 4, "max_servers": 2}}, "max_servers is less than servers"),
    ({"tls": {"mode": "own"}}, "add `certificate` and `key`"),
    ({"tls": {"mode": "acme"}}, "names to ask a certificate for"),
    ({"targets": {"local": {"bind": "localhost"}}}, "is not an IP address"),
    ({"database": {"name": "a`b"}}, "pattern"),
    ({"database": {"settings": {"a\nb": 1}}}, "pattern"),
    ({"app": {"php_ini": {"memory_limit": "1\n2"}}}, "line break"),
]


@pytest.mark.parametrize(("tree", "what"), WRONG)
def test_what_does_not_fit_together(tree: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        site(**tree)


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("/assets/*", "/assets/a/b.css", True),
        ("/assets/*", "/assets", False),
        ("*.css", "/a/b.css", True),
        ("*.css", "/a/b.css.map", False),
        ("/a?c", "/abc", True),
        ("/a.c", "/abc", False),
        ("/A", "/a", False),
        ("*", "/", True),
        ("/a+(b)$", "/a+(b)$", True),
    ],
)
def test_path_patterns(glob: str, path: str, matches: bool) -> None:
    assert glob_matches(glob, path) is matches


@given(st.text(), st.text())
def test_a_pattern_is_never_a_regular_expression(glob: str, text: str) -> None:
    if "*" not in glob and "?" not in glob:
        assert glob_matches(glob, text) == (glob == text)
        assert glob_matches(glob, glob)
    assert glob_matches(glob + "*", glob + text)


def test_the_first_rule_that_matches_is_the_only_one() -> None:
    cdn = site(
        cdn={
            "rules": [
                {"match": "/api/*", "methods": "GET", "ttl": "1s"},
                {"match": "/api/*", "bypass": True},
                {"ttl": "1m"},
            ]
        }
    ).cdn
    first, second, third = cdn.rules
    assert cdn.rule_for("/api/x") is first
    assert cdn.rule_for("/api/x", "POST") is second
    assert cdn.rule_for("/") is third
    assert Site().cdn.rule_for("/") is None


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("all", {"a", "utm_x"}),
        ("none", set[str]()),
        ({"keep": ["a"]}, {"a"}),
        ({"drop": ["utm_*"]}, {"a"}),
        ({"keep": []}, set[str]()),
        ({"drop": []}, {"a", "utm_x"}),
    ],
)
def test_queries(written: object, kept: set[str]) -> None:
    query = Query.model_validate(written)
    assert {p for p in ("a", "utm_x") if query.keeps(p)} == kept
    assert Query.model_validate(query.model_dump()) == query


def test_a_rule_without_keys_is_for_everything() -> None:
    assert Rule().matches("/any", "DELETE")


def test_what_is_written_reads_back() -> None:
    written = site(
        site="shop",
        app={"release": "a && b", "build": ["x", "y z"], "env": {"A": "1"}, "start_timeout": "90s"},
        cdn={"edges": [{"name": "ber", "memory": "1GiB"}], "rules": [{"ttl": "1y", "query": "none"}]},
        deploy={"canary": "12.5%"},
        balancer={"rate_limit": {"per_client": "90/m"}},
    )
    text = written.model_dump(mode="json", exclude_none=True)
    assert text["app"]["start_timeout"] == "1m30s"
    assert text["cdn"]["edges"][0]["memory"] == "1GiB"
    assert text["app"]["release"] == "a && b"
    assert text["app"]["build"] == "x 'y z'"
    assert Site.model_validate(text) == written


def test_secrets_are_hidden() -> None:
    shown = site(
        app={
            "env": {
                "DB_PASSWORD": "hunter1",
                "API_TOKEN": "hunter2",
                "APP_KEY": "hunter3",
                "URL": "mysql://u:hunter4@db/x",
                "APP_ENV": "prod",
            },
            "secrets": ["STRIPE_KEY"],
            "release": "migrate --password=hunter5 --token 'hunter6' --env prod",
            "php_ini": {"some.secret": "hunter7"},
        },
        cdn={"rules": [{"headers": {"Authorization": "Bearer hunter8", "X-Note": "Bearer hunter9"}}]},
        hooks={"after_deploy": "curl -H 'Authorization: Bearer hunter10' https://u:hunter11@example.com/"},
        tls={"mode": "own", "key": "tls/key.pem", "certificate": "tls/c.pem"},
    ).redacted()
    text = repr(shown)
    assert "hunter" not in text
    app: Any = shown["app"]
    assert app["env"]["APP_ENV"] == "prod"
    assert app["env"]["URL"] == f"mysql://u:{HIDDEN}@db/x"
    assert app["secrets"] == ["STRIPE_KEY"]
    assert "--env prod" in app["release"]
    tls: Any = shown["tls"]
    assert tls["key"] == "tls/key.pem"


@pytest.mark.parametrize(
    "name", ["DB_PASSWORD", "APP_KEY", "X-Api-Key", "secret", "AWS_SECRET_ACCESS_KEY", "Cookie", "SENTRY_DSN"]
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["APP_ENV", "KEYBOARD", "PASSENGER_COUNT", "MONKEY", "AUTHOR"])
def test_names_of_no_secrets(name: str) -> None:
    assert not is_secret_name(name)


@given(
    st.recursive(
        st.text() | st.integers() | st.none(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
        max_leaves=10,
    )
)
def test_redacting_keeps_the_shape_and_is_done_once(tree: object) -> None:
    once = redact(tree)
    assert type(once) is type(tree)
    assert redact(once) == once


def test_text_without_secrets_stays() -> None:
    for text in ("php bin/migrate.php --force", "https://example.com/a:b@c", "npm ci && npm run build"):
        assert redact_text(text) == text
