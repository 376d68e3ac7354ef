"""Faults on real MariaDB servers: nothing acknowledged is lost, nothing diverges, everything heals by itself.

Letters in brackets as in docs/failover.md: V vtorc's chaos tests, P Patroni's features, M MaxScale's mariadbmonitor.
"""

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pymysql
import pytest

from lampstand.controller.failover import promote_steps, switchover_steps
from lampstand.errors import LampstandError, UsageError
from lampstand.tiers.database import accounts, replication
from lampstand.tiers.database.tier import KIND, data_path
from tests.integration.local.database_cluster import BrokenOffError, Cluster, Ledger

pytestmark = pytest.mark.integration

Scenario = Callable[[Cluster], Coroutine[Any, Any, None]]


@asynccontextmanager
async def running(root: Path, replicas: int = 2) -> AsyncIterator[Cluster]:
    cluster = Cluster(root, replicas)
    try:
        await asyncio.to_thread(cluster.launch_all)
        await cluster.settle()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., None]:
    """Runs a scenario on a settled group of one primary and two replicas."""

    def run(scenario: Scenario, replicas: int = 2) -> None:
        async def whole() -> None:
            async with running(tmp_path, replicas) as cluster:
                await scenario(cluster)

        asyncio.run(whole())

    return run


@pytest.fixture
def play_under_load(play: Callable[..., None]) -> Callable[..., None]:
    """The same while a ledger is written; at the end nothing acknowledged is lost and all servers are equal."""

    def run(scenario: Callable[[Cluster, Ledger], Coroutine[Any, Any, None]], replicas: int = 2) -> None:
        async def under_load(cluster: Cluster) -> None:
            with Ledger(cluster) as ledger:
                await asyncio.sleep(0.3)
                await scenario(cluster, ledger)
            ledger.check()

        play(under_load, replicas)

    return run


async def fail_over(cluster: Cluster, seconds: float = 10.0) -> str:
    """Cycles until another server is the primary. Returns which one was."""
    old = cluster.primary
    await cluster.until(lambda: cluster.primary != old, seconds)
    return old


# -- the primary ------------------------------------------------------------------------------------------------------
def test_primary_killed(play: Callable[..., None]) -> None:
    """[V S1, P] kill -9 under load, several times: fast, nothing lost, the old one rejoins without a copy."""

    async def scenario(cluster: Cluster) -> None:
        with Ledger(cluster) as ledger:
            for _ in range(3):
                await asyncio.sleep(0.5)
                moment, old = time.monotonic(), cluster.primary
                cluster.kill(old)
                await fail_over(cluster)
                assert await cluster.settle() < 8
                assert ledger.first_after(moment) < 5
                assert cluster.healthy()
        ledger.check()
        assert not [e for e in cluster.events if e[0] == "database-replica-diverged"], cluster.story()

    play(scenario)


def test_primary_frozen(play_under_load: Callable[..., None]) -> None:
    """[P frozen leader] SIGSTOP: it is fenced before anybody is promoted, so no ghost comes back."""

    async def scenario(cluster: Cluster, ledger: Ledger) -> None:
        moment = time.monotonic()
        cluster.signal(cluster.primary, signal.SIGSTOP)
        old = await fail_over(cluster)
        assert cluster.view.observed.state(old).value in ("stopped", "running")
        await cluster.settle()
        assert ledger.first_after(moment) < 5

    play_under_load(scenario)


def test_the_ghost_of_a_primary_that_could_not_be_fenced(play_under_load: Callable[..., None]) -> None:
    """[V, P] Its death cannot be confirmed: the replicas' silence is the fence, and the ghost is deposed later."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        ghost = cluster.primary
        cluster.unfenceable.add(ghost)
        cluster.signal(ghost, signal.SIGSTOP)
        await fail_over(cluster, 15)
        cluster.signal(ghost, signal.SIGCONT)
        cluster.unfenceable.clear()
        await cluster.settle(40)
        assert cluster.primary != ghost

    play_under_load(scenario)


def test_primary_stopped_cleanly(play_under_load: Callable[..., None]) -> None:
    """[P] SIGTERM, as an operator or an update does it."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        cluster.signal(cluster.primary, signal.SIGTERM)
        await fail_over(cluster, 15)
        await cluster.settle()

    play_under_load(scenario)


def test_primary_read_only_by_accident(play_under_load: Callable[..., None]) -> None:
    """[V S8 analogue, M read_only] It gets its role back, and nobody is promoted for it."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        primary = cluster.primary
        cluster.sql(primary, "SET GLOBAL read_only = ON")
        await cluster.settle()
        assert cluster.primary == primary
        assert cluster.sql(primary, "SELECT @@global.read_only")[0][0] == 0

    play_under_load(scenario)


def test_semi_sync_switched_off(play: Callable[..., None]) -> None:
    """[V semi-sync] Nobody may confirm a write that is nowhere else."""

    async def scenario(cluster: Cluster) -> None:
        primary = cluster.primary
        cluster.sql(primary, "SET GLOBAL rpl_semi_sync_master_enabled = OFF")
        await cluster.settle()
        assert cluster.sql(primary, "SELECT @@global.rpl_semi_sync_master_enabled")[0][0] == 1

    play(scenario)


def test_two_writable(play: Callable[..., None]) -> None:
    """[V, M] A replica is made writable and written to: it is made read-only again and loses its own write."""

    async def scenario(cluster: Cluster) -> None:
        with Ledger(cluster) as ledger:
            await asyncio.sleep(0.2)
            replica = cluster.replicas[0]
            cluster.sql(replica, "SET GLOBAL read_only = OFF")
            cluster.sql(replica, "INSERT INTO app.ledger VALUES (-1, -1, -1)")
            await cluster.settle(60)
            assert cluster.sql(replica, "SELECT @@global.read_only")[0][0] == 1
        ledger.check()
        assert cluster.sql(replica, "SELECT COUNT(*) FROM app.ledger WHERE id = -1")[0][0] == 0
        kept = list(Path(cluster.place.root, replica).glob("data.diverged-*/unacknowledged.sql"))
        assert len(kept) == 1
        assert f"GTID 0-{replica.rpartition('-')[2]}-" in kept[0].read_text()

    play(scenario)


def test_primary_killed_just_after_somebody_wrote_to_a_replica(play_under_load: Callable[..., None]) -> None:
    """[errant transactions] That replica's own writes neither win an election nor hide what it lacks."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        for number in (1, 2):
            replica = cluster.replicas[number - 1]
            with cluster.connect(replica) as link, link.cursor() as cursor:
                cursor.execute("SET GLOBAL read_only = OFF")
                cursor.execute("INSERT INTO app.ledger VALUES (%s, -1, %s)", (-number, number))
                cursor.execute("SET GLOBAL read_only = ON")
            cluster.kill(cluster.primary)
            await cluster.settle(60)
        for member in cluster.topology.by_name:
            assert cluster.sql(member, "SELECT COUNT(*) FROM app.ledger WHERE id < 0")[0][0] == 0

    play_under_load(scenario)


# -- refusing ---------------------------------------------------------------------------------------------------------
def test_nothing_is_promoted_while_a_voter_is_missing(play: Callable[..., None]) -> None:
    """[P quorum commit] The primary and a replica are gone for good: what is left may lack writes. It says who."""

    async def scenario(cluster: Cluster) -> None:
        with Ledger(cluster):
            await asyncio.sleep(0.3)
            primary, (gone, left) = cluster.primary, cluster.replicas
            cluster.unstartable |= {primary, gone}
            cluster.kill(primary, gone)
        await cluster.cycle()
        found = await cluster.cycle()
        refusal = next(f for f in found if f.code == "database-promotion-refused")
        assert gone in refusal.sentence
        assert cluster.primary == primary
        assert cluster.sql(left, "SELECT @@global.read_only")[0][0] == 1
        with pytest.raises(LampstandError, match=gone):
            promote_steps(cluster.view, left, accept_loss=False)
        assert await cluster.take("promote", promote_steps(cluster.view, left, accept_loss=True))
        assert cluster.primary == left
        cluster.unstartable.clear()
        await cluster.settle(60)
        cluster.assert_equal()

    play(scenario)


def test_primary_and_a_replica_killed_at_once(play_under_load: Callable[..., None]) -> None:
    """[V] Both come back; whoever is the primary then, nothing is lost."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        for _ in range(3):
            await asyncio.sleep(0.3)
            cluster.kill(cluster.primary, cluster.replicas[0])
            await cluster.settle()

    play_under_load(scenario)


def test_a_replica_that_is_down_for_longer_is_no_voter(play_under_load: Callable[..., None]) -> None:
    """[V] After a while a failover no longer waits for it; what it acknowledged is elsewhere too."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        gone = cluster.replicas[0]
        cluster.unstartable.add(gone)
        cluster.kill(gone)
        await cluster.until(lambda: gone not in cluster.memory.known[KIND], 15)
        old = cluster.primary
        cluster.unstartable.add(old)
        cluster.kill(old)
        await fail_over(cluster)
        cluster.unstartable.clear()
        await cluster.settle()

    play_under_load(scenario)


# -- what Vitess found in its own failover (S4–S13) --------------------------------------------------------------------
def test_primary_cut_off_from_its_replicas(play_under_load: Callable[..., None]) -> None:
    """[V S4] The controller reaches everybody, the replicas do not reach the primary: another one takes over."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        with cluster.connect(cluster.primary) as link, link.cursor() as cursor:
            cursor.execute("SET SESSION sql_log_bin = OFF")
            cursor.execute("ALTER USER lampstand_replication@'%' ACCOUNT LOCK")
            replication.close_sessions(link, accounts.REPLICATION)
        await fail_over(cluster, 40)
        await cluster.settle(40)

    play_under_load(scenario)


def test_primary_killed_while_the_only_one_that_acknowledged_is_frozen(
    play_under_load: Callable[..., None],
) -> None:
    """[V S5] What is left lacks acknowledged writes: nobody is promoted before the others are asked."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        acker, behind = cluster.replicas
        cluster.sql(behind, "STOP SLAVE IO_THREAD")
        await asyncio.sleep(0.5)
        cluster.signal(acker, signal.SIGSTOP)
        cluster.kill(cluster.primary)
        await cluster.settle(60)

    play_under_load(scenario)


def test_controller_alone_cannot_reach_the_primary(play_under_load: Callable[..., None]) -> None:
    """[V S6] Nothing happens: visitors can."""

    async def scenario(cluster: Cluster, ledger: Ledger) -> None:
        primary = cluster.primary
        with cluster.connect(primary) as link, link.cursor() as cursor:
            cursor.execute("SET SESSION sql_log_bin = OFF")
            cursor.execute("ALTER USER lampstand_check@'%' ACCOUNT LOCK")
            replication.close_sessions(link, accounts.CHECK)
        until, found = time.monotonic() + 5, await cluster.cycle()
        while time.monotonic() < until:
            found = await cluster.cycle()
            assert cluster.primary == primary
        assert "database-primary-unreachable" in {f.code for f in found}
        cluster.sql(
            primary, "SET STATEMENT sql_log_bin = OFF FOR ALTER USER lampstand_check@'%' ACCOUNT UNLOCK"
        )
        await cluster.settle()
        assert ledger.longest_pause(until - 5) < 2

    play_under_load(scenario)


def test_new_primary_killed_at_once(play_under_load: Callable[..., None]) -> None:
    """[V S7, S7b] The second one dies before anybody follows it; what only it had is not given up."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        first = cluster.primary
        cluster.kill(first)
        with pytest.raises(BrokenOffError):
            await cluster.break_off(5)  # promoted, nobody follows
        assert cluster.primary != first
        cluster.kill(cluster.primary)
        cluster.forget_everything_but_memory()
        await cluster.settle(60)

    play_under_load(scenario)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_relay_log_of_a_restarted_replica_counts(
    play_under_load: Callable[..., None], end: signal.Signals
) -> None:
    """[V S11, S11k] One replica alone acknowledges, with its relay log; it is restarted, and the primary dies."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        acker, behind = cluster.replicas
        cluster.sql(behind, "STOP SLAVE IO_THREAD")
        cluster.sql(acker, "STOP SLAVE SQL_THREAD")
        await asyncio.sleep(0.5)
        cluster.unstartable.add(cluster.primary)
        cluster.signal(acker, end)
        cluster.processes[acker].wait()
        cluster.kill(cluster.primary)
        await fail_over(cluster, 30)
        assert cluster.primary == acker
        cluster.unstartable.clear()
        await cluster.settle(60)

    play_under_load(scenario)


def test_relay_log_of_a_mended_replica_counts(play_under_load: Callable[..., None]) -> None:
    """[V S11b, S11c] The controller mends such a replica; what it had received is applied, not thrown away."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        acker, behind = cluster.replicas
        cluster.sql(behind, "STOP SLAVE IO_THREAD")
        cluster.sql(acker, "STOP SLAVE SQL_THREAD")
        await asyncio.sleep(0.5)
        cluster.sql(acker, "SET GLOBAL rpl_semi_sync_slave_enabled = OFF")
        cluster.sql(acker, "STOP SLAVE IO_THREAD")
        await cluster.cycle()
        await cluster.cycle()
        cluster.kill(cluster.primary)
        await cluster.settle(60)

    play_under_load(scenario)


def test_replica_restarted_during_a_promotion_does_not_acknowledge_the_ghost(
    play_under_load: Callable[..., None],
) -> None:
    """[V S12] After everybody is silent, a replica restarts; it must not connect to the old primary by itself."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        ghost = cluster.primary
        cluster.unfenceable.add(ghost)
        cluster.signal(ghost, signal.SIGSTOP)
        with pytest.raises(BrokenOffError):
            await cluster.break_off(2)
        cluster.kill(cluster.replicas[0])
        cluster.launch(cluster.topology.by_name[cluster.replicas[0]])
        cluster.await_start(cluster.replicas[0])
        cluster.signal(ghost, signal.SIGCONT)
        await asyncio.sleep(0.5)
        assert cluster.sql(ghost, "SHOW STATUS LIKE 'Rpl_semi_sync_master_clients'")[0][1] == "0"
        cluster.unfenceable.clear()
        cluster.forget_everything_but_memory()
        await cluster.settle(60)

    play_under_load(scenario)


def test_torn_relay_log(play_under_load: Callable[..., None]) -> None:
    """[V S13] A power cut left half an event: the replica asks the primary again, which has all of it."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        torn = cluster.replicas[0]
        cluster.sql(torn, "STOP SLAVE SQL_THREAD")
        await asyncio.sleep(0.5)
        cluster.kill(torn)
        logs = sorted(Path(data_path(cluster.topology.by_name[torn])).glob("relay.0*"))
        largest = max(logs, key=lambda f: f.stat().st_size)
        with largest.open("r+b") as log:
            log.truncate(largest.stat().st_size - 57)
        await cluster.settle(60)

    play_under_load(scenario)


# -- replicas ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("STOP SLAVE", id="stopped"),  # [V S6, M]
        pytest.param("STOP SLAVE IO_THREAD", id="receives-nothing"),
        pytest.param("STOP SLAVE SQL_THREAD", id="applies-nothing"),
        pytest.param("STOP SLAVE; RESET SLAVE ALL", id="forgot-its-primary"),
        pytest.param("STOP SLAVE; CHANGE MASTER TO MASTER_PORT=1; START SLAVE", id="follows-nobody"),
    ],
)
def test_replica_stopped(play_under_load: Callable[..., None], fault: str) -> None:
    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        for statement in fault.split("; "):
            cluster.sql(cluster.replicas[0], statement)
        await asyncio.sleep(0.2)
        assert await cluster.settle() < 15

    play_under_load(scenario)


def test_replica_killed(play_under_load: Callable[..., None]) -> None:
    """[V, M] It applies what it had received before it asks for more, and writes never stop."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        for replica in cluster.replicas * 2:
            await asyncio.sleep(0.2)
            cluster.kill(replica)
            assert await cluster.settle() < 10

    play_under_load(scenario)


def test_all_replicas_killed(play_under_load: Callable[..., None]) -> None:
    """[V S4] Writes wait, never fall back, and go on when a replica is back."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        primary = cluster.primary
        cluster.kill(*cluster.replicas)
        await cluster.settle()
        assert cluster.primary == primary
        status = cluster.sql(primary, "SHOW STATUS LIKE 'Rpl_semi_sync_master_no_tx'")
        assert status[0][1] == "0"

    play_under_load(scenario)


def test_replica_diverged_is_copied_from_a_replica(play: Callable[..., None]) -> None:
    """[M rejoin] A row is missing on it: its replication breaks, and it gets a copy, not from the primary."""

    async def scenario(cluster: Cluster) -> None:
        with Ledger(cluster) as ledger:
            await asyncio.sleep(0.3)
            broken, healthy = cluster.replicas
            with cluster.connect(broken) as link, link.cursor() as cursor:
                cursor.execute("SET SESSION sql_log_bin = OFF")
                cursor.execute("DELETE FROM app.ledger")
            cluster.sql(cluster.primary, "DELETE FROM app.ledger WHERE client = 0 AND number = 1")
            ledger.acknowledged = [a for a in ledger.acknowledged if a[1:] != (0, 1)]
            await asyncio.sleep(0.3)
            await cluster.settle(60)
        ledger.check()
        donors = [e[3] for e in cluster.events if e[0] == "database-reseed"]
        assert donors
        assert all(healthy in d for d in donors)

    play(scenario)


def test_the_only_replica_diverged(play_under_load: Callable[..., None]) -> None:
    """The copy comes from the primary, whose commits wait for that very replica."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        (replica,) = cluster.replicas
        cluster.sql(replica, "SET GLOBAL read_only = OFF")
        cluster.sql(replica, "INSERT INTO app.ledger VALUES (-1, -1, -1)")
        await cluster.settle(60)
        assert cluster.sql(cluster.primary, "SHOW STATUS LIKE 'Rpl_semi_sync_master_no_tx'")[0][1] == "0"

    play_under_load(scenario, replicas=1)


def test_replica_lost_its_data_folder(play_under_load: Callable[..., None]) -> None:
    """[M] It comes back empty and is filled again."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        replica = cluster.replicas[0]
        cluster.kill(replica)
        cluster.lose_data(replica)
        await cluster.settle(60)

    play_under_load(scenario)


def test_a_copied_replica_becomes_the_primary(play: Callable[..., None]) -> None:
    """A copy has no binary logs of its own: others must be able to follow it all the same."""

    async def scenario(cluster: Cluster) -> None:
        from lampstand.controller.failover_reseed import Reseed

        with Ledger(cluster) as ledger:
            await asyncio.sleep(0.3)
            replica = cluster.replicas[0]
            copy = Reseed(cluster.topology.by_name[replica]).steps()[2:]
            assert await cluster.take("reseed", copy), cluster.story()
            await cluster.settle()
            assert await cluster.take("switchover", switchover_steps(cluster.view, replica)), cluster.story()
            await cluster.settle()
            assert cluster.primary == replica
            assert not [e for e in cluster.events if e[0] == "database-replica-diverged"], cluster.story()
        ledger.check()

    play(scenario)


def test_scale_up_and_down(play_under_load: Callable[..., None]) -> None:
    """[P] A new replica is filled while everybody works; one that is taken away is no voter any more."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        cluster.scale(3)
        cluster.launch_all()
        await cluster.settle(60)
        assert "database-4" in cluster.memory.known[KIND]
        cluster.scale(2)
        cluster.kill("database-4")
        await cluster.until(lambda: "database-4" not in cluster.memory.known[KIND])
        cluster.kill(cluster.primary)
        await fail_over(cluster)
        await cluster.settle()

    play_under_load(scenario)


# -- power cuts -------------------------------------------------------------------------------------------------------
def test_power_cut_of_everything(play: Callable[..., None]) -> None:
    """[M, P] All at once, several times, the controller too."""

    async def scenario(cluster: Cluster) -> None:
        for _ in range(3):
            with Ledger(cluster) as ledger:
                await asyncio.sleep(0.4)
                cluster.kill(*cluster.topology.by_name)
            cluster.forget_everything_but_memory()
            cluster.launch_all()
            await cluster.settle()
            ledger.check()
            cluster.sql(cluster.primary, "DELETE FROM app.ledger")

    play(scenario)


@pytest.mark.parametrize("whose", ["primary", "replica"])
def test_power_cut_and_one_data_folder_gone(play: Callable[..., None], whose: str) -> None:
    async def scenario(cluster: Cluster) -> None:
        with Ledger(cluster) as ledger:
            await asyncio.sleep(0.5)
            victim = cluster.primary if whose == "primary" else cluster.replicas[0]
            cluster.kill(*cluster.topology.by_name)
        cluster.lose_data(victim)
        cluster.forget_everything_but_memory()
        cluster.launch_all()
        await cluster.settle(60)
        ledger.check()

    play(scenario)


def test_power_cut_and_the_controllers_memory_gone(play: Callable[..., None]) -> None:
    """Terms in the data tell who has the newest history, also when a deposed primary wrote more."""

    async def scenario(cluster: Cluster) -> None:
        from lampstand.controller.problems import Memory

        with Ledger(cluster) as ledger:
            await asyncio.sleep(0.3)
            cluster.kill(cluster.primary)
            await fail_over(cluster)
            await asyncio.sleep(0.3)
            cluster.kill(*cluster.topology.by_name)
        cluster.forget_everything_but_memory()
        cluster.memory = Memory()
        cluster.launch_all()
        await cluster.settle(60)
        ledger.check()

    play(scenario)


# -- the operator -----------------------------------------------------------------------------------------------------
def test_planned_switchover(play: Callable[..., None]) -> None:
    """[P switchover, M] No write fails twice, the pause is short, and it goes back and forth."""

    async def scenario(cluster: Cluster) -> None:
        with Ledger(cluster) as ledger:
            for target in (cluster.replicas[0], None, None):
                await asyncio.sleep(0.3)
                moment = time.monotonic()
                assert await cluster.take("switchover", switchover_steps(cluster.view, target)), (
                    cluster.story()
                )
                await asyncio.sleep(0.5)
                assert target is None or cluster.primary == target
                assert ledger.longest_pause(moment) < 2
                await cluster.settle()
        ledger.check()
        assert not [e for e in cluster.events if e[0] == "database-replica-diverged"], cluster.story()

    play(scenario)


def test_switchover_that_fails_lets_the_writes_go_on(play: Callable[..., None]) -> None:
    async def scenario(cluster: Cluster) -> None:
        with Ledger(cluster) as ledger:
            await asyncio.sleep(0.2)
            primary, target = cluster.primary, cluster.replicas[0]
            steps = switchover_steps(cluster.view, target)
            cluster.sql(target, "STOP SLAVE SQL_THREAD")
            cluster.sql(target, "SET GLOBAL read_only = ON")
            with cluster.connect(target) as blocker, blocker.cursor() as cursor:
                cursor.execute("FLUSH TABLES WITH READ LOCK")
                assert not await cluster.take("switchover", steps)
            moment = time.monotonic()
            await asyncio.sleep(0.5)
            assert ledger.first_after(moment) < 1
            assert cluster.primary == primary
            await cluster.settle()
        ledger.check()
        with pytest.raises(UsageError):
            switchover_steps(cluster.view, "database-9")
        with pytest.raises(UsageError):
            switchover_steps(cluster.view, primary)

    play(scenario)


def test_single_server(play_under_load: Callable[..., None]) -> None:
    """`replicas: 0`: no acknowledgements, a restart is all there is."""

    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        cluster.kill(cluster.primary)
        await cluster.settle()

    play_under_load(scenario, replicas=0)


def test_waiting_commits_of_a_deposed_primary_are_never_confirmed(play: Callable[..., None]) -> None:
    """Many sessions wait on a server that is no longer the primary: none of them hears that it is done."""

    async def scenario(cluster: Cluster) -> None:
        Ledger.prepare(cluster)
        old, (new, other) = cluster.primary, cluster.replicas
        for replica in (new, other):
            cluster.sql(replica, "STOP SLAVE IO_THREAD")
        confirmed: list[int] = []

        def write(number: int) -> None:
            with contextlib.suppress(pymysql.err.Error), cluster.connect(old, accounts.APP, 60) as link:
                with link.cursor() as cursor:
                    cursor.execute("INSERT INTO app.ledger VALUES (%s, %s, %s)", (number, 0, number))
                confirmed.append(number)

        threads = [threading.Thread(target=write, args=(n,)) for n in range(12)]
        for thread in threads:
            thread.start()
        await asyncio.sleep(0.5)
        cluster.unfenceable.add(old)
        assert await cluster.take("promote", promote_steps(cluster.view, new, accept_loss=True)), (
            cluster.story()
        )
        cluster.unfenceable.clear()
        await cluster.settle(60)
        for thread in threads:
            thread.join(20)
        assert not confirmed
        cluster.assert_equal()

    play(scenario)


# -- the controller is killed between any two steps --------------------------------------------------------------------
@pytest.mark.parametrize("step", range(7))
def test_controller_killed_in_a_failover(play_under_load: Callable[..., None], step: int) -> None:
    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        cluster.kill(cluster.primary)
        with pytest.raises(BrokenOffError):
            await cluster.break_off(step)
        cluster.forget_everything_but_memory()
        await cluster.settle()

    play_under_load(scenario)


@pytest.mark.parametrize("step", range(4))
def test_controller_killed_in_a_switchover(play_under_load: Callable[..., None], step: int) -> None:
    async def scenario(cluster: Cluster, _ledger: Ledger) -> None:
        steps = switchover_steps(cluster.view, None)
        with pytest.raises(BrokenOffError):
            await cluster.take("switchover", steps, stop_before=step)
        del steps
        cluster.forget_everything_but_memory()
        await cluster.settle()

    play_under_load(scenario)


@pytest.mark.parametrize("step", range(6))
def test_controller_killed_in_a_reseed(play: Callable[..., None], step: int) -> None:
    async def scenario(cluster: Cluster) -> None:
        from lampstand.controller.failover_reseed import reseed_steps

        with Ledger(cluster) as ledger:
            await asyncio.sleep(0.3)
            broken = cluster.replicas[0]
            with cluster.connect(broken) as link, link.cursor() as cursor:
                cursor.execute("SET GLOBAL read_only = OFF")
                cursor.execute("INSERT INTO app.ledger VALUES (-1, -1, -1)")
                cursor.execute("SET GLOBAL read_only = ON")
            await asyncio.sleep(0.3)
            with pytest.raises(BrokenOffError):
                await cluster.take("reseed", reseed_steps(cluster.view, broken), stop_before=step)
            cluster.forget_everything_but_memory()
            await cluster.settle(60)
        ledger.check()

    play(scenario)
