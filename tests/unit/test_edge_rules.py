"""The pure model of cache rules: first match, cache keys, explanations."""

from string import ascii_letters

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lampstand.site import Query, Site
from lampstand.tiers.edge.rules import (
    MAX_SORTED,
    behaviours,
    choose,
    explain,
    fetched_url,
    key_url,
    normal_host,
    parameter_name,
    split_url,
)

ALL = Query(drop=())
NAMES = st.sampled_from(["a", "b", "c", "page", "utm_source", "a[]", "q", ""])
PARAMETERS = st.builds(
    lambda n, eq, v: f"{n}{eq}{v if eq else ''}",
    NAMES,
    st.sampled_from(["", "="]),
    st.text(ascii_letters + "0=%.", max_size=3),
)
QUERIES = st.lists(PARAMETERS, max_size=8).map("&".join)
POLICIES = st.sampled_from(
    [ALL, Query(drop=("utm_*",)), Query(keep=("a", "page*")), Query(keep=()), Query(drop=("?",))]
)


def site(**cdn: object) -> Site:
    return Site.model_validate({"site": "shop", "cdn": cdn})


# --- keys ---------------------------------------------------------------------------------------------------


@given(QUERIES, POLICIES)
def test_a_key_is_a_fixed_point(query: str, policy: Query) -> None:
    key = key_url(f"/x?{query}", policy)
    assert key_url(key, policy) == key


@given(QUERIES, POLICIES)
def test_what_is_not_in_the_key_is_not_fetched(query: str, policy: Query) -> None:
    """The same parameters, order aside: nothing unkeyed reaches the application."""
    url = f"/x?{query}"
    assert sorted(split_url(fetched_url(url, policy))[1]) == sorted(split_url(key_url(url, policy))[1])
    assert all(policy.keeps(parameter_name(p)) for p in split_url(fetched_url(url, policy))[1])


@given(QUERIES, QUERIES)
def test_equal_keys_mean_equal_requests(one: str, two: str) -> None:
    """For each name the values in their order are the same, and so is every parameter."""

    def by_name(query: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for parameter in (p for p in query.split("&") if p):
            found.setdefault(parameter_name(parameter), []).append(parameter)
        return found

    if key_url(f"/x?{one}", ALL) == key_url(f"/x?{two}", ALL):
        assert by_name(one) == by_name(two)


@given(st.permutations(["a=1", "b=2", "c", "page=3"]))
def test_order_does_not_matter(parameters: list[str]) -> None:
    assert key_url("/x?" + "&".join(parameters), ALL) == "/x?a=1&b=2&c&page=3"


def test_order_matters_where_a_name_is_repeated() -> None:
    assert key_url("/x?b=2&b=1&a=0", ALL) == "/x?b=2&b=1&a=0"


def test_very_long_queries_are_left_alone() -> None:
    names = [f"p{n}" for n in range(MAX_SORTED + 1, 0, -1)]
    assert key_url("/x?" + "&".join(names), ALL) == "/x?" + "&".join(names)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("/x", "/x"),
        ("/x?", "/x"),
        ("/x?&&", "/x"),
        ("/x?a#b?c", "/x?a"),
        ("/a&b?c", "/a&b?c"),
        ("/x?a=b?c=d", "/x?a=b?c=d"),
        ("/x?=1", "/x?=1"),
    ],
)
def test_forms_of_urls(url: str, key: str) -> None:
    assert key_url(url, ALL) == key


@pytest.mark.parametrize(
    ("host", "scheme", "normal"),
    [
        ("Example.COM", "http", "example.com"),
        ("example.com:80", "http", "example.com"),
        ("example.com:443", "http", "example.com:443"),
        ("example.com:443", "https", "example.com"),
        ("example.com.", "http", "example.com"),
        ("127.0.0.1:8080", "http", "127.0.0.1:8080"),
        ("[::1]:80", "http", "[::1]"),
        ("[::1]:8080", "http", "[::1]:8080"),
    ],
)
def test_hosts(host: str, scheme: str, normal: str) -> None:
    assert normal_host(host, scheme) == normal


# --- rules --------------------------------------------------------------------------------------------------


def test_the_first_match_wins_and_something_always_matches() -> None:
    many = behaviours(site(rules=[{"match": "/a/b/*", "ttl": "1h"}, {"match": "/a/*", "bypass": True}]))
    assert [choose(many, p)[1].name for p in ("/a/b/c", "/a/c", "/x.css", "/")] == [
        "cdn.rules[0]",
        "cdn.rules[1]",
        "static files",
        "default",
    ]


def test_defaults_of_the_site_and_words_of_the_rule() -> None:
    cdn = site(
        stale_while_revalidate="1m",
        stale_if_error="1h",
        rules=[{"match": "/a", "stale_if_error": "0s"}, {"match": "/b"}],
    )
    first, second, *_ = behaviours(cdn)
    assert (first.stale_while_revalidate, first.stale_if_error) == (60, 0)
    assert (second.stale_while_revalidate, second.stale_if_error) == (60, 3600)


@pytest.mark.parametrize("preset", ["wordpress", "mediawiki", "drupal", "django"])
def test_presets_keep_sessions_out(preset: str) -> None:
    many = behaviours(site(preset=preset))
    assert many[-1].bypass_cookies
    assert not many[-1].match


@pytest.mark.parametrize(
    ("preset", "path", "name"),
    [
        ("wordpress", "/wp-admin/index.php", "wordpress: admin"),
        ("wordpress", "/wp-login.php", "wordpress: admin"),
        ("wordpress", "/wp-content/themes/x/style.css", "wordpress: assets"),
        ("wordpress", "/2024/01/hello/", "wordpress: pages"),
        ("wordpress", "/wp-content/uploads/2024/a.jpg", "static files"),
        ("drupal", "/user/login", "drupal: admin"),
        ("django", "/admin/login/", "django: admin"),
        ("django", "/static/site.0123456789ab.css", "django: hashed files"),
        ("mediawiki", "/wiki/Main_Page", "default"),
    ],
)
def test_presets(preset: str, path: str, name: str) -> None:
    assert choose(behaviours(site(preset=preset)), path)[1].name == name


# --- explain ------------------------------------------------------------------------------------------------


def test_explain_says_which_rule_and_what_key() -> None:
    shop = site(
        rules=[{"match": "/shop/*", "ttl": "1h", "vary_cookies": "currency", "query": {"keep": ["page"]}}]
    )
    said = explain(shop, "https://Shop.test/shop/x?b=1&page=2")
    assert (said.behaviour.name, said.position) == ("cdn.rules[0]", 0)
    assert said.key == "https://shop.test/shop/x?page=2 cookie:currency"
    assert (said.fetched, said.dropped) == ("/shop/x?page=2", ("b=1",))
    assert said.reasons[0].startswith("kept for 3600 s")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"url": "/api/x"}, "bypasses"),
        ({"url": "/old"}, "redirect"),
        ({"url": "/x", "method": "POST"}, "removes this URL"),
        ({"url": "/x", "cookies": ("wordpress_logged_in_1",)}, "wordpress_logged_in_1"),
    ],
)
def test_explain_says_why(arguments: dict[str, str], word: str) -> None:
    shop = site(
        preset="wordpress", rules=[{"match": "/api/*", "bypass": True}, {"match": "/old", "redirect": "/new"}]
    )
    assert word in explain(shop, **arguments).reasons[0]  # type: ignore[arg-type]


def test_explain_says_whose_answers_are_shared() -> None:
    text = " ".join(explain(site(), "/x", cookies=("session",), authorization=True).reasons)
    assert "with Authorization" in text
    assert "with cookies" in text
