"""What the recoveries of every group with a primary have in common."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from lampstand.controller.problems import Hands, Step
from lampstand.errors import LampstandError
from lampstand.topology import Instance


def one_step(name: str, deadline: float, run: Callable[[Hands], Awaitable[None]]) -> tuple[Step, ...]:
    """A recovery of a single step. `deadline` in seconds."""
    return (Step(name, deadline, run),)


async def fence(hands: Hands, old: Instance | None) -> None:
    """Kill the old primary. Where its death cannot be confirmed, that is noted: something else must be the fence."""
    if old is None:
        return
    try:
        await hands.fence(old)
    except LampstandError as error:
        hands.event(f"{old.kind}-fence", old.name, "fence", "failed", why=error.what)


async def redirect(
    hands: Hands, replicas: Iterable[Instance], follow: Callable[[Instance], Awaitable[None]]
) -> None:
    """Clients find the new primary, and replicas follow it."""
    await asyncio.gather(hands.route(drop_old=True), point(hands, replicas, follow))


async def point(
    hands: Hands, replicas: Iterable[Instance], follow: Callable[[Instance], Awaitable[None]]
) -> None:
    """Replicas follow the primary, side by side; one that cannot be told now is mended later."""

    async def one(replica: Instance) -> None:
        try:
            await follow(replica)
        except LampstandError as error:
            hands.event(f"{replica.kind}-replica-lost", replica.name, "follow", "failed", why=error.what)

    await asyncio.gather(*(one(r) for r in replicas))


async def start_old(hands: Hands, old: Instance | None) -> None:
    """It comes back as a replica. Where it does not start, the promotion is done all the same, and it is down like any
    other server."""
    if old is None or old.name not in hands.view.topology.by_name:
        return
    try:
        await hands.start(old)
    except LampstandError as error:
        hands.event(f"{old.kind}-replica-down", old.name, "start", "failed", why=error.what)
