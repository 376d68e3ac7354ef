"""One site on this machine's Docker Engine: reads what runs, and executes plans through Compose."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lampstand.errors import LampstandError
from lampstand.observed import Observed, State
from lampstand.plan import Action, Plan, Verb
from lampstand.targets.base import Report
from lampstand.targets.docker import control
from lampstand.targets.docker.compose import (
    LABEL,
    Project,
    compose,
    compose_text,
    container_name,
    engine_configuration,
    image_of,
)
from lampstand.targets.docker.containers import observed
from lampstand.targets.docker.controller import DockerController
from lampstand.targets.docker.description import description_file
from lampstand.targets.docker.engine import DockerCli
from lampstand.targets.docker.tree import ProjectFolder
from lampstand.targets.status import with_health
from lampstand.targets.waiting import ROUTED, SWITCHOVER_WITHIN, settled, well_again
from lampstand.topology import File, Instance, Topology

START_SECONDS = 300.0
STOP_SECONDS = 300.0
WELL_WITHIN = 90.0
"""Seconds that a server that was made anew has, but for the application, which has its own (`app.start_timeout`)."""


class DockerTarget:
    """Reads and changes the containers of one project."""

    name = "docker"

    def __init__(self, folder: ProjectFolder, cli: DockerCli) -> None:
        self.folder = folder
        self.cli = cli
        self.controller = DockerController(folder, container_name(cli.project, "controller"))

    # -- looking -----------------------------------------------------------------------------------------------------
    async def observe(self) -> Observed:
        """Containers as Docker knows them; health and roles from what a living controller published."""
        return await asyncio.to_thread(self.look)

    def look(self) -> Observed:
        """The same, waiting for Docker."""
        return self._observed(self.cli.containers())

    def _observed(self, documents: Sequence[Mapping[str, Any]]) -> Observed:
        seen = observed(documents, self.folder.applied())
        status = self.controller.status() if self.controller.running() else {}
        known: Mapping[str, Any] = status.get("instances", {})
        return Observed(time.time(), {n: with_health(found, known.get(n)) for n, found in seen.items()})

    async def compare(self, topology: Topology, project: Project) -> Observed:
        """`observe`, with the hash of every container that Compose would make anew taken away."""
        documents = await asyncio.to_thread(self.cli.containers)
        found = self._observed(documents)
        services = compose(topology, project)["services"]
        hashes = {
            d["Config"]["Labels"].get(f"{LABEL}.instance", ""): d["Config"]["Labels"].get(
                f"{LABEL}.service-hash"
            )
            for d in documents
        }
        return Observed(
            found.taken,
            {
                name: seen
                if name not in services or services[name]["labels"][f"{LABEL}.service-hash"] == hashes[name]
                else replace(seen, restart_hash="")
                for name, seen in found.instances.items()
            },
        )

    # -- changing ----------------------------------------------------------------------------------------------------
    def write_project(self, topology: Topology, project: Project, everything: bool) -> list[str]:
        """Write the project; `everything` also every server's files. Returns what was written."""
        self.folder.create()
        (self.folder.root / "compose.yaml").write_text(compose_text(topology, project))
        names = [*topology.by_name]
        self.folder.write(File("/etc/lampstand/engine/nginx.conf", engine_configuration(project.name, names)))
        written = ["compose.yaml", "etc/engine/nginx.conf"]
        if everything:
            for instance in topology.instances:
                written += [
                    str(path.relative_to(self.folder.root))
                    for path in self.folder.write_server(instance, project.site)
                ]
                self.folder.remember(instance.name, instance.config_hash)
        return written

    def write_release_step(self, instance: Instance) -> None:
        """The description of the one-off container."""
        self.folder.write(description_file(instance))

    async def ensure_controller(self) -> None:
        """The controller and its way to Docker run as the project has them now."""
        await self.cli.run(
            self.cli.compose("up", "--detach", "--no-deps", "engine", "controller"), deadline=START_SECONDS
        )

    async def apply(self, plan: Plan, topology: Topology, project: Project, report: Report) -> None:
        """Execute the waves of a plan: what starts, with one call of Compose; what changes, one after the other."""
        for wave in plan.waves:
            starting = [a for a in wave if a.verb in (Verb.CREATE, Verb.START)]
            if starting:
                await self._start(starting, topology, project, report)
            others = [a for a in wave if a not in starting]
            outcomes = await asyncio.gather(
                *(self._execute(action, topology, project, report) for action in others),
                return_exceptions=True,
            )
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome

    async def _start(
        self, actions: Sequence[Action], topology: Topology, project: Project, report: Report
    ) -> None:
        for action in actions:
            report(action, "begin")
            instance = _present(topology.by_name.get(action.instance), action)
            self.folder.write_server(instance, project.site)
            self.folder.remember(instance.name, instance.config_hash)
        try:
            await self._compose_up(*(a.instance for a in actions))
        except LampstandError as error:
            report(actions[0], str(error))
            raise
        for action in actions:
            report(action, "done")

    async def _compose_up(self, *names: str) -> None:
        await self.cli.run(self.cli.compose("up", "--detach", "--no-deps", *names), deadline=START_SECONDS)

    async def _execute(self, action: Action, topology: Topology, project: Project, report: Report) -> None:
        report(action, "begin")
        instance = topology.by_name.get(action.instance)
        try:
            match action.verb:
                case Verb.RELOAD:
                    await self._reload(_present(instance, action), project)
                case Verb.RESTART:
                    await self._restart(_present(instance, action), project)
                case Verb.SWITCHOVER:
                    await settled(self.controller, action.kind)
                    await asyncio.to_thread(
                        self.controller.post, "switchover", SWITCHOVER_WITHIN, kind=action.kind, to=None
                    )
                case Verb.REMOVE:
                    await self._remove(action.instance)
                case _:
                    await self.cli.run(self.cli.compose("stop", action.instance), deadline=STOP_SECONDS)
        except (LampstandError, OSError) as error:
            report(action, str(error))
            raise
        report(action, "done")

    async def _reload(self, instance: Instance, project: Project) -> None:
        await self._write_checked(instance, project)
        await control.ask(self.folder.control / instance.name, "reload", (), 30.0)
        self.folder.remember(instance.name, instance.config_hash)

    async def _write_checked(self, instance: Instance, project: Project) -> None:
        """The engine's own checker decides first, where the same image runs; when it refuses, the old files are put
        back."""
        runs = await asyncio.to_thread(self._runs, instance.name, image_of(instance, project))
        previous = self.folder.write_server(instance, project.site)
        try:
            for process in instance.processes:
                if process.check and runs:
                    await control.ask(self.folder.control / instance.name, "run", process.check, 30.0)
        except LampstandError:
            self.folder.put_back(previous)
            raise

    async def _restart(self, instance: Instance, project: Project) -> None:
        routed = instance.kind in ROUTED
        if routed:
            await settled(self.controller, instance.kind)
            await asyncio.to_thread(self.controller.post, "hold", instance=instance.name, reason="restart")
        try:
            await self._write_checked(instance, project)
            await self.cli.run(
                self.cli.compose("up", "--detach", "--no-deps", "--force-recreate", instance.name),
                deadline=START_SECONDS,
            )
            self.folder.remember(instance.name, instance.config_hash)
            await self.until_well(
                instance, project.site.app.start_timeout if instance.kind == "web" else WELL_WITHIN
            )
        finally:
            if routed:
                await asyncio.to_thread(self.controller.post, "release", instance=instance.name)

    def _runs(self, name: str, image: str) -> bool:
        """Whether the server's container runs that image."""
        return any(
            d["Config"]["Image"] == image and d["State"]["Status"] == "running"
            for d in self.cli.containers()
            if d["Config"]["Labels"].get(f"{LABEL}.instance") == name
        )

    async def until_well(self, instance: Instance, deadline: float) -> None:
        """Wait until the controller calls the container that runs now well. Raises TimedOutError."""
        seen = (await self.observe()).instances[instance.name]
        await well_again(self.controller, instance, {p.name: p.pid for p in seen.processes}, deadline)

    async def _remove(self, name: str) -> None:
        # The controller follows the new topology already: no new request reaches what is not in it.
        await self.controller.ready()
        await asyncio.to_thread(self.controller.post, "wake")
        await self.cli.run(("docker", "stop", container_name(self.cli.project, name)), deadline=STOP_SECONDS)
        await self.cli.run(("docker", "rm", container_name(self.cli.project, name)))
        self.folder.forget(name)

    async def down(self, report: Report, volumes: bool = False) -> list[str]:
        """Stop and remove the containers; volumes stay unless asked. Returns what ran."""
        seen = (await self.observe()).instances
        running = [n for n, s in seen.items() if s.state is not State.STOPPED]
        actions = [Action(Verb.STOP, n, seen[n].kind, "down") for n in running]
        for action in actions:
            report(action, "begin")
        await self.cli.run(
            self.cli.compose(
                "--profile", "*", "down", "--remove-orphans", *(["--volumes"] if volumes else [])
            ),
            deadline=STOP_SECONDS,
        )
        for action in actions:
            report(action, "done")
        return running


def _present(instance: Instance | None, action: Action) -> Instance:
    if instance is None:
        raise LampstandError("the plan names a server that the site does not have", action.instance)
    return instance
