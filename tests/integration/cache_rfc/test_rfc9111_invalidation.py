"""RFC 9111 section 4.4: unsafe requests make what is kept doubtful."""

import pytest

from tests.edge_support import Answer, RunningEdge

FRESH = Answer(headers=[("Cache-Control", "max-age=3600")])
UNSAFE = ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"]


@pytest.mark.parametrize("method", UNSAFE)
def test_4_4_the_target(edge: RunningEdge, method: str) -> None:
    path = edge.page(FRESH)
    assert [edge.ask(path).answer, edge.ask(path).answer] == [1, 1]
    edge.ask(path, method=method, body=b"abc")
    assert edge.ask(path).answer == 3


@pytest.mark.parametrize("status", [200, 201, 204, 301, 303])
def test_4_4_after_success(edge: RunningEdge, status: int) -> None:
    path = edge.page(FRESH, Answer(status), FRESH)
    edge.ask(path)
    edge.ask(path, method="POST", body=b"x")
    assert edge.ask(path).answer == 3


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 500, 503])
def test_4_4_not_after_a_failure(edge: RunningEdge, status: int) -> None:
    path = edge.page(FRESH, Answer(status))
    edge.ask(path)
    assert edge.ask(path, method="POST", body=b"x").status == status
    assert edge.ask(path).answer == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_4_4_not_after_a_safe_method(edge: RunningEdge, method: str) -> None:
    path = edge.page(FRESH)
    edge.ask(path)
    edge.ask(path, method=method)
    assert edge.ask(path).answer == 1


@pytest.mark.parametrize("header", ["Location", "Content-Location"])
@pytest.mark.parametrize("form", ["absolute", "absolute-path", "relative", "with-query"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "M-SEARCH"])
def test_4_4_location_and_content_location(edge: RunningEdge, method: str, form: str, header: str) -> None:
    other = edge.page(FRESH)
    name = {
        "absolute": f"http://site.test{other}",
        "absolute-path": other,
        "relative": other[1:],
        "with-query": f"{other}?b=1&a=2",
    }[form]
    asked = f"{other}?a=2&b=1" if form == "with-query" else other
    target = edge.page(Answer(201, [(header, name)]))
    assert [edge.ask(asked).answer, edge.ask(asked).answer] == [1, 1]
    edge.ask(target, method=method, body=b"x")
    assert edge.ask(asked).answer == 2


def test_4_4_not_on_another_host(edge: RunningEdge) -> None:
    other = edge.page(FRESH)
    edge.ask(other)
    for name in (f"http://other.test{other}", f"//site.test{other}"):
        edge.ask(edge.page(Answer(201, [("Location", name)])), method="POST", body=b"x")
    assert edge.ask(other).answer == 1


def test_4_4_all_variants(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[("Cache-Control", "max-age=60"), ("Vary", "Foo")]))
    for value in "12":
        edge.ask(path, [("Foo", value)])
    edge.ask(path, method="POST", body=b"x")
    assert [edge.ask(path, [("Foo", v)]).answer for v in "12"] == [4, 5]


def test_4_4_another_query_stays(edge: RunningEdge) -> None:
    path = edge.page(FRESH)
    assert [edge.ask(f"{path}?page={n}").answer for n in (1, 2)] == [1, 2]
    edge.ask(f"{path}?page=1", method="POST", body=b"x")
    assert [edge.ask(f"{path}?page={n}").answer for n in (1, 2)] == [4, 2]


def test_unsafe_requests_ride_connections_of_their_own(edge: RunningEdge) -> None:
    path = edge.page(FRESH)
    for _ in range(3):
        edge.ask(path, method="POST", body=b"x")
    seen = edge.origin.requests[path]
    assert len({r.connection for r in seen}) == 3
    assert {r.header("Connection") for r in seen} == {"close"}


def test_a_post_whose_answer_is_lost_is_not_sent_again(edge: RunningEdge) -> None:
    path = edge.page(Answer(close=True))
    assert edge.ask(path, method="POST", body=b"x").status == 502
    assert edge.origin.count(path) == 1
