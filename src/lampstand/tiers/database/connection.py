"""Connections to MariaDB servers, and what their errors mean. Blocking; every wait is bounded."""

import contextlib
import errno
from typing import TYPE_CHECKING, Literal, TypeAlias

import pymysql
from pymysql.connections import Connection
from pymysql.constants import ER
from pymysql.cursors import Cursor

from lampstand.topology import Endpoint

if TYPE_CHECKING:
    Link: TypeAlias = Connection[Cursor]
else:  # PyMySQL's class is generic only in its stubs
    Link = Connection

Failure = Literal["", "refused", "hung", "full", "denied", "other"]


def connect(endpoint: Endpoint, account: str, password: str, timeout: float) -> Link:
    """A connection with autocommit; `timeout` (seconds) bounds connecting and every single read and write.

    Raises pymysql.err.Error.
    """
    return pymysql.connect(
        host=endpoint.host,
        port=endpoint.port,
        user=account,
        password=password,
        connect_timeout=max(1, round(timeout)),  # PyMySQL refuses fractions below 1
        read_timeout=timeout,
        write_timeout=timeout,
        autocommit=True,
        charset="utf8mb4",
    )


def failure_of(error: BaseException) -> Failure:
    """How a server did not answer, from PyMySQL's error and the socket's below it."""
    code = error.args[0] if error.args else None
    cause: BaseException | None = error
    while cause is not None:
        original = getattr(cause, "original_exception", None)
        for part in (cause, original):
            if isinstance(part, TimeoutError):
                return "hung"
            if isinstance(part, OSError) and part.errno in (errno.ECONNREFUSED, errno.ENOENT):
                return "refused"
            if isinstance(part, OSError) and part.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
                return "hung"
        cause = cause.__cause__ or cause.__context__
    if code in (ER.CON_COUNT_ERROR, ER.TOO_MANY_USER_CONNECTIONS):
        return "full"
    if code in (ER.ACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR):
        return "denied"
    return "other"


def one_line(error: BaseException) -> str:
    """What a server or a socket complains of, on one line."""
    text = error.args[-1] if error.args else type(error).__name__
    return " ".join(str(text).split())[:300]


def close_quietly(connection: Link) -> None:
    """Close the socket, whatever state the connection is in."""
    # Closing says goodbye to the server first, which may be the one that does not listen any more.
    with contextlib.suppress(pymysql.err.Error, OSError):
        connection._force_close()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
