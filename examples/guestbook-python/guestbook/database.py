"""Two doors to one database: the writer, and a reader that may be a moment behind."""

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import DictCursor

from guestbook.errors import UnavailableError

Row = dict[str, Any]
T = TypeVar("T")

# Lost (2003, 2006, 2013, and 0: closed), shutting down (1053), killed (1927), no longer the primary (1290, 1836).
LOST = frozenset({0, 2003, 2006, 2013, 1053, 1927, 1290, 1836})
DUPLICATE = 1062
PAUSE_SECONDS = 0.25


class Database:
    """Runs statements, each thread on connections of its own that it keeps.

    When a server dies the connection is lost and another server takes over behind the same address. Therefore each
    statement is tried a second time on a new connection. Only statements that may run twice belong here: reads, and
    writes that a unique key protects.
    """

    def __init__(self, writer: str, reader: str) -> None:
        self._writer = writer
        self._reader = reader
        self._own = threading.local()

    def read(self, sql: str, *values: object) -> list[Row]:
        """Rows that may be a moment old."""
        return self._run(self._reader, sql, values, lambda cursor: list(cursor.fetchall()))

    def read_current(self, sql: str, *values: object) -> list[Row]:
        """Rows as they are now."""
        return self._run(self._writer, sql, values, lambda cursor: list(cursor.fetchall()))

    def write(self, sql: str, *values: object) -> int | None:
        """Rows changed; None where a unique key says that this was done before."""
        try:
            return self._run(self._writer, sql, values, lambda cursor: cursor.rowcount)
        except pymysql.IntegrityError as error:
            if error.args[0] == DUPLICATE:
                return None
            raise

    def is_writable(self) -> bool:
        """True when the writer's door leads to a server that takes writes."""
        return self.read_current("SELECT @@global.read_only AS read_only")[0]["read_only"] == 0

    def _run(self, url: str, sql: str, values: tuple[object, ...], result: Callable[[DictCursor], T]) -> T:
        try:
            return self._attempt(url, sql, values, result)
        except pymysql.MySQLError as error:
            self._raise_unless_lost(error, url)
        time.sleep(PAUSE_SECONDS)
        try:
            return self._attempt(url, sql, values, result)
        except pymysql.MySQLError as error:
            self._raise_unless_lost(error, url)
            raise UnavailableError(f"database: {error}") from error

    def _attempt(
        self, url: str, sql: str, values: tuple[object, ...], result: Callable[[DictCursor], T]
    ) -> T:
        connections: dict[str, Connection[DictCursor]] = self._own.__dict__
        if url not in connections:
            connections[url] = connect(url)
        with connections[url].cursor() as cursor:
            cursor.execute(sql, values)
            return result(cursor)

    def _raise_unless_lost(self, error: pymysql.MySQLError, url: str) -> None:
        if not error.args or error.args[0] not in LOST:
            raise error
        connection: Connection[DictCursor] | None = self._own.__dict__.pop(url, None)
        if connection is not None and connection.open:
            connection.close()


def connect(url: str) -> "Connection[DictCursor]":
    """A new connection. A server that hangs is as lost as one that is gone, so every step has its limit."""
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=unquote(parts.path.lstrip("/")),
        charset="utf8mb4",
        init_command="SET time_zone = '+00:00'",
        autocommit=True,
        connect_timeout=2,
        read_timeout=10,
        write_timeout=10,
        cursorclass=DictCursor,
    )
