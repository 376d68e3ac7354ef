"""What the controller, as a container of the project, needs of Docker: death notices, fencing, routes."""

import asyncio
import contextlib
import http.client
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lampstand.errors import LampstandError
from lampstand.files import write_text
from lampstand.observed import ObservedInstance, State
from lampstand.targets.docker import control
from lampstand.targets.docker.api import EngineApi
from lampstand.targets.docker.compose import LABEL, container_name
from lampstand.targets.docker.containers import OWN, observed
from lampstand.targets.docker.tree import HOLD, ProjectFolder
from lampstand.targets.local.desired import Desired
from lampstand.topology import File, Instance, Topology

LOOK = 2.0
"""Seconds between two looks at all containers; what happens to one in between is an event."""
DEATH = 10.0
"""Seconds within which a killed container must be dead."""
DOUBT = 0.1
"""Seconds after which the neighbours of a dead container no longer believe that it is there (compose._neighbours, half
as much again at most). Whoever connects before that sends into the void, and tries again only after a second: a replica
that stops receiving, for one, tells its primary so."""
LISTENING = 15.0
"""Seconds within which a started container's first process must answer."""

log = logging.getLogger("lampstand.controller")


class DockerRuntime:
    """Implements `targets.base.Runtime`."""

    supervises = True
    """Docker restarts what crashed and nobody killed; the rest is the controller's, servers with a role above all."""

    def __init__(self, folder: ProjectFolder, project: str, api: EngineApi) -> None:
        self.folder = folder
        self.project = project
        self.api = api
        self.generation = 0
        self._topology: Topology | None = None
        self._stamp: tuple[int, int] = (0, 0)
        self._secrets = folder.state.secrets()
        self._documents: dict[str, dict[str, Any]] = {}
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._locks: dict[str, asyncio.Lock] = {}

    # -- looking -----------------------------------------------------------------------------------------------------
    def load(self) -> Topology | None:
        """The topology of `desired.json`; expanded anew when that file changed."""
        try:
            found = self.folder.state.desired.stat()
        except FileNotFoundError:
            return None
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp != self._stamp:
            desired = Desired.read(self.folder.state)
            self._topology = self.folder.topology(desired, self.project)
            self.generation, self._stamp = desired.generation, stamp
        return self._topology

    def observe(self) -> Mapping[str, ObservedInstance]:
        """As it was at the last look or event; asks nobody, because Docker may be slow when the machine is busy."""
        with self._lock:
            return observed(self._documents.values(), self.folder.applied(), tuple(self._held))

    def watch(self, wake: Callable[[str], None]) -> None:
        """`wake(instance)` is called when something happened to its container."""
        loop = asyncio.get_running_loop()
        prefix = container_name(self.project, "")

        def heard(name: str) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(wake, name.removeprefix(prefix))

        self._first_look()
        for target in (self._follow_events, self._look_now_and_then):
            threading.Thread(target=target, args=(heard,), daemon=True, name=target.__name__).start()

    def _first_look(self) -> None:
        """Nothing is decided before it is known what runs; `engine` may be starting still."""
        end = time.monotonic() + LISTENING
        while True:
            try:
                self.look()
            except LampstandError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
            else:
                return

    def look(self) -> list[str]:
        """Look at all containers; those that changed are inspected. Returns their names."""
        seen = {
            str(c["Names"][0]).lstrip("/"): (c["Id"], c["State"])
            for c in self.api.containers()
            if c["Labels"].get(f"{LABEL}.instance", OWN[0]) not in OWN
        }
        with self._lock:
            known = {n: (d["Id"], d["State"]["Status"]) for n, d in self._documents.items()}
        changed = [name for name, value in seen.items() if known.get(name) != value]
        for name in changed:
            self._inspect(name)
        gone = known.keys() - seen.keys()
        with self._lock:
            for name in gone:
                self._documents.pop(name, None)
        return [*changed, *gone]

    def _inspect(self, name: str) -> None:
        document = self.api.inspect(name)
        with self._lock:
            if document is None:
                self._documents.pop(name, None)
            else:
                self._documents[name] = document

    def _follow_events(self, heard: Callable[[str], None]) -> None:
        while True:
            with contextlib.suppress(LampstandError, OSError, http.client.HTTPException, ValueError):
                for event in self.api.events():
                    name = str(event.get("Actor", {}).get("Attributes", {}).get("name", ""))
                    if event.get("Type") == "container" and event.get("Action") in _ACTIONS:
                        self._inspect(name)
                        heard(name)
            time.sleep(0.5)  # the connection ended: `engine` was started anew

    def _look_now_and_then(self, heard: Callable[[str], None]) -> None:
        complained = False
        while True:
            try:
                for name in self.look():
                    heard(name)
                complained = False
            except (LampstandError, http.client.HTTPException, ValueError) as error:
                if not complained:
                    log.warning("%s", error)
                complained = True
            time.sleep(LOOK)

    def may_supervise(self) -> bool:
        """Whether no command holds the project's lock."""
        return not self.folder.state.locked()

    # -- changing ----------------------------------------------------------------------------------------------------
    async def fence(self, instance: Instance) -> None:
        """SIGKILL, with which all processes of the container end; death confirmed by Docker."""
        async with self._own(instance.name):
            await self._kill(instance)
            await asyncio.sleep(DOUBT)

    async def _kill(self, instance: Instance) -> None:
        name = container_name(self.project, instance.name)
        await asyncio.to_thread(self.api.kill, name)
        end = time.monotonic() + DEATH
        while time.monotonic() < end:
            await asyncio.to_thread(self._inspect, name)
            with self._lock:
                document = self._documents.get(name)
            if document is None or not document["State"]["Running"]:
                self._held.discard(instance.name)
                return
            await asyncio.sleep(0.02)
        raise LampstandError(f"is not dead {DEATH:g} s after it was killed", instance.name)

    async def start(self, instance: Instance) -> None:
        """Start what does not run."""
        async with self._own(instance.name):
            self._hold_file(instance).unlink(missing_ok=True)
            if instance.name in self._held:
                await self._kill(instance)
            await self._start(instance)

    async def _start(self, instance: Instance) -> None:
        name = container_name(self.project, instance.name)
        await asyncio.to_thread(self.api.start, name)
        await asyncio.to_thread(self._inspect, name)

    async def clear_data(self, instance: Instance, keep_as: str) -> str:
        """Move the data folder beside itself, within the volume."""
        async with self._own(instance.name), self._container(instance) as socket:
            return (await control.ask(socket, "aside", (keep_as,), 10.0)).strip()

    async def run(self, instance: Instance, argv: Sequence[str], deadline: float) -> str:
        """A program in the server's container. Where that does not run, it is started without the server's programs."""
        async with self._own(instance.name), self._container(instance) as socket:
            return await control.ask(socket, "run", argv, deadline)

    @contextlib.asynccontextmanager
    async def _container(self, instance: Instance) -> AsyncGenerator[Path]:
        socket = self.folder.control / instance.name
        seen = self.observe().get(instance.name)
        if seen is None:
            raise LampstandError("has no container", instance.name, "run `lampstand up`")
        if seen.state is State.STOPPED:
            hold = self._hold_file(instance)
            hold.touch()
            self._held.add(instance.name)
            try:
                await self._start(instance)
                await control.until_listening(socket, LISTENING)
            finally:
                hold.unlink(missing_ok=True)
            try:
                yield socket
            finally:
                await self._kill(instance)
        else:
            yield socket

    def _hold_file(self, instance: Instance) -> Path:
        return self.folder.configuration / instance.name / HOLD

    def _own(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    # -- files -------------------------------------------------------------------------------------------------------
    def secret(self, name: str) -> str:
        """A generated secret. Raises KeyError."""
        return self._secrets[name]

    def read_live(self, file: File) -> str | None:
        """The text of a live file, None when it is absent."""
        try:
            return self.folder.path(file).read_text("utf-8")
        except FileNotFoundError:
            return None

    def write_live(self, instance: Instance, file: File) -> None:
        """Replace a live file."""
        write_text(self.folder.path(file), file.content)

    async def reload_routes(self, instance: Instance, drop_old: bool) -> None:
        """The container's first process has nginx take its files, effective when this returns."""
        await control.ask(self.folder.control / instance.name, "drop" if drop_old else "routes", (), 5.0)


_ACTIONS = frozenset(("start", "die", "pause", "unpause", "destroy", "oom"))
