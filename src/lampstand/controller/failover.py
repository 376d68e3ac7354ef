"""What can be wrong with the database, and what mends it: the table. The rules are in docs/failover.md.

Every matcher is pure over a View. Recoveries that change roles or replication exclude each other (group `database`);
copying a server does not exclude them, because a server that is copied takes part in nothing.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence

from lampstand.controller.failover_group import Group
from lampstand.controller.failover_reseed import DIVERGED_ERRORS, far_behind, reseed_steps
from lampstand.controller.failover_steps import (
    Promotion,
    follow,
    forget_voter,
    names,
    on,
    open_primary,
    replicated,
    revive,
)
from lampstand.controller.failover_switchover import promote_steps, switchover_steps
from lampstand.controller.problems import Finding, Hands, Problem, Step, View
from lampstand.errors import LampstandError
from lampstand.observed import Health, State
from lampstand.tiers.database import accounts, replication
from lampstand.tiers.database.connection import Link
from lampstand.tiers.database.tier import KIND
from lampstand.topology import Instance

PATIENCE = 3.0
"""Seconds for which something that may mend itself is left alone."""
LONG = 15.0
"""Seconds after which a server that runs and does not answer is started anew."""
CRASHES = 4
"""Restarts in a row after which a replica's data are taken to be unusable."""

__all__ = ["DATABASE_PROBLEMS", "promote_steps", "switchover_steps"]


# -- matchers --------------------------------------------------------------------------------------------------------
def _group(view: View) -> Group | None:
    """The group, None when the site has no database or nothing of it is known yet."""
    group = Group(view)
    return group if group.members else None


def _healthy_primary(view: View) -> Group | None:
    """The group when its primary answers and takes writes."""
    group = _group(view)
    if group is None or group.primary is None or not group.answers(group.primary.name):
        return None
    return None if group.facts(group.primary.name).read_only else group


def _finding(code: str, subject: Instance | str, sentence: str, **detail: str) -> Finding:
    return Finding(code, subject if isinstance(subject, str) else subject.name, sentence, detail)


def _ill_for(view: View, name: str) -> float:
    """Seconds since it has been known not to be well; 0 when it is well."""
    seen = view.observed.instances.get(name)
    if seen is None or seen.health is Health.GOOD or seen.health_since is None:
        return 0.0
    return view.now - seen.health_since


def no_primary(view: View) -> list[Finding]:
    group = _group(view)
    if group is None or group.primary is not None:
        return []
    missing = group.missing_voters()
    text = f"there is no primary yet; waiting for {names(missing)}" if missing else "there is no primary yet"
    return [_finding("database-no-primary", KIND, text, missing=names(missing))]


def two_writable(view: View) -> list[Finding]:
    group = _group(view)
    if group is None or group.primary is None:
        return []
    return [
        _finding("database-two-writable", m, f"{m.name} takes writes beside the primary {group.primary.name}")
        for m in group.others
        if group.answers(m.name) and group.facts(m.name).read_only is False
    ]


def _lost(code: str, losses: Sequence[str], sentence: str) -> Callable[[View], list[Finding]]:
    """A matcher for a primary that is lost in one of these ways while every voter answers."""

    def matches(view: View) -> list[Finding]:
        group = _group(view)
        if group is None or group.primary is None or len(group.members) == 1:
            return []
        if group.loss() not in losses or not group.voters or group.missing_voters():
            return []
        return [_finding(code, group.primary, sentence.format(group.primary.name))]

    return matches


def primary_unreachable(view: View) -> list[Finding]:
    group = _group(view)
    if group is None or group.primary is None or group.loss() != "only from here":
        return []
    facts = group.facts(group.primary.name)
    if facts.failure == "full":
        return []
    text = f"{group.primary.name} does not answer the controller ({facts.error}), but its replicas receive from it"
    return [_finding("database-primary-unreachable", group.primary, text)]


def promotion_refused(view: View) -> list[Finding]:
    group = _group(view)
    if group is None or group.primary is None or group.loss() not in ("dead", "frozen", "lost"):
        return []
    missing = group.missing_voters()
    if group.voters and not missing:
        return []
    name = group.primary.name
    why = (
        f"{names(missing)} may hold acknowledged writes and does not answer"
        if missing
        else "no replica has all of its writes"
    )
    return [
        _finding(
            "database-promotion-refused", group.primary, f"{name} is down and {why}", missing=names(missing)
        )
    ]


def primary_behind(view: View) -> list[Finding]:
    group = _group(view)
    if group is None or group.primary is None or not group.answers(group.primary.name):
        return []
    if not group.facts(group.primary.name).read_only or not group.primary_is_behind():
        return []
    text = f"{group.primary.name} came back with older data than it had"
    return [_finding("database-primary-behind", group.primary, text)]


def primary_read_only(view: View) -> list[Finding]:
    group = _group(view)
    if group is None or group.primary is None or not group.answers(group.primary.name):
        return []
    if not group.facts(group.primary.name).read_only or group.primary_is_behind():
        return []
    seen = view.observed.instances[group.primary.name]
    started = max((p.started or 0.0 for p in seen.processes), default=0.0)
    missing = group.missing_voters()
    if missing and view.now - started < PATIENCE:
        # After a power cut of everything: it has every acknowledged write, but better hear all before saying so.
        text = f"{group.primary.name} is back; waiting for {names(missing)}"
        return [_finding("database-primary-read-only", group.primary, text, waiting=names(missing))]
    return [
        _finding(
            "database-primary-read-only", group.primary, f"the primary {group.primary.name} is read-only"
        )
    ]


def semi_sync_off(view: View) -> list[Finding]:
    group = _healthy_primary(view)
    if group is None or group.primary is None or not replicated(view):
        return []
    if group.facts(group.primary.name).semi_sync_master is not False:
        return []
    return [
        _finding(
            "database-semi-sync-off", group.primary, f"{group.primary.name} does not wait for its replicas"
        )
    ]


def semi_sync_fallback(view: View) -> list[Finding]:
    group = _healthy_primary(view)
    if group is None or group.primary is None or not replicated(view):
        return []
    name = group.primary.name
    now, before = group.facts(name).semi_sync_no_tx, view.memory.baselines.get(_counter(name))
    if now is None or now == before or (before is None and now == 0):
        return []
    if before is not None and now < before:
        return []  # a restart set it to zero; the next rise is one again
    text = f"{now - (before or 0)} transactions were committed on {name} without an acknowledgement"
    return [_finding("database-semi-sync-fallback", name, text, count=str(now))]


def replica_diverged(view: View) -> list[Finding]:
    group = _healthy_primary(view)
    if group is None or group.primary is None:
        return []
    found: list[Finding] = []
    for member in group.others:
        facts = group.facts(member.name)
        if facts.read_only is False:
            continue
        seen = view.observed.instances.get(member.name)
        errors = f"{facts.last_io_error} {facts.last_sql_error}"
        if group.diverged(member.name):
            text = f"{member.name} has transactions that are not in the history of {group.primary.name}"
        elif group.answers(member.name) and any(str(c) in errors for c in DIVERGED_ERRORS):
            text = f"{member.name} cannot go on from its data ({errors.strip()[:120]})"
        elif group.answers(member.name) and not facts.source and far_behind(view, member.name):
            text = f"{member.name} is new and empty"
        elif seen and seen.state is State.STOPPED and seen.restarts >= CRASHES:
            text = f"{member.name} does not start any more"
        else:
            continue
        found.append(_finding("database-replica-diverged", member, text))
    return found


def replica_lost(view: View) -> list[Finding]:
    group = _healthy_primary(view)
    if group is None or group.primary is None:
        return []
    ill = {f.subject for f in replica_diverged(view)}
    found: list[Finding] = []
    for member in group.others:
        name, facts = member.name, group.facts(member.name)
        if not group.answers(name) or name in ill or facts.read_only is False or group.follows(name):
            continue
        pointed = facts.source == group.endpoint(group.primary).address
        connecting = pointed and facts.sql_running and facts.io_running in ("Connecting", "Preparing")
        if connecting and _ill_for(view, name) < 2 * PATIENCE:
            continue
        why = (
            facts.last_sql_error
            or facts.last_io_error
            or ("stopped" if pointed else "follows another or nobody")
        )
        found.append(
            _finding(
                "database-replica-lost", member, f"{name} does not follow {group.primary.name} ({why[:120]})"
            )
        )
    return found


def replica_down(view: View) -> list[Finding]:
    group = _group(view)
    if group is None or group.primary is None:
        return []
    return [
        _finding(
            "database-replica-down",
            m,
            f"{m.name} is down" if group.down(m.name) else f"{m.name} does not answer",
        )
        for m in group.others
        if not group.answers(m.name) and _ill_for(view, m.name) > 0
    ]


def replica_lagging(view: View) -> list[Finding]:
    group = _healthy_primary(view)
    if group is None:
        return []
    return [
        _finding("database-replica-lagging", m, f"{m.name} is {group.facts(m.name).lag_seconds:.1f} s behind")
        for m in group.others
        if group.follows(m.name) and (group.facts(m.name).lag_seconds or 0.0) > m.probe.lag_limit
    ]


def too_few_acknowledge(view: View) -> list[Finding]:
    group = _healthy_primary(view)
    if group is None or group.primary is None or not replicated(view):
        return []
    facts = group.facts(group.primary.name)
    following = [m.name for m in group.others if group.follows(m.name)]
    clients = facts.semi_sync_clients
    if clients is None or facts.semi_sync_master is False or (clients > 0 and clients >= len(following)):
        return []
    if clients == 0:
        text = f"no replica acknowledges the writes of {group.primary.name}; they wait"
    else:
        text = f"{clients} of {len(following)} replicas acknowledge the writes of {group.primary.name}"
    return [_finding("database-too-few-acknowledge", group.primary, text, following=names(following))]


def writes_blocked(view: View) -> list[Finding]:
    group = _healthy_primary(view)
    if group is None or group.primary is None or too_few_acknowledge(view):
        return []
    facts = group.facts(group.primary.name)
    if not facts.write_failure or facts.write_failure in ("read-only", "disk-full"):
        return []
    text = f"{group.primary.name} does not complete a write: {facts.write_error}"
    return [_finding("database-writes-blocked", group.primary, text)]


def disk_full(view: View) -> list[Finding]:
    group = _group(view)
    found: list[Finding] = []
    for member in group.members if group else ():
        facts = view_facts = group.facts(member.name) if group else None
        if facts is None or view_facts is None:
            continue
        texts = f"{facts.write_error} {facts.last_sql_error} {facts.last_io_error}"
        if facts.write_failure == "disk-full" or "No space left" in texts or "Errcode: 28" in texts:
            found.append(_finding("database-disk-full", member, f"the disk of {member.name} is full"))
    return found


def too_many_connections(view: View) -> list[Finding]:
    group = _group(view)
    found: list[Finding] = []
    for member in group.members if group else ():
        facts = Group(view).facts(member.name)
        limit = facts.max_connections
        if facts.failure == "full" or (limit and (facts.connections or 0) >= limit * 0.9):
            text = f"{member.name} has {facts.connections or 'all'} of {limit or 'its'} connections in use"
            found.append(_finding("database-connections", member, text))
    return found


def stale_voter(view: View) -> list[Finding]:
    group = _healthy_primary(view)
    if group is None or group.primary is None:
        return []
    gone = [
        n
        for n in group.voters
        if (n not in view.topology.by_name and view.observed.state(n) in (State.MISSING, State.STOPPED))
        or (group.down(n) and _ill_for(view, n) > PATIENCE)
    ]
    return [
        _finding("database-voter-gone", n, f"{n} is down; promotions need no longer wait for it")
        for n in gone
    ]


def everything_down(view: View) -> list[Finding]:
    group = _group(view)
    if group is None or group.primary is None or any(group.answers(m.name) for m in group.members):
        return []
    if not all(group.down(m.name) or _ill_for(view, m.name) > 0 for m in group.members):
        return []
    return [_finding("database-down", KIND, "no database server answers")]


# -- recoveries ------------------------------------------------------------------------------------------------------
def _one(name: str, deadline: float, run: Callable[[Hands], Awaitable[None]]) -> tuple[Step, ...]:
    return (Step(name, deadline, run),)


def _elect(view: View, finding: Finding) -> Sequence[Step]:
    if finding.detail.get("missing"):
        return ()
    return Promotion(Group(view).primary).steps()


def _revive(view: View, finding: Finding) -> Sequence[Step]:
    wanted = [n for n in (*Group(view).missing_voters(), finding.subject) if n in view.topology.by_name]

    async def run(hands: Hands) -> None:
        await revive(hands, wanted)

    return _one(f"start {names(wanted)}", 30.0, run)


def _open(_: View, finding: Finding) -> Sequence[Step]:
    return () if finding.detail.get("waiting") else _one("let it take writes", 5.0, open_primary)


def _subject(view: View, finding: Finding) -> Instance:
    return view.topology.by_name[finding.subject]


def _follow(view: View, finding: Finding) -> Sequence[Step]:
    replica = _subject(view, finding)

    async def run(hands: Hands) -> None:
        await follow(hands, replica, 5.0)

    return _one(f"{replica.name} follows the primary", 12.0, run)


def _make_read_only(view: View, finding: Finding) -> Sequence[Step]:
    """Gently; where commits wait that nobody acknowledges, it is killed and comes back without them (rule 6)."""
    impostor = _subject(view, finding)

    def work(link: Link) -> None:
        replication.close_sessions(link, accounts.APP)
        replication.execute(link, "SET GLOBAL read_only = ON")
        replication.close_sessions(link, accounts.APP)

    async def run(hands: Hands) -> None:
        try:
            await on(hands, impostor, work, 2.0)
        except LampstandError:
            await hands.restart(impostor)

    return _one(f"{impostor.name} takes no more writes", 20.0, run)


def _reseed(_view: View, finding: Finding) -> Sequence[Step]:
    return reseed_steps(_view, finding.subject)


def _start(view: View, finding: Finding) -> Sequence[Step]:
    if _ill_for(view, finding.subject) < LONG:
        return ()
    replica = _subject(view, finding)

    async def run(hands: Hands) -> None:
        await (hands.start(replica) if Group(hands.view).down(replica.name) else hands.restart(replica))

    return _one(f"start {replica.name}", 20.0, run)


def _wait_for_replicas(view: View, finding: Finding) -> Sequence[Step]:
    primary = _subject(view, finding)

    async def run(hands: Hands) -> None:
        await on(hands, primary, lambda link: replication.open_for_writes(link, acknowledged=True))

    return _one("wait for replicas again", 5.0, run)


def _note_fallback(view: View, finding: Finding) -> Sequence[Step]:
    async def run(hands: Hands) -> None:
        count = int(finding.detail["count"])
        hands.remember(baselines={**hands.view.memory.baselines, _counter(finding.subject): count})

    del view
    return _one("note the alarm", 2.0, run)


def _reconnect(view: View, finding: Finding) -> Sequence[Step]:
    """Receiving threads that began without semi-sync acknowledge nothing: begin them anew, the relay logs stay."""
    following = [view.topology.by_name[n] for n in finding.detail["following"].split(", ") if n]

    def work(link: Link) -> None:
        replication.execute(link, "SET GLOBAL rpl_semi_sync_slave_enabled = ON")
        replication.stop_receiving(link)
        replication.execute(link, "START SLAVE IO_THREAD")

    async def run(hands: Hands) -> None:
        for replica in following:
            await on(hands, replica, work)

    return _one("replicas connect anew", 10.0, run) if following else ()


def _forget(_: View, finding: Finding) -> Sequence[Step]:
    async def run(hands: Hands) -> None:
        if not Group(hands.view).answers(finding.subject):
            await forget_voter(hands, finding.subject)

    return _one(f"promotions do not wait for {finding.subject}", 5.0, run)


def _counter(name: str) -> str:
    return f"{name}/semi_sync_no_tx"


def _rows() -> Iterable[Problem]:
    row, refused = Problem, "start the missing server, or `lampstand database promote NAME --accept-loss`"
    yield row(
        "database-two-writable",
        "Two servers take writes; only the primary may.",
        10,
        two_writable,
        _make_read_only,
        group=KIND,
    )
    yield row(
        "database-no-primary", "No server has been made the primary: nothing can be written.", 20, no_primary, _elect,
        mend="start the server it waits for", group=KIND,
    )  # fmt: skip
    dead = _lost("database-primary-dead", ("dead",), "the primary {} is dead")
    yield row(
        "database-primary-dead",
        "The primary died, and its replicas lost it too.",
        20,
        dead,
        _elect,
        group=KIND,
    )
    frozen = _lost("database-primary-frozen", ("frozen",), "the primary {} is frozen")
    yield row(
        "database-primary-frozen", "The primary exists and does nothing.", 20, frozen, _elect, group=KIND
    )
    lost = _lost("database-primary-lost", ("lost",), "the primary {} is lost to everybody")
    yield row(
        "database-primary-lost",
        "Neither the controller nor any replica reaches the primary.",
        20,
        lost,
        _elect,
        group=KIND,
    )
    yield row(
        "database-primary-behind",
        "The primary came back without its data.",
        21,
        primary_behind,
        _elect,
        group=KIND,
    )
    yield row(
        "database-promotion-refused",
        "The primary is down, and a server that may hold acknowledged writes is missing: nobody is promoted.",
        22, promotion_refused, _revive, mend=refused, group=KIND,
    )  # fmt: skip
    yield row(
        "database-primary-read-only", "The primary takes no writes.", 25, primary_read_only, _open, group=KIND
    )
    yield row(
        "database-primary-unreachable", "Only the controller cannot reach the primary; visitors can.", 26,
        primary_unreachable, mend="look at the network between the controller and the server",
    )  # fmt: skip
    yield row(
        "database-down", "No database server answers.", 27, everything_down, mend="`lampstand logs` tells why"
    )
    yield row(
        "database-semi-sync-off", "Writes are confirmed before a replica has them.", 30, semi_sync_off,
        _wait_for_replicas, group=KIND,
    )  # fmt: skip
    yield row(
        "database-semi-sync-fallback", "Transactions were committed that no replica acknowledged.", 31,
        semi_sync_fallback, _note_fallback, mend="expected where sessions were killed while they waited", group=KIND,
    )  # fmt: skip
    yield row(
        "database-disk-full",
        "A database server has no space left.",
        35,
        disk_full,
        mend="free space on its disk",
    )
    yield row(
        "database-connections", "A database server has nearly all its connections in use.", 36, too_many_connections,
        mend="raise database.max_connections, or close connections that the application leaves open",
    )  # fmt: skip
    yield row(
        "database-replica-lost",
        "A replica does not follow the primary.",
        40,
        replica_lost,
        _follow,
        group=KIND,
    )
    yield row(
        "database-replica-diverged", "The data of a replica cannot be used; it gets a copy of another server.", 41,
        replica_diverged, _reseed,
    )  # fmt: skip
    yield row(
        "database-replica-down", "A replica does not run, or does not answer.", 42, replica_down, _start
    )
    yield row(
        "database-too-few-acknowledge", "Fewer replicas acknowledge writes than follow the primary.", 45,
        too_few_acknowledge, _reconnect, group=KIND,
    )  # fmt: skip
    yield row(
        "database-writes-blocked",
        "The primary does not complete a write in time.",
        46,
        writes_blocked,
        mend="`lampstand db` and SHOW PROCESSLIST tell what it waits for",
    )
    yield row("database-replica-lagging", "A replica is behind, and gets no reads.", 50, replica_lagging)
    yield row("database-voter-gone", "A replica is down for longer.", 60, stale_voter, _forget, group=KIND)


DATABASE_PROBLEMS: tuple[Problem, ...] = tuple(_rows())
