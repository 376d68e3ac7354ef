"""What edges say, read."""

import json

import pytest

from lampstand.tiers.edge.probe import Kept, parse_figures, parse_look


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (
            "HTTP/1.1 200 OK\r\nAge: 19\r\nX-Cache: hit edge-fra\r\nCache-Status: edge-fra; hit; ttl=281\r\n\r\n",
            Kept("edge-fra", "hit", 200, 19, 281, "edge-fra; hit; ttl=281"),
        ),
        (
            (
                "HTTP/1.1 404 Not Found\r\nAge: 9\r\nX-Cache: stale edge-fra\r\n"
                "Cache-Status: a; hit; ttl=1, edge-fra; hit; ttl=-4\r\n\r\n"
            ),
            Kept("edge-fra", "stale", 404, 9, -4, "a; hit; ttl=1, edge-fra; hit; ttl=-4"),
        ),
        ("HTTP/1.1 504 Gateway Timeout\r\nCache-Control: no-store\r\n\r\n", Kept("edge-fra", "absent")),
        ("HTTP/1.1 200 OK\r\nX-Cache: pass edge-fra\r\n\r\n", Kept("edge-fra", "absent")),
    ],
)
def test_what_an_edge_keeps(head: str, kept: Kept) -> None:
    assert parse_look("edge-fra", head) == kept


def counters(**values: int) -> dict[str, dict[str, int]]:
    return {f"MAIN.{name}": {"value": value} for name, value in values.items()}


@pytest.mark.parametrize("nested", [True, False])
def test_figures(nested: bool) -> None:
    found = counters(
        uptime=60, client_req=100, cache_hit=75, cache_hit_grace=5, cache_miss=20, s_pass=5, s_fetch=25
    )
    found["SMA.s0.g_bytes"] = {"value": 1000}
    figures = parse_figures(json.dumps({"version": 1, "counters": found} if nested else found))
    assert (figures.seconds, figures.hits, figures.stale, figures.fetches, figures.bytes_used) == (
        60,
        75,
        5,
        25,
        1000,
    )
    assert figures.hit_ratio == 0.75
    assert figures.evicted == 0


def test_no_requests_no_ratio() -> None:
    assert parse_figures(json.dumps(counters(uptime=1))).hit_ratio == 0


@pytest.mark.parametrize("text", ["{}", "[]", '{"counters": {}}', "nonsense"])
def test_what_is_no_figures(text: str) -> None:
    with pytest.raises(ValueError):
        parse_figures(text)
