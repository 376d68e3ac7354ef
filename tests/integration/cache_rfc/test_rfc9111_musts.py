"""What RFC 9110, 9111 and 9213 require of a shared cache, one row each: what comes first, what comes then, and whether
the origin must be asked. The other modules look closer; this one is the whole list, for whoever wants to count.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from email.utils import formatdate
from time import time

import pytest

from tests.edge_support import Answer, Headers, Reply, RunningEdge

HOUR = 3600
MODIFIED = ("Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT")


def date(offset: float) -> str:
    """An HTTP date so many seconds from now."""
    return formatdate(time() + offset, usegmt=True)


@dataclass(frozen=True)
class Row:
    """Two requests for one URL. `first` and `then` make the origin's answers when they are asked for."""

    name: str
    first: Callable[[], Answer]
    kept: bool
    """Whether the second request may be answered without the origin; where not, it must reach it."""
    then: Callable[[], Answer] | None = None
    asks: Headers = ()
    asks_again: Headers = ()
    wait: bool = False
    """Ask again only when what came first is too old."""
    status: int | None = None
    has: Sequence[tuple[str, str | None]] = ()
    """Headers of the second reply; None is absent."""


ROWS: list[Row] = []


def row(name: str, headers: Headers, kept: bool, **more: object) -> None:
    """A row whose first answer has these headers."""
    status = more.pop("first_status", 200)
    then = more.pop("then_headers", None)
    again = (lambda: Answer(status, then)) if then is not None else None  # type: ignore[arg-type]
    ROWS.append(Row(name, lambda: Answer(status, headers), kept, again, **more))  # type: ignore[arg-type]


def said(value: str, *others: tuple[str, str]) -> list[tuple[str, str]]:
    return [("Cache-Control", value), *others]


KEPT = said("max-age=3600")

# --- RFC 9111 section 3, 5.2.2: what may be kept at all -----------------------------------------------------------
for value in (
    "private, max-age=60",
    "no-store",
    "No-StOrE",
    "max-age=60, no-store",
    "max-age=60, no-cache",
    "max-age=60, No-CaChE",
):
    row(f"s5.2.2 {value}", said(value, ("Expires", date(HOUR))), False)
row(
    "s5.2.2.3 must-understand with a status nobody knows",
    said("max-age=60, no-store, must-understand"),
    False,
    first_status=599,
)
row(
    "s3.5 an answer to Authorization",
    [("Expires", date(HOUR))],
    False,
    asks=[("Authorization", "Basic YTpi")],
)

# --- section 4.2.1: max-age, s-maxage -------------------------------------------------------------------------------
for value in ("max-age=0", "max-age=-60", "max-age='60'", 'x="max-age=60", max-age=0', 'max-age=0, x="max-age=60"',
              "max-age=60, s-maxage=0", "s-maxage=0, max-age=60"):  # fmt: skip
    row(f"s4.2.1 {value}", said(value), False)
row("s4.2.1 max-age=0 before a later Expires", said("max-age=0", ("Expires", date(HOUR))), False)
row(
    "s4.2.1 s-maxage on a line of its own",
    [("Cache-Control", "max-age=60"), ("Cache-Control", "s-maxage=0")],
    False,
)
row("s1.2.2 leading zeros", said("max-age=0060"), True)
row("s4.2.3 Age beyond max-age", said("max-age=60", ("Age", "120")), False)
row("s4.2.4 old after its time", said("max-age=1"), False, wait=True)

# --- section 5.3: Expires ---------------------------------------------------------------------------------------------
row("s5.3 the past", [("Expires", date(-HOUR))], False)
row("s5.3 now", [("Expires", date(0))], False)
row("s5.3 before Date, both ahead", [("Expires", date(300)), ("Date", date(400))], False)
row("s5.3 less than Age, Date behind", [("Date", date(-10)), ("Expires", date(10)), ("Age", "25")], False)
row("s5.3 less than Age, Date ahead", [("Date", date(10)), ("Expires", date(20)), ("Age", "15")], False)
for value in (
    "0", "Wed, 13 Apr 2050 10:00:00 UTC", "Wed, 13 Apr 2050 10:00:00 CEST", "Wed, 13 Apr 50 10:00:00 GMT",
    "Wed 13 Apr 2050 10:00:00 GMT", "Wed, 13  Apr  2050 10:00:00 GMT", "Wed, 13-Apr-2050 10:00:00 GMT",
    "Wed, 13 Apr 2050 10.00.00 GMT", "Wed, 13 Apr 2050 1:00:00 GMT",
):  # fmt: skip
    row(f"s5.3 {value}", [("Expires", value)], False)
row(
    "s5.3 two lines",
    [("Expires", "Wed, 13 Apr 2050 1:00:00 GMT"), ("Expires", "Wed, 13 Apr 2050 1:00:01 GMT")],
    False,
)

# --- section 4.2.2: guessing ------------------------------------------------------------------------------------------
for status in (201, 202, 403, 502, 503, 504, 599):
    row(f"s4.2.2 no guess for {status}", [MODIFIED], False, first_status=status)
for status in (200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599):
    row(f"s4.2 {status} that is too old", [("Expires", date(-HOUR)), MODIFIED], False, first_status=status)
    row(f"s3 {status} that says it is fresh", KEPT, True, first_status=status, status=status)

# --- section 4.1: Vary ------------------------------------------------------------------------------------------------
ONE = [("Foo", "1"), ("Bar", "abc"), ("Baz", "789")]
for number in (1, 2, 3):
    names, asks = ", ".join(n for n, _ in ONE[:number]), ONE[:number]
    row(f"s4.1 {names}: the same", [*KEPT, ("Vary", names)], True, asks=asks, asks_again=asks)
    row(
        f"s4.1 {names}: another",
        [*KEPT, ("Vary", names)],
        False,
        asks=asks,
        asks_again=[("Foo", "2"), *asks[1:]],
    )
    row(f"s4.1 {names}: left out", [*KEPT, ("Vary", names)], False, asks=asks)
row("s4.1 left out when stored", [*KEPT, ("Vary", "Foo")], False, asks_again=[("Foo", "1")])
row("s4.1 whatever the order", [*KEPT, ("Vary", "Foo, Bar, Baz")], False, asks=ONE,
    asks_again=[("Baz", "789"), ("Bar", "abcde"), ("Foo", "1")])  # fmt: skip
for values in (("*",), ("*, *",), ("*", "*"), (", *",), ("", "*"), ("*, Foo",), ("Foo, *",)):
    row(
        f"s4.1 Vary {' | '.join(values)}",
        [*KEPT, *(("Vary", v) for v in values)],
        False,
        asks=ONE,
        asks_again=ONE,
    )

# --- section 3.1: fields that are kept, and those that are not --------------------------------------------------------
STORED = {
    "Test-Header": "a", "X-Test-Header": "a", "Content-Foo": "a", "X-Content-Foo": "a", "Cache-Control": "max-age=3600",
    "Content-Encoding": "something", "Content-Length": "10", "Content-Location": "/bar",
    "Content-MD5": "N7UdGUp1E+RbVvZSTy1R8g==", "Content-Range": "something", "ETag": '"b"',
    "Content-Security-Policy": "default-src 'self'", "Content-Type": "text/plain;charset=utf-8",
    "Clear-Site-Data": "cookies", "Expires": "Mon, 11 Jan 2038 11:11:11 GMT",
    "Public-Key-Pins": "a", "Set-Cookie2": "a=c", "X-Frame-Options": "sameorigin", "X-XSS-Protection": "1; mode=block",
}  # fmt: skip
for name, value in STORED.items():
    row(
        f"s3.1 {name} is kept",
        [(name, value), *(KEPT if name != "Cache-Control" else [])],
        True,
        has=[(name, value)],
    )
row(
    "s3.1 Connection is the edge's own",
    [*KEPT, ("Connection", "something")],
    True,
    has=[("Connection", "keep-alive")],
)
NOT_STORED = ("Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization",
              "Proxy-Connection", "TE", "Upgrade")  # fmt: skip
for name in NOT_STORED:
    row(f"s3.1 {name} is not kept", [*KEPT, (name, "something")], True, has=[(name, None)])
row("s3.1 fields that Connection names", [*KEPT, ("Connection", "a, b"), ("a", "1"), ("b", "2"), ("c", "3")], True,
    has=[("a", None), ("b", None), ("c", "3")])  # fmt: skip

# --- section 3.2, 4.3.4: a 304 updates --------------------------------------------------------------------------------
TAG = ("ETag", '"v1"')
for name, before, after in (
    ("Test-Header", "a", "b"), ("X-Test-Header", "a", "b"), ("Content-Foo", "a", "b"), ("X-Content-Foo", "a", "b"),
    ("Cache-Control", "max-age=1", "max-age=3600"),
):  # fmt: skip
    old = [] if name == "Cache-Control" else said("max-age=1")
    ROWS.append(
        Row(f"s3.2 {name} is updated", lambda o=old, n=name, b=before: Answer(200, [*o, TAG, (n, b)]), False,
            lambda o=old, n=name, a=after: Answer(304, [*o, TAG, (n, a)]), wait=True, status=200, has=[(name, after)])
    )  # fmt: skip
ROWS.append(
    Row("s3.2 what a 304 does not say stays",
        lambda: Answer(200, said("max-age=1", MODIFIED, ("Test-Header", "a"))), False,
        lambda: Answer(304, [MODIFIED]), wait=True, status=200, has=[("Test-Header", "a")])
)  # fmt: skip
ROWS.append(
    Row("s3.2 Content-Length is not updated", lambda: Answer(200, said("max-age=1", TAG), b"12345"), False,
        lambda: Answer(304, said("max-age=1", TAG, ("Content-Length", "10"))), wait=True, status=200,
        has=[("Content-Length", "5")])
)  # fmt: skip

# --- section 4.2.4, 5.2.2: never old ----------------------------------------------------------------------------------
NEVER_OLD = ("max-age=1, must-revalidate", "max-age=1, proxy-revalidate", "max-age=1, no-cache", "s-maxage=1")
ROWS += [
    Row(f"s4.2.4 {value} and the origin is gone", lambda v=value: Answer(200, said(v)), False,
        lambda: Answer(close=True), wait=True, status=502)
    for value in NEVER_OLD
]  # fmt: skip
ROWS.append(
    Row("s5.2.2.2 must-revalidate asks with its validator",
        lambda: Answer(200, said("max-age=1, must-revalidate", TAG)), False,
        lambda: Answer(304, said("max-age=1, must-revalidate", TAG)), wait=True, status=200)
)  # fmt: skip

# --- section 4.3.2, RFC 9110 section 13: conditions of visitors -------------------------------------------------------
row(
    "s4.3.2 a 304 has the tag",
    [*KEPT, TAG],
    True,
    asks_again=[("If-None-Match", '"v1"')],
    status=304,
    has=[TAG],
)
row("s4.3.2 If-None-Match comes first", [*KEPT, TAG, ("Last-Modified", date(-5000))], True, status=304,
    asks_again=[("If-None-Match", '"v1"'), ("If-Modified-Since", date(-9000))])  # fmt: skip
row("s4.3.1 fields of Vary are in the question", said("max-age=1", TAG, ("Vary", "Abc")), False, wait=True,
    asks=[("Abc", "123")], asks_again=[("Abc", "123")])  # fmt: skip

# --- section 3.3, 3.4: parts ------------------------------------------------------------------------------------------
ROWS.append(
    Row("s3.4 a part of what is kept has its fields", lambda: Answer(200, [*KEPT, ("A", "1")], b"0123456789"), True,
        asks_again=[("Range", "bytes=0-1")], status=206, has=[("A", "1"), ("Content-Range", "bytes 0-1/10")])
)  # fmt: skip

# --- section 5.1, RFC 9110 section 6.6.1: Age and Date ----------------------------------------------------------------
row("s5.1 Age counts on", [*KEPT, ("Age", "30")], True, has=[("Age", "30")])
row("s5.1 Age counts on with Expires", [("Expires", date(HOUR)), ("Age", "30")], True, has=[("Age", "30")])
MADE = date(-1)
row("RFC 9110 s6.6.1 Date stays", [*KEPT, ("Date", MADE)], True, has=[("Date", MADE)])
row(
    "RFC 9110 s6.6.1 Date stays with Expires",
    [("Expires", date(HOUR)), ("Date", MADE)],
    True,
    has=[("Date", MADE)],
)

# --- RFC 9213 section 2.1 ---------------------------------------------------------------------------------------------
CDN = "CDN-Cache-Control"
row("RFC 9213 Age beyond max-age", [(CDN, "max-age=60"), ("Age", "120")], False)
row("RFC 9213 max-age=0", [(CDN, "max-age=0")], False)
row("RFC 9213 max-age=0 and Expires", [(CDN, "max-age=0"), ("Expires", date(HOUR))], False)
row("RFC 9213 shorter than Cache-Control", said("max-age=3600", (CDN, "max-age=1")), False, wait=True)
for value in ("private", "no-cache", "no-store"):
    row(f"RFC 9213 {value}", said("max-age=60", (CDN, value), ("Expires", date(HOUR))), False)
row("RFC 9213 before no-store", said("no-store", (CDN, "max-age=60")), True)
for value in ("max-age=60, &&&&&", 'max-age="60"'):
    row(f"RFC 9213 no structured field: {value}", said("no-store", (CDN, value)), False)


def play(edge: RunningEdge, case: Row) -> None:
    """Both requests, and what must be true of the second."""
    path = edge.page(lambda _: case.first(), lambda _: (case.then or case.first)())
    edge.ask(path, case.asks)
    if case.wait:
        edge.until_old(path, case.asks)
    reply = edge.ask(path, case.asks_again)
    asked = edge.origin.count(path)
    assert (asked == 1) is case.kept, f"the origin was asked {asked} times"
    if case.status is not None:
        assert reply.status == case.status
    for name, value in case.has:
        assert seen(reply, name) == value, name


def seen(reply: Reply, name: str) -> str | None:
    """A header; an Age that went on for a second or two while tests run side by side counts as the same."""
    value = reply.header(name)
    return "30" if name == "Age" and value in ("30", "31", "32", "33") else value


SCENARIOS: dict[str, Callable[[RunningEdge], None]] = {
    r.name: lambda edge, case=r: play(edge, case)  # type: ignore[misc]
    for r in ROWS
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_must(outcomes: dict[str, Future[None]], name: str) -> None:
    outcomes[name].result(60)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "M-SEARCH"])
def test_s4_4_a_successful_change_is_followed_by_a_fetch(edge: RunningEdge, method: str) -> None:
    path = edge.page(Answer(200, KEPT))
    edge.ask(path)
    edge.ask(path, method=method, body=b"abc")
    assert edge.ask(path).answer == 3


def test_s2_another_query_is_another_answer(edge: RunningEdge) -> None:
    path = edge.page(Answer(200, KEPT))
    assert [edge.ask(f"{path}?test={n}").answer for n in (1, 2)] == [1, 2]
