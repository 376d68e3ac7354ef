"""One MariaDB server as the tier makes it: accounts, settings, data folder, probe."""

import asyncio
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from lampstand.tiers.database import accounts, replication
from lampstand.tiers.database.probe import DatabaseProber
from lampstand.tiers.database.tier import data_path
from tests.integration.local.database_cluster import SECRETS, Cluster
from tests.support import eventually

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("database"))
    try:
        found.launch_all()
        asyncio.run(found.settle())
        yield found
    finally:
        found.close()


def denied(cluster: Cluster, server: str, account: str, statement: str) -> int:
    """Number of the error with which a statement is refused; 0 when it is not."""
    try:
        cluster.sql(server, statement, account=account)
    except pymysql.err.Error as error:
        return int(error.args[0])
    return 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("rpl_semi_sync_master_wait_point", "AFTER_SYNC"),
        ("rpl_semi_sync_master_timeout", "315360000000"),
        ("rpl_semi_sync_master_wait_no_slave", "ON"),
        ("rpl_semi_sync_slave_enabled", "ON"),
        ("sync_binlog", "1"),
        ("innodb_flush_log_at_trx_commit", "1"),
        ("gtid_strict_mode", "ON"),
        ("log_slave_updates", "ON"),
        ("binlog_format", "ROW"),
        ("local_infile", "OFF"),
        ("performance_schema", "OFF"),
        ("character_set_server", "utf8mb4"),
        ("relay_log_recovery", "OFF"),
        ("bind_address", "127.0.0.1"),
        ("slave_parallel_threads", "4"),
    ],
)
def test_settings_that_keep_acknowledged_writes(cluster: Cluster, setting: str, value: str) -> None:
    for name in cluster.topology.by_name:
        assert cluster.sql(name, "SHOW GLOBAL VARIABLES LIKE %s", setting)[0][1] == value


def test_a_write_is_held_until_a_replica_has_it(cluster: Cluster) -> None:
    with cluster.connect(cluster.primary) as link, link.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS app.held (id INT PRIMARY KEY)")
        for replica in cluster.replicas:
            cluster.sql(replica, "STOP SLAVE IO_THREAD")
        with (
            cluster.connect(cluster.primary, timeout=0.5) as impatient,
            impatient.cursor() as waiting,
            pytest.raises(pymysql.err.OperationalError, match="timed out"),
        ):
            waiting.execute("INSERT INTO app.held VALUES (1)")
        cursor.execute("SELECT COUNT(*) FROM app.held")
        assert cursor.fetchone() == (0,)  # AFTER_SYNC: nobody sees what nobody acknowledged
        cluster.sql(cluster.replicas[0], "START SLAVE IO_THREAD")
        eventually(lambda: cluster.sql(cluster.primary, "SELECT COUNT(*) FROM app.held") == ((1,),), 10)
    asyncio.run(cluster.settle())
    assert cluster.sql(cluster.primary, "SHOW STATUS LIKE 'Rpl_semi_sync_master_no_tx'")[0][1] == "0"


def test_the_application_has_its_own_database_and_nothing_else(cluster: Cluster) -> None:
    primary, replica = cluster.primary, cluster.replicas[0]
    assert denied(cluster, primary, accounts.APP, "CREATE TABLE IF NOT EXISTS app.mine (id INT)") == 0
    assert denied(cluster, primary, accounts.APP, "SELECT * FROM mysql.global_priv") == 1142
    assert denied(cluster, primary, accounts.APP, "DELETE FROM lampstand.terms") == 1142
    assert denied(cluster, primary, accounts.APP, "SET GLOBAL read_only = OFF") == 1227
    assert denied(cluster, primary, accounts.APP, "CREATE DATABASE other") == 1044
    assert denied(cluster, primary, accounts.APP, "CREATE TABLE apps.x (id INT)") in (1044, 1142)
    assert denied(cluster, replica, accounts.APP, "INSERT INTO app.mine VALUES (1)") == 1290


def test_the_other_accounts_have_what_they_need(cluster: Cluster) -> None:
    primary, replica = cluster.primary, cluster.replicas[0]
    assert denied(cluster, primary, accounts.CHECK, "SELECT * FROM app.mine") == 1142
    assert denied(cluster, primary, accounts.CHECK, "DELETE FROM lampstand.heartbeat") == 1142
    assert denied(cluster, replica, accounts.CHECK, "UPDATE lampstand.heartbeat SET beat = 1") == 1290
    assert denied(cluster, primary, accounts.REPLICATION, "SELECT * FROM lampstand.terms") == 1142
    assert cluster.sql(primary, "SELECT User FROM mysql.global_priv WHERE User = ''") == ()
    assert denied(cluster, primary, accounts.ADMIN, "SELECT * FROM mysql.global_priv") == 0


def test_nobody_gets_in_without_a_password(cluster: Cluster) -> None:
    endpoint = cluster.topology.by_name[cluster.primary].endpoint("mysql")
    for user in ("root", "", accounts.APP, accounts.ADMIN):
        with pytest.raises(pymysql.err.OperationalError):
            pymysql.connect(host=endpoint.host, port=endpoint.port, user=user, password="")


def test_passwords_are_on_no_command_line_and_in_no_file_of_others(cluster: Cluster) -> None:
    for member in cluster.topology.instances:
        pid = cluster.processes[member.name].pid
        assert not any(s in Path(f"/proc/{pid}/cmdline").read_text() for s in SECRETS.values())
        for file in member.files:
            if any(s in file.content or s.replace("\\", "\\\\") in file.content for s in SECRETS.values()):
                assert file.secret
                assert stat.S_IMODE(Path(file.path).stat().st_mode) == 0o600
        assert stat.S_IMODE(Path(data_path(member)).stat().st_mode) == 0o700


def test_servers_begin_with_equal_and_empty_histories(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, replicas=1)
    try:
        cluster.launch_all()

        def position(name: str) -> str:
            return str(cluster.sql(name, "SELECT CONCAT(@@gtid_current_pos, @@gtid_binlog_state)")[0][0])

        for member in cluster.topology.by_name:
            cluster.await_start(member)
            assert position(member) == ""
            assert cluster.sql(member, "SELECT @@global.read_only")[0][0] == 1
    finally:
        cluster.close()


def test_a_preparation_that_was_broken_off_is_begun_anew(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, replicas=0)
    (member,) = cluster.topology.instances
    half = Path(data_path(member) + ".new")
    half.mkdir(parents=True)
    (half / "ibdata1").write_bytes(b"half")
    try:
        cluster.launch_all()
        asyncio.run(cluster.settle())
        assert not half.exists()
    finally:
        cluster.close()


def test_a_server_stays_small(cluster: Cluster) -> None:
    """At most 110 MiB (PSS) with a buffer pool of 64 MiB, under replication."""
    for process in cluster.processes.values():
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        pss = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        assert pss < 110 * 1024


def test_the_configuration_is_checked_before_a_start(cluster: Cluster) -> None:
    process = cluster.topology.by_name[cluster.primary].processes[0]
    assert process.check
    assert subprocess.run(process.check, capture_output=True, check=False).returncode == 0
    broken = Path(cluster.place.root, "broken.cnf")
    broken.write_text("[mariadbd]\nno_such_setting = 1\n")
    check = [f"--defaults-file={broken}" if w.startswith("--defaults") else w for w in process.check]
    assert subprocess.run(check, capture_output=True, check=False).returncode != 0


def test_the_probe_writes_on_the_primary_and_reads_on_the_replicas(cluster: Cluster) -> None:
    prober = DatabaseProber(cluster.secret)
    try:
        facts = prober.ask(cluster.topology.by_name[cluster.primary], primary=True)
        assert (facts.answered, facts.read_only, facts.write_failure, facts.term) == (True, False, "", 1)
        assert facts.semi_sync_clients == 2
        replica = cluster.topology.by_name[cluster.replicas[0]]
        eventually(lambda: prober.ask(replica, primary=False).lag_seconds == 0.0)
        cluster.sql(replica.name, "STOP SLAVE SQL_THREAD")
        prober.ask(cluster.topology.by_name[cluster.primary], primary=True)
        eventually(lambda: (prober.ask(replica, primary=False).lag_seconds or 0) > 0.2)
        cluster.sql(replica.name, "START SLAVE SQL_THREAD")
        eventually(lambda: prober.ask(replica, primary=False).lag_seconds == 0.0)
    finally:
        prober.close()


def test_a_clock_that_is_set_back_makes_nobody_lag(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    prober = DatabaseProber(cluster.secret)
    primary, replica = (cluster.topology.by_name[n] for n in (cluster.primary, cluster.replicas[0]))
    try:
        prober.ask(primary, primary=True)
        eventually(lambda: prober.ask(replica, primary=False).lag_seconds == 0.0)
        now = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: now() - 3_600_000_000_000)
        assert prober.ask(primary, primary=True).write_failure == ""
        eventually(lambda: prober.ask(replica, primary=False).lag_seconds == 0.0, 2.0)
    finally:
        prober.close()


def test_the_probe_tells_refused_from_hung_and_never_waits_long(cluster: Cluster) -> None:
    prober = DatabaseProber(cluster.secret)
    replica = cluster.topology.by_name[cluster.replicas[1]]
    try:
        assert prober.ask(replica, primary=False).answered
        os.kill(cluster.processes[replica.name].pid, signal.SIGSTOP)
        try:
            for _ in range(2):  # over the open connection, and over a new one
                begun = time.monotonic()
                facts = prober.ask(replica, primary=False)
                assert (facts.answered, facts.failure) == (False, "hung")
                assert time.monotonic() - begun < 8.0
        finally:
            os.kill(cluster.processes[replica.name].pid, signal.SIGCONT)
        assert eventually(lambda: prober.ask(replica, primary=False).answered)
        cluster.kill(replica.name)
        assert prober.ask(replica, primary=False).failure == "refused"
    finally:
        prober.close()
        asyncio.run(cluster.settle())


def test_the_probe_tells_a_write_that_nobody_acknowledges(cluster: Cluster) -> None:
    prober = DatabaseProber(cluster.secret)
    primary = cluster.topology.by_name[cluster.primary]
    try:
        for replica in cluster.replicas:
            cluster.sql(replica, "STOP SLAVE IO_THREAD")
        facts = [prober.ask(primary, primary=True) for _ in range(3)]
        assert [f.answered for f in facts] == [True] * 3
        assert facts[-1].write_failure == "blocked"
        sessions = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = %s"
        assert cluster.sql(primary.name, sessions, accounts.CHECK)[0][0] <= 8  # they do not pile up
    finally:
        prober.close()
        asyncio.run(cluster.settle())


def test_a_restarted_replica_applies_what_it_had_received(cluster: Cluster) -> None:
    """START SLAVE would throw it away, and it may be nowhere else."""
    replica = cluster.replicas[0]
    cluster.sql(replica, "STOP SLAVE SQL_THREAD")
    cluster.sql(cluster.primary, "CREATE TABLE IF NOT EXISTS app.gap (id INT PRIMARY KEY)")
    cluster.sql(cluster.primary, "INSERT INTO app.gap VALUES (1)")
    before = cluster.sql(replica, "SELECT @@gtid_slave_pos")
    with cluster.connect(replica) as link:
        eventually(lambda: replication.received(link, 1.0) != replication.position(link))
        got = replication.received(link, 1.0)
    cluster.kill(replica)
    cluster.launch(cluster.topology.by_name[replica])
    cluster.await_start(replica)
    assert cluster.sql(replica, "SELECT @@gtid_slave_pos") == before
    with cluster.connect(replica) as link:
        assert replication.received(link, 10.0).newest == got.newest  # without asking the primary
        assert replication.position(link) == got.newest
    asyncio.run(cluster.settle())
