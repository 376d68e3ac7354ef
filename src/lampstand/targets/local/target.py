"""The local target: processes on this machine, reconciled by Lampstand itself."""

import asyncio
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lampstand.code import fingerprint
from lampstand.engines import Engines
from lampstand.errors import LampstandError
from lampstand.files import write_text
from lampstand.observed import Observed, State
from lampstand.plan import Action, Plan, Verb
from lampstand.targets.base import Report
from lampstand.targets.local import processes
from lampstand.targets.local.client import ControllerClient
from lampstand.targets.local.desired import Desired, keep_ports, load_ports
from lampstand.targets.local.folder import StateFolder
from lampstand.targets.local.ports import Ports, is_free
from lampstand.targets.local.supervisor import Supervisor, stopped_first
from lampstand.targets.status import with_health
from lampstand.targets.waiting import ROUTED, SWITCHOVER_WITHIN, settled, well_again
from lampstand.topology import Instance, Process, Topology, expand

CONTROLLER_ENDS = 10.0
"""Seconds that the controller gets to finish its cycle."""


class LocalTarget:
    """One site on this machine."""

    name = "local"

    def __init__(self, folder: StateFolder, engines: Engines) -> None:
        self.folder = folder
        self.engines = engines
        self.supervisor = Supervisor(folder)
        self.controller = ControllerClient(folder)

    # -- looking -----------------------------------------------------------------------------------------------------
    async def observe(self) -> Observed:
        """Processes from /proc, health and roles from what a living controller published."""
        seen = self.supervisor.observe_all()
        status = self.controller.status() if self.controller.running() else {}
        known: Mapping[str, Any] = status.get("instances", {})
        return Observed(
            time.time(), {name: with_health(found, known.get(name)) for name, found in seen.items()}
        )

    def expand(self, desired: Desired) -> tuple[Topology, Ports]:
        """The topology of a wish, with the ports it uses. A kept port that a stranger took is replaced, unless the
        site file fixes it: then LampstandError says so."""
        ports = load_ports(self.folder, desired.site)
        topology = expand(desired.context(self.folder, ports, self.engines))
        replaced = False
        for instance in topology.instances:
            seen = self.supervisor.observe(instance.name)
            if seen is not None and seen.state is not State.STOPPED:
                continue
            for endpoint in instance.endpoints:
                if endpoint.port == 0 or is_free("127.0.0.1", endpoint.port):
                    continue
                key = f"{instance.name}/{endpoint.name}"
                if key in ports.fixed:
                    raise LampstandError(
                        f"port {endpoint.port} is in use by another program",
                        f"targets.local.ports {instance.name}",
                        "free it, or choose another port in the site file",
                    )
                ports.replace(key)
                replaced = True
        if replaced:
            topology = expand(desired.context(self.folder, ports, self.engines))
        return topology, ports

    # -- changing ----------------------------------------------------------------------------------------------------
    async def want(self, desired: Desired, ports: Ports) -> Desired:
        """Make a wish the one that the controller follows, and have a controller running."""
        keep_ports(self.folder, ports)
        written = desired.write(self.folder)
        await self.ensure_controller()
        return written

    async def ensure_controller(self) -> None:
        """Start the controller when none runs, and replace one that runs other code than this: that stops nothing."""
        record, kept = self.controller.record, self.folder.root / "controller.code"
        if record.find():
            if kept.exists() and kept.read_text() == fingerprint():
                return
            await processes.stop(record, signal.SIGTERM, CONTROLLER_ENDS)
        argv = (sys.executable, "-I", "-m", "lampstand.controller", "--state", str(self.folder.root))
        process = Process("controller", argv, account="root")
        write_text(kept, fingerprint())
        await processes.spawn(record, process, self.folder.root / "controller.log")

    async def apply(self, plan: Plan, topology: Topology, report: Report) -> None:
        """Execute the waves of a plan."""
        for wave in plan.waves:
            outcomes = await asyncio.gather(
                *(self._execute(action, topology, report) for action in wave), return_exceptions=True
            )
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome

    async def _execute(self, action: Action, topology: Topology, report: Report) -> None:
        report(action, "begin")
        instance = topology.by_name.get(action.instance)
        try:
            match action.verb:
                case Verb.CREATE | Verb.START:
                    await self.supervisor.create(_present(instance, action))
                case Verb.RELOAD:
                    await self._reload(_present(instance, action))
                case Verb.RESTART:
                    await self._out_of_the_routes(_present(instance, action), restart=True)
                case Verb.SWITCHOVER:
                    await settled(self.controller, action.kind)
                    await asyncio.to_thread(
                        self.controller.post, "switchover", SWITCHOVER_WITHIN, kind=action.kind, to=None
                    )
                case Verb.REMOVE:
                    await self._remove(action.instance)
                case Verb.STOP:
                    await self.supervisor.stop(action.instance)
        except (LampstandError, OSError) as error:
            report(action, str(error))
            raise
        report(action, "done")

    async def _reload(self, instance: Instance) -> None:
        """nginx and Varnish take their files while they serve. An application server may drop the connection it has
        just taken (gunicorn's ASGI workers do), so a web server is out of the routes meanwhile."""
        if instance.kind == "web":
            await self._out_of_the_routes(instance, restart=False)
        else:
            await self.supervisor.change(instance, restart=False)

    async def _out_of_the_routes(self, instance: Instance, *, restart: bool) -> None:
        routed = instance.kind in ROUTED
        if routed:
            await settled(self.controller, instance.kind)
            await asyncio.to_thread(self.controller.post, "hold", instance=instance.name, reason="change")
        try:
            await self.supervisor.change(instance, restart=restart)
            await self.wait_healthy(instance)
        finally:
            if routed:
                await asyncio.to_thread(self.controller.post, "release", instance=instance.name)

    async def _remove(self, name: str) -> None:
        # The controller follows the new topology already: no new request reaches what is not in it.
        await self.controller.ready()
        await asyncio.to_thread(self.controller.post, "wake")
        await self.supervisor.stop(name)
        self.supervisor.forget(name)
        ports = Ports(self.folder.read_json(self.folder.root / "ports.json"), {}, str(self.folder.root))
        ports.forget(name)
        keep_ports(self.folder, ports)

    async def wait_healthy(self, instance: Instance, deadline: float = 60.0) -> None:
        """Wait until the controller calls the process that runs now well. Raises TimedOutError."""
        seen = self.supervisor.observe(instance.name)
        pids = {p.name: p.pid for p in seen.processes} if seen else {}
        await well_again(self.controller, instance, pids, deadline)

    async def stop(self, report: Report) -> list[str]:
        """Stop the controller, then everything: what visitors reach first, data last. Returns what was stopped."""
        await processes.stop(self.controller.record, signal.SIGTERM, CONTROLLER_ENDS)
        seen = self.supervisor.observe_all()
        running = [n for n, s in seen.items() if s.state is not State.STOPPED]
        kinds = {n: s.kind for n, s in seen.items()}
        for group in stopped_first(running, kinds):

            async def one(name: str) -> None:
                action = Action(Verb.STOP, name, kinds[name], "down")
                report(action, "begin")
                await self.supervisor.stop(name)
                report(action, "done")

            await asyncio.gather(*(one(name) for name in group))
        return running

    def data_folders(self) -> list[Path]:
        """Everything that `down --delete-data` would delete: what the user may miss."""
        root = self.folder.root
        found = [p for p in sorted(self.folder.instances.glob("*/data*")) if any(p.iterdir())]
        return [*found, *(p for p in (root / "uploads", root / "releases") if p.is_dir())]


def _present(instance: Instance | None, action: Action) -> Instance:
    if instance is None:
        raise LampstandError("the plan names a server that the site does not have", action.instance)
    return instance
