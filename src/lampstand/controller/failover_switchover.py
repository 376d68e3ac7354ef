"""Planned switchover: writes are held, not failed, while another server takes the role."""

import asyncio
import time
from dataclasses import dataclass

import pymysql

from lampstand.controller.failover_group import Group
from lampstand.controller.failover_steps import Promotion, follow, names, on, open_primary
from lampstand.controller.problems import Hands, Step, View
from lampstand.controller.recovering import redirect
from lampstand.errors import LampstandError, UsageError
from lampstand.tiers.database import accounts, replication
from lampstand.tiers.database.connection import Link, close_quietly, connect, one_line
from lampstand.tiers.database.gtid import newest
from lampstand.tiers.database.tier import KIND, PORT, role_file
from lampstand.topology import Instance

LONG_SECONDS = 30.0
"""How long a switchover waits for transactions that are older than half a second, before it holds anything."""
QUIET_SECONDS = 0.4
"""How long it looks for a moment in which nobody is in the middle of a transaction."""


def switchover_steps(view: View, target: str | None) -> tuple[Step, ...]:
    """Steps that make `target` the primary (None: the healthy replica that lags least).

    Raises UsageError for a name that is no replica, LampstandError when the group is not well enough.
    """
    group = Group(view)
    if group.primary is None:
        raise LampstandError("there is no primary to switch from", KIND, "`lampstand status` tells why")
    replicas = [m.name for m in group.others]
    if target is not None and target not in replicas:
        what = (
            f"{target} is the primary already" if target == group.primary.name else f"{target} is no replica"
        )
        raise UsageError(what, KIND, f"name one of {names(replicas)}")
    well = [n for n in ([target] if target else replicas) if group.follows(n)]
    if not well:
        raise LampstandError(
            f"{target or 'no replica'} does not follow {group.primary.name}",
            KIND,
            "`lampstand status` tells why",
        )
    chosen = min(well, key=lambda n: group.facts(n).lag_seconds or 0.0)
    return Switchover(group.primary, view.topology.by_name[chosen]).steps()


@dataclass
class Switchover:
    """One planned change of the primary. Nothing is remembered before the new primary has every write."""

    old: Instance
    new: Instance
    link: Link | None = None
    """Holds the writes; whatever ends it lets them go on."""

    def steps(self) -> tuple[Step, ...]:
        """Wait for long transactions, hold, hand over, redirect, follow."""
        return (
            Step("wait for long transactions", LONG_SECONDS + 5.0, self.wait),
            Step("hold writes and hand over", 10.0, self.hand_over),
            Step("point gateways and replicas at it", 15.0, self.redirect),
            Step("make the old primary a replica", 15.0, self.demote),
        )

    async def wait(self, hands: Hands) -> None:
        """Long transactions end by themselves before anything is held."""
        deadline = time.monotonic() + LONG_SECONDS
        while await on(hands, self.old, lambda link: replication.old_transactions(link, 0.5)):
            if time.monotonic() > deadline:
                raise LampstandError(
                    f"a transaction has been open for more than {LONG_SECONDS:g} s",
                    self.old.name,
                    "end it, and repeat",
                )
            await asyncio.sleep(0.2)

    async def hand_over(self, hands: Hands) -> None:
        """In one step, because the writes wait all the while; when it fails, they go on where they were."""
        secret = hands.secret(accounts.SECRET_OF[accounts.ADMIN])
        try:
            self.link = await asyncio.to_thread(connect, self.old.endpoint(PORT), accounts.ADMIN, secret, 8.0)
            await asyncio.to_thread(replication.hold_writes, self.link, QUIET_SECONDS)
            await self._take_over(hands)
        except BaseException as error:
            self._let_go()
            if isinstance(error, pymysql.err.Error):
                raise LampstandError(one_line(error), self.old.name) from error
            raise

    async def _take_over(self, hands: Hands) -> None:
        assert self.link is not None
        target = newest(str(await asyncio.to_thread(replication.position, self.link) or ""))
        if not await on(hands, self.new, lambda link: replication.drain(link, target, 1.0)):
            raise LampstandError(
                "does not catch up within a second", self.new.name, "repeat when there are fewer writes"
            )
        # Nobody may acknowledge what the old primary writes if we die now and its writes go on (rule 3).
        others = [m for m in Group(hands.view).members if m not in (self.old, self.new)]
        await asyncio.gather(*(self._silence(hands, m) for m in others))
        await on(hands, self.new, replication.leave_source)
        hands.write_live(self.new, role_file(self.new, deposed=False))
        group = Group(hands.view)
        hands.remember(
            primaries={**hands.view.memory.primaries, KIND: self.new.name},
            terms={
                **hands.view.memory.terms,
                KIND: max(group.term, *(group.facts(m.name).term or 0 for m in group.members)) + 1,
            },
            known={**hands.view.memory.known, KIND: {}},
        )
        await open_primary(hands)

    async def _silence(self, hands: Hands, replica: Instance) -> None:
        try:
            await on(hands, replica, replication.stop_receiving)
        except LampstandError:
            if replica.name in Group(hands.view).voters and not Group(await hands.refresh(replica.name)).down(
                replica.name
            ):
                raise

    async def redirect(self, hands: Hands) -> None:
        """Clients find the new primary; replicas follow it and acknowledge its writes."""
        replicas = [m for m in Group(hands.view).members if m not in (self.old, self.new)]
        await redirect(hands, replicas, lambda replica: follow(hands, replica, 3.0))

    async def demote(self, hands: Hands) -> None:
        """The sessions that wait on the old primary end; it follows."""
        if self.link is not None:
            link, self.link = self.link, None
            try:
                await asyncio.to_thread(replication.end_hold, link)
            finally:
                close_quietly(link)
        await follow(hands, self.old, 3.0)

    def _let_go(self) -> None:
        """Writes go on where they were; where the new primary is remembered already, the old one is deposed next."""
        if self.link is not None:
            close_quietly(self.link)
            self.link = None


def promote_steps(view: View, name: str, *, accept_loss: bool) -> tuple[Step, ...]:
    """Steps by which an operator makes `name` the primary when the controller refuses to choose.

    Without `accept_loss` they refuse as the controller does. Raises UsageError for a name that is no database server,
    LampstandError that tells what may be lost.
    """
    group = Group(view)
    if name not in {m.name for m in group.members}:
        raise UsageError(f"{name} is no database server", KIND, f"name one of {names(group.members)}")
    if not group.answers(name):
        raise LampstandError("does not answer", name, "start it first")
    missing = [n for n in group.missing_voters() if n != name]
    primary_answers = group.primary is not None and group.answers(group.primary.name)
    if missing and not accept_loss:
        raise LampstandError(
            f"{names(missing)} may hold acknowledged writes that {name} lacks; they would be lost", name,
            "start them, or repeat with --accept-loss: what they have more is kept in a file when they come back",
        )  # fmt: skip
    if group.primary is not None and group.primary.name == name:
        return (Step("let it take writes", 5.0, open_primary),)
    if primary_answers and not accept_loss:
        return switchover_steps(view, name)
    return Promotion(group.primary, wanted=name, accept_loss=accept_loss).steps()
