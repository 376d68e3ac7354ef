"""Steps of the database recoveries: each bounded, safe to repeat, and resumed from what is then observed.

The rules are those of docs/failover.md. What must survive the controller is in Memory, written before it is acted on.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pymysql

from lampstand.controller.failover_group import Group
from lampstand.controller.problems import Hands, Step, View
from lampstand.controller.recovering import fence, point, redirect, start_old
from lampstand.errors import LampstandError
from lampstand.observed import Health, State
from lampstand.tiers.database import accounts, replication
from lampstand.tiers.database.connection import Link, close_quietly, connect, one_line
from lampstand.tiers.database.gtid import contains, sequence
from lampstand.tiers.database.tier import KIND, PORT, role_file
from lampstand.topology import Instance

T = TypeVar("T")


async def on(hands: Hands, instance: Instance, work: Callable[[Link], T], seconds: float = 2.0) -> T:
    """Run `work` over an administrator's connection, in a thread. `seconds` bounds every single wait.

    Raises LampstandError. When the step is cancelled, the connection is cut, so that nothing of `work` runs on.
    """
    password = hands.secret(accounts.SECRET_OF[accounts.ADMIN])
    opened: list[Link] = []
    cancelled = False

    def blocking() -> T:
        link = connect(instance.endpoint(PORT), accounts.ADMIN, password, seconds)
        opened.append(link)
        try:
            if cancelled:
                raise pymysql.err.OperationalError(0, "cancelled")
            return work(link)
        finally:
            close_quietly(link)

    try:
        return await asyncio.to_thread(blocking)
    except asyncio.CancelledError:
        cancelled = True
        for link in opened:
            close_quietly(link)
        raise
    except (pymysql.err.Error, OSError, ValueError, replication.RelayLogError) as error:
        raise LampstandError(one_line(error), instance.name) from error


def names(instances: Iterable[Instance | str]) -> str:
    """`database-1, database-2`."""
    return ", ".join(i if isinstance(i, str) else i.name for i in instances)


def replicated(view: View) -> bool:
    """Whether the site has replicas, so that every write waits for an acknowledgement."""
    return len(view.topology.of_kind(KIND)) > 1


def remember_voter(hands: Hands, name: str, joined_at: str) -> None:
    """From now on its acknowledgement may stand for a write. Before it may receive anything."""
    known = hands.view.memory.known
    hands.remember(known={**known, KIND: {**known.get(KIND, {}), name: joined_at}})


async def forget_voter(hands: Hands, name: str) -> None:
    """Its acknowledgement stands for nothing any more. It must receive nothing, and stay so until it joins anew.

    What only it and the primary have is safe all the same: the others count only from the primary's position now.
    """
    known = hands.view.memory.known
    if name not in known.get(KIND, {}):
        return
    primary = Group(hands.view).primary
    if primary is None:
        raise LampstandError("there is no primary that has what it acknowledged", name)
    _, now = await on(hands, primary, _history)
    hands.remember(known={**known, KIND: {n: now for n in known[KIND] if n != name}})


@dataclass
class Promotion:
    """One election and what follows from it. The fields are filled step by step and never outlive the controller."""

    old: Instance | None
    wanted: str = ""
    """Only this server, or none."""
    accept_loss: bool = False
    received: dict[str, replication.Received] = field(default_factory=dict[str, replication.Received])
    winner: Instance | None = None
    begins: int = 0
    """The term that it begins."""

    def steps(self) -> tuple[Step, ...]:
        """Fence, silence, choose, drain, promote, redirect, restart the old primary."""
        return (
            Step("fence the old primary", 5.0, self.fence),
            Step("stop receiving on every replica", 8.0, self.silence),
            Step("choose the most advanced", 120.0, self.choose),
            Step("apply what it has received", 120.0, self.drain),
            Step("promote", 5.0, self.promote),
            Step("point gateways and replicas at it", 15.0, self.redirect),
            Step("start the old primary as a replica", 10.0, self.restart_old),
        )

    async def fence(self, hands: Hands) -> None:
        """Kill it; where its death cannot be confirmed, the replicas' silence is the fence (rule 3)."""
        await fence(hands, self.old)

    async def silence(self, hands: Hands) -> None:
        """No server that may acknowledge receives any more; else refuse, and say which one is missing (rule 2)."""
        view = hands.view
        group = Group(view)
        voters = [n for n in group.voters if not (self.old and n == self.old.name)]
        asked = [m for m in group.members if m.name in (*voters, self.wanted)]
        answers = await asyncio.gather(
            *(on(hands, m, replication.stop_receiving, 4.0) for m in asked), return_exceptions=True
        )
        for member, answer in zip(asked, answers, strict=True):
            if isinstance(answer, replication.Received):
                self.received[member.name] = answer
            elif not isinstance(answer, LampstandError):
                raise answer
        missing = [n for n in voters if n not in self.received]
        if missing and not self.accept_loss:
            await self._refuse(hands, f"{names(missing)} may hold acknowledged writes and does not answer")

    async def choose(self, hands: Hands) -> None:
        """The one that has received most. A server that was restarted applies its relay log first (rule 4)."""
        group = Group(hands.view)
        asked = [m for m in group.members if m.name in self.received]
        unknown = [m for m in asked if not self.received[m.name].known]
        found = await asyncio.gather(
            *(on(hands, m, lambda link: replication.received(link, 100.0), 110.0) for m in unknown)
        )
        self.received |= {m.name: f for m, f in zip(unknown, found, strict=True)}
        lacking = [n for n in self.received if self._sequence(n) < sequence(group.joined_at(n))]
        if lacking and not self.accept_loss:
            # It joined a moment ago and has not caught up, or its data folder was lost.
            await self._refuse(
                hands, f"{names(lacking)} has not caught up with what was acknowledged before it joined"
            )
        if not self.received:
            await self._refuse(hands, "no replica has what was acknowledged")
        terms: dict[str, int] = {}
        if not group.term:  # nobody remembers a promotion: the data must tell which history is the newest
            told = await asyncio.gather(*(on(hands, m, _term) for m in asked))
            terms = {m.name: term for m, term in zip(asked, told, strict=True)}

        def rank(name: str) -> tuple[int, int]:
            return terms.get(name, 0), self._sequence(name)

        best = max(rank(name) for name in self.received)
        equal = [m for m in asked if rank(m.name) == best and not self.received[m.name].own_writes]
        if not equal and not self.wanted:
            most = [n for n in self.received if rank(n) == best]
            await self._refuse(hands, f"{names(most)} has received most and was written to by mistake")
        if equal:
            self.winner = max(equal, key=lambda m: (m == group.primary, self._applied(m.name)))
        if self.wanted:
            chosen = [m for m in (asked if self.accept_loss else equal) if m.name == self.wanted]
            if not chosen:
                raise LampstandError(
                    f"{self.wanted} lacks writes that {names(equal)} has",
                    self.wanted,
                    f"promote {names(equal)}",
                )
            self.winner = chosen[0]

    async def drain(self, hands: Hands) -> None:
        """Everything it has received is committed before it takes a write."""
        winner = self._winner()
        target = self.received[winner.name].newest
        if target == self.received[winner.name].applied:
            return
        if not await on(hands, winner, lambda link: replication.drain(link, target, 110.0), 115.0):
            await self._refuse(hands, f"{winner.name} cannot apply what it has received")

    async def promote(self, hands: Hands) -> None:
        """Give it the role: first in Memory, then in its data, then for writes."""
        winner = self._winner()
        group = Group(hands.view)

        def check_and_leave(link: Link) -> int:
            own = _term(link)
            if own < group.term and not self.accept_loss:
                raise ValueError(
                    f"it has no write of term {group.term}: {group.primary and group.primary.name} may have had writes "
                    "that nobody else has"
                )
            replication.leave_source(link)
            return own

        own = await on(hands, winner, check_and_leave)
        seen = [group.facts(m.name).term or 0 for m in group.members]
        self.begins = max([group.term, own, *seen]) + 1
        hands.write_live(winner, role_file(winner, deposed=False))
        hands.remember(
            primaries={**hands.view.memory.primaries, KIND: winner.name},
            terms={**hands.view.memory.terms, KIND: self.begins},
            known={**hands.view.memory.known, KIND: {}},
        )
        if self.old is not None and self.old != winner:
            hands.write_live(self.old, role_file(self.old, deposed=True))
        await open_primary(hands)

    async def redirect(self, hands: Hands) -> None:
        """Clients and replicas find the new primary."""
        winner = self._winner()
        members = Group(hands.view).members
        replicas = [m for m in members if m not in (winner, self.old) and m.name in self.received]
        await redirect(hands, replicas, lambda replica: follow(hands, replica, 3.0))

    async def restart_old(self, hands: Hands) -> None:
        """It comes back read-only, without what was never acknowledged (rule 5)."""
        if self.old != self.winner:
            await start_old(hands, self.old)

    async def _refuse(self, hands: Hands, why: str) -> None:
        """Nothing is promoted. The old primary has every acknowledged write: its data are asked next."""
        if self.old is not None:
            await hands.start(self.old)
        raise LampstandError(
            f"{why}; nothing is promoted without it",
            KIND,
            "start it, or accept the loss: lampstand database promote NAME --accept-loss",
        )

    def _applied(self, name: str) -> int:
        applied = self.received[name].applied
        return applied.sequence if applied else 0

    def _sequence(self, name: str) -> int:
        newest = self.received[name].newest
        return newest.sequence if newest else 0

    def _winner(self) -> Instance:
        if self.winner is None:
            raise LampstandError("nobody was chosen", KIND)
        return self.winner


def _term(link: Link) -> int:
    return int(replication.value(link, f"SELECT MAX(term) FROM {accounts.SCHEMA}.terms") or 0)


def _history(link: Link) -> tuple[str, str]:
    """Everything in its history, and the newest transaction."""
    return replication.history(link), str(replication.position(link) or "")


async def open_primary(hands: Hands) -> None:
    """Let the remembered primary take writes. Also finishes a promotion that was broken off after it was remembered."""
    group = Group(hands.view)
    primary = group.primary
    if primary is None:
        raise LampstandError("there is no primary", KIND)
    term, acknowledged = group.term, replicated(hands.view)

    def work(link: Link) -> None:
        if replication.replica_status(link):
            replication.leave_source(link)
        if _term(link) < term:
            replication.begin_term(link, term, primary.name)
        replication.open_for_writes(link, acknowledged=acknowledged)

    await on(hands, primary, work)
    hands.event("database-primary", primary.name, "open", "done", term=term)


async def lost_to_visitors(hands: Hands) -> None:
    """No gateway reaches the primary: nobody can write. Raises LampstandError when one does, or when none is well."""
    seen = hands.view.observed.instances
    well = [g for g in hands.view.topology.of_kind("gateway") if seen[g.name].health is Health.GOOD]
    password = hands.secret(accounts.SECRET_OF[accounts.CHECK])

    def reached(gateway: Instance) -> bool:
        try:
            close_quietly(connect(gateway.endpoint("writer"), accounts.CHECK, password, 2.0))
        except pymysql.err.Error as error:
            # What the server itself says has a number below 2000 (MariaDB: Error Codes); the client's begin there.
            return 1000 < int(error.args[0] if error.args else 0) < 2000
        return True

    answers = await asyncio.gather(*(asyncio.to_thread(reached, g) for g in well))
    if not well:
        raise LampstandError("no gateway is well that could tell whether visitors reach it", KIND)
    if any(answers):
        raise LampstandError("visitors reach it: nothing is changed", KIND)


async def point_replicas(hands: Hands) -> None:
    """Replicas that answer and do not follow the primary do so. Until one does, every write waits, the probe's too:
    nobody should have to hear of that first."""
    group = Group(hands.view)
    lost = [
        m
        for m in group.others
        if m.name in group.voters and group.answers(m.name) and not group.follows(m.name)
    ]
    await point(hands, lost, lambda replica: follow(hands, replica, 3.0))


async def follow(hands: Hands, replica: Instance, seconds: float) -> None:
    """Make `replica` follow the remembered primary, after it has applied what it had received.

    Raises LampstandError when its history is not the primary's.
    """
    primary = Group(hands.view).primary
    if primary is None or primary == replica:
        raise LampstandError("there is no primary to follow", replica.name)
    password = hands.secret(accounts.SECRET_OF[accounts.REPLICATION])

    def settle(link: Link) -> str:
        try:
            received = replication.received(link, seconds).newest
        except replication.RelayLogError:
            # The primary answers, and has all of it: nothing is lost with the relay log.
            replication.discard_relay_log(link)
            received = replication.applied(link)
        if not replication.drain(link, received, seconds):
            raise ValueError("it still applies what it had received")
        return replication.history(link)

    mine = await on(hands, replica, settle, seconds + 2.0)
    # Asked after the replica: whatever it has of the primary's own writes, the primary's answer includes.
    state, now = await on(hands, primary, _history)
    if not contains(state, mine):
        raise LampstandError(f"its history ({mine}) is not that of {primary.name} ({state})", replica.name)
    hands.write_live(replica, role_file(replica, deposed=False))
    remember_voter(hands, replica.name, now)
    await on(hands, replica, lambda link: replication.follow(link, primary.endpoint(PORT), password))


async def revive(hands: Hands, wanted: Sequence[str], seconds: float = 10.0) -> None:
    """Start what is down, start anew what is frozen, and wait until the primary or all the others answer.

    Raises LampstandError when none of that happens within `seconds`, so that the next attempt waits longer.
    """
    for name in wanted:
        instance = hands.view.topology.by_name[name]
        if hands.view.observed.state(name) is State.FROZEN:
            await hands.restart(instance)
        else:
            await hands.start(instance)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        group = Group(await hands.refresh(*wanted))
        if group.primary is None or group.answers(group.primary.name):
            return
        if group.voters and not group.missing_voters():
            return
        await asyncio.sleep(0.1)
    raise LampstandError(f"{names(wanted)} did not all come back", KIND, "`lampstand logs` tells why")
