"""Carries a roll out on this machine: what `releases.roll` planned, wave by wave, and back where it goes wrong."""

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import Any

from lampstand.controller.health import complaint
from lampstand.controller.probing import ask_http
from lampstand.controller.routes import CANARY
from lampstand.errors import LampstandError, TimedOutError
from lampstand.observed import Observed, State
from lampstand.plan import Action, Plan, Verb, plan
from lampstand.releases.roll import FOLLOWERS, STARTING, Stage, admitted, rolled, stages, stand_ins, surge_of
from lampstand.releases.watch import Trial, Watch
from lampstand.site import Web
from lampstand.targets.base import Progress
from lampstand.targets.local.client import UnreachableError
from lampstand.targets.local.connections import connections
from lampstand.targets.local.desired import Desired, keep_ports
from lampstand.targets.local.ports import Ports
from lampstand.targets.local.target import LocalTarget
from lampstand.tiers.balancer.reload import workers
from lampstand.topology import Instance, Topology

LOOK = 0.4
"""Seconds that the first new servers serve before more follow: the balancers' logs are a quarter of a second behind."""
GLANCE = 0.1
"""Seconds between two looks."""
READING = 2.0
"""Seconds that old workers of the balancers get for requests that they were still reading when a server was held."""


class Rollout:
    """One change of one site on this machine. The lock is held."""

    def __init__(
        self, target: LocalTarget, progress: Progress, watch: Watch, trial: "Trial | None" = None
    ) -> None:
        self.target = target
        self.progress = progress
        self.watch = watch
        self.trial = trial
        self._followers: list[str] = []
        """Workers and scheduler that were started."""

    # -- planning ----------------------------------------------------------------------------------------------------
    async def planned(self, desired: Desired, web: Web | None = None) -> tuple[Plan, int, Observed]:
        """The plan that leads to a wish, as a roll; how many servers stand in; and what was observed."""
        web = web or desired.site.web
        observed = await self.target.observe()
        direct = plan(self.target.expand(desired)[0], observed)
        surge = surge_of(direct, web)
        if not any(o.state is State.RUNNING for o in observed.of_kind("web")):
            return direct, 0, observed  # nobody is served, so nothing need be gentle
        wide = plan(self.target.expand(replace(desired, surge=surge))[0], observed) if surge else direct
        return rolled(wide, web, surge), surge, observed

    # -- carrying out ------------------------------------------------------------------------------------------------
    async def carry_out(self, desired: Desired, steps: Plan, surge: int, observed: Observed) -> None:
        """Every wave of a planned roll. Raises LampstandError at the first thing that goes wrong, TakenBackError where
        that is the new release's fault."""
        web = desired.site.web
        extra, looked = stand_ins(web, surge), False
        for stage in stages(steps, observed, desired.release, web, surge):
            if any(a.instance in extra and a.verb is Verb.REMOVE for a in stage.actions):
                await self.look(LOOK)  # while those that stand in are still there
            topology = await self.wish(replace(desired, releases=stage.releases, surge=stage.surge))
            await self._wave(stage, topology)
            self._followers += [
                a.instance for a in stage.actions if a.kind in FOLLOWERS and a.verb in STARTING
            ]
            if admitted(stage) and self.watch.canary and self.trial:
                await self.compare(self.trial)
            elif admitted(stage):
                await self.look(GLANCE if looked else LOOK)
                looked = True

    async def wish(self, desired: Desired) -> Topology:
        """Make a wish the controller's, effective when this returns."""
        topology, ports = self.target.expand(desired)
        await self.target.want(desired, ports)
        await self.ask("wake")
        return topology

    async def compare(self, trial: "Trial") -> None:
        """Let the new release be a canary for its time, then have it treated as the old one is."""
        self.watch.moment("", trial.sentence)
        self.progress.say(trial.sentence)
        with trial.sides():
            await self.look(trial.seconds, times=True)
        self.watch.canary = None
        await self.ask("intend", intent=CANARY, facts=None)
        self.watch.moment("", "promoted")

    async def look(self, seconds: float, *, times: bool = False) -> None:
        """Watch for a while, and have the controller start what is dead meanwhile. Raises TakenBackError."""
        end = time.monotonic() + (0.0 if self.watch.lenient else seconds)
        while not self.watch.lenient:
            status = self.target.controller.status()
            self.watch.check(status, times=times)
            for name in self._followers:
                seen = self.target.supervisor.observe(name)
                if seen is None or seen.state is not State.RUNNING:
                    raise LampstandError("ended soon after it was started", name, f"`lampstand logs {name}`")
            if time.monotonic() >= end:
                return
            if any(
                i["state"] in (State.STOPPED, State.PARTIAL) for i in status.get("instances", {}).values()
            ):
                await self.ask("supervise")
            await asyncio.sleep(min(GLANCE, max(0.0, end - time.monotonic())))

    async def _wave(self, stage: Stage, topology: Topology) -> None:
        """All of a wave; what fails does not break off the others half-way."""
        outcomes = await asyncio.gather(
            *(self._execute(action, topology) for action in stage.actions), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _execute(self, action: Action, topology: Topology) -> None:
        if action.kind != "web" or action.verb is Verb.RELOAD:
            await self.target.apply(Plan(((action,),)), topology, self.progress.action)
            return
        self.progress.action(action, "begin")
        try:
            if action.verb is Verb.REMOVE:
                await self._retire(action.instance)
            else:
                await self._bring_in(action, topology.by_name[action.instance])
        except (LampstandError, OSError) as error:
            self.progress.action(action, str(error))
            raise
        self.progress.action(action, "done")

    async def _bring_in(self, action: Action, instance: Instance) -> None:
        """Start a server, or replace the one of its name, and let it in when it is well."""
        name = instance.name
        await self.ask("hold", instance=name, reason="roll")
        self.watch.moment(name, "held")
        if action.verb is Verb.RESTART:
            idle = await self.drain(name)
            self.watch.moment(name, "drained")
            await self.target.supervisor.change(instance, restart=True, idle=idle)
        else:
            await self.target.supervisor.create(instance)
        self.watch.moment(name, f"started on {instance.release}")
        await self.checked(instance)
        self.watch.serves(instance.endpoint("http").address, name, instance.release or "")
        await self.ask("intend", intent=CANARY, facts=self.watch.canary)
        await self.ask("release", instance=name)
        self.watch.moment(name, "let in")

    async def _retire(self, name: str) -> None:
        """The wish has no such server any more, so no new request reaches it: finish, stop, forget."""
        self.watch.gone(name)
        idle = await self.drain(name)
        self.watch.moment(name, "drained")
        await self.target.supervisor.stop(name, idle=idle)
        self.target.supervisor.forget(name)
        await self.ask("release", instance=name)
        ports = Ports(
            self.target.folder.read_json(self.target.folder.root / "ports.json"),
            {},
            str(self.target.folder.root),
        )
        ports.forget(name)
        keep_ports(self.target.folder, ports)
        self.watch.moment(name, "removed")

    async def drain(self, name: str) -> bool:
        """Wait until a server that gets no new requests has none left, at most `web.drain_seconds`; whether it has
        none.

        Old workers of the balancers may send it what they were still reading when it was held: they get a moment, and
        the server stays there for them.
        """
        site = Desired.read(self.target.folder).site
        ports = Ports(self.target.folder.read_json(self.target.folder.root / "ports.json"), {}, "")
        port = ports.kept.get(f"{name}/http")
        begun = time.monotonic()
        while time.monotonic() < begun + site.web.drain_seconds:
            idle = port is None or connections(port) == 0
            if idle and (time.monotonic() > begun + READING or not self._leaving()):
                return True
            await asyncio.sleep(0.02)
        return False

    def _leaving(self) -> bool:
        """Whether an old worker of a balancer still finishes something."""
        for name in self.target.supervisor.names():
            if name.startswith("balancer-"):
                found = self.target.supervisor.process_record(name, "nginx").find()
                if found and workers(found.pid).leaving:
                    return True
        return False

    async def checked(self, instance: Instance) -> None:
        """Wait until a server has answered its health path well `deploy.checks` times in a row.

        Raises LampstandError when its process ends, TimedOutError when it is not well within `app.start_timeout`.
        """
        site = Desired.read(self.target.folder).site
        probe, good, text = instance.probe, 0, "does not answer"
        until = time.monotonic() + site.app.start_timeout
        while good < site.deploy.checks:
            seen = self.target.supervisor.observe(instance.name)
            if seen is None or seen.state is not State.RUNNING:
                raise LampstandError(f"ended while it started:\n{self.last_words(instance)}", instance.name)
            endpoint = instance.endpoint(probe.endpoint)
            facts = await asyncio.to_thread(
                ask_http, endpoint, probe.path, {"Host": probe.host}, probe.timeout
            )
            text = complaint(facts, primary=False, lag_limit=0.0)
            good = 0 if text else good + 1
            if time.monotonic() > until and good < site.deploy.checks:
                raise TimedOutError(f"not well within {site.app.start_timeout:g} s: {text}", instance.name)
            await asyncio.sleep(0.05)
        await self.ask("look", instance=instance.name)
        await self.target.wait_healthy(instance, max(1.0, until - time.monotonic()))

    def last_words(self, instance: Instance) -> str:
        """The end of what its processes said."""
        home = self.target.supervisor.home(instance.name)
        lines: list[str] = []
        for process in instance.processes:
            with contextlib.suppress(OSError):
                lines += (home / f"{process.name}.log").read_text(errors="replace").splitlines()[-6:]
        return "\n".join(f"  {line}" for line in lines)

    # -- the controller ----------------------------------------------------------------------------------------------
    async def ask(self, operation: str, **arguments: object) -> dict[str, Any]:
        """Ask the controller; one that died meanwhile is replaced first."""
        for _ in range(3):
            try:
                return await asyncio.to_thread(self.target.controller.post, operation, 30.0, **arguments)
            except UnreachableError:
                await self.target.ensure_controller()
                await self.target.controller.ready()
        return await asyncio.to_thread(self.target.controller.post, operation, 30.0, **arguments)
