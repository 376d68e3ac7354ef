"""Makes, starts, stops, reloads and looks at the instances of one site on this machine.

The command line uses it to apply a plan, the controller to recover; whoever uses it holds the site's lock or is the
controller while nobody does.
"""

import asyncio
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

from lampstand.errors import LampstandError
from lampstand.files import Kept, write_json, write_text
from lampstand.observed import ObservedInstance, ObservedProcess, State
from lampstand.targets.local import processes
from lampstand.targets.local.folder import StateFolder
from lampstand.targets.local.processes import Record
from lampstand.topology import File, Folder, Instance, Process

FOLDERS: tuple[Folder, ...] = ("etc", "data", "log")
PREPARED_WITHIN = 120.0
"""Seconds that a preparation (initialising a database's data folder) may need."""


@dataclass(frozen=True, slots=True)
class _Stop:
    """How to stop a process, remembered so that an instance can be stopped when the site no longer knows it."""

    name: str
    signal: int
    seconds: float


class Supervisor:
    """The instances under one state folder."""

    def __init__(self, folder: StateFolder) -> None:
        self.folder = folder
        self._known: dict[str, Kept[dict[str, Any]]] = {}
        self._records: dict[tuple[str, str], Record] = {}

    # -- looking -----------------------------------------------------------------------------------------------------
    def names(self) -> list[str]:
        """Every instance that was ever made here and not removed."""
        try:
            return sorted(e.name for e in os.scandir(self.folder.instances) if e.is_dir())
        except FileNotFoundError:
            return []

    def record_of(self, instance: str) -> dict[str, Any]:
        """What was last written about an instance; empty when it was never made."""
        if instance not in self._known:
            self._known[instance] = Kept(self.home(instance) / "instance.json", self.folder.read_json)
        try:
            return self._known[instance].get()
        except FileNotFoundError:
            return {}

    def home(self, instance: str) -> Path:
        """The folder that holds an instance's records and folders; it belongs to whoever runs Lampstand."""
        return self.folder.instances / instance

    def process_record(self, instance: str, process: str) -> Record:
        """The record of one process."""
        key = instance, process
        if key not in self._records:
            self._records[key] = Record(self.home(instance), process)
        return self._records[key]

    def observe(self, instance: str) -> ObservedInstance | None:
        """What runs of an instance, from /proc alone; None when it was never made."""
        known = self.record_of(instance)
        if not known:
            return None
        found: list[ObservedProcess] = []
        for entry in known["processes"]:
            stat = self.process_record(instance, entry["name"]).find()
            if stat is None:
                found.append(ObservedProcess(entry["name"], None))
            else:
                frozen = stat.state in "tT"
                found.append(
                    ObservedProcess(entry["name"], stat.pid, processes.started_at(stat.ticks), frozen)
                )
        running = [p for p in found if p.pid is not None]
        if not running:
            state = State.STOPPED
        elif len(running) < len(found):
            state = State.PARTIAL
        else:
            state = State.FROZEN if any(p.frozen for p in found) else State.RUNNING
        return ObservedInstance(
            name=instance,
            kind=known["kind"],
            state=state,
            processes=tuple(found),
            restart_hash=known.get("restart_hash", ""),
            config_hash=known.get("config_hash", ""),
            release=known.get("release"),
        )

    def observe_all(self) -> dict[str, ObservedInstance]:
        """`observe` of every instance made here."""
        return {name: seen for name in self.names() if (seen := self.observe(name))}

    # -- changing ----------------------------------------------------------------------------------------------------
    async def create(self, instance: Instance) -> None:
        """Make folders, files and data, and start. Safe to repeat: what is done already stays."""
        self.make_folders(instance)
        self.write_files(instance)
        self._remember(instance, started=False)
        for preparation in instance.prepare:
            if not Path(preparation.creates).exists():
                await processes.run_once(
                    preparation.argv,
                    env=dict(preparation.env),
                    account=preparation.account,
                    deadline=PREPARED_WITHIN,
                )
        await self.start(instance)

    async def start(self, instance: Instance) -> None:
        """Start the processes that do not run. Folders and files are as `create` or `change` left them."""
        self.make_folders(instance)  # sockets' folders do not survive a reboot
        self._remember(instance, started=True)
        await asyncio.gather(*(self._start(instance, process) for process in instance.processes))

    async def _start(self, instance: Instance, process: Process) -> None:
        record = self.process_record(instance.name, process.name)
        if record.find():
            return
        await processes.kill(record)  # workers whose first process died still hold its port
        # Apache believes the pid file of its killed self as long as that is a zombie, and ends.
        (self.folder.run / instance.name / f"{process.name}.pid").unlink(missing_ok=True)
        await processes.spawn(record, process, self.home(instance.name) / f"{process.name}.log")

    async def stop(self, instance: str, *, idle: bool = False) -> None:
        """Ask every process to end; what does not end in its time is killed. One that is idle has nothing to finish, so
        it need not be graceful: httpd's graceful-stop takes a second however little there is to do."""
        known = self.record_of(instance).get("processes", [])
        stops = [_Stop(e["name"], int(e["stop_signal"]), float(e["stop_seconds"])) for e in known]
        # In reverse order of starting: Apache ends its requests while php-fpm is still there.
        for entry in reversed(stops):
            number = Signals.SIGTERM if idle else entry.signal
            await processes.stop(self.process_record(instance, entry.name), number, entry.seconds)

    async def kill(self, instance: str) -> None:
        """SIGKILL everything of an instance and confirm its death."""
        known = self.record_of(instance).get("processes", [])
        await asyncio.gather(*(processes.kill(self.process_record(instance, e["name"])) for e in known))

    async def change(self, instance: Instance, *, restart: bool, idle: bool = False) -> None:
        """Write changed files and have the engine take them. The engine's own checker decides first; when it refuses,
        the old files are put back and nothing has changed. Raises LampstandError with what the checker said. `idle` as
        for `stop`."""
        self.make_folders(instance)
        previous = self.write_files(instance)
        try:
            await self.check(instance)
        except LampstandError:
            for path, text in previous.items():
                if text is None:
                    path.unlink(missing_ok=True)
                else:
                    path.write_text(text)
            raise
        if restart:
            await self.stop(instance.name, idle=idle)
            await self.create(instance)
        else:
            await self.reload(instance)
            self._remember(instance, started=False)

    async def check(self, instance: Instance) -> None:
        """Run the engines' own checkers over the rendered files. Raises LampstandError with what they said."""
        for process in instance.processes:
            if process.check:
                account = processes.account_of(process)
                await processes.run_once(
                    process.check, env=dict(process.env), account=account, cwd=process.cwd
                )

    async def reload(self, instance: Instance) -> None:
        """Have the processes read their files again."""
        for process in instance.processes:
            match process.reload:
                case None:
                    continue
                case Signals() as number:
                    self.signal(instance.name, process.name, number)
                case argv:
                    await processes.run_once(argv, account=processes.account_of(process))

    def signal(self, instance: str, process: str, number: int) -> None:
        """Send a signal to one process; nothing happens when it does not run."""
        found = self.process_record(instance, process).find()
        handle = processes.Handle.of(found) if found else None
        if handle:
            handle.send(number)
            handle.close()

    def forget(self, instance: str) -> list[Path]:
        """Remove the records, configuration and logs of a stopped instance; its data stay, and are returned."""
        home = self.home(instance)
        kept: list[Path] = []
        shutil.rmtree(self.folder.run / instance, ignore_errors=True)
        for entry in list(home.iterdir()):
            if entry.name == "data" and any(entry.iterdir()):
                kept.append(entry)
            elif entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        if not kept:
            home.rmdir()
        return kept

    # -- files -------------------------------------------------------------------------------------------------------
    def make_folders(self, instance: Instance) -> None:
        """The instance's folders, owned by its account, closed to everybody else."""
        home = self.home(instance.name)
        home.mkdir(exist_ok=True)
        home.chmod(0o711 if os.geteuid() == 0 else 0o700)
        run = self.folder.run / instance.name
        run.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        for folder in (*(home / name for name in FOLDERS), run, *(Path(f) for f in instance.folders)):
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            # An engine reads its configuration and cannot change it.
            _give(folder, instance.account, read_only=folder.name == "etc")

    def write_files(self, instance: Instance) -> dict[Path, str | None]:
        """Write the rendered files that differ, and live files that are absent; returns what lay there before."""
        previous: dict[Path, str | None] = {}
        for file, live in [*((f, False) for f in instance.files), *((f, True) for f in instance.live_files)]:
            path = Path(file.path)
            old = path.read_text() if path.exists() else None
            if old == file.content or (live and old is not None):
                continue
            previous[path] = old
            self.write(file, instance.account)
        return previous

    def write(self, file: File, account: str) -> None:
        """Write one file as a whole, readable by the instance's account."""
        path = Path(file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Under root the file is root's and its account reads it through the group.
        write_text(path, file.content, file.mode | 0o040 if os.geteuid() == 0 else file.mode)
        _give(path, account, read_only=True)

    def _remember(self, instance: Instance, *, started: bool) -> None:
        known = self.record_of(instance.name)
        value = {
            "kind": instance.kind,
            "tier": instance.tier,
            "release": instance.release if started or not known else known.get("release"),
            "restart_hash": instance.restart_hash if started or not known else known.get("restart_hash", ""),
            "config_hash": instance.config_hash,
            "processes": [
                {"name": p.name, "stop_signal": int(p.stop_signal), "stop_seconds": p.stop_seconds}
                for p in instance.processes
            ],
        }
        if value != known:
            write_json(self.home(instance.name) / "instance.json", value)


def _give(path: Path, account: str, *, read_only: bool = False) -> None:
    if os.geteuid() == 0:
        shutil.chown(path, "root" if read_only else account, account_group(account))


def account_group(account: str) -> int:
    """The primary group of a service account. Raises LampstandError when the account does not exist."""
    import pwd

    try:
        return pwd.getpwnam(account).pw_gid
    except KeyError:
        raise LampstandError(
            f"there is no account {account!r} on this machine", mend="run `lampstand doctor --fix`"
        ) from None


BEHIND = ("gateway", "cache", "sessions", "database")
"""Kinds that the application asks: they stop when it is gone, or its workers would wait for them."""


def stopped_first(names: Iterable[str], kinds: Mapping[str, str]) -> list[list[str]]:
    """Names in the order of stopping: what visitors reach and what the application runs, then what it asks; the names
    of a list side by side."""
    chosen = list(names)
    before = [n for n in chosen if kinds[n] not in BEHIND]
    after = [n for n in chosen if kinds[n] in BEHIND]
    return [group for group in (before, after) if group]
