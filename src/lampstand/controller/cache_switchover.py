"""Planned change of the primary of a Redis group: nothing that was written is lost, nobody is killed."""

import asyncio

from lampstand.controller.cache_failover import CacheGroup, CachePromotion
from lampstand.controller.problems import Hands, Step, View
from lampstand.errors import LampstandError
from lampstand.tiers.cache import roles
from lampstand.topology import Instance

CATCH_UP = 3.0
"""Seconds that the new primary gets to receive the last bytes of the old one."""


def cache_switchover_steps(view: View, kind: str, target: str | None) -> tuple[Step, ...]:
    """Make `target`, or the most advanced replica, the primary. Raises LampstandError when there is none to choose."""
    group = CacheGroup(view, kind)
    if group.primary is None:
        raise LampstandError(
            "there is no primary to hand over from", kind, "wait for the controller to choose one"
        )
    ready = [m for m in group.others if group.answers(m.name) and group.facts(m.name).link_up]
    chosen = [m for m in ready if target in (None, m.name)]
    if not chosen:
        raise LampstandError(
            f"{target or 'no replica'} is ready to become the primary",
            kind,
            f"ready: {[m.name for m in ready]}",
        )
    winner = max(chosen, key=lambda m: group.facts(m.name).offset or 0)
    change = CacheSwitchover(kind, group.primary, winner)
    return (
        Step("close the old primary for writes", 3.0, change.close),
        Step("let the new one catch up", CATCH_UP + 1, change.catch_up),
        Step("promote", 3.0, change.promote),
        Step("point gateways and replicas at it", 10.0, change.redirect),
        Step("make the old primary a replica", 5.0, change.follow),
    )


class CacheSwitchover(CachePromotion):
    """The steps of one."""

    async def close(self, hands: Hands) -> None:
        """Read-only, and its clients sent away; its data stay."""
        await roles.depose(self._old(), hands.secret)

    async def catch_up(self, hands: Hands) -> None:
        """The new primary has every byte of the old one."""
        old, new = self._old().name, self._winner().name
        while True:
            group = CacheGroup(await hands.refresh(old, new), self.kind)
            if (group.facts(new).offset or 0) >= (group.facts(old).offset or 0):
                return
            await asyncio.sleep(0.02)

    async def follow(self, hands: Hands) -> None:
        """The old primary follows the new one."""
        await roles.follow(self._old(), self._winner(), hands.secret)

    def _old(self) -> Instance:
        if self.old is None:
            raise LampstandError("there is no old primary", self.kind)
        return self.old
