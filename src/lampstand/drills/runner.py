"""Runs one drill: load, fault, expectation, healing, and the verdict at the end."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pymysql
from redis import Redis
from redis.exceptions import RedisError

from lampstand.drills.faults import Faults
from lampstand.drills.ledger import Account, Comparison, Ledger, compare, forget
from lampstand.drills.load import Load
from lampstand.drills.sampler import Sampler
from lampstand.drills.words import Drill, Round, Verdict
from lampstand.errors import LampstandError, TimedOutError
from lampstand.topology import Endpoint, Topology

WELL_BEFORE = 120.0
"""Seconds that a site may need to become well before a round begins, and before rows are compared."""


class Site(Protocol):
    """What a drill needs to know of the site it hits; a target supplies it."""

    target: str
    topology: Topology
    faults: Faults

    def status(self) -> dict[str, Any]:
        """The document of `lampstand status --json`."""
        ...

    def secret(self, name: str) -> str:
        """A generated secret."""
        ...

    def url(self, avoid: str) -> str:
        """A URL of the site through an edge that is not `avoid`."""
        ...

    def reach(self, instance: str, port: str) -> Endpoint:
        """An endpoint as this command reaches it."""
        ...

    def program(self, name: str) -> str:
        """Path of a program (h2load), empty where it is missing."""
        ...


@dataclass
class Options:
    """What the command line chose."""

    rounds: int = 1
    rate: float = 200.0
    """Writes a second to the ledger."""
    http_rate: float = 100.0
    seed: int | None = None
    say: Callable[[str], None] = lambda _: None


@dataclass
class Run:
    """One drill under way."""

    site: Site
    options: Options
    started: float = field(default_factory=time.monotonic)
    rounds: list[Round] = field(default_factory=list[Round])
    notes: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.random = random.Random(self.options.seed)
        self.account = Account("lampstand_admin", self.site.secret("database_admin"))
        self.writer = self.site.reach("gateway-1", "writer")
        self.number = time.time_ns() // 1_000_000
        self.ledger = Ledger(self.writer, self.account, self.number, self.options.rate)
        self.servers = [self.site.reach(i.name, "mysql") for i in self.site.topology.of_kind("database")]
        self.sampler = Sampler(self.servers, self.account)

    def play(self, drills: Sequence[Drill], until: float | None) -> None:
        """The rounds. A site that does not become well again ends them early: its rows are compared all the same."""
        try:
            if until is None:
                for _ in range(self.options.rounds):
                    for drill in drills:
                        self.inject(drill)
            else:
                while time.monotonic() - self.started < until:
                    self.inject(self.random.choice(drills))
        except TimedOutError as error:
            if not self.rounds:
                raise
            self.notes.append(f"ended early: {error.what}")

    # -- one round ---------------------------------------------------------------------------------------------------
    def inject(self, drill: Drill) -> None:
        """One round of a drill: choose, break, wait for service, heal, wait for all to be well."""
        self.wait_well(WELL_BEFORE)
        subjects = self.choose(drill)
        name = "+".join(subjects)
        self.options.say(f"{drill.fault} {name}")
        at = self._break(drill, subjects)
        back = self._service_back(drill, subjects, at)
        if drill.hold and back is not None:
            self._pause(drill.hold)
        for subject in subjects:
            self.site.faults.heal(subject)
        healed = time.monotonic()
        well: float | None = None
        with contextlib.suppress(TimedOutError):
            self.wait_well(drill.heals_within)
            well = time.monotonic() - healed
        if drill.fault == "fill-disk":
            # Back from the small disk: rounds that follow would fill it by themselves.
            self.site.faults.heal_all()
        self.rounds.append(Round(name, at - self.started, back, well))
        self.options.say(
            f"  service back after {back:.2f} s"
            if back is not None
            else f"  service not back within {drill.deadline:g} s"
        )

    def choose(self, drill: Drill) -> list[str]:
        """The servers to hit in this round."""
        names = [i.name for i in self.site.topology.of_kind(drill.kind)]
        if not names:
            raise LampstandError(f"the site has no {drill.kind} server", drill.name)
        rows = self.site.status()["instances"]
        primary = next((r["name"] for r in rows if r["kind"] == drill.kind and r["role"] == "primary"), None)
        replicas = [n for n in names if n != primary]
        if drill.fault == "kill-two":
            if primary is None or not replicas:
                raise LampstandError("this drill needs a primary and a replica", drill.name)
            return [primary, self.random.choice(replicas)]
        match drill.subject:
            case "primary" if primary is not None:
                return [primary]
            case "replica" if replicas:
                return [self.random.choice(replicas)]
            case "all":
                return names
            case "any":
                return [self.random.choice(names)]
            case _:
                raise LampstandError(f"the site has no {drill.subject} of kind {drill.kind}", drill.name)

    def _break(self, drill: Drill, subjects: Sequence[str]) -> float:
        """Make the fault; the moment (time.monotonic()) at which it was there. What a client began before is no
        service after it."""
        faults = self.site.faults
        match drill.fault:
            case "kill" | "kill-two":
                threads = [threading.Thread(target=faults.kill, args=(s,)) for s in subjects]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            case "freeze":
                faults.freeze(subjects[0])
            case "restart":
                faults.restart(subjects[0])
            case "kill-controller":
                faults.kill_controller()
                faults.kill(subjects[0])
                broken = time.monotonic()
                self._pause(1.0)
                faults.start_controller()
                return broken
            case "cut-replicas":
                faults.cut(subjects[0], from_replicas=True)
            case "cut-clients":
                faults.cut(subjects[0], from_replicas=False)
            case "slow-replica":
                self._slow(subjects[0])
            case "fill-disk":
                faults.fill_disk(subjects[0])
            case "flood" | "slowloris" | "origin-down":
                raise LampstandError("this drill is judged by visitors and runs alone", drill.name)
        return time.monotonic()

    def _slow(self, replica: str) -> None:
        """Hold a replica's applier by a lock on the ledger's table, until the connection is closed at the end."""

        def hold() -> None:
            with contextlib.suppress(pymysql.Error, OSError):
                connection = pymysql.connect(
                    host=(e := self.site.reach(replica, "mysql")).host, port=e.port, user=self.account.user,
                    password=self.account.password, connect_timeout=2, read_timeout=30,
                )  # fmt: skip
                with contextlib.closing(connection), connection.cursor() as cursor:
                    cursor.execute("FLUSH TABLES WITH READ LOCK")
                    self._pause(8.0)

        threading.Thread(target=hold, daemon=True).start()

    # -- expectations ------------------------------------------------------------------------------------------------
    def _service_back(self, drill: Drill, subjects: Sequence[str], at: float) -> float | None:
        """Seconds from the fault until a client is served again; None when that took more than the deadline."""
        asked = {
            "database": self._writes, "gateway": self._writes, "sessions": self._redis("sessions"),
            "cache": self._redis("cache"),
        }.get(drill.kind, self._http(subjects[0]))  # fmt: skip
        until = at + drill.deadline
        while time.monotonic() < until:
            moment = asked(at)
            if moment is not None:
                return moment - at
            self._pause(0.005)
        return None

    def _writes(self, at: float) -> float | None:
        return self.ledger.first_acknowledged_since(at)

    def _redis(self, kind: str) -> Callable[[float], float | None]:
        gateway = self.site.reach("gateway-1", kind)

        def ask(_: float) -> float | None:
            client = Redis(
                host=gateway.host, port=gateway.port, password=self.site.secret(kind), socket_timeout=0.5,
                socket_connect_timeout=0.5, single_connection_client=False,
            )  # fmt: skip
            try:
                client.set("lampstand:drill", "1", ex=60)
            except (RedisError, OSError):
                return None
            finally:
                client.close()
            return time.monotonic()

        return ask

    def _http(self, subject: str) -> Callable[[float], float | None]:
        import httpx

        url = self.site.url(avoid=subject)

        def ask(_: float) -> float | None:
            try:
                answer = httpx.get(url, params={"drill": str(time.monotonic_ns())}, timeout=1.0)
            except httpx.HTTPError:
                return None
            return time.monotonic() if answer.status_code < 500 else None

        return ask

    def wait_well(self, seconds: float) -> None:
        """Raises TimedOutError with what is not well."""
        wait_until_well(self.site, seconds)

    @staticmethod
    def _pause(seconds: float) -> None:
        threading.Event().wait(seconds)


def wait_until_well(site: Site, seconds: float) -> None:
    """Returns once the site is well and has no problem. Raises TimedOutError with what is not well."""
    until = time.monotonic() + seconds
    status: dict[str, Any] = {}
    while time.monotonic() < until:
        status = site.status()
        if status["well"] and not status["problems"]:
            return
        threading.Event().wait(0.1)
    raise TimedOutError(
        f"the site is not well: {status.get('sentence')}", mend="`lampstand status` tells more"
    )


def run_drill(
    site: Site, drills: Sequence[Drill], name: str, options: Options, until: float | None = None
) -> Verdict:
    """Run rounds of these drills in the order given (of random ones when `until`, seconds, is set) under load.

    Always heals what it broke. Raises LampstandError when the site is not well before, or cannot have this fault.
    """
    for drill in drills:
        if why := site.faults.unavailable(drill.fault):
            raise LampstandError(f"not available here: {why}", drill.name)
    run = Run(site, options)
    run.wait_well(WELL_BEFORE)
    avoid = (
        next((i.name for i in site.topology.of_kind("edge")), "")
        if any(d.kind == "edge" for d in drills)
        else ""
    )
    load = Load(site.program("h2load"), site.url(avoid), options.http_rate)
    comparison = Comparison(0, 0, 0)
    try:
        run.ledger.start()
        run.sampler.start()
        load.start()
        run.play(drills, until)
    finally:
        site.faults.heal_all()
        run.ledger.stop()
        answers = load.stop()
        two = run.sampler.stop()
    try:
        run.wait_well(WELL_BEFORE)
        comparison = _compare(run)
    except TimedOutError as error:
        run.notes.append(f"rows were not compared: {error.what}")
        comparison = Comparison(0, 0, 1)
    else:
        if not (comparison.lost or comparison.duplicated or comparison.diverged):
            forget(run.writer, run.account, run.number)
    judged = dict.fromkeys(j for d in drills for j in d.judged)
    return Verdict(
        drill=name,
        target=site.target,
        rounds=run.rounds,
        deadline_seconds=max(d.deadline for d in drills),
        acknowledged=len(run.ledger.acknowledged),
        lost=comparison.lost,
        unknown=len(run.ledger.unknown),
        failed_writes=run.ledger.failed,
        duplicated=comparison.duplicated,
        requests=len(answers),
        failed_requests=sum(a.failed for a in answers),
        two_primaries=two,
        diverged=comparison.diverged,
        seconds=time.monotonic() - run.started,
        judged=tuple(judged),
        seed=options.seed,
        notes=tuple(run.notes),
    )


def _compare(run: Run) -> Comparison:
    """Compare once the replicas have caught up: ask again for a while before a difference counts."""
    until = time.monotonic() + 30.0
    while True:
        found = compare(run.servers, run.account, run.ledger)
        if not found.diverged or time.monotonic() > until:
            return found
        threading.Event().wait(0.5)
