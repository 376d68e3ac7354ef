"""Figures for Prometheus."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from lampstand.controller.health import Facts
from lampstand.observed import CacheFacts, DatabaseFacts, Health, HttpFacts, State

if TYPE_CHECKING:
    from prometheus_client import Gauge

    from lampstand.controller.loop import Controller

    G: TypeAlias = Gauge


EDGE_FIGURES: Sequence[tuple[str, str, str, float]] = (
    ("hit_ratio", "lampstand_edge_hit_ratio", "Share of the requests that needed no fetch, 0 to 1.", 1),
    ("requests", "lampstand_edge_requests_total", "Requests since it started.", 1),
    ("hits", "lampstand_edge_hits_total", "Answered from memory, the old ones included.", 1),
    ("stale", "lampstand_edge_stale_total", "Answered from memory with something too old.", 1),
    ("misses", "lampstand_edge_misses_total", "Not in memory.", 1),
    ("passes", "lampstand_edge_passes_total", "Not looked up, or not to be kept.", 1),
    ("fetches", "lampstand_edge_fetches_total", "Answers fetched from the balancers or the shield.", 1),
    ("fetch_failures", "lampstand_edge_fetch_failures_total", "Fetches that failed.", 1),
    ("bytes_sent", "lampstand_edge_sent_bytes_total", "Bodies given to visitors.", 1),
    ("bytes_saved", "lampstand_edge_saved_bytes", "Bodies given that nobody had to fetch.", 1),
    ("kept", "lampstand_edge_objects", "Answers in memory.", 1),
    ("bytes_used", "lampstand_edge_used_bytes", "Memory in use for answers.", 1),
    ("evicted", "lampstand_edge_evicted_total", "Answers that had to make room.", 1),
    ("purges", "lampstand_edge_purges_total", "Purges since the controller started.", 1),
    ("purge_p50_ms", "lampstand_edge_purge_p50_seconds", "Middle of its last thousand purges.", 0.001),
    (
        "purge_p99_ms",
        "lampstand_edge_purge_p99_seconds",
        "Slowest hundredth of its last thousand purges.",
        0.001,
    ),
)
"""Key in the figures of an edge, name and meaning for Prometheus, and the factor to its unit."""


def exposition(controller: "Controller", edges: Sequence[Mapping[str, Any]] = ()) -> tuple[str, str]:
    """The text and its media type. `edges` are the rows of `Edges.figures`."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_LATEST

    registry = CollectorRegistry()
    labels = ["instance", "kind"]
    up = Gauge(
        "lampstand_instance_up", "1 when all processes of the instance run.", labels, registry=registry
    )
    good = Gauge(
        "lampstand_instance_healthy", "1 when its probe is answered well.", labels, registry=registry
    )
    restarts = Gauge(
        "lampstand_instance_restarts", "Restarts since it ran for a minute.", labels, registry=registry
    )
    primary = Gauge("lampstand_instance_primary", "1 on the primary of its kind.", labels, registry=registry)
    lag = Gauge(
        "lampstand_replica_lag_seconds",
        "Age of the newest write that is readable.",
        labels,
        registry=registry,
    )
    probe = Gauge("lampstand_probe_seconds", "Time of the last HTTP probe.", labels, registry=registry)
    used = Gauge("lampstand_redis_used_bytes", "Memory used by Redis.", labels, registry=registry)
    connections = Gauge("lampstand_database_connections", "Open connections.", labels, registry=registry)
    unacknowledged = Gauge(
        "lampstand_database_unacknowledged_total",
        "Commits without an acknowledgement.",
        labels,
        registry=registry,
    )
    problems = Gauge("lampstand_problems", "Problems seen in the last cycle.", ["code"], registry=registry)
    for name, seen in controller.view.observed.instances.items():
        who = (name, seen.kind)
        up.labels(*who).set(seen.state is State.RUNNING)
        good.labels(*who).set(seen.health is Health.GOOD)
        restarts.labels(*who).set(seen.restarts)
        if seen.role:
            primary.labels(*who).set(seen.role == "primary")
        for gauge, value in _figures(seen.facts, lag, connections, unacknowledged, used, probe):
            if value is not None:
                gauge.labels(*who).set(value)
    for key, metric, meaning, factor in EDGE_FIGURES if edges else ():
        gauge = Gauge(metric, meaning, ["instance"], registry=registry)
        for row in edges:
            if row.get(key) is not None:
                gauge.labels(row["edge"]).set(row[key] * factor)
    for finding in controller.findings:
        problems.labels(finding.code).inc()
    return generate_latest(registry).decode(), CONTENT_TYPE_LATEST


def _figures(
    facts: Facts | None, lag: "G", connections: "G", unacknowledged: "G", used: "G", probe: "G"
) -> "Sequence[tuple[G, float | None]]":
    match facts:
        case DatabaseFacts():
            return (
                (lag, facts.lag_seconds), (connections, facts.connections), (unacknowledged, facts.semi_sync_no_tx),
            )  # fmt: skip
        case CacheFacts():
            return ((used, facts.used_bytes),)
        case HttpFacts():
            return ((probe, facts.seconds),)
        case None:
            return ()
