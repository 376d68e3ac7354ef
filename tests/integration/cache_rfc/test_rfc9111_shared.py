"""RFC 9111 sections 3.5 and 7, RFC 9213: what may be shared between visitors."""

import pytest

from tests.edge_support import Answer, Headers, RunningEdge

AUTHORIZED: Headers = [("Authorization", "Basic dTpw")]
COOKIE: Headers = [("Cookie", "session=1")]
WITH_ARGUMENT = ["public, max-age=60", "s-maxage=60"]


def page(edge: RunningEdge, directives: str, *headers: tuple[str, str]) -> str:
    """A page with these directives."""
    return edge.page(Answer(headers=[("Cache-Control", directives), *headers]))


def test_3_5_an_authorized_answer_is_not_shared(edge: RunningEdge) -> None:
    path = page(edge, "max-age=60")
    assert edge.ask(path, AUTHORIZED).answer == 1
    assert edge.ask(path).answer == 2
    assert edge.ask(path, AUTHORIZED).answer == 3
    assert edge.ask(path).answer == 2


@pytest.mark.parametrize("directives", [*WITH_ARGUMENT, "max-age=60, must-revalidate"])
def test_3_5_unless_it_says_so(edge: RunningEdge, directives: str) -> None:
    path = page(edge, directives)
    assert [edge.ask(path, AUTHORIZED).answer, edge.ask(path).answer, edge.ask(path, AUTHORIZED).answer] == [
        1,
        1,
        1,
    ]


def test_an_answer_to_cookies_is_not_shared(edge: RunningEdge) -> None:
    path = page(edge, "max-age=60")
    assert [edge.ask(path, COOKIE).answer, edge.ask(path).answer, edge.ask(path, COOKIE).answer] == [1, 2, 3]


@pytest.mark.parametrize("directives", WITH_ARGUMENT)
def test_an_answer_to_cookies_is_shared_where_it_says_so(edge: RunningEdge, directives: str) -> None:
    path = page(edge, directives)
    assert [edge.ask(path, COOKIE).answer, edge.ask(path).answer, edge.ask(path, COOKIE).answer] == [1, 1, 1]


def test_must_revalidate_says_nothing_about_cookies(edge: RunningEdge) -> None:
    path = page(edge, "max-age=60, must-revalidate")
    assert [
        edge.ask(path, COOKIE).answer,
        edge.ask(path, [*COOKIE, *AUTHORIZED]).answer,
        edge.ask(path).answer,
    ] == [1, 2, 3]


def test_cookies_of_statistics_are_no_session(edge: RunningEdge) -> None:
    path = page(edge, "max-age=60")
    assert [edge.ask(path, [("Cookie", "_ga=1; _fbp=2")]).answer, edge.ask(path).answer] == [1, 1]
    assert edge.origin.requests[path][0].header("Cookie") is None


@pytest.mark.parametrize("directives", ["max-age=60", "public, max-age=60", "s-maxage=60"])
def test_7_3_set_cookie_is_never_shared(edge: RunningEdge, directives: str) -> None:
    path = page(edge, directives, ("Set-Cookie", "session=1"))
    assert [edge.ask(path).answer, edge.ask(path).answer] == [1, 2]


def test_7_3_not_even_from_a_cdn_header(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[("CDN-Cache-Control", "max-age=60"), ("Set-Cookie", "a=b")]))
    assert [edge.ask(path).answer, edge.ask(path).answer] == [1, 2]


TARGETED_CACHED = [
    ("max-age=3600", ""),
    ("max-age=3600", "no-store"),
    ("max-age=3600", "max-age=0"),
    ("max-age=99999999999", ""),
    ("foobar, max-age=3600", ""),
    ("max-age=3600; x=1", "no-store"),
    ('ext="a, b", max-age=3600', "no-store"),
]
TARGETED_NOT = [
    ("max-age=0", "max-age=3600"),
    ("private", "max-age=3600"),
    ("no-cache", "max-age=3600"),
    ("no-store", "max-age=3600"),
    ("max-age=3600, &&&&", "no-store"),
    ('max-age="3600"', "no-store"),
    ("max-age =3600", "max-age=0"),
    ("max-age= 3600", "max-age=0"),
    ("MAX-AGE=3600", "max-age=0"),
    ("", "no-store"),
]


def targeted(edge: RunningEdge, cdn: str, general: str) -> bool:
    """Whether a second request is answered without the origin."""
    path = edge.page(
        Answer(headers=[("CDN-Cache-Control", cdn), *([("Cache-Control", general)] if general else [])])
    )
    assert edge.ask(path).header("CDN-Cache-Control") == (cdn or None) or not cdn
    edge.ask(path)
    return edge.origin.count(path) == 1


@pytest.mark.parametrize(("cdn", "general"), TARGETED_CACHED)
def test_rfc9213_2_1_cdn_cache_control_alone_counts(edge: RunningEdge, cdn: str, general: str) -> None:
    assert targeted(edge, cdn, general)


@pytest.mark.parametrize(("cdn", "general"), TARGETED_NOT)
def test_rfc9213_2_1_prohibitions_and_malformed_fields(edge: RunningEdge, cdn: str, general: str) -> None:
    assert not targeted(edge, cdn, general)


def test_rfc9213_2_1_a_malformed_field_is_as_if_absent(edge: RunningEdge) -> None:
    assert targeted(edge, "max-age=0, &&&&", "max-age=3600")


def test_rfc9213_2_1_expires_does_not_count_beside_it(edge: RunningEdge) -> None:
    path = edge.page(
        Answer(headers=[("CDN-Cache-Control", "max-age=0"), ("Expires", "Thu, 18 Aug 2050 02:01:18 GMT")])
    )
    assert [edge.ask(path).answer, edge.ask(path).answer] == [1, 2]


def test_5_4_pragma_in_an_answer_forbids_guessing(edge: RunningEdge) -> None:
    old = ("Last-Modified", "Thu, 18 Aug 2005 02:01:18 GMT")
    path = edge.page(Answer(headers=[("Pragma", "no-cache"), old]))
    assert [edge.ask(path).answer, edge.ask(path).answer] == [1, 2]


@pytest.mark.parametrize(
    "header", [("Cache-Control", "no-cache"), ("Pragma", "no-cache"), ("Cache-Control", "max-age=0")]
)
def test_5_2_1_requests_cannot_make_the_edge_ask_again(edge: RunningEdge, header: tuple[str, str]) -> None:
    path = page(edge, "max-age=60")
    assert [edge.ask(path).answer, edge.ask(path, [header]).answer] == [1, 1]


def test_5_2_1_7_only_if_cached(edge: RunningEdge) -> None:
    path = page(edge, "max-age=60")
    assert edge.ask(path, [("Cache-Control", "only-if-cached")]).status == 504
    assert edge.origin.count(path) == 0
    edge.ask(path)
    assert edge.ask(path, [("Cache-Control", "only-if-cached")]).answer == 1


def test_5_2_2_5_a_newer_no_store_does_not_touch_what_is_kept(edge: RunningEdge) -> None:
    path = edge.page(
        Answer(headers=[("Cache-Control", "max-age=60")]), Answer(headers=[("Cache-Control", "no-store")])
    )
    assert edge.ask(path).answer == 1
    assert edge.ask(path, AUTHORIZED).answer == 2
    assert edge.ask(path).answer == 1
