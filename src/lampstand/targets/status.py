"""The document of `lampstand status --json`, version 1: the same on every target. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lampstand.errors import LampstandError, UsageError
from lampstand.observed import Health, ObservedInstance, State
from lampstand.topology import Instance, Topology


def document(
    *,
    site: str,
    target: str,
    folder: str,
    topology: Topology | None,
    seen: Mapping[str, ObservedInstance],
    published: Mapping[str, Any] | None,
    controller: Mapping[str, Any],
    **more: object,
) -> dict[str, Any]:
    """`published` is what a living controller published last, None when none lives; `more` are keys of the target."""
    running = published is not None
    known: Mapping[str, Any] = (published or {}).get("instances", {})
    rows = [row(i, seen.get(i.name), known.get(i.name, {})) for i in topology.instances] if topology else []
    if published is not None:
        sentence = str(published.get("sentence", "the controller is starting"))
    elif any(r["state"] == State.RUNNING for r in rows):
        sentence = "the controller does not run, so nothing is watched; `lampstand up` starts it"
    else:
        sentence = "the site is down" if topology else "the site was never brought up"
    return {
        "version": 1,
        "site": site,
        "target": target,
        "state_folder": folder,
        "sentence": sentence,
        "well": bool(rows) and running and all(r["health"] == "good" for r in rows),
        "controller": {"running": running, **controller},
        "problems": (published or {}).get("problems", []),
        "instances": rows,
        **more,
    }


def row(instance: Instance, seen: ObservedInstance | None, known: Mapping[str, Any]) -> dict[str, Any]:
    """One server: what runs (`seen`), and what the controller says of it (`known`)."""
    state = seen.state if seen else State.MISSING
    alive = state in (State.RUNNING, State.FROZEN, State.PARTIAL)
    return {
        "name": instance.name,
        "tier": instance.tier,
        "kind": instance.kind,
        "state": str(state),
        "health": known.get("health", "unknown") if alive else "bad",
        "text": known.get("health_text", "") if alive else "is down",
        "role": known.get("role"),
        "release": seen.release if seen else None,
        "restarts": known.get("restarts", 0),
        "processes": [{"name": p.name, "pid": p.pid} for p in seen.processes] if seen else [],
        "endpoints": {e.name: e.address for e in instance.endpoints},
    }


def server(topology: Topology | None, name: str) -> Instance:
    """The server of that name, or the first of that kind. Raises LampstandError when the site was never up, UsageError
    for a name it does not have."""
    if topology is None:
        raise LampstandError("the site was never brought up here", mend="run `lampstand up`")
    if name in topology.by_name:
        return topology.by_name[name]
    if of_kind := topology.of_kind(name):
        return of_kind[0]
    raise UsageError(f"the site has no server {name!r}", mend=f"it has {', '.join(topology.by_name)}")


def with_health(seen: ObservedInstance, published: Mapping[str, Any] | None) -> ObservedInstance:
    """What runs, with what the controller says of it."""
    if not published:
        return seen
    return replace(
        seen,
        health=Health(published["health"]),
        health_since=published["health_since"],
        health_text=published["health_text"],
        role=published["role"],
        restarts=published["restarts"],
    )
