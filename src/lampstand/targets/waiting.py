"""What commands wait for, on every target whose controller publishes its status in a file."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from lampstand.controller.health import overall
from lampstand.errors import TimedOutError
from lampstand.observed import Health, State
from lampstand.targets.local.client import ControllerClient
from lampstand.topology import Instance, Topology

GROUPED = ("database", "cache", "sessions")
"""Kinds that have a primary."""
ROUTED = ("web", *GROUPED)
"""Kinds that are taken out of the routes before they are restarted or removed."""
SWITCHOVER_WITHIN = 60.0
"""Seconds that a group may need to be settled, and then to change its primary."""

Heard = Callable[[dict[str, Any]], None]
"""Called with every new status."""


async def settled(controller: ControllerClient, kind: str) -> None:
    """Wait until the servers of a kind that run are well and no recovery of theirs is under way: only then may one of
    them be taken away. Kinds without a primary need not wait. Raises TimedOutError."""
    await controller.ready()

    def good(status: dict[str, Any]) -> bool:
        mine = [i for i in status["instances"].values() if i["kind"] == kind]
        return all(i["health"] == Health.GOOD for i in mine if i["state"] == State.RUNNING) and not any(
            recovery.partition(":")[2].startswith(kind) for recovery in status["recoveries"]
        )

    if kind in GROUPED:
        await controller.wait_until(good, SWITCHOVER_WITHIN, lambda _: None)


async def well_again(
    controller: ControllerClient, instance: Instance, pids: Mapping[str, int | None], deadline: float
) -> None:
    """Wait until the controller calls the processes that run now (name -> pid) well. Raises TimedOutError."""

    def good(status: dict[str, Any]) -> bool:
        entry = status.get("instances", {}).get(instance.name)
        return bool(
            entry
            and entry["health"] == Health.GOOD
            and {p["name"]: p["pid"] for p in entry["processes"]} == pids
        )

    if instance.probe.protocol != "process":
        await controller.wait_until(good, deadline, lambda _: None)


async def all_well(
    controller: ControllerClient,
    topology: Topology,
    generation: int,
    deadline: float,
    heard: Heard,
    patience: float = 30.0,
) -> None:
    """Wait until every server of the topology is well.

    Raises TimedOutError with the controller's sentence; and sooner, with the application's own words, when everything
    else is well and the application still is not after `patience` seconds (`app.start_timeout`).
    """
    names = [i.name for i in topology.instances]
    application = {i.name for i in topology.of_kind("web")}
    alone_since: list[float] = []

    def good(status: dict[str, Any]) -> bool:
        found = status["instances"]
        if status["generation"] < generation or not all(n in found for n in names) or status["recoveries"]:
            return False
        conditions = {n: (State(found[n]["state"]), Health(found[n]["health"])) for n in names}
        if overall(conditions):
            return True
        if overall({n: c for n, c in conditions.items() if n not in application}):
            alone_since.append(time.monotonic())
            if alone_since[-1] - alone_since[0] > patience:
                ill = next(n for n in names if n in application and conditions[n][1] is not Health.GOOD)
                raise TimedOutError(
                    f"the application {found[ill]['health_text'] or 'does not answer'}",
                    ill,
                    f"`lampstand logs {ill}` tells more; when it is mended, `lampstand up` goes on from here",
                )
        else:
            alone_since.clear()
        return False

    await controller.wait_until(good, deadline, heard)


async def has_primary(controller: ControllerClient, deadline: float, heard: Heard) -> None:
    """Wait until the primary of the database is well, which it is when a write there was read back, and no recovery is
    under way. Raises TimedOutError."""

    def good(status: dict[str, Any]) -> bool:
        name = status["primaries"].get("database")
        return bool(name) and status["instances"][name]["health"] == Health.GOOD and not status["recoveries"]

    await controller.wait_until(good, deadline, heard)
