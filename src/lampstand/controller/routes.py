"""Routes: which servers get traffic, as nginx include files. Pure; the controller writes and reloads what this returns.

A route file is a live file of a balancer or gateway instance: first written empty-handed at creation, from then on by
the controller. Who is named in it depends on roles and health, never on the site file, so it is outside every hash.

The text is a function of what decides it and of nothing else (no times, no reasons), so that a reload happens only
when somebody comes or goes. Never is an upstream emptied because probes fail: a probe that is wrong about every server
must not take the site away, and where it is right nothing is lost by trying.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from lampstand.controller.problems import View
from lampstand.observed import DatabaseFacts, Health, ObservedInstance, State
from lampstand.tiers.balancer import live
from lampstand.tiers.balancer.live import FULL_WEIGHT, Canary, Server
from lampstand.tiers.balancer.tier import GATEWAY_PORTS, MAINTENANCE, ROUTES
from lampstand.topology import File, Instance

CANARY = "canary"
"""Key of `memory.intents` while two releases are compared: `release` (id) and `percent` (0 to 100) of the new one. With
0 nobody gets it, not even who has its cookie: it is being taken back."""
CLOSED = "maintenance"
"""Key of `memory.intents` while maintenance is on: `retry_after` (seconds), `allow` (networks, parted by blanks) and
`page` (HTML)."""

STEPS = (1, 3, 6)
"""Weights of a cold server in the three thirds of its slow start; a warm one has FULL_WEIGHT."""

Judged = tuple[Instance, ObservedInstance | None]


def routes(view: View) -> Mapping[str, tuple[File, ...]]:
    """Instance name -> its live files as they should be now."""
    wanted: dict[str, tuple[File, ...]] = {}
    texts: Mapping[str, Callable[[View], str]] = {"balancer": _balancer, "gateway": _gateway}
    for kind, text in texts.items():
        instances = view.topology.of_kind(kind)
        content = text(view) if instances else ""
        for instance in instances:
            wanted[instance.name] = tuple(
                f for file in instance.live_files for f in _with_content(view, file, content)
            )
    return wanted


def _with_content(view: View, file: File, routes: str) -> Iterable[File]:
    closed = view.memory.intents.get(CLOSED)
    if file.path.endswith(f"/{ROUTES}"):
        yield replace(file, content=routes)
    elif file.path.endswith(f"/{MAINTENANCE}") and closed is not None:
        # The page first: it is there when visitors are sent to it.
        yield replace(file, path=file.path.removesuffix(".conf") + ".html", content=closed["page"])
        yield replace(file, content=live.maintenance(int(closed["retry_after"]), closed["allow"].split()))
    else:
        yield file


# -- web servers -----------------------------------------------------------------------------------------


def _balancer(view: View) -> str:
    serving = _preferred(view, _judged(view, "web"), _is_good, _runs)
    canary = view.memory.intents.get(CANARY)
    if canary is None:
        return live.web_routes(_weighted(view, serving))
    release, percent = canary["release"], float(canary["percent"])
    new = [j for j in serving if j[0].release == release]
    old = [j for j in serving if j[0].release != release]
    if not old:
        return live.web_routes(_weighted(view, new))
    if percent <= 0:
        return live.web_routes(_weighted(view, old))
    # Without a well server of the new release everybody gets the old one.
    return live.web_routes(_weighted(view, old), Canary(release, tuple(_weighted(view, new)), percent))


def _weighted(view: View, serving: Sequence[Judged]) -> list[Server]:
    """Slow start: a server that has only just become well gets a growing share beside those that are warm.

    Where nobody is warm (the whole site starts) nobody is spared, because the requests must go somewhere. Neither while
    another one is taken out: those that are left must not carry its share and the cold one's too.
    """
    held = any(i.name in view.memory.held for i in view.topology.of_kind("web"))
    if held:
        return [_server(instance, "http") for instance, _ in serving]
    ages = {i.name: _age(view, seen) for i, seen in serving}
    oldest = max(ages.values(), default=0.0)
    return [
        _server(instance, "http", _weight(ages[instance.name], oldest, instance.slow_start))
        for instance, _ in serving
    ]


def _weight(age: float, oldest: float, slow_start: float) -> int:
    if age >= slow_start or oldest - age < slow_start:
        return FULL_WEIGHT
    return STEPS[int(age / slow_start * len(STEPS))]


def _age(view: View, seen: ObservedInstance | None) -> float:
    """Seconds since the server became well. One of which that is not known counts as having always been."""
    if seen is None or seen.health_since is None:
        return float("inf")
    return max(0.0, view.now - seen.health_since)


# -- database and Redis ----------------------------------------------------------------------------------


def _gateway(view: View) -> str:
    chosen = behind(view)
    return live.gateway_routes([(port, chosen[port]) for port, _ in GATEWAY_PORTS])


def behind(view: View) -> Mapping[str, list[Server]]:
    """Who is behind each port of the gateway, or behind the Service of that name."""
    return {
        "writer": _primary(view, "database", "mysql"),
        "reader": _readers(view),
        "cache": _primary(view, "cache", "redis"),
        "sessions": _primary(view, "sessions", "redis"),
    }


def _primary(view: View, kind: str, protocol: str) -> list[Server]:
    """The primary alone, well or not: there is no other to write to. Nobody, where none is chosen or it is held."""
    name = view.memory.primaries.get(kind)
    instance = view.topology.by_name.get(name) if name else None
    if instance is None or instance.name in view.memory.held:
        return []
    return [_server(instance, protocol)]


def _readers(view: View) -> list[Server]:
    """The replicas that are well and within the lag limit; with none, the primary; with a primary that is not well
    either, the replicas that run: while a failover is under way old rows are better than none."""
    primary = view.memory.primaries.get("database")
    replicas = [
        j for j in _judged(view, "database") if j[0].name != primary and j[0].name not in view.memory.held
    ]
    current = [j for j in replicas if _is_good(j) and _within_limit(j)]
    if current:
        return [_server(instance, "mysql") for instance, _ in current]
    writer = _primary(view, "database", "mysql")
    seen = view.observed.instances.get(primary) if primary else None
    if writer and seen is not None and seen.health is Health.GOOD:
        return writer
    answering = [j for j in replicas if _runs(j) and _answers(j)]
    return [_server(instance, "mysql") for instance, _ in answering] or writer


def _within_limit(judged: Judged) -> bool:
    """Whether a write is known to be readable there soon enough. What is not known is not within the limit."""
    instance, seen = judged
    facts = seen.facts if seen else None
    return (
        isinstance(facts, DatabaseFacts)
        and facts.lag_seconds is not None
        and facts.lag_seconds <= instance.probe.lag_limit
    )


def _answers(judged: Judged) -> bool:
    facts = judged[1].facts if judged[1] else None
    return isinstance(facts, DatabaseFacts) and facts.answered


# -- common ----------------------------------------------------------------------------------------------


def _judged(view: View, kind: str) -> list[Judged]:
    return [(i, view.observed.instances.get(i.name)) for i in view.topology.of_kind(kind)]


def _preferred(view: View, judged: Sequence[Judged], *rules: Callable[[Judged], bool]) -> list[Judged]:
    """Those that the first rule leaves anybody of; held ones only where there is nobody else at all."""
    free = [j for j in judged if j[0].name not in view.memory.held]
    for rule in rules:
        if found := [j for j in free if rule(j)]:
            return found
    return free or list(judged)


def _is_good(judged: Judged) -> bool:
    return judged[1] is not None and judged[1].health is Health.GOOD and judged[1].state is State.RUNNING


def _runs(judged: Judged) -> bool:
    """Whether it could answer. A frozen server takes connections and answers none."""
    return judged[1] is not None and judged[1].state is State.RUNNING


def _server(instance: Instance, protocol: str, weight: int = FULL_WEIGHT) -> Server:
    endpoint = next(e for e in instance.endpoints if e.protocol == protocol)
    return Server(instance.name, endpoint.host, endpoint.port, weight)
