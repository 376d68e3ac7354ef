"""What can be wrong with the database, and what mends it: the table. The rules are in docs/failover.md.

Every matcher is pure over a View. Recoveries that change roles or replication exclude each other (group `database`);
copying a server does not exclude them, because a server that is copied takes part in nothing.
"""

from collections.abc import Sequence

from lampstand.controller import failover_signs as signs
from lampstand.controller.failover_group import Group
from lampstand.controller.failover_reseed import reseed_steps
from lampstand.controller.failover_steps import (
    Promotion,
    follow,
    forget_voter,
    lost_to_visitors,
    names,
    on,
    open_primary,
    point_replicas,
    revive,
)
from lampstand.controller.failover_switchover import promote_steps, switchover_steps
from lampstand.controller.problems import Finding, Hands, Problem, Step, View
from lampstand.controller.recovering import one_step
from lampstand.errors import LampstandError
from lampstand.tiers.database import replication
from lampstand.tiers.database.connection import Link
from lampstand.tiers.database.tier import KIND, role_file
from lampstand.topology import Instance

LONG = 15.0
"""Seconds after which a server that runs and does not answer is started anew."""
__all__ = ["DATABASE_PROBLEMS", "promote_steps", "switchover_steps"]


# -- recoveries ------------------------------------------------------------------------------------------------------
def _elect(view: View, finding: Finding) -> Sequence[Step]:
    if finding.detail.get("missing"):
        return ()
    return Promotion(Group(view).primary).steps()


def _ask_visitors(view: View, finding: Finding) -> Sequence[Step]:
    """Where visitors do not reach it either, a primary that its replicas still hear is of no use to anybody."""
    if signs.ill_for(view, finding.subject) < signs.HEARD_BY_REPLICAS or Group(view).missing_voters():
        return ()
    return Step("see that visitors do not reach it either", 5.0, lost_to_visitors), *Promotion(
        Group(view).primary
    ).steps()


def _revive(view: View, finding: Finding) -> Sequence[Step]:
    wanted = [n for n in (*Group(view).missing_voters(), finding.subject) if n in view.topology.by_name]

    async def run(hands: Hands) -> None:
        await revive(hands, wanted)

    return one_step(f"start {names(wanted)}", 30.0, run)


def _open(_: View, finding: Finding) -> Sequence[Step]:
    if finding.detail.get("waiting"):
        return ()
    return (Step("let it take writes", 5.0, open_primary), Step("point replicas at it", 15.0, point_replicas))


def _subject(view: View, finding: Finding) -> Instance:
    return view.topology.by_name[finding.subject]


def _follow(view: View, finding: Finding) -> Sequence[Step]:
    replica = _subject(view, finding)

    async def run(hands: Hands) -> None:
        await follow(hands, replica, 5.0)

    return one_step(f"{replica.name} follows the primary", 12.0, run)


def _make_read_only(view: View, finding: Finding) -> Sequence[Step]:
    """Gently; where commits wait that nobody acknowledges, it is killed and comes back without them (rule 6)."""
    impostor = _subject(view, finding)

    async def run(hands: Hands) -> None:
        try:
            await on(hands, impostor, replication.depose, 2.0)
        except LampstandError:
            deposed = impostor.name not in Group(hands.view).voters
            hands.write_live(impostor, role_file(impostor, deposed=deposed))
            await hands.restart(impostor)

    return one_step(f"{impostor.name} takes no more writes", 20.0, run)


def _reseed(view: View, finding: Finding) -> Sequence[Step]:
    return reseed_steps(view, finding.subject)


def _start(view: View, finding: Finding) -> Sequence[Step]:
    if signs.ill_for(view, finding.subject) < LONG:
        return ()
    replica = _subject(view, finding)

    async def run(hands: Hands) -> None:
        await (hands.start(replica) if Group(hands.view).down(replica.name) else hands.restart(replica))

    return one_step(f"start {replica.name}", 20.0, run)


def _wait_for_replicas(view: View, finding: Finding) -> Sequence[Step]:
    primary = _subject(view, finding)

    async def run(hands: Hands) -> None:
        await on(hands, primary, lambda link: replication.open_for_writes(link, acknowledged=True))

    return one_step("wait for replicas again", 5.0, run)


def _note_fallback(_: View, finding: Finding) -> Sequence[Step]:
    async def run(hands: Hands) -> None:
        count = int(finding.detail["count"])
        hands.remember(baselines={**hands.view.memory.baselines, signs.counter(finding.subject): count})

    return one_step("note the alarm", 2.0, run)


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

    return one_step("replicas connect anew", 10.0, run) if following else ()


def _forget(_: View, finding: Finding) -> Sequence[Step]:
    async def run(hands: Hands) -> None:
        if not Group(hands.view).answers(finding.subject):
            await forget_voter(hands, finding.subject)

    return one_step(f"promotions do not wait for {finding.subject}", 5.0, run)


# fmt: off
DATABASE_PROBLEMS: tuple[Problem, ...] = (
    Problem("database-two-writable", "Two servers take writes; only the primary may.",
            10, signs.two_writable, _make_read_only, group=KIND),
    Problem("database-no-primary", "No server has been made the primary: nothing can be written.",
            20, signs.no_primary, _elect, "start the server it waits for", KIND),
    Problem("database-primary-dead", "The primary died, and its replicas lost it too.",
            20, signs.primary_lost("dead", "the primary {} is dead"), _elect, group=KIND),
    Problem("database-primary-frozen", "The primary exists and does nothing.",
            20, signs.primary_lost("frozen", "the primary {} is frozen"), _elect, group=KIND),
    Problem("database-primary-lost", "Neither the controller nor any replica reaches the primary.",
            20, signs.primary_lost("lost", "nobody reaches the primary {}"), _elect, group=KIND),
    Problem("database-primary-behind", "The primary came back without its newest data.",
            21, signs.primary_behind, _elect, group=KIND),
    Problem("database-primary-cut-off", "No replica reaches the primary: none of its writes completes.",
            21, signs.primary_cut_off, _elect, group=KIND),
    Problem("database-acknowledgements-lost", "Commits wait for acknowledgements that were lost on the way.",
            21, signs.acknowledgements_lost, _elect, group=KIND),
    Problem("database-promotion-refused",
            "The primary is down, and a server that may hold acknowledged writes is missing: nobody is promoted.",
            22, signs.promotion_refused, _revive,
            "start the missing server, or accept the loss: `lampstand database promote NAME --accept-loss`", KIND),
    Problem("database-primary-read-only", "The primary takes no writes.",
            25, signs.primary_read_only, _open, group=KIND),
    Problem("database-primary-unreachable", "The controller cannot reach the primary, and its replicas can.",
            26, signs.primary_unreachable, _ask_visitors, "look at the network between the controller and it", KIND),
    Problem("database-down", "No database server answers.",
            27, signs.everything_down, mend="`lampstand logs` tells why"),
    Problem("database-semi-sync-off", "Writes are confirmed before a replica has them.",
            30, signs.semi_sync_off, _wait_for_replicas, group=KIND),
    Problem("database-semi-sync-fallback", "Transactions were committed that no replica acknowledged.",
            31, signs.semi_sync_fallback, _note_fallback,
            "expected where sessions were killed while they waited", KIND),
    Problem("database-disk-full", "A database server has no space left.",
            35, signs.disk_full, mend="free space on its disk"),
    Problem("database-connections", "A database server has nearly all its connections in use.",
            36, signs.too_many_connections,
            mend="raise database.max_connections, or close connections that the application leaves open"),
    Problem("database-replica-lost", "A replica does not follow the primary.",
            40, signs.replica_lost, _follow, group=KIND),
    Problem("database-replica-diverged", "The data of a replica cannot be used; it gets a copy of another server.",
            41, signs.replica_diverged, _reseed),
    Problem("database-replica-down", "A replica does not run, or does not answer.",
            42, signs.replica_down, _start),
    Problem("database-too-few-acknowledge", "Fewer replicas acknowledge writes than follow the primary.",
            45, signs.too_few_acknowledge, _reconnect, group=KIND),
    Problem("database-writes-blocked", "The primary does not complete a write in time.",
            46, signs.writes_blocked, mend="`lampstand db` and SHOW PROCESSLIST tell what it waits for"),
    Problem("database-replica-lagging", "A replica is behind, and gets no reads.",
            50, signs.replica_lagging),
    Problem("database-voter-gone", "A replica is down for longer; promotions need no longer wait for it.",
            60, signs.stale_voter, _forget, group=KIND),
)
# fmt: on
