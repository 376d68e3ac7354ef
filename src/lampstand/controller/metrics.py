"""Figures for Prometheus."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from lampstand.controller.health import Facts
from lampstand.observed import CacheFacts, DatabaseFacts, Health, HttpFacts, State

if TYPE_CHECKING:
    from prometheus_client import Gauge

    from lampstand.controller.loop import Controller

    G: TypeAlias = Gauge


def exposition(controller: "Controller") -> tuple[str, str]:
    """The text and its media type."""
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
