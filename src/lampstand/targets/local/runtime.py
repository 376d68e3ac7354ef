"""What the controller needs of this machine: death notices, fencing, routes."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lampstand.errors import LampstandError
from lampstand.observed import ObservedInstance
from lampstand.targets.local import processes
from lampstand.targets.local.desired import Desired
from lampstand.targets.local.folder import StateFolder
from lampstand.targets.local.processes import Handle
from lampstand.targets.local.supervisor import Supervisor
from lampstand.tiers.balancer.reload import reload_nginx
from lampstand.topology import File, Instance, Topology


class LocalRuntime:
    """Implements `targets.base.Runtime`."""

    supervises = True

    def __init__(self, folder: StateFolder) -> None:
        self.folder = folder
        self.supervisor = Supervisor(folder)
        self.generation = 0
        self._topology: Topology | None = None
        self._stamp: tuple[int, int] = (0, 0)
        self._secrets = folder.secrets()
        self._handles: dict[tuple[str, str], Handle] = {}
        self._wake: Callable[[str], None] = lambda _: None
        self._locks: dict[str, asyncio.Lock] = {}

    def load(self) -> Topology | None:
        """The topology of `desired.json`; expanded anew when that file changed."""
        try:
            found = self.folder.desired.stat()
        except FileNotFoundError:
            return None
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp != self._stamp:
            desired = Desired.read(self.folder)
            self._topology, self.generation, self._stamp = (
                desired.topology(self.folder),
                desired.generation,
                stamp,
            )
        return self._topology

    def observe(self) -> Mapping[str, ObservedInstance]:
        """From /proc; also keeps a pidfd on every process, so that its end is known at once."""
        seen = self.supervisor.observe_all()
        alive = {(i.name, p.name): p.pid for i in seen.values() for p in i.processes if p.pid is not None}
        for key in [k for k, h in self._handles.items() if alive.get(k) != h.stat.pid]:
            self._drop(key)
        for key in alive:
            if key not in self._handles:
                self._follow(*key)
        return seen

    def watch(self, wake: Callable[[str], None]) -> None:
        """`wake(instance)` is called when one of its processes ends."""
        self._wake = wake

    def _follow(self, instance: str, process: str) -> None:
        found = self.supervisor.process_record(instance, process).find()
        handle = Handle.of(found) if found else None
        if handle is None:
            return
        key = (instance, process)
        self._handles[key] = handle

        def ended() -> None:
            self._drop(key)
            self._wake(instance)

        asyncio.get_running_loop().add_reader(handle.fd, ended)

    def _drop(self, key: tuple[str, str]) -> None:
        handle = self._handles.pop(key, None)
        if handle:
            asyncio.get_running_loop().remove_reader(handle.fd)
            handle.close()

    def may_supervise(self) -> bool:
        """Whether no command holds the site's lock."""
        return not self.folder.locked()

    async def fence(self, instance: Instance) -> None:
        """SIGKILL, death confirmed by pidfd."""
        async with self._lock(instance.name):
            await self.supervisor.kill(instance.name)

    async def start(self, instance: Instance) -> None:
        """Start what does not run."""
        async with self._lock(instance.name):
            await self.supervisor.create(instance)

    async def clear_data(self, instance: Instance, keep_as: str) -> str:
        """Move the data folder beside itself; a new one is made at the next start."""
        home = self.supervisor.home(instance.name)
        data, kept = home / "data", home / keep_as
        number = 1
        while kept.exists():
            number += 1
            kept = home / f"{keep_as}-{number}"
        if data.exists():
            os.rename(data, kept)
        self.supervisor.make_folders(instance)
        return str(kept)

    async def run(self, instance: Instance, argv: Sequence[str], deadline: float) -> str:
        """A program under the instance's account."""
        process = instance.processes[0]
        return await processes.run_once(
            argv, env=dict(process.env), account=processes.account_of(process), cwd="/", deadline=deadline
        )

    def secret(self, name: str) -> str:
        """A generated secret. Raises KeyError."""
        return self._secrets[name]

    def read_live(self, file: File) -> str | None:
        """The text of a live file, None when it is absent."""
        try:
            return Path(file.path).read_text()
        except FileNotFoundError:
            return None

    def write_live(self, instance: Instance, file: File) -> None:
        """Replace a live file."""
        self.supervisor.write(file, instance.account)

    async def reload_routes(self, instance: Instance, drop_old: bool) -> None:
        """SIGHUP to nginx, effective when this returns."""
        found = self.supervisor.process_record(instance.name, instance.processes[0].name).find()
        if found is None:
            raise LampstandError("does not run", instance.name)
        await reload_nginx(found.pid, drop_old_connections=drop_old, deadline=5.0)

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())
