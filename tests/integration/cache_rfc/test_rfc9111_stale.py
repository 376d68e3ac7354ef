"""RFC 9111 sections 4.2.4 and 4.3, RFC 5861: answers that have become too old, and what asks about them."""

import gzip
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from tests.edge_support import Answer, Reply, Request, RunningEdge, http_date
from tests.support import eventually

SCENARIOS: dict[str, Callable[[RunningEdge], None]] = {}
OLD = http_date(-86_400)


def scenario(function: Callable[[RunningEdge], None]) -> Callable[[RunningEdge], None]:
    """Registers a scenario by its name."""
    SCENARIOS[function.__name__] = function
    return function


def lasting(directives: str, *headers: tuple[str, str], body: bytes | None = None) -> Answer:
    """An answer with these directives."""
    return Answer(headers=[("Cache-Control", directives), *headers], body=body)


def second(edge: RunningEdge, first: Answer, then: Answer | Callable[[Request], Answer]) -> tuple[str, Reply]:
    """The path, and the reply after the first answer has become too old."""
    path = edge.page(first, then)
    assert edge.ask(path).answer == 1
    edge.until_old(path)
    return path, edge.ask(path)


@scenario
def s4_2_4_old_is_not_given(edge: RunningEdge) -> None:
    _, reply = second(edge, lasting("max-age=1"), lasting("max-age=60"))
    assert (reply.answer, reply.cache) == (2, "miss")
    assert "fwd=stale" in (reply.header("Cache-Status") or "")


@scenario
def s4_2_4_old_is_given_when_the_origin_is_gone(edge: RunningEdge) -> None:
    _, reply = second(edge, lasting("max-age=1"), Answer(close=True))
    assert (reply.status, reply.answer, reply.cache) == (200, 1, "stale")
    assert int(reply.header("Age") or 0) >= 1


@scenario
def s4_2_4_old_is_given_instead_of_a_503(edge: RunningEdge) -> None:
    for status in (500, 502, 503, 504):
        _, reply = second(edge, lasting("max-age=1"), Answer(status))
        assert (reply.status, reply.answer) == (200, 1), status


@scenario
def s4_2_4_a_404_is_no_failure(edge: RunningEdge) -> None:
    _, reply = second(edge, lasting("max-age=1"), Answer(404))
    assert reply.status == 404


def _never_old(directives: str) -> Callable[[RunningEdge], None]:
    def run(edge: RunningEdge) -> None:
        for failure in (Answer(close=True), Answer(503)):
            _, reply = second(edge, lasting(directives), failure)
            assert reply.status in (502, 503), reply
            assert reply.cache != "stale"

    return run


for _name, _directives in {
    "s5_2_2_2_must_revalidate": "max-age=1, must-revalidate",
    "s5_2_2_8_proxy_revalidate": "max-age=1, proxy-revalidate",
    "s5_2_2_10_s_maxage": "s-maxage=1",
    "rfc5861_4_stale_if_error_yields_to_must_revalidate": "max-age=1, must-revalidate, stale-if-error=60",
    "rfc5861_4_stale_if_error_is_over": "max-age=1, stale-if-error=0",
}.items():
    SCENARIOS[_name] = _never_old(_directives)


@scenario
def rfc5861_4_stale_if_error(edge: RunningEdge) -> None:
    for directives in ("max-age=1, stale-if-error=60", "s-maxage=1, stale-if-error=60"):
        _, reply = second(edge, lasting(directives), Answer(close=True))
        assert (reply.status, reply.answer, reply.cache) == (200, 1, "stale")


@scenario
def rfc5861_3_stale_while_revalidate(edge: RunningEdge) -> None:
    path, reply = second(edge, lasting("max-age=1, stale-while-revalidate=60"), lasting("max-age=60"))
    assert (reply.answer, reply.cache) == (1, "stale")
    eventually(lambda: edge.ask(path).answer == 2, 5)


@scenario
def rfc5861_3_a_failed_revalidation_keeps_the_old_one(edge: RunningEdge) -> None:
    path, reply = second(edge, lasting("max-age=1, stale-while-revalidate=60"), Answer(503))
    assert reply.answer == 1
    eventually(lambda: edge.origin.count(path) >= 2, 5)
    assert edge.ask(path).answer == 1


@scenario
def rfc5861_3_yields_to_must_revalidate(edge: RunningEdge) -> None:
    _, reply = second(
        edge, lasting("max-age=1, stale-while-revalidate=60, must-revalidate"), lasting("max-age=60")
    )
    assert reply.answer == 2


@scenario
def rfc5861_3_max_age_0_with_stale_while_revalidate(edge: RunningEdge) -> None:
    path = edge.page(lasting("max-age=0, stale-while-revalidate=60"))
    assert edge.ask(path).answer == 1
    eventually(lambda: edge.ask(path).cache == "stale", 5)


@scenario
def rfc8246_2_immutable_says_nothing_about_age(edge: RunningEdge) -> None:
    _, reply = second(edge, lasting("max-age=1, immutable"), lasting("max-age=60"))
    assert reply.answer == 2


# --- 4.3 validation -----------------------------------------------------------------------------------------


def _validated(validator: tuple[str, str], asked: str, expected: str) -> Callable[[RunningEdge], None]:
    def run(edge: RunningEdge) -> None:
        first = lasting("max-age=1", validator, ("X-Kept", "1"), ("X-Changed", "1"))
        path, reply = second(
            edge, first, Answer(304, [("Cache-Control", "max-age=60"), validator, ("X-Changed", "2")])
        )
        assert edge.origin.requests[path][1].header(asked) == expected
        assert (reply.status, reply.body) == (200, f"answer 1 to {path}\n".encode())
        assert (reply.header("X-Kept"), reply.header("X-Changed")) == ("1", "2")
        assert reply.header("Cache-Control") == "max-age=60"
        assert "fwd-status=304" in (reply.header("Cache-Status") or "")
        third = edge.ask(path)
        assert (third.cache, edge.origin.count(path)) == ("hit", 2)
        assert (third.header("X-Kept"), third.header("X-Changed")) == ("1", "2")

    return run


SCENARIOS["s4_3_1_if_none_match"] = _validated(("ETag", '"v1"'), "If-None-Match", '"v1"')
SCENARIOS["s4_3_1_if_none_match_weak"] = _validated(("ETag", 'W/"v1"'), "If-None-Match", 'W/"v1"')
SCENARIOS["s4_3_1_if_modified_since"] = _validated(("Last-Modified", OLD), "If-Modified-Since", OLD)

UPDATED = {
    "Content-Type": ("text/plain", "text/plain;charset=utf-8"),
    "Content-Location": ("/foo", "/bar"),
    "Content-Security-Policy": ("default-src 'self'", "default-src 'none'"),
    "Content-Disposition": ("inline", "attachment"),
    "Content-MD5": ("rL0Y20zC+Fzt72VPzMSk2A==", "N7UdGUp1E+RbVvZSTy1R8g=="),
    "Content-Foo": ("a", "b"),
    "X-Content-Foo": ("a", "b"),
    "Expires": (http_date(1), http_date(3600)),
    "X-Frame-Options": ("deny", "sameorigin"),
    "Clear-Site-Data": ("cache", "cookies"),
    "Link": ("</a>; rel=preload", "</b>; rel=preload"),
}


def _updated(name: str, before: str, after: str) -> Callable[[RunningEdge], None]:
    def run(edge: RunningEdge) -> None:
        path, reply = second(
            edge,
            lasting("max-age=1", ("ETag", '"1"'), (name, before)),
            Answer(304, [("Cache-Control", "max-age=60"), ("ETag", '"1"'), (name, after)]),
        )
        assert reply.header(name) == after
        assert edge.ask(path).header(name) == after
        assert edge.origin.count(path) == 2

    return run


for _header, (_before, _after) in UPDATED.items():
    SCENARIOS[f"s3_2_update_of_{_header}"] = _updated(_header, _before, _after)


@scenario
def s3_2_content_length_is_not_updated(edge: RunningEdge) -> None:
    path, reply = second(
        edge,
        lasting("max-age=1", ("ETag", '"1"'), body=b"12345"),
        Answer(304, [("Cache-Control", "max-age=60"), ("ETag", '"1"'), ("Content-Length", "10")]),
    )
    assert (reply.header("Content-Length"), reply.body) == ("5", b"12345")
    again = edge.ask(path)
    assert (again.cache, again.body) == ("hit", b"12345")


@scenario
def s3_2_content_encoding_is_not_updated(edge: RunningEdge) -> None:
    path, _ = second(
        edge,
        lasting("max-age=1", ("ETag", '"1"'), body=b"12345"),
        Answer(304, [("Cache-Control", "max-age=60"), ("ETag", '"1"'), ("Content-Encoding", "br")]),
    )
    again = edge.ask(path)
    assert (again.status, again.body) == (200, b"12345")
    assert again.header("Content-Encoding") is None


@scenario
def s3_2_a_compressed_answer_stays_what_it_is(edge: RunningEdge) -> None:
    text = b"a line of text\n" * 200
    path, reply = second(
        edge,
        lasting("max-age=1", ("ETag", '"1"'), ("Content-Type", "text/plain"), body=text),
        Answer(304, [("Cache-Control", "max-age=60"), ("ETag", '"1"')]),
    )
    assert (reply.header("Content-Encoding"), reply.body) == (None, text)
    packed = edge.ask(path, [("Accept-Encoding", "gzip")])
    assert (packed.cache, packed.header("Content-Encoding")) == ("hit", "gzip")
    assert gzip.decompress(packed.body) == text
    assert edge.origin.count(path) == 2


@scenario
def s4_3_3_a_full_answer_replaces(edge: RunningEdge) -> None:
    path, reply = second(
        edge, lasting("max-age=1", ("ETag", '"1"'), ("X-Old", "1")), lasting("max-age=60", ("ETag", '"2"'))
    )
    assert (reply.answer, reply.header("ETag"), reply.header("X-Old")) == (2, '"2"', None)
    assert edge.ask(path).answer == 2


@scenario
def s4_3_4_age_starts_again(edge: RunningEdge) -> None:
    _, reply = second(
        edge,
        lasting("max-age=1", ("ETag", '"1"')),
        lambda _: Answer(304, [("Cache-Control", "max-age=60"), ("ETag", '"1"')]),
    )
    assert int(reply.header("Age") or 0) <= 1


@scenario
def s4_3_4_a_304_that_says_no_store(edge: RunningEdge) -> None:
    path, reply = second(
        edge,
        lasting("max-age=1", ("ETag", '"1"')),
        Answer(304, [("Cache-Control", "no-store"), ("ETag", '"1"')]),
    )
    assert (reply.status, edge.origin.count(path)) == (200, 2)
    edge.ask(path)
    assert edge.origin.count(path) > 2


@scenario
def s4_3_1_the_request_asked_about_carries_its_vary_headers(edge: RunningEdge) -> None:
    path = edge.page(
        lasting("max-age=1", ("ETag", '"1"'), ("Vary", "Abc")),
        Answer(304, [("Cache-Control", "max-age=60"), ("ETag", '"1"')]),
    )
    edge.ask(path, [("Abc", "123")])
    edge.until_old(path, [("Abc", "123")])
    assert edge.ask(path, [("Abc", "123")]).status == 200
    asked = edge.origin.requests[path][1]
    assert (asked.header("Abc"), asked.header("If-None-Match")) == ("123", '"1"')


@scenario
def s4_3_5_head_of_something_old(edge: RunningEdge) -> None:
    path = edge.page(lasting("max-age=1"), lasting("max-age=60"))
    edge.ask(path)
    edge.until_old(path)
    assert edge.ask(path, method="HEAD").answer == 2
    assert edge.ask(path).answer == 2


@scenario
def s4_collapsed_revalidation(edge: RunningEdge) -> None:
    path, _ = second(
        edge,
        lasting("max-age=1", ("ETag", '"1"')),
        Answer(304, [("Cache-Control", "max-age=60"), ("ETag", '"1"')]),
    )
    assert [edge.ask(path).cache for _ in range(5)] == ["hit"] * 5
    assert edge.origin.count(path) == 2


@scenario
def s4_3_3_a_503_with_credentials_of_nobody(edge: RunningEdge) -> None:
    path, reply = second(edge, lasting("max-age=1, public"), Answer(503))
    assert reply.answer == 1
    assert edge.ask(path, [("Cookie", "session=1")]).answer == 1


@pytest.mark.parametrize("name", SCENARIOS)
def test_rfc(outcomes: dict[str, Future[None]], name: str) -> None:
    outcomes[name].result(60)
