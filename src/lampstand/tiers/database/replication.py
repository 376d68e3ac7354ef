"""The SQL of each operation on a MariaDB server, as small functions over an administrator's connection.

Every function is safe to repeat. They raise pymysql.err.Error; the caller bounds them by the connection's time-outs.
Sources: mariadb.com/kb: gtid, change-master-to, semisynchronous-replication; and what was measured (README.md).
"""

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import pymysql
from pymysql.constants import ER
from pymysql.cursors import DictCursor

from lampstand.tiers.database import accounts
from lampstand.tiers.database.connection import Link
from lampstand.tiers.database.gtid import Gtid, newest, parse, sequence
from lampstand.topology import Endpoint

_RELAY_GTID = re.compile(r"GTID (\d+)-(\d+)-(\d+)")
APPLIERS = 4
"""Threads that apply what a replica receives: enough to keep up with a primary that commits in groups."""
_CHUNK = 2000
"""Relay log events read at a time."""
_ER_NO_SUCH_LOG = ER.ERROR_WHEN_EXECUTING_COMMAND


def execute(link: Link, sql: str, *values: object) -> None:
    """One statement without an answer."""
    with link.cursor() as cursor:
        cursor.execute(sql, values or None)


def value(link: Link, sql: str, *values: object) -> Any:  # noqa: ANN401  # whatever the server answers
    """The first column of the first row, None when there is none."""
    with link.cursor() as cursor:
        cursor.execute(sql, values or None)
        row = cursor.fetchone()
    return row[0] if row else None


def replica_status(link: Link) -> Mapping[str, Any]:
    """SHOW SLAVE STATUS; empty when the server is no replica."""
    with link.cursor(DictCursor) as cursor:
        cursor.execute("SHOW SLAVE STATUS")
        return cast("Mapping[str, Any]", cursor.fetchone() or {})


def position(link: Link) -> Gtid | None:
    """The newest transaction that is committed here, whoever wrote it."""
    with link.cursor() as cursor:
        cursor.execute("SELECT @@gtid_binlog_pos, @@gtid_slave_pos, @@gtid_current_pos")
        row = cast("tuple[str, str, str]", cursor.fetchone())
    return newest(*row)


def applied(link: Link) -> Gtid | None:
    """The newest transaction that a replica has from its primary; on any other server the newest of all.

    A replica's own writes do not count: somebody made them by mistake.
    """
    if replica_status(link):
        return newest(str(value(link, "SELECT @@gtid_slave_pos") or ""))
    return position(link)


def history(link: Link) -> str:
    """Everything that is in this server's history: the newest transaction of each server id."""
    with link.cursor() as cursor:
        cursor.execute("SELECT @@gtid_binlog_state, @@gtid_slave_pos")
        state, slave = cast("tuple[str, str]", cursor.fetchone())
    return ",".join(str(g) for g in (*parse(state), *parse(slave)))


# -- receiving and applying ------------------------------------------------------------------------------------------
class RelayLogError(Exception):
    """What a server has received cannot be read or applied: torn by a power cut, or with a gap."""


class Received(NamedTuple):
    """How far a server that receives nothing any more has come."""

    newest: Gtid | None
    """The newest transaction it has received, committed or in its relay log; only committed ones where not `known`."""
    applied: Gtid | None
    known: bool
    """False right after a restart: it does not know yet what lies in its relay log."""
    own_writes: bool
    """It has transactions that it did not receive: somebody wrote to a replica."""


def stop_receiving(link: Link) -> Received:
    """The server receives, and so acknowledges, nothing from now on. It goes on applying what it has."""
    execute(link, "STOP SLAVE IO_THREAD")
    status = replica_status(link)
    state = status.get("Slave_IO_Running", "No")
    if state != "No":
        raise pymysql.err.OperationalError(0, f"its receiving thread is still {state}")
    relayed = str(status.get("Gtid_IO_Pos") or "")
    committed = applied(link)
    own = bool(status) and _has_own_writes(link)
    return Received(newest(relayed, str(committed or "")), committed, not status or bool(relayed), own)


def _has_own_writes(link: Link) -> bool:
    """Whether the newest transaction of a replica is one that it made itself, beyond what it received."""
    with link.cursor() as cursor:
        cursor.execute("SELECT @@server_id, @@gtid_current_pos, @@gtid_slave_pos")
        server, current, slave = cast("tuple[int, str, str]", cursor.fetchone())
    last = newest(current)
    return last is not None and last.server == server and last.sequence > sequence(slave)


def received(link: Link, seconds: float) -> Received:
    """The same, surely: after a restart its relay log is applied first, to know what is in it."""
    found = stop_receiving(link)
    if found.known:
        return found
    drain_after_restart(link, seconds)
    committed = applied(link)
    return Received(committed, committed, True, found.own_writes)


def drain(link: Link, target: Gtid | None, seconds: float) -> bool:
    """Wait until `target` is committed here. Returns whether it is within `seconds`."""
    if target is None:
        return True
    status = replica_status(link)
    if (
        status
        and status["Slave_SQL_Running"] != "Yes"
        and sequence(str(applied(link) or "")) < target.sequence
    ):
        execute(link, "START SLAVE SQL_THREAD")
    deadline = time.monotonic() + seconds
    while sequence(str(applied(link) or "")) < target.sequence:
        left = deadline - time.monotonic()
        if left <= 0 or replica_status(link).get("Slave_SQL_Running") != "Yes":
            return False
        value(link, "SELECT MASTER_GTID_WAIT(%s, %s)", str(target), min(left, 0.5))
    return True


def drain_after_restart(link: Link, seconds: float) -> None:
    """Apply what a restarted replica has in its relay log, without asking its primary.

    With GTIDs, START SLAVE throws the relay log away and asks the primary again (even START SLAVE SQL_THREAD does), and
    the position in relay-log.info is far behind, because it is not kept up to date: what was acknowledged from here may
    exist nowhere else. So find the first transaction that is not committed yet, and apply from there by file position.
    Raises OperationalError when it cannot be done within `seconds`; what is not applied then is still there. Raises
    RelayLogError when it can never be done.
    """
    if not replica_status(link):
        return
    execute(link, "STOP SLAVE")
    start = _first_unapplied(link, sequence(str(applied(link) or "")))
    if start is not None:
        file, offset = start
        execute(
            link, "CHANGE MASTER TO MASTER_USE_GTID=no, RELAY_LOG_FILE=%s, RELAY_LOG_POS=%s", file, offset
        )
        # One thread: several of them compare positions in the primary's logs, which are unknown here, and
        # MariaDB 10.11 dies of it (compare_log_name of an empty name).
        execute(link, "SET GLOBAL slave_parallel_threads = 0")
        execute(link, "START SLAVE SQL_THREAD")
        _until_idle(link, time.monotonic() + seconds)
    discard_relay_log(link)  # it is applied, and the next start is by GTID again


def discard_relay_log(link: Link) -> None:
    """Throw away what it has received and not applied; it asks for it again when it follows."""
    execute(link, "STOP SLAVE")
    execute(link, "CHANGE MASTER TO MASTER_USE_GTID=slave_pos")


def _first_unapplied(link: Link, applied: int) -> tuple[str, int] | None:
    previous: int | None = None
    for file, offset, gtid in _relay_gtids(link):
        if gtid.domain == 0 and gtid.sequence > applied:
            if previous is not None and previous < applied:
                raise RelayLogError(f"its relay log has a gap before {gtid}")
            return file, offset
        previous = gtid.sequence
    return None


def _relay_gtids(link: Link) -> Iterator[tuple[str, int, Gtid]]:
    """(file, position, id) of every transaction in the relay logs, in order."""
    file: str | None = None
    while True:
        offset = 4
        while True:
            with link.cursor() as cursor:
                try:
                    if file is None:
                        cursor.execute("SHOW RELAYLOG EVENTS LIMIT %s", (_CHUNK,))
                    else:
                        cursor.execute("SHOW RELAYLOG EVENTS IN %s FROM %s LIMIT %s", (file, offset, _CHUNK))
                except pymysql.err.Error as error:
                    if error.args and error.args[0] == _ER_NO_SUCH_LOG:
                        return
                    raise
                rows = cursor.fetchall()
            for name, at, kind, _server, _end, info in rows:
                file = str(name)
                found = _RELAY_GTID.search(str(info)) if kind == "Gtid" else None
                if found:
                    yield file, int(at), Gtid(*(int(part) for part in found.groups()))
            if len(rows) < _CHUNK:
                break
            offset = int(rows[-1][1])
            if int(rows[0][1]) == offset:
                break
        if file is None:
            return
        stem, _, number = file.rpartition(".")
        file = f"{stem}.{int(number) + 1:0{len(number)}d}"


def _until_idle(link: Link, deadline: float) -> None:
    """Wait until the one applying thread has nothing left to do."""
    while True:
        status = replica_status(link)
        if status["Slave_SQL_Running"] != "Yes":
            raise RelayLogError(
                f"it cannot apply what it had received: {status['Last_SQL_Error'] or 'stopped'}"
            )
        if "has read all relay log" in (status["Slave_SQL_Running_State"] or ""):
            return
        if time.monotonic() > deadline:
            raise pymysql.err.OperationalError(0, "applying its relay log takes longer than the deadline")
        time.sleep(0.01)


def follow(link: Link, source: Endpoint, password: str) -> None:
    """Make it a read-only replica of `source`, from exactly where its own history ends.

    What it has received must be drained before. Its own commits that wait for an acknowledgement must be gone.
    """
    execute(link, "SET GLOBAL read_only = ON")
    execute(link, "STOP SLAVE")
    execute(link, "SET GLOBAL rpl_semi_sync_master_enabled = OFF")
    execute(link, "SET GLOBAL slave_parallel_threads = %s", APPLIERS)
    with link.cursor() as cursor:
        cursor.execute("SELECT @@gtid_slave_pos, @@gtid_binlog_pos")
        slave, binlog = cast("tuple[str, str]", cursor.fetchone())
    # It has been a primary since: its history ends with what it wrote itself.
    demote = ", MASTER_DEMOTE_TO_SLAVE=1" if sequence(binlog) > sequence(slave) else ""
    execute(
        link,
        "CHANGE MASTER TO MASTER_HOST=%s, MASTER_PORT=%s, MASTER_USER=%s, MASTER_PASSWORD=%s,"
        f" MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=1{demote}",
        source.host,
        source.port,
        accounts.REPLICATION,
        password,
    )
    execute(link, "START SLAVE")


# -- the role --------------------------------------------------------------------------------------------------------
def leave_source(link: Link) -> None:
    """It replicates from nobody any more. What it has received must be drained before."""
    execute(link, "STOP SLAVE")
    execute(link, "RESET SLAVE ALL")


def begin_term(link: Link, term: int, name: str) -> None:
    """Write the promotion into the history, as the first thing of it; a term that is there already stays.

    It is written while nobody else can write and before acknowledgements are asked for: whoever has received any write
    of this term has received this row too, so the row tells who has the newest history.
    """
    execute(link, "SET GLOBAL rpl_semi_sync_master_enabled = OFF")
    execute(
        link,
        f"INSERT IGNORE INTO {accounts.SCHEMA}.terms (term, server, name, since)"
        " VALUES (%s, @@server_id, %s, UTC_TIMESTAMP(3))",
        term,
        name,
    )


def open_for_writes(link: Link, *, acknowledged: bool) -> None:
    """Let it take writes; `acknowledged`: each waits until a replica has it (a server without replicas does not)."""
    execute(link, f"SET GLOBAL rpl_semi_sync_master_enabled = {'ON' if acknowledged else 'OFF'}")
    execute(link, "SET GLOBAL read_only = OFF")


def close_sessions(link: Link, *users: str) -> int:
    """End every session of these accounts. Returns how many there were."""
    with link.cursor() as cursor:
        cursor.execute("SELECT id FROM information_schema.processlist WHERE user IN %s", (users,))
        ids = [int(row[0]) for row in cursor.fetchall()]
        for number in ids:
            try:
                cursor.execute("KILL CONNECTION %s", (number,))
            except pymysql.err.Error as error:
                if error.args[0] != ER.NO_SUCH_THREAD:
                    raise
    return len(ids)


def binary_logs(link: Link) -> list[str]:
    """Names of its binary logs, the oldest first."""
    with link.cursor() as cursor:
        cursor.execute("SHOW BINARY LOGS")
        return [str(row[0]) for row in cursor.fetchall()]


# -- planned switchover ----------------------------------------------------------------------------------------------
def old_transactions(link: Link, seconds: float) -> int:
    """Transactions with changes that have been open for more than `seconds`."""
    return int(
        value(
            link,
            "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_rows_modified > 0"
            " AND trx_mysql_thread_id <> CONNECTION_ID() AND trx_started < NOW(3) - INTERVAL %s MICROSECOND",
            int(seconds * 1e6),
        )
    )


def hold_writes(link: Link, seconds: float) -> None:
    """Every write waits from now on, as long as this connection lives.

    It looks for a moment in which no client is between two statements of a transaction with changes, for at most
    `seconds`; one that is in the middle of it then loses its transaction, uncommitted, with its connection.
    """
    deadline = time.monotonic() + seconds
    execute(link, "SET SESSION lock_wait_timeout = 2")
    while True:
        execute(link, "FLUSH TABLES WITH READ LOCK")
        in_the_middle = value(
            link,
            "SELECT COUNT(*) FROM information_schema.innodb_trx JOIN information_schema.processlist"
            " ON id = trx_mysql_thread_id WHERE trx_rows_modified > 0 AND command = 'Sleep'",
        )
        if not in_the_middle or time.monotonic() > deadline:
            return
        execute(link, "UNLOCK TABLES")
        time.sleep(0.02)


def end_hold(link: Link) -> None:
    """The sessions that wait end, and the server takes no writes when the connection that holds them is closed.

    While writes are held, no commit waits for an acknowledgement. That matters: of commits that wait together, killing
    one session confirms others that nobody acknowledged (one thread waits for all of the group).
    """
    close_sessions(link, accounts.APP)
    execute(link, "SET GLOBAL read_only = ON")
    close_sessions(link, accounts.APP)


def depose(link: Link) -> None:
    """Take its writes away, when no commit on it waits for an acknowledgement.

    Raises OperationalError after a second when one does: then only killing the server ends it without confirming it.
    """
    execute(link, "SET SESSION lock_wait_timeout = 1")
    execute(link, "FLUSH TABLES WITH READ LOCK")
    end_hold(link)
