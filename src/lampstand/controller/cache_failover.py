"""What can be wrong with the groups `cache` and `sessions`, and what mends it: the table, for each kind.

Redis replicates without waiting, so a promotion can lose what was written in the last milliseconds: a cache and a
session store may lose that (docs/failover.md). Every server starts as a replica of nobody, so only the remembered
primary ever takes writes. Matchers are pure over a View.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError

from lampstand.controller.problems import Finding, Hands, Problem, Step, View
from lampstand.controller.recovering import fence, one_step, redirect, start_old
from lampstand.errors import LampstandError
from lampstand.observed import CacheFacts, Health, State
from lampstand.tiers.cache import roles
from lampstand.tiers.cache.probe import close, command, connect
from lampstand.tiers.cache.tier import ENDPOINT
from lampstand.topology import Instance

KINDS = ("cache", "sessions")
SILENT = CacheFacts(False)
STARTING_SECONDS = 2.0
"""A server that was started less long ago and does not answer is still starting."""
PATIENCE = 2.0
"""Seconds that a group without a primary waits for servers that do not answer yet."""
LONG = 15.0
"""Seconds after which a replica that runs and does not answer is started anew."""


@dataclass(frozen=True)
class CacheGroup:
    """One of the two groups in a View."""

    view: View
    kind: str

    @property
    def members(self) -> tuple[Instance, ...]:
        """Its servers, in order."""
        return self.view.topology.of_kind(self.kind)

    @property
    def primary(self) -> Instance | None:
        """The remembered primary, None when there was none or the site no longer has it."""
        return self.view.topology.by_name.get(self.view.memory.primaries.get(self.kind, ""))

    @property
    def others(self) -> tuple[Instance, ...]:
        """Every member but the primary."""
        return tuple(m for m in self.members if m != self.primary)

    def facts(self, name: str) -> CacheFacts:
        """What a server said last."""
        seen = self.view.observed.instances.get(name)
        return seen.facts if seen and isinstance(seen.facts, CacheFacts) else SILENT

    def answers(self, name: str) -> bool:
        """Whether its last probe was answered and its data are there."""
        facts = self.facts(name)
        return (
            facts.answered
            and not facts.loading
            and self.view.observed.state(name) in (State.RUNNING, State.PARTIAL)
        )

    def down(self, name: str) -> bool:
        """Whether none of its processes runs."""
        return self.view.observed.state(name) in (State.STOPPED, State.MISSING)

    def age(self, name: str) -> float:
        """Seconds since its youngest process was started; infinite when nobody knows."""
        seen = self.view.observed.instances.get(name)
        started = [p.started for p in seen.processes if p.started] if seen else []
        return self.view.now - max(started) if started else float("inf")

    def ill_for(self, name: str) -> float:
        """Seconds since it has been known not to be well; 0 when it is well."""
        seen = self.view.observed.instances.get(name)
        if seen is None or seen.health is Health.GOOD or seen.health_since is None:
            return 0.0
        return self.view.now - seen.health_since

    def lost(self) -> str:
        """How the primary was lost: `is down`, `is frozen`, `is lost`; empty while it answers, starts or a replica
        still receives from it."""
        assert self.primary is not None
        name = self.primary.name
        seen = self.view.observed.instances.get(name)
        if self.down(name):
            return "is down"
        if seen is None or seen.facts is None or self.facts(name).answered:
            return ""
        if seen.state is State.FROZEN:
            return "is frozen"
        refused = "refuses" in self.facts(name).error
        if self.age(name) < STARTING_SECONDS or (seen.health is not Health.BAD and not refused):
            return ""
        if any(self.answers(m.name) and self.facts(m.name).link_up for m in self.others):
            return ""
        return "is lost"


# -- matchers --------------------------------------------------------------------------------------------------------
def _matcher(
    kind: str, find: Callable[[CacheGroup], Iterable[tuple[str, str]]], suffix: str
) -> Callable[[View], list[Finding]]:
    def matches(view: View) -> list[Finding]:
        group = CacheGroup(view, kind)
        return (
            [Finding(f"{kind}-{suffix}", subject, text) for subject, text in find(group)]
            if group.members
            else []
        )

    return matches


def _no_primary(group: CacheGroup) -> Iterable[tuple[str, str]]:
    if group.primary is None:
        yield group.kind, f"{group.kind} has no primary yet"


def _primary_lost(group: CacheGroup) -> Iterable[tuple[str, str]]:
    if group.primary is not None and (how := group.lost()):
        yield group.primary.name, f"the primary {group.primary.name} {how}"


def _primary_read_only(group: CacheGroup) -> Iterable[tuple[str, str]]:
    primary = group.primary
    if primary is not None and group.answers(primary.name) and group.facts(primary.name).role == "slave":
        yield primary.name, f"the primary {primary.name} has not its role"


def _two_writable(group: CacheGroup) -> Iterable[tuple[str, str]]:
    for member in group.others if group.primary else ():
        if group.facts(member.name).answered and group.facts(member.name).role == "master":
            yield member.name, f"{member.name} takes writes beside the primary"


def _replica_lost(group: CacheGroup) -> Iterable[tuple[str, str]]:
    primary = group.primary
    if primary is None or not group.answers(primary.name) or group.facts(primary.name).role != "master":
        return
    for member in group.others:
        facts = group.facts(member.name)
        if facts.answered and facts.role == "slave" and facts.source != primary.endpoint(ENDPOINT).address:
            yield member.name, f"{member.name} does not follow {primary.name}"


def _replica_down(group: CacheGroup) -> Iterable[tuple[str, str]]:
    for member in group.others if group.primary else ():
        if not group.facts(member.name).answered and group.ill_for(member.name) > 0:
            yield (
                member.name,
                f"{member.name} " + ("is down" if group.down(member.name) else "does not answer"),
            )


# -- recoveries ------------------------------------------------------------------------------------------------------
@dataclass
class CachePromotion:
    """One change of the primary of a group, step by step."""

    kind: str
    old: Instance | None
    winner: Instance | None = None

    def steps(self) -> tuple[Step, ...]:
        """Fence, choose, promote, redirect, start the old primary."""
        return (
            Step("fence the old primary", 3.0, self.fence),
            Step("choose the most advanced", 5.0, self.choose),
            Step("promote", 3.0, self.promote),
            Step("point gateways and replicas at it", 10.0, self.redirect),
            Step("start the old primary as a replica", 10.0, self.restart_old),
        )

    async def fence(self, hands: Hands) -> None:
        """Kill it; where that cannot be confirmed, what it takes from now on will be given up when it is back."""
        await fence(hands, self.old)

    async def choose(self, hands: Hands) -> None:
        """The one with the highest offset; without a common history, the one with the most keys."""
        view = await hands.refresh(*(m.name for m in hands.view.topology.of_kind(self.kind)))
        group = CacheGroup(view, self.kind)
        candidates = [m for m in group.members if m != self.old and group.answers(m.name)]
        if not candidates:
            if self.old is not None:
                await hands.start(self.old)
            raise LampstandError(
                "no server answers that could be promoted", self.kind, "`lampstand logs` tells why"
            )
        keys = dict(
            zip(candidates, await asyncio.gather(*(_keys(hands, m) for m in candidates)), strict=True)
        )
        together = self.old is not None and all(
            group.facts(m.name).source == self.old.endpoint(ENDPOINT).address for m in candidates
        )

        def rank(member: Instance) -> tuple[int, int]:
            offset = group.facts(member.name).offset or 0
            return (offset, keys[member]) if together else (keys[member], offset)

        self.winner = max(candidates, key=rank)

    async def promote(self, hands: Hands) -> None:
        """Remembered first, so that a controller that is killed here goes on."""
        winner = self._winner()
        hands.remember(primaries={**hands.view.memory.primaries, self.kind: winner.name})
        await roles.promote(winner, hands.secret)

    async def redirect(self, hands: Hands) -> None:
        """Clients and replicas find the new primary."""
        winner = self._winner()
        group = CacheGroup(hands.view, self.kind)
        replicas = [m for m in group.members if m not in (winner, self.old) and group.answers(m.name)]
        await redirect(hands, replicas, lambda replica: roles.follow(replica, winner, hands.secret))

    async def restart_old(self, hands: Hands) -> None:
        """It comes back as a replica of nobody."""
        await start_old(hands, self.old)

    def _winner(self) -> Instance:
        if self.winner is None:
            raise LampstandError("nobody was chosen", self.kind)
        return self.winner


async def _keys(hands: Hands, instance: Instance) -> int:
    """How many keys a server has; 0 when it does not say."""
    connection = connect(instance, hands.secret)
    try:
        async with asyncio.timeout(1.0):
            await connection.connect()
            answer = await command(connection, "DBSIZE")
    except (OSError, RedisError, TimeoutError):
        return 0
    finally:
        await close(connection)
    return int(answer) if isinstance(answer, int) else 0


def _elect(kind: str) -> Callable[[View, Finding], Sequence[Step]]:
    def recover(view: View, finding: Finding) -> Sequence[Step]:
        group = CacheGroup(view, kind)
        silent = [m.name for m in group.members if not group.answers(m.name)]
        if group.primary is None and silent:
            begun = min((group.age(m.name) for m in group.members), default=0.0)
            if len(silent) == len(group.members) or begun < PATIENCE:
                return ()  # better hear all of them first
        if group.primary is not None and not any(group.answers(m.name) for m in group.others):
            return one_step(f"start {finding.subject}", 15.0, _start_primary(group.primary))
        return CachePromotion(kind, group.primary).steps()

    return recover


def _start_primary(primary: Instance) -> Callable[[Hands], Awaitable[None]]:
    """Nobody else answers: the old primary is all there is. Waits for it, so that a failure is tried again later."""

    async def run(hands: Hands) -> None:
        kind = primary.kind
        if hands.view.observed.state(primary.name) is State.FROZEN:
            await hands.restart(primary)
        else:
            await hands.start(primary)
        names = [m.name for m in hands.view.topology.of_kind(kind)]
        for _ in range(100):
            group = CacheGroup(await hands.refresh(*names), kind)
            if any(group.answers(n) for n in names):
                return
            await asyncio.sleep(0.1)
        raise LampstandError("does not come back", primary.name, "`lampstand logs` tells why")

    return run


def _take_role(kind: str) -> Callable[[View, Finding], Sequence[Step]]:
    def recover(view: View, finding: Finding) -> Sequence[Step]:
        primary = view.topology.by_name[finding.subject]

        async def run(hands: Hands) -> None:
            group = CacheGroup(hands.view, kind)
            if not await _keys(hands, primary):
                # It came back empty (a cache always does). A replica that has data is worth more.
                full = [m for m in group.others if group.answers(m.name) and await _keys(hands, m)]
                if full:
                    hands.remember(primaries={**hands.view.memory.primaries, kind: full[0].name})
                    await roles.promote(full[0], hands.secret)
                    await hands.route(drop_old=True)
                    return
            await roles.promote(primary, hands.secret)

        return one_step(f"{finding.subject} takes its role", 15.0, run)

    return recover


def _follow(kind: str) -> Callable[[View, Finding], Sequence[Step]]:
    def recover(view: View, finding: Finding) -> Sequence[Step]:
        replica, primary = view.topology.by_name[finding.subject], CacheGroup(view, kind).primary

        async def run(hands: Hands) -> None:
            if primary is not None:
                await roles.follow(replica, primary, hands.secret)

        return one_step(f"{replica.name} follows the primary", 15.0, run)

    return recover


def _depose(view: View, finding: Finding) -> Sequence[Step]:
    impostor = view.topology.by_name[finding.subject]

    async def run(hands: Hands) -> None:
        await roles.depose(impostor, hands.secret)

    return one_step(f"{impostor.name} takes no more writes", 15.0, run)


def _start(kind: str) -> Callable[[View, Finding], Sequence[Step]]:
    def recover(view: View, finding: Finding) -> Sequence[Step]:
        group = CacheGroup(view, kind)
        replica = view.topology.by_name[finding.subject]
        if group.ill_for(replica.name) < LONG:
            return ()

        async def run(hands: Hands) -> None:
            await (hands.start(replica) if group.down(replica.name) else hands.restart(replica))

        return one_step(f"start {replica.name}", 15.0, run)

    return recover


def _rows(kind: str) -> Iterable[Problem]:
    what = "the cache" if kind == "cache" else "the session store"

    def row(
        suffix: str, sentence: str, priority: int, find: Callable[[CacheGroup], Iterable[tuple[str, str]]],
        recover: Callable[[View, Finding], Sequence[Step]], *, own_group: bool = False,
    ) -> Problem:  # fmt: skip
        code, group = f"{kind}-{suffix}", "" if own_group else kind
        return Problem(code, sentence, priority, _matcher(kind, find, suffix), recover, group=group)

    yield row("two-writable", f"Two servers of {what} take writes.", 11, _two_writable, _depose)
    yield row("no-primary", f"No server of {what} has been made the primary.", 21, _no_primary, _elect(kind))
    yield row("primary-lost", f"The primary of {what} is gone.", 23, _primary_lost, _elect(kind))
    yield row(
        "primary-read-only",
        f"The primary of {what} takes no writes.",
        26,
        _primary_read_only,
        _take_role(kind),
    )
    yield row(
        "replica-lost", f"A replica of {what} does not follow the primary.", 43, _replica_lost, _follow(kind)
    )
    yield row(
        "replica-down",
        f"A replica of {what} does not answer.",
        44,
        _replica_down,
        _start(kind),
        own_group=True,
    )


CACHE_PROBLEMS: tuple[Problem, ...] = tuple(p for kind in KINDS for p in _rows(kind))
