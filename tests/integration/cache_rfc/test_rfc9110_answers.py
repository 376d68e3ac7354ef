"""RFC 9110 (conditional requests, ranges, fields), RFC 9211 (Cache-Status): what a visitor gets from the cache."""

import http.client
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.edge_support import Answer, RunningEdge, http_date
from tests.support import eventually

FRESH = ("Cache-Control", "max-age=3600")
BODY = b"0123456789A"


def kept(
    edge: RunningEdge, *headers: tuple[str, str], body: bytes = BODY, directives: str = "max-age=3600"
) -> str:
    """A page that is in the cache."""
    path = edge.page(Answer(headers=[("Cache-Control", directives), *headers], body=body))
    first = edge.ask(path)
    assert (first.status, first.answer, first.cache) == (200, 1, "miss"), first
    return path


# --- 13: conditional requests -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("etag", "asked", "status"),
    [
        ('"abc"', '"abc"', 304),
        ('W/"abc"', 'W/"abc"', 304),
        ('"abc"', 'W/"abc"', 304),
        ('"abc"', '"x", "abc", "y"', 304),
        ('"abc"', '"x", "y", "abc"', 304),
        ('"abc"', "*", 304),
        ('"abc"', '"abcd"', 200),
        ('"abc"', '"x"', 200),
    ],
)
def test_13_1_2_if_none_match(edge: RunningEdge, etag: str, asked: str, status: int) -> None:
    path = kept(edge, ("ETag", etag))
    reply = edge.ask(path, [("If-None-Match", asked)])
    assert (reply.status, reply.cache, edge.origin.count(path)) == (status, "hit", 1)
    assert reply.header("ETag") == etag
    assert reply.body == (b"" if status == 304 else BODY)


def test_13_1_3_if_modified_since(edge: RunningEdge) -> None:
    changed = http_date(-5000)
    path = kept(edge, ("Last-Modified", changed))
    assert edge.ask(path, [("If-Modified-Since", changed)]).status == 304
    assert edge.ask(path, [("If-Modified-Since", http_date(-10))]).status == 304
    assert edge.ask(path, [("If-Modified-Since", http_date(-9000))]).status == 200
    assert edge.ask(path, [("If-Modified-Since", "yesterday")]).status == 200


def test_13_2_2_if_none_match_before_if_modified_since(edge: RunningEdge) -> None:
    path = kept(edge, ("ETag", '"abc"'), ("Last-Modified", http_date(-5000)))
    assert edge.ask(path, [("If-None-Match", '"abc"'), ("If-Modified-Since", http_date(-9000))]).status == 304
    assert edge.ask(path, [("If-None-Match", '"x"'), ("If-Modified-Since", http_date(-10))]).status == 200


def test_15_4_5_a_304_has_the_headers_of_the_answer(edge: RunningEdge) -> None:
    path = kept(
        edge, ("ETag", '"abc"'), ("Vary", "Foo"), ("Expires", http_date(3600)), ("Content-Location", "/x")
    )
    reply = edge.ask(path, [("If-None-Match", '"abc"')])
    for name in ("ETag", "Vary", "Expires", "Content-Location", "Cache-Control", "Date", "Age"):
        assert reply.header(name), name


def test_13_1_a_conditional_miss_is_fetched_whole(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[FRESH, ("ETag", '"abc"')]))
    assert edge.ask(path, [("If-None-Match", '"abc"')]).status == 304
    assert edge.origin.requests[path][0].header("If-None-Match") is None
    assert (edge.ask(path).status, edge.origin.count(path)) == (200, 1)


def test_13_a_condition_on_a_failure_is_no_condition(edge: RunningEdge) -> None:
    path = edge.page(Answer(404, headers=[FRESH, ("ETag", '"abc"')]))
    edge.ask(path)
    assert edge.ask(path, [("If-None-Match", '"abc"')]).status == 404


# --- 14: ranges ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "content", "told"),
    [
        ("bytes=0-1", b"01", "bytes 0-1/11"),
        ("bytes=1-", b"123456789A", "bytes 1-10/11"),
        ("bytes=-1", b"A", "bytes 10-10/11"),
        ("bytes=5-500", b"56789A", "bytes 5-10/11"),
        ("bytes=-500", BODY, "bytes 0-10/11"),
    ],
)
def test_14_2_ranges_from_the_cache(edge: RunningEdge, asked: str, content: bytes, told: str) -> None:
    path = kept(edge)
    reply = edge.ask(path, [("Range", asked)])
    assert (reply.body, reply.cache, edge.origin.count(path)) == (content, "hit", 1)
    if content != BODY:
        assert (reply.status, reply.header("Content-Range")) == (206, told)


@pytest.mark.parametrize("asked", ["bytes=50-60", "bytes=11-"])
def test_15_5_17_not_satisfiable(edge: RunningEdge, asked: str) -> None:
    assert edge.ask(kept(edge), [("Range", asked)]).status == 416


@pytest.mark.parametrize("asked", ["lines=0-1", "bytes=x-y", "bytes=5-2", "nonsense"])
def test_14_2_an_invalid_range_is_ignored(edge: RunningEdge, asked: str) -> None:
    reply = edge.ask(kept(edge), [("Range", asked)])
    assert (reply.status, reply.body) in ((200, BODY), (416, reply.body))


def test_13_1_5_if_range(edge: RunningEdge) -> None:
    path = kept(edge, ("ETag", '"v1"'))
    assert edge.ask(path, [("Range", "bytes=0-1"), ("If-Range", '"v1"')]).status == 206
    reply = edge.ask(path, [("Range", "bytes=0-1"), ("If-Range", '"v2"')])
    assert (reply.status, reply.body) == (200, BODY)


def test_rfc9111_3_3_a_range_of_a_miss_stores_the_whole(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[FRESH], body=BODY))
    assert edge.ask(path, [("Range", "bytes=0-1")]).body == b"01"
    assert edge.origin.requests[path][0].header("Range") is None
    assert (edge.ask(path).body, edge.origin.count(path)) == (BODY, 1)


def test_rfc9111_3_3_an_unasked_part_is_not_kept_as_the_whole(edge: RunningEdge) -> None:
    path = edge.page(Answer(206, headers=[FRESH, ("Content-Range", "bytes 0-1/11")], body=b"01"))
    edge.ask(path)
    before = edge.origin.count(path)
    edge.ask(path)
    assert edge.origin.count(path) > before


# --- 6, 7: fields -------------------------------------------------------------------------------------------


def test_7_6_1_hop_by_hop_fields_are_not_kept(edge: RunningEdge) -> None:
    path = kept(
        edge,
        ("Connection", "a, b"),
        ("a", "1"),
        ("b", "2"),
        ("c", "3"),
        ("Keep-Alive", "timeout=1"),
        ("Proxy-Authenticate", "x"),
    )
    reply = edge.ask(path)
    assert reply.cache == "hit"
    assert [reply.header(n) for n in ("a", "b", "c", "Keep-Alive", "Proxy-Authenticate")] == [
        None,
        None,
        "3",
        None,
        None,
    ]


ONE_CONNECTION = [
    "Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization", "Proxy-Connection", "TE",
    "Upgrade",
]  # fmt: skip


@pytest.mark.parametrize("name", ONE_CONNECTION)
def test_rfc9111_3_1_fields_of_one_connection_are_not_kept(edge: RunningEdge, name: str) -> None:
    path = kept(edge, (name, "value"))
    reply = edge.ask(path)
    assert (reply.cache, reply.header(name)) == ("hit", None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Range", "nonsense"),
        ("Content-Range", "bytes 0-1/5"),
        ("Content-Encoding", "unknown"),
        ("Set-Cookie2", "a=b"),
    ],
)
def test_rfc9111_3_1_fields_without_a_meaning_here_are_kept(edge: RunningEdge, name: str, value: str) -> None:
    reply = edge.ask(kept(edge, (name, value)))
    assert (reply.cache, reply.status, reply.header(name), reply.body) == ("hit", 200, value, BODY)


def test_7_6_1_hop_by_hop_fields_of_requests_stay_here(edge: RunningEdge) -> None:
    path = edge.page(Answer())
    edge.ask(
        path,
        [
            ("Connection", "x-one"),
            ("X-One", "1"),
            ("TE", "trailers"),
            ("Keep-Alive", "5"),
            ("Proxy-Authorization", "x"),
        ],
    )
    seen = edge.origin.requests[path][0]
    assert [seen.header(n) for n in ("X-One", "TE", "Keep-Alive", "Proxy-Authorization")] == [None] * 4


def test_7_6_3_via(edge: RunningEdge) -> None:
    assert edge.ask(kept(edge)).header("Via") == "1.1 edge-fra"


@pytest.mark.parametrize(
    "name",
    ["Content-Type", "X-Frame-Options", "Strict-Transport-Security", "WWW-Authenticate", "Link", "X-Test"],
)
def test_rfc9111_3_1_fields_are_kept(edge: RunningEdge, name: str) -> None:
    assert edge.ask(kept(edge, (name, "value"))).header(name) == "value"


def test_6_6_1_date_is_kept(edge: RunningEdge) -> None:
    made = http_date(-2)
    path = kept(edge, ("Date", made))
    reply = edge.ask(path)
    assert (reply.header("Date"), reply.cache) == (made, "hit")
    assert int(reply.header("Age") or 0) >= 2


def test_rfc9112_6_1_an_unknown_transfer_coding_is_a_failure_of_the_origin(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[FRESH, ("Transfer-Encoding", "something")], body=b""))
    assert edge.ask(path).status == 502


def test_6_6_1_date_is_added(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[FRESH], date=False))
    assert edge.ask(path).header("Date")


def test_15_2_interim_answers_are_not_final(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[FRESH], body=b"x" * 5))
    assert edge.ask(path, [("Expect", "100-continue")]).status == 200


# --- limits -------------------------------------------------------------------------------------------------


def raw(edge: RunningEdge, text: bytes) -> bytes:
    """The first line of the reply to bytes."""
    with socket.create_connection(("127.0.0.1", edge.port), timeout=10) as connection:
        connection.sendall(text)
        return connection.makefile("rb").readline()


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", b"400"),
        (b'GET / HTTP/1.1\r\nHost: a"b\r\n\r\n', b"400"),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nBad Header: x\r\n\r\n", b"400"),
        (
            b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"400",
        ),
        (b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", b"400"),
        (b"TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n", b"405"),
        (b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n", b"405"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a.test\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nX: " + b"a" * 20000 + b"\r\n\r\n", b"400"),
    ],
)
def test_limits_and_malformed_requests(edge: RunningEdge, text: bytes, status: bytes) -> None:
    assert status in raw(edge, text)


def test_an_answer_with_a_large_header(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[FRESH, ("X-Long", "y" * 30_000)]))
    assert len(edge.ask(path).header("X-Long") or "") == 30_000
    assert edge.ask(path).cache == "hit"


# --- RFC 9211 -----------------------------------------------------------------------------------------------


def test_rfc9211_2_1_hit_and_2_4_ttl(edge: RunningEdge) -> None:
    status = edge.ask(kept(edge)).header("Cache-Status") or ""
    name, hit, ttl = status.split("; ")
    assert (name, hit) == ("edge-fra", "hit")
    assert 3590 <= int(ttl.removeprefix("ttl=")) <= 3600


def test_rfc9211_2_2_fwd_2_3_fwd_status_2_5_stored(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[FRESH]))
    assert edge.ask(path).header("Cache-Status") == "edge-fra; fwd=miss; fwd-status=200; stored"
    assert (
        edge.ask(edge.page(Answer(404, [("Cache-Control", "no-store")]))).header("Cache-Status")
        == "edge-fra; fwd=miss; fwd-status=404"
    )
    assert (
        edge.ask(path, method="POST", body=b"x").header("Cache-Status")
        == "edge-fra; fwd=method; fwd-status=200"
    )


def test_rfc9211_2_members_of_others_come_first(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[FRESH, ("Cache-Status", "Origin; hit")]))
    assert (edge.ask(path).header("Cache-Status") or "").startswith("Origin; hit, edge-fra; fwd=miss")
    assert (edge.ask(path).header("Cache-Status") or "").startswith("Origin; hit, edge-fra; hit")


# --- collapsing ---------------------------------------------------------------------------------------------


def together(edge: RunningEdge, path: str, number: int, gate: threading.Event) -> list[int]:
    """Answers to many requests at once; the gate opens when all have been sent."""
    connections = [http.client.HTTPConnection("127.0.0.1", edge.port, timeout=30) for _ in range(number)]
    for connection in connections:
        connection.request("GET", path, headers={"Host": "site.test"})
    gate.set()
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda c: int(c.getresponse().getheader("X-Answer") or 0), connections))


def test_rfc9111_4_requests_for_one_missing_answer_are_collapsed(edge: RunningEdge) -> None:
    gate = threading.Event()
    path = edge.page(Answer(headers=[FRESH], gate=gate))
    assert set(together(edge, path, 100, gate)) == {1}
    assert edge.origin.count(path) == 1


def test_answers_that_are_not_kept_do_not_queue(edge: RunningEdge) -> None:
    gate = threading.Event()
    path = edge.page(
        Answer(headers=[("Cache-Control", "no-store")]),
        Answer(headers=[("Cache-Control", "no-store")], gate=gate),
    )
    edge.ask(path)
    with ThreadPoolExecutor(20) as pool:
        replies = [pool.submit(edge.ask, path) for _ in range(20)]
        eventually(lambda: edge.origin.count(path) == 21)
        gate.set()
        assert sorted(r.result().answer for r in replies) == list(range(2, 22))
