"""A database group of real MariaDB servers, watched by the table of problems: what the controller does, cycle by cycle.

Implements `Hands` with plain subprocesses on free ports, so that a test can kill, freeze, break off a recovery between
any two steps, and look at everything.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pymysql

from lampstand.controller.failover import DATABASE_PROBLEMS
from lampstand.controller.health import Judge, complaint
from lampstand.controller.problems import Finding, Memory, Step, View
from lampstand.engines import discover
from lampstand.errors import LampstandError
from lampstand.observed import DatabaseFacts, Observed, ObservedInstance, ObservedProcess, State
from lampstand.site import Site
from lampstand.tiers.database import accounts
from lampstand.tiers.database.probe import DatabaseProber
from lampstand.tiers.database.tier import KIND, data_path, expand
from lampstand.topology import Context, File, Folder, Instance, Topology
from tests.support import eventually, free_port

SECRETS = {
    name: f"{name}-%'\"\\-secret"
    for name in ("database_app", "database_admin", "database_replication", "database_check")
}
_ROOT = ("--user=root",) if os.geteuid() == 0 else ()


class BrokenOffError(Exception):
    """The controller was killed between two steps."""


@dataclass
class FreePlace:
    """Addresses and folders under one temporary folder."""

    root: Path
    ports: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])

    def bind(self, instance: str, port: str) -> tuple[str, int]:
        if (instance, port) not in self.ports:
            self.ports[instance, port] = free_port()
        return "127.0.0.1", self.ports[instance, port]

    def reach(self, instance: str, port: str) -> tuple[str, int]:
        return self.bind(instance, port)

    def folder(self, instance: str, folder: Folder) -> str:
        return str(self.root / instance / folder)

    def release(self, release: str) -> str:
        return str(self.root / release)

    def uploads(self) -> str:
        return str(self.root / "uploads")

    def public_url(self) -> str:
        return "http://127.0.0.1"


class Cluster:
    """Hands, supervisor and loop in one. Nothing runs in the background but the servers themselves."""

    def __init__(self, root: Path, replicas: int = 2) -> None:
        self.place = FreePlace(root)
        self.engines = discover()
        self.memory = Memory()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.started: dict[str, float] = {}
        self.fenced: set[str] = set()
        self.events: list[tuple[str, str, str, str]] = []
        self.writer: tuple[str, int] | None = None
        self.routed = 0
        self.unfenceable: set[str] = set()
        self.unstartable: set[str] = set()
        self._facts: dict[str, DatabaseFacts] = {}
        self._judge = Judge()
        self._restarts: dict[str, int] = {}
        self._prober = DatabaseProber(self.secret)
        self.scale(replicas)

    def scale(self, replicas: int) -> None:
        site = Site.model_validate({"database": {"replicas": replicas, "memory": "80MB"}})
        context = Context(site, self.place, self.engines, SECRETS, "r1")
        self.topology = Topology("test", tuple(expand(context)))

    # -- Hands -------------------------------------------------------------------------------------------------------
    async def fence(self, instance: Instance) -> None:
        if instance.name in self.unfenceable:
            raise LampstandError("its death cannot be confirmed", instance.name)
        self.fenced.add(instance.name)
        self.kill(instance.name)

    async def start(self, instance: Instance) -> None:
        self.fenced.discard(instance.name)
        if self._state(instance.name) in (State.STOPPED, State.MISSING):
            await asyncio.to_thread(self.launch, instance)

    async def restart(self, instance: Instance) -> None:
        self.kill(instance.name)
        await self.start(instance)

    async def clear_data(self, instance: Instance, keep_as: str) -> str:
        data = Path(self.place.folder(instance.name, "data"))
        kept = data.with_name(keep_as)
        data.rename(kept)
        data.mkdir()
        return str(kept)

    async def run(self, instance: Instance, argv: Sequence[str], *, deadline: float) -> str:
        done = await asyncio.to_thread(
            subprocess.run, argv, capture_output=True, timeout=deadline, check=False, cwd="/"
        )
        if done.returncode:
            raise LampstandError(done.stderr.decode()[-2000:], instance.name)
        return done.stdout.decode()

    def secret(self, name: str) -> str:
        return SECRETS[name]

    async def route(self, *, drop_old: bool = False) -> None:
        del drop_old
        primary = self.topology.by_name.get(self.memory.primaries.get(KIND, ""))
        if primary is not None:
            endpoint = primary.endpoint("mysql")
            self.writer = (endpoint.host, endpoint.port)
            self.routed += 1

    def write_live(self, instance: Instance, file: File) -> None:
        del instance
        Path(file.path).write_text(file.content)

    def remember(self, **changes: Any) -> None:  # noqa: ANN401
        self.memory = replace(self.memory, **changes)

    def event(self, code: str, subject: str, step: str, outcome: str, **detail: object) -> None:
        self.events.append(
            (code, subject, step, f"{time.time() % 1000:.2f} {outcome} {detail or ''}".strip())
        )

    @property
    def view(self) -> View:
        now = time.time()
        instances = {m.name: self._observe(m) for m in self.topology.instances}
        return View(self.topology, Observed(now, instances), self.memory, now)

    async def refresh(self, *names: str) -> View:
        await asyncio.gather(
            *(self._ask(self.topology.by_name[n]) for n in names if n in self.topology.by_name)
        )
        return self.view

    # -- observing ---------------------------------------------------------------------------------------------------
    def _state(self, name: str) -> State:
        process = self.processes.get(name)
        if process is None:
            return State.MISSING
        if process.poll() is not None:
            return State.STOPPED
        with contextlib.suppress(OSError):
            if Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                return State.FROZEN
        return State.RUNNING

    def _observe(self, instance: Instance) -> ObservedInstance:
        state, name = self._state(instance.name), instance.name
        if state in (State.STOPPED, State.MISSING):
            self._judge.gone(name, time.time())
        judged = self._judge.of(name)
        process = self.processes.get(name)
        seen = ObservedProcess("mariadbd", process.pid if process else None, self.started.get(name))
        return ObservedInstance(
            name, KIND, state, (seen,), health=judged.health, health_since=judged.since or None,
            health_text=judged.text, restarts=self._restarts.get(name, 0), facts=self._facts.get(name),
        )  # fmt: skip

    async def _ask(self, instance: Instance) -> None:
        primary = self.memory.primaries.get(KIND) == instance.name
        facts = await asyncio.to_thread(self._prober.ask, instance, primary)
        self._facts[instance.name] = facts
        text = complaint(facts, primary=primary, lag_limit=instance.probe.lag_limit)
        self._judge.hear(instance.name, instance.probe, text, time.time())

    # -- the loop ----------------------------------------------------------------------------------------------------
    async def cycle(self, *, stop_before: int | None = None) -> list[Finding]:
        """Observe, supervise, diagnose, run the first recovery; `stop_before`: the controller dies before that step."""
        await self.refresh(*self.topology.by_name)
        self._supervise()
        view = self.view
        found = sorted(
            ((p, f) for p in DATABASE_PROBLEMS for f in p.matches(view)),
            key=lambda pair: (pair[0].priority, pair[1].subject),
        )
        for problem, finding in found:
            steps = problem.recover(view, finding) if problem.recover else ()
            if steps:
                await self.take(finding.code, steps, stop_before=stop_before)
                break
        return [f for _, f in found]

    async def take(self, code: str, steps: Sequence[Step], *, stop_before: int | None = None) -> bool:
        """Run steps as the controller does. Returns whether all were done."""
        for number, step in enumerate(steps):
            if stop_before == number:
                raise BrokenOffError(step.name)
            begun = time.monotonic()
            try:
                await asyncio.wait_for(step.run(self), step.deadline)
            except (LampstandError, TimeoutError, OSError) as error:
                self.event(code, KIND, step.name, f"failed: {error}")
                return False
            self.event(code, KIND, step.name, "done", seconds=round(time.monotonic() - begun, 3))
        return True

    async def break_off(self, step: int) -> None:
        """Cycles until a recovery has come to this step, where the controller dies. Raises BrokenOffError."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            await self.cycle(stop_before=step)

    async def settle(self, seconds: float = 30.0) -> float:
        """Cycles until nothing is wrong and everything follows. Returns the seconds it took."""
        begun = time.monotonic()
        while True:
            found = await self.cycle()
            if not found and self.healthy():
                return time.monotonic() - begun
            if time.monotonic() - begun > seconds:
                raise AssertionError(f"still wrong after {seconds} s: {found}\n{self.story()}\n{self._facts}")
            await asyncio.sleep(0.05)

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Cycles until `condition` holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s\n{self.story()}")
            await self.cycle()
            await asyncio.sleep(0.02)

    def healthy(self) -> bool:
        primary = self.memory.primaries.get(KIND)
        for member in self.topology.instances:
            facts = self._facts.get(member.name)
            if facts is None or not facts.answered:
                return False
            if member.name == primary:
                if facts.read_only or facts.write_failure:
                    return False
            elif facts.io_running != "Yes" or not facts.sql_running:
                return False
        return primary is not None

    def story(self) -> str:
        return "\n".join(" · ".join(e) for e in self.events[-60:])

    def _supervise(self) -> None:
        for member in self.topology.instances:
            first = member.name not in self.processes
            is_primary = self.memory.primaries.get(KIND) == member.name and len(self.topology.instances) > 1
            if member.name in self.fenced | self.unstartable or self._state(member.name) is not State.STOPPED:
                continue
            if not first and not is_primary:
                self._restarts[member.name] = self._restarts.get(member.name, 0) + 1
                self.launch(member)

    # -- servers -----------------------------------------------------------------------------------------------------
    def launch(self, instance: Instance) -> None:
        if instance.name in self.unstartable:
            raise LampstandError("does not start", instance.name)
        for file in (*instance.files, *instance.live_files):
            path = Path(file.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            if file in instance.files or not path.exists():
                path.write_text(file.content)
                path.chmod(file.mode)
        for folder in ("data", "run", "log"):
            Path(self.place.folder(instance.name, folder)).mkdir(parents=True, exist_ok=True)
        for folder in instance.folders:
            Path(folder).mkdir(parents=True, exist_ok=True)
        for preparation in instance.prepare:
            if not Path(preparation.creates).exists():
                subprocess.run(preparation.argv, check=True, capture_output=True, cwd="/")
        with Path(self.place.folder(instance.name, "log"), "mariadbd.log").open("ab") as log:
            self.processes[instance.name] = subprocess.Popen(
                [*instance.processes[0].argv, *_ROOT], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self.started[instance.name] = time.time()
        self._judge.started(instance.name, time.time())

    def launch_all(self) -> None:
        threads = [
            threading.Thread(target=self.launch, args=(m,))
            for m in self.topology.instances
            if self._state(m.name) in (State.MISSING, State.STOPPED)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def kill(self, *names: str) -> None:
        for name in names:
            if name in self.processes:
                self.processes[name].kill()
        for name in names:
            if name in self.processes:
                self.processes[name].wait()

    def signal(self, name: str, number: signal.Signals) -> None:
        self.processes[name].send_signal(number)

    def lose_data(self, name: str) -> None:
        """The data folder of a dead server is gone."""
        shutil.rmtree(data_path(self.topology.by_name[name]))

    def forget_everything_but_memory(self) -> None:
        """What a new controller knows after the old one was killed."""
        self._facts.clear()
        self._judge = Judge()
        self.fenced.clear()
        self._restarts.clear()
        self._prober.close()
        self._prober = DatabaseProber(self.secret)

    def close(self) -> None:
        self._prober.close()
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()

    # -- asking ------------------------------------------------------------------------------------------------------
    @property
    def primary(self) -> str:
        return self.memory.primaries[KIND]

    @property
    def replicas(self) -> list[str]:
        return [m.name for m in self.topology.instances if m.name != self.primary]

    @contextlib.contextmanager
    def connect(self, name: str, account: str = accounts.ADMIN, timeout: float = 10.0) -> Iterator[Any]:
        endpoint = self.topology.by_name[name].endpoint("mysql")
        link = pymysql.connect(
            host=endpoint.host, port=endpoint.port, user=account, password=SECRETS[accounts.SECRET_OF[account]],
            autocommit=True, read_timeout=timeout, write_timeout=timeout, connect_timeout=5,
        )  # fmt: skip
        try:
            yield link
        finally:
            link.close()

    def sql(
        self, name: str, statement: str, *values: object, account: str = accounts.ADMIN
    ) -> tuple[tuple[Any, ...], ...]:
        with self.connect(name, account) as link, link.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall()

    def await_start(self, name: str) -> None:
        """Until it answers."""

        def answers() -> bool:
            with contextlib.suppress(pymysql.err.Error):
                return bool(self.sql(name, "SELECT 1"))
            return False

        eventually(answers, 20)

    def assert_equal(self) -> None:
        """Every server has the same rows: waits for the replicas, then compares row by row."""
        position = self.sql(self.primary, "SELECT @@gtid_binlog_pos")[0][0]
        rows = {}
        for member in self.topology.instances:
            if member.name != self.primary:
                assert self.sql(member.name, "SELECT MASTER_GTID_WAIT(%s, 10)", position)[0][0] == 0, (
                    member.name
                )
            rows[member.name] = self.sql(member.name, "SELECT * FROM app.ledger ORDER BY id")
        reference = rows[self.primary]
        for name, found in rows.items():
            difference = sorted(set(found) ^ set(reference))
            assert found == reference, f"{name} differs: {difference[:6]} of {len(found)}\n{self.story()}"


class Ledger:
    """Unique writes through the gateway by several clients; what was acknowledged, and when, is kept."""

    def __init__(self, cluster: Cluster, clients: int = 3, pause: float = 0.002) -> None:
        self.cluster = cluster
        self.acknowledged: list[tuple[float, int, int]] = []
        self.unknown: list[tuple[int, int]] = []
        self.failures = 0
        self._pause = pause
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(n,)) for n in range(clients)]

    @staticmethod
    def prepare(cluster: Cluster) -> None:
        cluster.sql(
            cluster.primary,
            "CREATE TABLE IF NOT EXISTS app.ledger (id BIGINT PRIMARY KEY, client INT NOT NULL, number INT NOT NULL)",
        )

    def __enter__(self) -> "Ledger":
        self.prepare(self.cluster)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(15)

    def _write(self, client: int) -> None:
        number, link = 0, None
        while not self._stop.is_set():
            number += 1
            sent = False
            try:
                if link is None:
                    assert self.cluster.writer
                    host, port = self.cluster.writer
                    link = pymysql.connect(
                        host=host, port=port, user=accounts.APP, password=SECRETS["database_app"], database="app",
                        autocommit=True, read_timeout=8, connect_timeout=1,
                    )  # fmt: skip
                sent = True
                with link.cursor() as cursor:
                    cursor.execute(
                        "INSERT INTO ledger VALUES (%s, %s, %s)", (client * 10**9 + number, client, number)
                    )
                self.acknowledged.append((time.monotonic(), client, number))
            except (pymysql.err.Error, OSError) as error:
                self.failures += 1
                if sent and error.args and error.args[0] == 2013:
                    self.unknown.append((client, number))
                if link is not None:
                    with contextlib.suppress(pymysql.err.Error, OSError):
                        link.close()
                link = None
                self._stop.wait(0.02)
            self._stop.wait(self._pause)

    def longest_pause(self, since: float) -> float:
        """Seconds of the longest time without an acknowledged write."""
        times = [since, *sorted(t for t, _, _ in self.acknowledged if t > since)]
        return max((b - a for a, b in pairwise(times)), default=float("inf"))

    def first_after(self, moment: float) -> float:
        """Seconds from `moment` to the first write acknowledged after it."""
        return min((t for t, _, _ in self.acknowledged if t > moment), default=float("inf")) - moment

    def check(self) -> None:
        """Every acknowledged write is there, exactly once, and all servers are equal."""
        rows = self.cluster.sql(self.cluster.primary, "SELECT client, number FROM app.ledger")
        there = set(rows)
        lost = {(c, n) for _, c, n in self.acknowledged} - there
        assert not lost, (
            f"{len(lost)} acknowledged writes are lost: {sorted(lost)[:5]}\n{self.cluster.story()}"
        )
        assert len(there) == len(rows)
        self.cluster.assert_equal()
