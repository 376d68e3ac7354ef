"""Asks a MariaDB server how it is. Health is a write on the primary that is read back on every replica.

Blocking; called in threads. One connection per server is kept open, because a new one costs more than the questions.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import pymysql
from pymysql.constants import CR, ER
from pymysql.cursors import DictCursor

from lampstand.observed import DatabaseFacts
from lampstand.tiers.database import accounts
from lampstand.tiers.database.connection import Link, close_quietly, connect, failure_of, one_line
from lampstand.topology import Endpoint, Instance

WriteFailure = Literal["", "blocked", "read-only", "disk-full", "other"]

_QUESTION = f"""
SELECT @@global.read_only, @@server_id, @@gtid_current_pos, @@gtid_binlog_pos, @@gtid_binlog_state, @@gtid_slave_pos,
  @@global.rpl_semi_sync_master_enabled, @@global.rpl_semi_sync_slave_enabled, @@global.max_connections,
  (SELECT MAX(term) FROM {accounts.SCHEMA}.terms), (SELECT beat FROM {accounts.SCHEMA}.heartbeat WHERE id = 1),
  (SELECT GROUP_CONCAT(variable_name, '=', variable_value) FROM information_schema.global_status WHERE variable_name IN
    ('Rpl_semi_sync_master_clients', 'Rpl_semi_sync_master_wait_sessions', 'Rpl_semi_sync_master_no_tx',
     'Threads_connected'))
"""
_BEAT = (
    f"INSERT INTO {accounts.SCHEMA}.heartbeat (id, beat, server) VALUES (1, %s, @@server_id)"
    " ON DUPLICATE KEY UPDATE beat = VALUES(beat), server = VALUES(server)"
)


@dataclass
class _Line:
    """What is kept of one server between two probes."""

    endpoint: Endpoint
    asking: Link | None = None
    writing: Link | None = None
    failing_since: float | None = None
    """time.monotonic() of the first heartbeat in a row that could not be written."""
    lock: threading.Lock = field(default_factory=threading.Lock)


class DatabaseProber:
    """Probes the database servers of one site; keeps connections and the newest heartbeats. Thread-safe."""

    def __init__(self, secret: Callable[[str], str]) -> None:
        self._secret = secret
        self._lines: dict[str, _Line] = {}
        self._beats: list[tuple[int, float]] = []
        """(beat, monotonic time at which the primary had acknowledged it), the newest last."""
        self._lock = threading.Lock()

    def ask(self, instance: Instance, primary: bool) -> DatabaseFacts:
        """One probe: never raises, and takes at most about twice the instance's time-out.

        On the primary a heartbeat is written; everywhere else `lag_seconds` tells how long ago the newest heartbeat
        that is not yet readable there was acknowledged.
        """
        line = self._line(instance)
        with line.lock:
            try:
                facts = self._ask(line, instance.probe.timeout)
            except (pymysql.err.Error, OSError) as error:
                _close(line)
                return DatabaseFacts(False, failure=failure_of(error), error=one_line(error))
            if not primary or facts.source:
                line.failing_since = None
                return facts
            return self._beat(line, facts, instance.probe.timeout)

    def close(self) -> None:
        """Close every connection."""
        for line in self._lines.values():
            with line.lock:
                _close(line)

    def _line(self, instance: Instance) -> _Line:
        endpoint = instance.endpoint(instance.probe.endpoint)
        with self._lock:
            line = self._lines.get(instance.name)
            if line is None or line.endpoint != endpoint:
                line = self._lines[instance.name] = _Line(endpoint)
            return line

    def _connect(self, endpoint: Endpoint, timeout: float) -> Link:
        return connect(endpoint, accounts.CHECK, self._secret(accounts.SECRET_OF[accounts.CHECK]), timeout)

    def _ask(self, line: _Line, timeout: float) -> DatabaseFacts:
        try:
            line.asking = line.asking or self._connect(line.endpoint, timeout)
            return self._questions(line.asking)
        except pymysql.err.OperationalError as error:
            # The server was restarted since: only a new connection tells how it is now. A time-out tells already.
            if line.asking is None or failure_of(error) == "hung" or not _is_lost(error):
                raise
            _close(line)
            line.asking = self._connect(line.endpoint, timeout)
            return self._questions(line.asking)

    def _questions(self, connection: Link) -> DatabaseFacts:
        with connection.cursor() as cursor:
            cursor.execute(_QUESTION)
            row = cast("tuple[Any, ...]", cursor.fetchone())
        with connection.cursor(DictCursor) as cursor:
            cursor.execute("SHOW SLAVE STATUS")
            slave = cast("Mapping[str, Any]", cursor.fetchone() or {})
        beat = cast("int | None", row[10])
        counters = {k.lower(): int(v) for k, _, v in (c.partition("=") for c in str(row[11]).split(",")) if v}
        return DatabaseFacts(
            answered=True,
            read_only=row[0] != 0,
            server_id=row[1],
            gtid_current_pos=row[2],
            gtid_binlog_pos=row[3],
            gtid_binlog_state=row[4],
            gtid_slave_pos=row[5],
            semi_sync_master=bool(row[6]),
            semi_sync_slave=bool(row[7]),
            max_connections=row[8],
            term=row[9],
            semi_sync_clients=counters.get("rpl_semi_sync_master_clients"),
            semi_sync_waiting=counters.get("rpl_semi_sync_master_wait_sessions"),
            semi_sync_no_tx=counters.get("rpl_semi_sync_master_no_tx"),
            connections=counters.get("threads_connected"),
            gtid_io_pos=slave.get("Gtid_IO_Pos") or "",
            io_running=slave.get("Slave_IO_Running") or "",
            sql_running=slave["Slave_SQL_Running"] == "Yes" if slave else None,
            source=f"{slave['Master_Host']}:{slave['Master_Port']}" if slave else "",
            last_io_error=slave.get("Last_IO_Error") or "",
            last_sql_error=slave.get("Last_SQL_Error") or "",
            lag_seconds=self._lag(beat) if slave else None,
        )

    def _beat(self, line: _Line, facts: DatabaseFacts, timeout: float) -> DatabaseFacts:
        with self._lock:
            # A clock that is set back must not make older beats look newer.
            beat = max(time.time_ns() // 1_000_000, self._beats[-1][0] + 1 if self._beats else 0)
        try:
            if line.writing is None:
                line.writing = self._connect(line.endpoint, timeout)
                with line.writing.cursor() as cursor:
                    # A commit that waits for an acknowledgement holds the row: do not queue up behind it.
                    cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
            with line.writing.cursor() as cursor:
                cursor.execute(_BEAT, (beat,))
        except (pymysql.err.Error, OSError) as error:
            if line.writing is not None:
                close_quietly(line.writing)
                line.writing = None
            line.failing_since = line.failing_since or time.monotonic()
            return replace(
                facts,
                write_failure=_write_failure(error),
                write_error=one_line(error),
                write_failing_for=round(time.monotonic() - line.failing_since, 1),
            )
        line.failing_since = None
        with self._lock:
            self._beats = [*self._beats[-60:], (beat, time.monotonic())]
        return facts

    def _lag(self, seen: int | None) -> float | None:
        with self._lock:
            if not self._beats:
                return None
            missing = [at for beat, at in self._beats if seen is None or beat > seen]
        return round(time.monotonic() - missing[0], 3) if missing else 0.0


def _write_failure(error: BaseException) -> WriteFailure:
    code = error.args[0] if error.args else None
    if code == ER.OPTION_PREVENTS_STATEMENT:
        return "read-only"
    if code in (ER.DISK_FULL, ER.RECORD_FILE_FULL, ER.ERROR_ON_WRITE):
        return "disk-full"
    if code == ER.LOCK_WAIT_TIMEOUT or failure_of(error) == "hung":
        return "blocked"
    return "other"


def _is_lost(error: BaseException) -> bool:
    return bool(error.args) and error.args[0] in (CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST)


def _close(line: _Line) -> None:
    for connection in (line.asking, line.writing):
        if connection is not None:
            close_quietly(connection)
    line.asking = line.writing = None
