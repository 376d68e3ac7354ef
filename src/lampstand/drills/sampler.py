"""Looks for two writable primaries at the same moment."""

import threading
import time
from collections.abc import Sequence

import pymysql
from pymysql.connections import Connection

from lampstand.drills.ledger import Account, connect
from lampstand.topology import Endpoint

EVERY = 0.05
"""Seconds between two looks at one server."""


class Sampler:
    """One thread per server. `writable` intervals of two servers that surely overlap are a breach."""

    def __init__(self, servers: Sequence[Endpoint], account: Account) -> None:
        self._account = account
        self._stop = threading.Event()
        self._samples: dict[str, list[tuple[float, float]]] = {s.instance: [] for s in servers}
        """For each server: pairs of the first and last sure moment of an unbroken time of being writable."""
        self._threads = [threading.Thread(target=self._follow, args=(s,), daemon=True) for s in servers]

    def start(self) -> None:
        """Begin to look."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> int:
        """End, and return how often two servers were surely writable at the same moment."""
        self._stop.set()
        for thread in self._threads:
            thread.join(10.0)
        spans = [(name, a, b) for name, found in self._samples.items() for a, b in found]
        return sum(
            1
            for i, (name, begin, end) in enumerate(spans)
            for other, other_begin, other_end in spans[i + 1 :]
            if other != name and max(begin, other_begin) < min(end, other_end)
        )

    def _follow(self, server: Endpoint) -> None:
        connection: Connection | None = None
        spans = self._samples[server.instance]
        unbroken = False
        while not self._stop.is_set():
            before = time.monotonic()
            try:
                connection = connection or connect(server, self._account, 0.5)
                with connection.cursor() as cursor:
                    cursor.execute("SELECT @@global.read_only")
                    row = cursor.fetchone()
                writable = bool(row) and not int(row[0])
            except (pymysql.Error, OSError):
                connection, writable = None, False
            # Between two looks that both found it writable it was writable; a look itself takes time, so what is sure
            # begins when the first answer was there and ends when the last question was asked.
            after = time.monotonic()
            if writable and unbroken:
                spans[-1] = (spans[-1][0], max(before, spans[-1][0]))
            elif writable:
                spans.append((after, after))
            unbroken = writable
            self._stop.wait(EVERY)
