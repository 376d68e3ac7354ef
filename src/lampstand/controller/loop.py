"""The controller's loop: observe, diagnose, recover, route, report one human sentence a cycle.

It is never in the data path: killed at any moment, it stops nothing, and the next one goes on from what it observes.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any, cast

from lampstand.code import fingerprint
from lampstand.controller.health import Facts, Judge, complaint, silence
from lampstand.controller.journal import Journal
from lampstand.controller.probing import Prober
from lampstand.controller.problems import Finding, Memory, Problem, Step, View
from lampstand.controller.routes import CANARY, routes
from lampstand.controller.supervision import Supervision
from lampstand.controller.table import PROBLEMS
from lampstand.errors import LampstandError
from lampstand.observed import Health, Observed, ObservedInstance, Role, State
from lampstand.targets.base import Runtime
from lampstand.tiers.edge.operations import Edges
from lampstand.topology import File, Instance, Topology

PATIENCE = 60.0
"""Seconds that an operator's steps wait for a recovery of the same group to end."""

FIRST_ROUND = 3.0
"""Seconds that a new controller waits at most for the first answer of every server before it writes routes."""

TICK = 1.0
"""Seconds between two looks when nothing happens; deaths and changes of health wake it at once."""

log = logging.getLogger("lampstand.controller")

GROUPED = ("database", "cache", "sessions")
"""Kinds that have a primary."""
OF_COMMANDS = ("restart", "roll")
"""Reasons of holds that end with the command that asked for them."""


class Controller:
    """One per site. Implements `Hands` for the recoveries."""

    def __init__(self, runtime: Runtime, journal: Journal) -> None:
        self.runtime = runtime
        self.journal = journal
        self.memory: Memory = journal.read_memory()
        self.topology = Topology("", ())
        self.judge = Judge()
        self.facts: dict[str, Facts | None] = {}
        self.findings: tuple[Finding, ...] = ()
        self.sentence = "starting"
        self.cycles = 0
        self._seen: Mapping[str, ObservedInstance] = {}
        self._wake = asyncio.Event()
        self._died: set[str] = set()
        self._recoveries: dict[str, asyncio.Task[str]] = {}
        self._not_before: dict[tuple[str, str], float] = {}
        self._failures: dict[tuple[str, str], int] = {}
        self._fenced: set[str] = set()
        self._routing = asyncio.Lock()
        self._unloaded: set[str] = set()
        self._begun = time.monotonic()
        self._cycling = asyncio.Lock()
        self._supervision = Supervision()
        self._prober = Prober(runtime.secret, self._primary_of, self._impatient, self._heard)
        self.edges = Edges(self, journal.folder)
        self._stopping = False

    # -- the loop ----------------------------------------------------------------------------------------------------
    async def serve(self) -> None:
        """Until `stop` is called."""
        self.runtime.watch(self._process_ended)
        while not self._stopping:
            await self.cycle_now()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), TICK)
            self._wake.clear()
        for task in self._recoveries.values():
            task.cancel()
        await asyncio.gather(*self._recoveries.values(), return_exceptions=True)
        await self._prober.close()

    def stop(self) -> None:
        """End after the current cycle; a recovery under way is broken off and resumed by the next controller."""
        self._stopping = True
        self.wake()

    def wake(self) -> None:
        """Begin the next cycle now."""
        self._wake.set()

    async def cycle(self) -> None:
        """Observe, diagnose, recover, route, report."""
        self.cycles += 1
        self._load()
        self._forget_commands()
        await self._look_after_deaths()
        view = self.view
        self.findings = self._diagnose(view)
        self._recover(view)
        await self._supervise(view)
        if self._heard_all():
            await self.route()
        self.edges.catch_up()
        self._report(self.view)

    async def cycle_now(self) -> None:
        """A whole cycle now, for a command that just changed what should run."""
        async with self._cycling:
            await self.cycle()

    async def operate(self, group: str, finding: Finding, steps: Sequence[Step]) -> dict[str, Any]:
        """Run an operator's steps when no recovery of the group is under way. Raises LampstandError when one is, or
        when a step fails."""
        await self.idle(group)
        begun = time.monotonic()
        failed = await self.begin(group, finding, steps)
        if failed:
            raise LampstandError(f"step `{failed}` failed", finding.subject, "`lampstand events` tells why")
        return {"seconds": round(time.monotonic() - begun, 3), "primaries": dict(self.memory.primaries)}

    async def idle(self, group: str) -> None:
        """Wait until no recovery of the group is under way. Raises LampstandError when that takes too long."""
        until = time.monotonic() + PATIENCE
        while (busy := self.busy(group)) is not None:
            if time.monotonic() > until:
                raise LampstandError(
                    f"a recovery is under way: {busy.get_name()}", group, "wait for it to end"
                )
            await asyncio.wait([busy], timeout=1.0)

    def _load(self) -> None:
        topology = self.runtime.load()
        if topology is not None and topology is not self.topology:
            self.topology = topology
            self._prober.follow(topology)
        before, self._seen = self._seen, self.runtime.observe()
        for name, seen in self._seen.items():
            old = before.get(name)
            if (
                old
                and seen.state is State.RUNNING
                and [p.pid for p in old.processes] != [p.pid for p in seen.processes]
            ):
                self.judge.started(
                    name, time.time()
                )  # what was heard of the processes before says nothing now

    def _forget_commands(self) -> None:
        """What a command that was killed asked for, and nobody will take back: the servers it held get requests again
        as soon as they are well, and its canary gets nobody, because nobody compares any more."""
        held = {n: why for n, why in self.memory.held.items() if why not in OF_COMMANDS}
        canary = self.memory.intents.get(CANARY)
        stale = canary is not None and canary["percent"] != "0"
        if (held == self.memory.held and not stale) or not self.runtime.may_supervise():
            return
        intents = dict(self.memory.intents)
        if canary is not None and stale:
            intents[CANARY] = {**canary, "percent": "0"}
        self.remember(held=held, intents=intents)

    async def _look_after_deaths(self) -> None:
        """When a server of a group died, hear its companions before judging: what they lost tells what it was."""
        died, self._died = self._died, set()
        now = time.time()
        for name, seen in self._seen.items():
            if seen.state in (State.STOPPED, State.MISSING) and self.judge.gone(name, now):
                died.add(name)
        kinds = {self.topology.by_name[n].kind for n in died if n in self.topology.by_name} & set(GROUPED)
        if kinds:
            mine = [i for i in self.topology.instances if i.kind in kinds]
            # The dead are not asked: where a server takes its address with it, nobody refuses and asking takes long.
            down = [i for i in mine if self._state(i.name) in (State.STOPPED, State.MISSING)]
            for instance in down:
                self._heard(instance, silence(instance.kind))
            await self._prober.ask_now([i for i in mine if i not in down])
            self._seen = self.runtime.observe()

    def _state(self, name: str) -> State:
        seen = self._seen.get(name)
        return seen.state if seen else State.MISSING

    def _diagnose(self, view: View) -> tuple[Finding, ...]:
        found = [f for p in PROBLEMS for f in p.matches(view)]
        order = {p.code: p.priority for p in PROBLEMS}
        return tuple(sorted(found, key=lambda f: (order[f.code], f.subject)))

    # -- recoveries --------------------------------------------------------------------------------------------------
    def _recover(self, view: View) -> None:
        by_code = {p.code: p for p in PROBLEMS}
        for finding in self.findings:
            problem = by_code[finding.code]
            group = problem.group or finding.subject
            key = (finding.code, finding.subject)
            if problem.recover is None or group in self._recoveries:
                continue
            if time.monotonic() < self._not_before.get(key, 0.0):
                continue
            steps = problem.recover(view, finding)
            if steps:
                self.begin(group, finding, steps)

    def begin(self, group: str, finding: Finding, steps: Sequence[Step]) -> asyncio.Task[str]:
        """Start a recovery (or an operator's step list); one at a time for each group."""
        task = asyncio.create_task(
            self._run_steps(group, finding, steps), name=f"{finding.code}:{finding.subject}"
        )
        self._recoveries[group] = task

        def done(_: asyncio.Task[str]) -> None:
            self._recoveries.pop(group, None)
            self.wake()

        task.add_done_callback(done)
        return task

    def busy(self, group: str) -> asyncio.Task[str] | None:
        """The recovery under way in a group."""
        return self._recoveries.get(group)

    async def _run_steps(self, group: str, finding: Finding, steps: Sequence[Step]) -> str:
        """The name of the step that failed, empty when all are done. Ends with fresh facts of the whole group, so that
        what was just mended is not seen again in old ones."""
        try:
            return await self._step_by_step(finding, steps)
        finally:
            await self.refresh(*(i.name for i in self.topology.instances if group in (i.kind, i.name)))

    async def _step_by_step(self, finding: Finding, steps: Sequence[Step]) -> str:
        key = (finding.code, finding.subject)
        begun = time.monotonic()
        self.event(finding.code, finding.subject, "begin", finding.sentence)
        for step in steps:
            for attempt in range(1, step.attempts + 1):
                started = time.monotonic()
                try:
                    await asyncio.wait_for(step.run(self), step.deadline)
                except (LampstandError, TimeoutError, OSError) as error:
                    why = str(error) or f"not done within {step.deadline:g} s"
                    self.event(finding.code, finding.subject, step.name, "failed", why=why, attempt=attempt)
                    log.warning("%s %s: step %s failed: %s", finding.code, finding.subject, step.name, why)
                    if attempt == step.attempts:
                        failures = self._failures.get(key, 0) + 1
                        self._failures[key] = failures
                        self._not_before[key] = time.monotonic() + min(30.0, 0.25 * 2**failures)
                        self.event(finding.code, finding.subject, "end", "failed")
                        return step.name
                else:
                    took = round(time.monotonic() - started, 4)
                    self.event(finding.code, finding.subject, step.name, "done", seconds=took)
                    break
        self._failures.pop(key, None)
        self._not_before.pop(key, None)
        self.event(finding.code, finding.subject, "end", "done", seconds=round(time.monotonic() - begun, 4))
        return ""

    # -- supervision (only where nothing else restarts the dead) -------------------------------------------------------
    async def supervise_now(self) -> None:
        """Start what is dead, for a command that holds the lock and has nothing under way itself."""
        async with self._cycling:
            self._seen = self.runtime.observe()
            await self._supervise(self.view, lent=True)

    async def _supervise(self, view: View, *, lent: bool = False) -> None:
        if not self.runtime.supervises or not (lent or self.runtime.may_supervise()):
            return
        for instance in self._supervision.due(view, self._fenced, set(self._recoveries), time.monotonic()):
            self.event("process-ended", instance.name, "restart", "begin")
            try:
                await self.runtime.start(instance)
            except (LampstandError, OSError) as error:
                self.event("process-ended", instance.name, "restart", "failed", why=str(error))
            else:
                self.judge.started(instance.name, time.time())

    def _process_ended(self, name: str) -> None:
        self._died.add(name)
        self.wake()

    # -- probes ------------------------------------------------------------------------------------------------------
    def _heard(self, instance: Instance, facts: Facts | None) -> None:
        self.facts[instance.name] = facts
        if facts is None:
            return
        primary = self._primary_of(instance.kind) == instance.name
        text = complaint(facts, primary=primary, lag_limit=instance.probe.lag_limit)
        if self.judge.hear(instance.name, instance.probe, text, time.time()):
            self.wake()

    def _impatient(self, name: str) -> bool:
        return self.judge.of(name).health in (Health.UNKNOWN, Health.STARTING)

    def _primary_of(self, kind: str) -> str | None:
        return self.memory.primaries.get(kind)

    # -- Hands -------------------------------------------------------------------------------------------------------
    @property
    def view(self) -> View:
        """Everything known now."""
        now = time.time()
        instances: dict[str, ObservedInstance] = {}
        for instance in self.topology.instances:
            seen = self._seen.get(instance.name) or ObservedInstance(
                instance.name, instance.kind, State.MISSING
            )
            instances[instance.name] = self._with_health(instance, seen)
        for name, seen in self._seen.items():
            instances.setdefault(name, seen)
        return View(self.topology, Observed(now, instances), self.memory, now)

    def _with_health(self, instance: Instance, seen: ObservedInstance) -> ObservedInstance:
        role: Role | None = None
        if instance.kind in GROUPED:
            role = "primary" if self._primary_of(instance.kind) == instance.name else "replica"
        restarts = self._supervision.restarts(instance.name, time.monotonic())
        if instance.probe.protocol == "process":
            health = Health.GOOD if seen.state is State.RUNNING else Health.BAD
            return replace(seen, health=health, role=role, restarts=restarts)
        judged = self.judge.of(instance.name)
        return replace(
            seen, health=judged.health, health_since=judged.since or None, health_text=judged.text, role=role,
            restarts=restarts, facts=self.facts.get(instance.name),
        )  # fmt: skip

    async def refresh(self, *instances: str) -> View:
        """Probe the named instances now and return the View after it."""
        await self._prober.ask_now(
            [self.topology.by_name[n] for n in instances if n in self.topology.by_name]
        )
        self._seen = self.runtime.observe()
        return self.view

    async def fence(self, instance: Instance) -> None:
        """Kill and confirm death; it stays down until `start`."""
        self._fenced.add(instance.name)
        await self.runtime.fence(instance)
        self.judge.gone(instance.name, time.time())

    async def start(self, instance: Instance) -> None:
        """Start what does not run. While a command changes the site, only what this controller fenced."""
        if instance.name not in self._fenced and not self.runtime.may_supervise():
            raise LampstandError("a command is changing the site and starts it itself", instance.name)
        await self.runtime.start(instance)
        self._fenced.discard(instance.name)
        self.judge.started(instance.name, time.time())

    async def restart(self, instance: Instance) -> None:
        """Kill what is left and start again."""
        await self.fence(instance)
        await self.start(instance)

    async def clear_data(self, instance: Instance, keep_as: str) -> str:
        """Move the data of a stopped instance aside."""
        return await self.runtime.clear_data(instance, keep_as)

    async def run(self, instance: Instance, argv: Sequence[str], *, deadline: float) -> str:
        """Run a program where the instance lives."""
        return await self.runtime.run(instance, argv, deadline)

    def write_live(self, instance: Instance, file: File) -> None:
        """Replace a live file of an instance."""
        self.runtime.write_live(instance, file)

    def secret(self, name: str) -> str:
        """A generated secret."""
        return self.runtime.secret(name)

    def remember(self, **changes: object) -> None:
        """Replace fields of Memory, durably."""
        self.memory = replace(self.memory, **cast("Any", changes))
        self.journal.write_memory(self.memory)

    def event(self, code: str, subject: str, step: str, outcome: str, **detail: object) -> None:
        """One line in the audit log."""
        self.journal.event(code, subject, step, outcome, detail)

    async def route(self, *, drop_old: bool = False) -> None:
        """Write the route files that differ and have their servers take them; effective when this returns."""
        async with self._routing:
            wanted = routes(self.view)
            changed: list[Instance] = []
            for name, files in wanted.items():
                instance = self.topology.by_name[name]
                if self._seen.get(name) is None:
                    continue
                for file in files:
                    if self.runtime.read_live(file) != file.content:
                        self.runtime.write_live(instance, file)
                        changed.append(instance)
            for name in dict.fromkeys([*(i.name for i in changed), *self._unloaded]):
                await self._reload_routes(name, drop_old)

    async def _reload_routes(self, name: str, drop_old: bool) -> None:
        """One server takes its routes; what it does not take now is tried again in the next cycle."""
        instance = self.topology.by_name.get(name)
        self._unloaded.discard(name)
        if instance is None or self._seen[name].state is not State.RUNNING:
            return
        try:
            # Requests of visitors end by themselves; only sessions with a deposed server must not go on.
            await self.runtime.reload_routes(instance, drop_old and instance.kind == "gateway")
        except (LampstandError, OSError) as error:
            self._unloaded.add(name)
            log.warning("%s does not take its routes: %s", name, error)
        self.event("routes", name, "reload", "failed" if name in self._unloaded else "done")

    def _heard_all(self) -> bool:
        """Whether every server that runs was asked once: a controller that has only just come knows nothing, and the
        routes that are there are better than what it could write."""
        if time.monotonic() - self._begun > FIRST_ROUND:
            return True
        return all(
            i.name in self.facts or i.probe.protocol == "process"
            for i in self.topology.instances
            if (seen := self._seen.get(i.name)) and seen.state is State.RUNNING
        )

    # -- reporting ---------------------------------------------------------------------------------------------------
    def _report(self, view: View) -> None:
        sentence = describe(view, self.findings, tuple(t.get_name() for t in self._recoveries.values()))
        if sentence != self.sentence:
            log.info("%s", sentence)
        self.sentence = sentence
        self.journal.publish(self.status(view))

    def status(self, view: View | None = None) -> dict[str, Any]:
        """The document that `status --json` prints (its `controller` part)."""
        view = view or self.view
        return {
            "version": 1,
            "site": self.topology.site,
            "time": view.now,
            "code": fingerprint(),
            "generation": self.runtime.generation,
            "sentence": self.sentence,
            "primaries": dict(self.memory.primaries),
            "held": dict(self.memory.held),
            "problems": [asdict(f) for f in self.findings],
            "recoveries": [t.get_name() for t in self._recoveries.values()],
            "instances": {name: _plain(seen) for name, seen in view.observed.instances.items()},
        }


def _plain(value: object) -> object:
    """`dataclasses.asdict` without its copies: this is done every second."""
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return [_plain(v) for v in cast("tuple[object, ...]", value)] if isinstance(value, tuple) else value


def describe(view: View, findings: Sequence[Finding], recoveries: Sequence[str]) -> str:
    """One human sentence about the site."""
    if recoveries:
        return "mending: " + "; ".join(f.sentence for f in findings[:3]) if findings else "mending"
    if findings:
        return "; ".join(f.sentence for f in findings[:3])
    ill = [
        i
        for i in view.observed.instances.values()
        if i.name in view.topology.by_name and i.health is not Health.GOOD
    ]
    starting = [i.name for i in ill if i.health in (Health.UNKNOWN, Health.STARTING)]
    bad = [f"{i.name} {i.health_text or 'is not well'}" for i in ill if i.health is Health.BAD]
    if bad:
        return "; ".join(bad[:3])
    if starting:
        return f"waiting for {', '.join(starting[:4])}" + (
            f" and {len(starting) - 4} more" if len(starting) > 4 else ""
        )
    counts = dict.fromkeys(dict.fromkeys(i.kind for i in view.topology.instances), 0)
    for instance in view.topology.instances:
        counts[instance.kind] += 1
    primary = view.memory.primaries.get("database")
    return f"all well: {', '.join(f'{n} {kind}' for kind, n in counts.items())}" + (
        f"; {primary} is the primary" if primary else ""
    )


def problem(code: str) -> Problem | None:
    """A row of the table by its code."""
    return next((p for p in PROBLEMS if p.code == code), None)
