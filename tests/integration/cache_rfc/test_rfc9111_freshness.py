"""RFC 9111 section 4.2: freshness."""

import pytest

from tests.edge_support import Answer, RunningEdge, http_date

FRESH = [
    ("max-age=3600", "4.2.1 max-age"),
    ('max-age="3600"', "5.2 the quoted form is the same"),
    ("MaX-aGe=3600", "5.2 names of directives are case-insensitive"),
    ("foobar, max-age=3600", "5.2.3 unknown directives are ignored"),
    ('ext="a,b", max-age=3600', "5.2 a comma in a quoted string separates nothing"),
    ("max-age=2147483648", "1.2.2 2^31"),
    ("max-age=99999999999", "1.2.2 more than fits"),
    ("max-age=1, s-maxage=3600", "4.2.1 s-maxage before max-age"),
    ("max-age=0, s-maxage=3600", "4.2.1 s-maxage before max-age"),
    ("max-age=3600, must-revalidate", "5.2.2.2 fresh is fresh"),
    ("max-age=003600", "1.2.2 leading zeros"),
]

STALE = [
    ("max-age=0", "4.2.1"),
    ("max-age='3600'", "5.2 an apostrophe is no quotation mark"),
    ('ext="max-age=3600"', "5.2 a directive within a string is none"),
    ('max-age=0, ext="max-age=3600"', "5.2 a directive within a string is none"),
    ('ext="max-age=3600", max-age=0', "5.2 a directive within a string is none"),
    ('ext="max-age=3600", max-age="0"', "5.2 a directive within a string is none"),
    ('ext="\\", max-age=3600, \\""', "5.2 an escaped quotation mark does not end a string"),
    ("max-age =3600", "5.2 no space before ="),
    ("max-age= 3600", "5.2 no space after ="),
    ("max-age=a3600", "4.2.1 invalid is stale"),
    ("max-age=3600a", "4.2.1 invalid is stale"),
    ("max-age=-3600", "1.2.2 not negative"),
    ("max-age=36.5", "1.2.2 an integer"),
    ("max-age", "5.2 an argument is missing"),
    ("max-age=", "5.2 an argument is missing"),
    ("max-age=3600, s-maxage=0", "4.2.1 s-maxage before max-age"),
    ("s-maxage=0, max-age=3600", "4.2.1 s-maxage before max-age"),
    ("xmax-age=3600", "5.2 another directive"),
    ("max-agex=3600", "5.2 another directive"),
    ("no-store, max-age=3600", "5.2.2.5"),
    ("No-StOrE, max-age=3600", "5.2.2.5"),
    ("private, max-age=3600", "5.2.2.7"),
    ('private="x", max-age=3600', "5.2.2.7 qualified: kept by nobody is always right"),
    ("no-cache, max-age=3600", "5.2.2.4"),
    ('no-cache="set-cookie", max-age=3600', "5.2.2.4"),
    ('foo="unfinished, max-age=3600', "5.2 nothing within an unfinished string counts"),
]


def cached(edge: RunningEdge, answer: Answer) -> bool:
    """Whether a second request is answered without asking the origin."""
    path = edge.page(answer)
    assert edge.ask(path).answer == 1
    second = edge.ask(path)
    assert second.answer == edge.origin.count(path)
    return edge.origin.count(path) == 1


@pytest.mark.parametrize(("directives", "rule"), FRESH, ids=[f"{d} ({r})" for d, r in FRESH])
def test_4_2_1_fresh(edge: RunningEdge, directives: str, rule: str) -> None:
    assert cached(edge, Answer(headers=[("Cache-Control", directives)])), rule


@pytest.mark.parametrize(("directives", "rule"), STALE, ids=[f"{d} ({r})" for d, r in STALE])
def test_4_2_1_stale_or_not_stored(edge: RunningEdge, directives: str, rule: str) -> None:
    assert not cached(edge, Answer(headers=[("Cache-Control", directives)])), rule


def test_4_2_nothing_is_fresh_that_does_not_say_so(edge: RunningEdge) -> None:
    assert not cached(edge, Answer())


def test_4_2_1_several_lines_are_one_list(edge: RunningEdge) -> None:
    assert not cached(
        edge, Answer(headers=[("Cache-Control", "max-age=3600"), ("Cache-Control", "s-maxage=0")])
    )
    assert cached(edge, Answer(headers=[("Cache-Control", "foo"), ("Cache-Control", "max-age=3600")]))


def test_4_2_1_expires(edge: RunningEdge) -> None:
    assert cached(edge, Answer(headers=[("Expires", http_date(3600))]))
    assert not cached(edge, Answer(headers=[("Expires", http_date(-3600))]))
    assert not cached(edge, Answer(headers=[("Expires", http_date()), ("Date", http_date())]))


def test_4_2_1_max_age_before_expires(edge: RunningEdge) -> None:
    assert cached(edge, Answer(headers=[("Cache-Control", "max-age=3600"), ("Expires", http_date(-3600))]))
    assert cached(edge, Answer(headers=[("Cache-Control", "max-age=3600"), ("Expires", "0")]))
    assert not cached(edge, Answer(headers=[("Cache-Control", "max-age=0"), ("Expires", http_date(3600))]))


@pytest.mark.parametrize(
    "value", ["0", "-1", "99999999999", "soon", "Thu, 18 Aug 2050 02:01:18", "Thu, 18 Aug 2050 02:01:18 UTC"]
)
def test_5_3_an_invalid_expires_is_the_past(edge: RunningEdge, value: str) -> None:
    assert not cached(edge, Answer(headers=[("Expires", value)]))


@pytest.mark.parametrize(
    "value", ["Thu, 18 Aug 2050 02:01:18 GMT", "Thursday, 18-Aug-50 02:01:18 GMT", "Thu Aug 18 02:01:18 2050"]
)
def test_5_3_the_three_forms_of_a_date(edge: RunningEdge, value: str) -> None:
    assert cached(edge, Answer(headers=[("Expires", value)]))


def test_4_2_3_age_counts(edge: RunningEdge) -> None:
    assert not cached(edge, Answer(headers=[("Cache-Control", "max-age=3600"), ("Age", "7200")]))
    assert cached(edge, Answer(headers=[("Cache-Control", "max-age=3600"), ("Age", "1800")]))
    assert cached(edge, Answer(headers=[("Cache-Control", "max-age=3600"), ("Age", "nonsense")]))
    assert not cached(edge, Answer(headers=[("Cache-Control", "max-age=3600"), ("Age", "7200, 0")]))
    assert not cached(edge, Answer(headers=[("Expires", http_date(3600)), ("Age", "7200")]))


def test_4_2_3_an_old_date_is_age(edge: RunningEdge) -> None:
    assert not cached(edge, Answer(headers=[("Cache-Control", "max-age=3600"), ("Date", http_date(-7200))]))


def test_5_1_age_is_told(edge: RunningEdge) -> None:
    path = edge.page(
        Answer(headers=[("Cache-Control", "max-age=3600"), ("Age", "30"), ("Date", http_date(-100))])
    )
    edge.ask(path)
    assert 100 <= int(edge.ask(path).header("Age") or 0) <= 104
    path = edge.page(Answer(headers=[("Cache-Control", "max-age=3600"), ("Age", "200")]))
    edge.ask(path)
    assert 200 <= int(edge.ask(path).header("Age") or 0) <= 204


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 414, 501])
def test_4_2_2_heuristic(edge: RunningEdge, status: int) -> None:
    assert cached(edge, Answer(status, headers=[("Last-Modified", http_date(-100_000))]))


@pytest.mark.parametrize("status", [201, 202, 302, 303, 307, 400, 403, 500, 502, 503, 504, 599])
def test_4_2_2_no_heuristic_for_other_statuses(edge: RunningEdge, status: int) -> None:
    assert not cached(edge, Answer(status, headers=[("Last-Modified", http_date(-100_000))]))


@pytest.mark.parametrize("status", [200, 201, 204, 301, 302, 303, 307, 400, 403, 404, 410, 451, 500, 599])
def test_3_any_final_status_with_explicit_freshness(edge: RunningEdge, status: int) -> None:
    assert cached(edge, Answer(status, headers=[("Cache-Control", "max-age=3600")]))
    assert not cached(edge, Answer(status, headers=[("Cache-Control", "max-age=0")]))


@pytest.mark.parametrize("status", [404, 410])
def test_4_2_2_what_is_missing_is_remembered_for_seconds(edge: RunningEdge, status: int) -> None:
    assert cached(edge, Answer(status))
    assert not cached(edge, Answer(status, headers=[("Cache-Control", "no-store")]))
