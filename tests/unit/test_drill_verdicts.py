"""Drills that are judged by visitors, on paper."""

import pytest

from lampstand.drills.attacks import Front
from lampstand.drills.load import Answer
from lampstand.drills.visitors import figures, front_url
from lampstand.drills.words import CATALOGUE, VISITOR_DRILLS, Verdict, drill
from lampstand.errors import LampstandError
from lampstand.topology import expand
from tests.web_support import paper_context


def test_figures_count_refusals_as_failures() -> None:
    answers = [
        Answer(float(n), status, n / 1000) for n, status in enumerate((200, 200, 304, 429, 403, 502, -1), 1)
    ]
    assert figures(answers) == {"requests": 7, "failed": 4, "p50_ms": 3.0, "p99_ms": 6.0}
    assert figures([]) == {"requests": 0, "failed": 0, "p50_ms": None, "p99_ms": None}


@pytest.mark.parametrize("url", ["http://198.51.100.7/", "https://shop.example.com/", "http://8.8.8.8:80/"])
def test_nobody_elses_site_is_attacked(url: str) -> None:
    with pytest.raises(LampstandError):
        Front.of(url)


def test_the_front_of_a_site() -> None:
    assert Front.of("https://127.0.0.1:8443/page") == Front("127.0.0.1", 8443, tls=True, path="/page")
    for site, scheme, kind in (
        ({}, "http", "edge-fra"),
        ({"tls": {"mode": "local"}}, "https", "visitors-1"),
        ({"cdn": {"edges": []}}, "http", "balancer-1"),
    ):
        topology = expand(paper_context(site))
        port = "https" if scheme == "https" else "http"
        assert front_url(topology) == f"{scheme}://{topology.by_name[kind].endpoint(port).address}/"


def test_names_are_unique_and_found() -> None:
    names = [d.name for d in (*CATALOGUE, *VISITOR_DRILLS)]
    assert len(names) == len(set(names))
    assert drill("flood") in VISITOR_DRILLS


def test_slow_visitors_are_a_breach() -> None:
    verdict = Verdict(
        drill="flood", target="local", rounds=(), deadline_seconds=1.0, acknowledged=0, lost=0, unknown=0,
        failed_writes=0, duplicated=0, requests=10, failed_requests=0, two_primaries=0, diverged=0, seconds=1.0,
        judged=("failed_requests",), also_breached=("a visitor in a hundred waited 3 s",), visitors={"calm": {}},
    )  # fmt: skip
    assert not verdict.passed
    assert verdict.document()["visitors"] == {"calm": {}}
