"""From what Docker says of containers to what Lampstand knows of servers. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from lampstand.observed import ObservedInstance, ObservedProcess, State
from lampstand.targets.docker.compose import LABEL

_STATES: Mapping[str, State] = {
    "running": State.RUNNING,
    "paused": State.FROZEN,
    "restarting": State.STOPPED,
    "created": State.STOPPED,
    "exited": State.STOPPED,
    "dead": State.STOPPED,
    "removing": State.STOPPED,
}

OWN = ("controller", "engine")
"""Containers of the project that are no servers of the site."""


def observed(
    documents: Iterable[Mapping[str, Any]], applied: Mapping[str, str], held: Sequence[str] = ()
) -> dict[str, ObservedInstance]:
    """Servers by name, from `docker container inspect`.

    `applied` are the hashes of the configuration they follow; `held` are those whose container runs while its
    programs do not.
    """
    found: dict[str, ObservedInstance] = {}
    for document in documents:
        labels: Mapping[str, str] = document["Config"]["Labels"] or {}
        name = labels.get(f"{LABEL}.instance", "")
        if not name or name in OWN:
            continue
        condition: Mapping[str, Any] = document["State"]
        state = State.STOPPED if name in held else _STATES.get(str(condition["Status"]), State.STOPPED)
        alive = state is not State.STOPPED
        found[name] = ObservedInstance(
            name=name,
            kind=labels.get(f"{LABEL}.kind", ""),
            state=state,
            processes=(
                ObservedProcess(
                    "container",
                    int(condition["Pid"]) if alive else None,
                    unix_time(str(condition["StartedAt"])) if alive else None,
                    state is State.FROZEN,
                ),
            ),
            restart_hash=labels.get(f"{LABEL}.restart-hash", ""),
            config_hash=applied.get(name, ""),
            release=labels.get(f"{LABEL}.release") or None,
        )
    return found


def unix_time(text: str) -> float:
    """Docker's `2026-01-02T03:04:05.678901234Z` in seconds; nanoseconds are more than fromisoformat takes."""
    head, _, fraction = text.rstrip("Z").partition(".")
    seconds = datetime.fromisoformat(f"{head}+00:00").timestamp()
    return seconds + float(f"0.{fraction or '0'}")
