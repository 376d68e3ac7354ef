"""The deploy's own requests, through the edge: what the receipt says is measured, not assumed."""

import http.client
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from lampstand.releases.budget import Tally
from lampstand.releases.traffic import AGENT

RATE = 20.0
"""Requests a second of each lane."""
PATIENCE = 15.0
"""Seconds after which an answer counts as missing."""
REMEMBERED = 20
"""Failures that are kept as text."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One kind of request."""

    method: str
    path: str
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Sample:
    """One request and its answer."""

    begun: float
    """Unix time."""
    seconds: float
    failure: str
    """Empty when it was answered with less than 500."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Requests one after the other."""

    asks: tuple[Ask, ...]
    kept: bool
    """On one connection that is kept, or each on a connection of its own."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def asks(requests: Sequence[str], health: str | None) -> tuple[Ask, ...]:
    """What `deploy.requests` names (`GET /`, `POST /messages author=deploy&text=hello`), or the health path and `/`.
    Pure."""
    found: list[Ask] = []
    for text in requests or (f"GET {health or '/'}", "GET /"):
        method, _, rest = text.partition(" ")
        path, _, body = rest.strip().partition(" ")
        found.append(Ask(method, path, body))
    return tuple(found)


def lanes(all_asks: Sequence[Ask]) -> tuple[Lane, ...]:
    """Reads on a kept connection and on new ones; what changes something in a lane of its own. Pure."""
    reads = tuple(a for a in all_asks if a.method in ("GET", "HEAD"))
    writes = tuple(a for a in all_asks if a.method not in ("GET", "HEAD"))
    found = [Lane(reads, True), Lane(reads, False)] if reads else []
    return (*found, *([Lane(writes, True)] if writes else []))


class Probe:
    """Sends requests in threads from `start` until `stop`."""

    def __init__(self, url: str, host: str | None, all_lanes: Sequence[Lane]) -> None:
        """`url` is where visitors come in, `host` the name of the site where it differs from that address."""
        self._url = urlsplit(url)
        self._host = host
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._lanes = list(all_lanes)
        self.samples: list[Sample] = []

    def start(self) -> None:
        """Begin."""
        for lane in self._lanes:
            self.add(lane)

    def add(self, lane: Lane) -> Callable[[], None]:
        """One more lane; call what is returned to end it."""
        end = threading.Event()
        thread = threading.Thread(target=self._run, args=(lane, end), daemon=True, name="deploy-probe")
        self._threads.append(thread)
        thread.start()
        return end.set

    def stop(self) -> None:
        """End; what is under way is waited for."""
        self._end.set()
        for thread in self._threads:
            thread.join(PATIENCE + 1)

    def _run(self, lane: Lane, end: threading.Event) -> None:
        connection: http.client.HTTPConnection | None = None
        number, due = 0, time.monotonic()
        while not self._end.is_set() and not end.is_set():
            ask = lane.asks[number % len(lane.asks)]
            number += 1
            connection = self._one(connection, lane, ask)
            due = max(due + 1 / RATE, time.monotonic() - 0.5)
            self._end.wait(max(0.0, due - time.monotonic()))
        if connection:
            connection.close()

    def _one(
        self, connection: http.client.HTTPConnection | None, lane: Lane, ask: Ask
    ) -> http.client.HTTPConnection | None:
        headers = {"User-Agent": AGENT, **ask.headers, **lane.headers}
        if self._host:
            headers["Host"] = self._host
        if not lane.kept:
            headers["Connection"] = "close"
        if ask.method not in ("GET", "HEAD"):
            headers["Idempotency-Key"] = str(uuid.uuid4())
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        begun, clock = time.time(), time.monotonic()
        failure, kept = self._ask(connection, ask, headers)
        if failure is None:
            # The other side closed the kept connection before the request reached it: every client opens another one
            # (RFC 9112, section 9.3.1), also for what must not run twice, because its key says that it is the same.
            failure, kept = self._ask(None, ask, headers)
        text = "closed without an answer" if failure is None else failure
        line = f"{ask.method} {ask.path}: {text}" if text else ""
        with self._lock:
            self.samples.append(Sample(begun, time.monotonic() - clock, line))
        return kept

    def _ask(
        self, connection: http.client.HTTPConnection | None, ask: Ask, headers: Mapping[str, str]
    ) -> tuple[str | None, http.client.HTTPConnection | None]:
        """What was wrong with the answer (empty: nothing; None: a kept connection was closed instead), and the
        connection where it is kept."""
        reused = connection is not None
        connection = connection or self._connect()
        try:
            connection.request(ask.method, ask.path, ask.body or None, dict(headers))
            answer = connection.getresponse()
            answer.read()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            connection.close()
            return (None, None) if reused else (str(error) or type(error).__name__, None)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return str(error) or type(error).__name__, None
        if answer.will_close:
            connection.close()
        return (f"answers {answer.status}" if answer.status >= 500 else ""), (
            None if answer.will_close else connection
        )

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "127.0.0.1", self._url.port
        if self._url.scheme != "https":
            return http.client.HTTPConnection(host, port, timeout=PATIENCE)
        # It asks its own site on its own machine: who answers is not the question.
        return http.client.HTTPSConnection(
            host, port, timeout=PATIENCE, context=ssl._create_unverified_context()  # pyright: ignore[reportPrivateUsage]
        )  # fmt: skip


def phases(samples: Sequence[Sample], begin: float, end: float) -> dict[str, dict[str, float]]:
    """What was measured before, during and after the time from `begin` to `end` (unix time). Pure."""
    tallies = {"before": Tally(), "during": Tally(), "after": Tally()}
    for sample in samples:
        name = "during"
        if sample.begun + sample.seconds < begin:
            name = "before"
        elif sample.begun > end:
            name = "after"
        tallies[name].add(bool(sample.failure), sample.seconds)
    return {name: tally.summary() for name, tally in tallies.items()}
