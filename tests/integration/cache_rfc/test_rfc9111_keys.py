"""RFC 9111 sections 2 and 4.1, RFC 9110 section 12.5.5: which answers belong to which requests."""

import gzip

import pytest

from tests.edge_support import Answer, Headers, RunningEdge

FRESH = ("Cache-Control", "max-age=3600")


def varying(edge: RunningEdge, *vary: str) -> str:
    """A page that varies."""
    return edge.page(Answer(headers=[FRESH, *(("Vary", v) for v in vary)]))


def asked(edge: RunningEdge, path: str, *requests: Headers) -> list[int]:
    """Numbers of the origin's answers for some requests."""
    return [edge.ask(path, headers).answer for headers in requests]


@pytest.mark.parametrize(
    "vary", [("*",), ("*, Foo",), ("Foo, *",), ("Foo", "*"), (" , * ,",), ("Foo,*,Bar",)]
)
def test_4_1_star_in_any_place_never_matches(edge: RunningEdge, vary: tuple[str, ...]) -> None:
    assert asked(edge, varying(edge, *vary), [("Foo", "1")], [("Foo", "1")]) == [1, 2]


def test_4_1_match_and_no_match(edge: RunningEdge) -> None:
    path = varying(edge, "Foo")
    assert asked(
        edge, path, [("Foo", "1")], [("Foo", "1")], [("Foo", "2")], [("Foo", "1")], [("Foo", "2")]
    ) == [1, 1, 2, 1, 2]


def test_4_1_an_absent_header_matches_only_an_absent_one(edge: RunningEdge) -> None:
    path = varying(edge, "Foo")
    assert asked(edge, path, [("Foo", "1")], [], []) == [1, 2, 2]


@pytest.mark.parametrize("vary", [("Foo, Bar",), ("Foo", "Bar"), ("foo,BAR",), ("Foo,, Bar ,",)])
def test_4_1_every_listed_header_counts(edge: RunningEdge, vary: tuple[str, ...]) -> None:
    path = varying(edge, *vary)
    one, two = [("Foo", "1"), ("Bar", "a")], [("Foo", "1"), ("Bar", "b")]
    assert asked(edge, path, one, list(reversed(one)), two, one, [("Foo", "1")], two) == [1, 1, 2, 1, 3, 2]


def test_4_1_other_headers_do_not_count(edge: RunningEdge) -> None:
    assert asked(
        edge, varying(edge, "Foo"), [("Foo", "1"), ("Other", "1")], [("Foo", "1"), ("Other", "2")]
    ) == [1, 1]


def test_4_1_lists_are_normalised(edge: RunningEdge) -> None:
    path = varying(edge, "Accept-Language")
    same: list[Headers] = [
        [("Accept-Language", "en, de;q=0.5")],
        [("Accept-Language", "en,de;q=0.5")],
        [("Accept-Language", "EN ,  de;q=0.5")],
        [("Accept-Language", "en"), ("Accept-Language", "de;q=0.5")],
    ]
    assert asked(edge, path, *same) == [1, 1, 1, 1]


def test_4_1_accept_encoding_is_one_of_two(edge: RunningEdge) -> None:
    path = varying(edge, "Accept-Encoding")
    assert asked(
        edge, path, [("Accept-Encoding", "gzip, deflate, br")], [("Accept-Encoding", "gzip")], []
    ) == [1, 1, 1]


def test_rfc9110_8_4_1_a_visitor_without_gzip_gets_plain_text(edge: RunningEdge) -> None:
    text = b"0123456789" * 300
    packed = Answer(
        headers=[FRESH, ("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")], body=gzip.compress(text)
    )
    path = edge.page(packed)
    assert gzip.decompress(edge.ask(path, [("Accept-Encoding", "gzip")]).body) == text
    assert edge.ask(path).body == text
    assert edge.origin.count(path) == 1


def test_2_the_query_is_part_of_the_key(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[FRESH]))
    assert [edge.ask(f"{path}{q}").answer for q in ("", "?a=1", "?a=2", "?a=1", "")] == [1, 2, 3, 2, 1]


def test_2_the_host_is_part_of_the_key(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[FRESH]))
    hosts = ["one.test", "two.test", "ONE.test", "one.test:80", "one.test."]
    assert [edge.ask(path, host=h).answer for h in hosts] == [1, 2, 1, 1, 1]
    assert edge.ask(path, host="one.test:8080").answer == 3


def test_2_head_and_get_share_an_answer(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[FRESH]))
    head = edge.ask(path, method="HEAD")
    assert (head.status, head.body, head.answer) == (200, b"", 1)
    assert edge.ask(path).answer == 1
    assert edge.origin.requests[path][0].method == "GET"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "M-SEARCH", "REPORT"])
def test_2_other_methods_reach_the_application(edge: RunningEdge, method: str) -> None:
    path = edge.page(Answer(headers=[FRESH]))
    body = None if method == "OPTIONS" else b"abc"
    assert [edge.ask(path, method=method, body=body).answer for _ in range(2)] == [1, 2]
    assert [r.method for r in edge.origin.requests[path]] == [method, method]
    assert [r.body for r in edge.origin.requests[path]] == [body or b""] * 2


def test_query_order_does_not_matter(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[FRESH]))
    assert [edge.ask(f"{path}?{q}").answer for q in ("b=2&a=1", "a=1&b=2", "a=1&&b=2&")] == [1, 1, 1]
    assert edge.origin.requests[path][0].target.endswith("?b=2&a=1"), (
        "the application sees the order of the visitor"
    )


def test_query_order_matters_where_a_name_is_repeated(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[FRESH]))
    assert [edge.ask(f"{path}?{q}").answer for q in ("a[]=2&a[]=1", "a[]=1&a[]=2", "a[]=2&a[]=1")] == [
        1,
        2,
        1,
    ]


def test_marketing_parameters_are_nobody_s(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[FRESH]))
    queries = ("a=1&utm_source=x", "utm_campaign=y&a=1&fbclid=z", "a=1")
    assert [edge.ask(f"{path}?{q}").answer for q in queries] == [1, 1, 1]
    assert edge.origin.requests[path][0].target == f"{path}?a=1", (
        "what is not in the key does not reach the application"
    )


POISON = [
    "X-Forwarded-Host", "X-Forwarded-Scheme", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server", "X-Host",
    "X-Original-URL", "X-Rewrite-URL", "X-Original-Host", "X-HTTP-Method-Override", "X-HTTP-Method",
    "X-Method-Override",
    "Forwarded", "Proxy", "X-Forwarded-Path", "Front-End-Https", "X-Forwarded-Ssl", "X-Url-Scheme",
]  # fmt: skip


@pytest.mark.parametrize("name", POISON)
def test_unkeyed_headers_do_not_reach_the_application(edge: RunningEdge, name: str) -> None:
    path = edge.page(Answer(headers=[FRESH]))
    edge.ask(path, [(name, "evil.test")])
    assert "evil" not in str(edge.origin.requests[path][0].headers)


def test_a_get_with_a_body_is_fetched_without_it(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[FRESH]))
    edge.ask(path, body=b"poison")
    assert edge.origin.requests[path][0].body == b""


def test_a_client_cannot_speak_to_the_edge_in_its_own_words(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[FRESH]))
    forged = [
        ("x-edge-key", "/other"),
        ("x-edge-rule", "9"),
        ("x-edge-mode", "stale"),
        ("x-edge-peer", "1"),
        ("x-edge-bypass", "1"),
    ]
    assert [edge.ask(path, forged).answer, edge.ask(path).answer] == [1, 1]
    assert not [n for n, _ in edge.origin.requests[path][0].headers if n.lower().startswith("x-edge")]


def test_cache_deception_by_a_suffix(edge: RunningEdge) -> None:
    """`/account/x.css` answered by the application for a visitor with a session is not kept for others."""
    path = edge.page(Answer(headers=[("Content-Type", "text/html")]), suffix="/x.css")
    assert edge.ask(path, [("Cookie", "session=1")]).answer == 1
    assert edge.ask(path).answer == 2
    path = edge.page(Answer(headers=[FRESH]), suffix="/x.css")
    assert edge.ask(path, [("Cookie", "session=1")]).answer == 1
    assert edge.ask(path).answer == 2
