"""A ledger of unique writes through the real gateway: acknowledged, failed and unknown counted apart.

A write whose client got no answer is unknown, not lost (DESIGN: rule 7). Only what was acknowledged and is not there
afterwards is lost.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pymysql
from pymysql.connections import Connection
from pymysql.constants import ER

from lampstand.topology import Endpoint

TABLE = "lampstand.drill_ledger"

REFUSED_FOR_SURE = frozenset(
    {
        ER.OPTION_PREVENTS_STATEMENT,
        ER.CON_COUNT_ERROR,
        ER.ACCESS_DENIED_ERROR,
        ER.TOO_MANY_USER_CONNECTIONS,
        1836,
    }
)
"""Server errors after which the write certainly did not happen: read-only (1290, 1836), no connection to be had."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who writes and reads."""

    user: str
    password: str


@dataclass
class Tally:
    """What one writer saw. Times are of time.monotonic()."""

    acknowledged: list[int] = field(default_factory=list[int])
    unknown: list[int] = field(default_factory=list[int])
    failed: int = 0
    begun: list[float] = field(default_factory=list[float])
    """When each acknowledged write was begun, in step with `acknowledged`."""
    ended: list[float] = field(default_factory=list[float])


class Ledger:
    """Writers in threads, at a constant rate in sum."""

    def __init__(self, gateway: Endpoint, account: Account, run: int, rate: float, writers: int = 4) -> None:
        """`run` tells the rows of this drill from others; `rate` in writes a second; 0 is as fast as it goes."""
        self._gateway = gateway
        self._account = account
        self.run = run
        self._pause = writers / rate if rate else 0.0
        self._stop = threading.Event()
        self._tallies = [Tally() for _ in range(writers)]
        self._threads = [
            threading.Thread(target=self._write, args=(n, tally), daemon=True, name=f"ledger-{n}")
            for n, tally in enumerate(self._tallies)
        ]

    def start(self) -> None:
        """Make the table and begin. Raises pymysql.Error when the gateway does not lead to a primary."""
        with connect(self._gateway, self._account, 5.0) as connection, connection.cursor() as cursor:
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS {TABLE} (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, "
                "run BIGINT UNSIGNED NOT NULL, n BIGINT UNSIGNED NOT NULL, KEY (run)) ENGINE=InnoDB"
            )
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the writers."""
        self._stop.set()
        for thread in self._threads:
            thread.join(15.0)

    # -- what was seen -----------------------------------------------------------------------------------------------
    def first_acknowledged_since(self, moment: float) -> float | None:
        """When the first write that was begun after `moment` was acknowledged (time.monotonic())."""
        found: list[float] = []
        for tally in self._tallies:
            for begun, ended in zip(reversed(tally.begun), reversed(tally.ended), strict=False):
                if begun < moment:
                    break
                found.append(ended)
        return min(found, default=None)

    @property
    def acknowledged(self) -> list[int]:
        """Numbers of all acknowledged writes."""
        return [n for tally in self._tallies for n in tally.acknowledged]

    @property
    def unknown(self) -> list[int]:
        """Numbers of the writes whose client got no answer."""
        return [n for tally in self._tallies for n in tally.unknown]

    @property
    def failed(self) -> int:
        """How many writes were refused for sure."""
        return sum(tally.failed for tally in self._tallies)

    # -- writing -----------------------------------------------------------------------------------------------------
    def _write(self, writer: int, tally: Tally) -> None:
        connection: Connection | None = None
        number = writer << 40
        due = time.monotonic()
        while not self._stop.is_set():
            due = max(due + self._pause, time.monotonic() - 1.0)
            self._stop.wait(max(0.0, due - time.monotonic()))
            if connection is None:
                try:
                    connection = connect(self._gateway, self._account, 1.0)
                except (pymysql.Error, OSError):
                    tally.failed += 1
                    self._stop.wait(0.01)
                    continue
            number += 1
            connection = self._one(connection, tally, number)
        if connection is not None:
            connection.close()

    def _one(self, connection: Connection, tally: Tally, number: int) -> Connection | None:
        begun = time.monotonic()
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"INSERT INTO {TABLE} (run, n) VALUES (%s, %s)", (self.run, number))
        except (pymysql.Error, OSError) as error:
            if error.args and error.args[0] in REFUSED_FOR_SURE:
                tally.failed += 1
            else:
                tally.unknown.append(number)
            connection.close()
            return None
        tally.acknowledged.append(number)
        tally.begun.append(begun)
        tally.ended.append(time.monotonic())
        return connection


def connect(endpoint: Endpoint, account: Account, timeout: float) -> Connection:
    """An autocommitting connection; `timeout` in seconds for connecting, ten times that for every answer."""
    return pymysql.connect(
        host=endpoint.host, port=endpoint.port, user=account.user, password=account.password, autocommit=True,
        connect_timeout=max(1, round(timeout)), read_timeout=10 * timeout, write_timeout=10 * timeout,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """Row by row, over all servers."""

    lost: int
    duplicated: int
    diverged: int
    """Rows that some server has and another has not."""


def compare(servers: Sequence[Endpoint], account: Account, ledger: Ledger) -> Comparison:
    """Compare what was acknowledged with the rows of every server. Raises pymysql.Error when one cannot be read."""
    rows = [_rows(server, account, ledger.run) for server in servers]
    everywhere = set[int]().union(*rows)
    nowhere_missing = everywhere.intersection(*rows) if rows else set[int]()
    lost = sum(1 for n in set(ledger.acknowledged) if any(n not in found for found in rows))
    duplicated = max((sum(count - 1 for count in found.values() if count > 1) for found in rows), default=0)
    return Comparison(lost, duplicated, len(everywhere - nowhere_missing))


def _rows(server: Endpoint, account: Account, run: int) -> dict[int, int]:
    found: dict[int, int] = {}
    with connect(server, account, 30.0) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT n, COUNT(*) FROM {TABLE} WHERE run = %s GROUP BY n", (run,))
        for n, count in cursor.fetchall():
            found[int(n)] = int(count)
    return found


def forget(gateway: Endpoint, account: Account, run: int) -> None:
    """Delete the rows of a drill."""
    with connect(gateway, account, 30.0) as connection, connection.cursor() as cursor:
        while cursor.execute(f"DELETE FROM {TABLE} WHERE run = %s LIMIT 50000", (run,)):
            pass
