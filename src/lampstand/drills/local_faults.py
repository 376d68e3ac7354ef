"""Faults on this machine: signals to processes that are beyond doubt, and packets dropped by iptables(8)."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

from lampstand.errors import LampstandError
from lampstand.targets.local import processes
from lampstand.targets.local.processes import Handle, Stat
from lampstand.targets.local.target import LocalTarget
from lampstand.topology import Topology

FILLED_DISK = 300 * 2**20
"""Bytes of the file system that a database server gets before its disk is filled."""
UNDER_WAY = 1.0
"""Seconds in which a recovery that began before the lock was taken may start a server once more."""


class LocalFaults:
    """Implements `drills.faults.Faults`."""

    def __init__(self, target: LocalTarget, topology: Topology) -> None:
        self._target = target
        self._topology = topology
        self._frozen: dict[str, list[Stat]] = {}
        self._rules: list[tuple[str, list[str]]] = []
        self._mounts: dict[str, Path] = {}

    def unavailable(self, fault: str) -> str:
        """Why a fault cannot be made here."""
        if fault in ("cut-replicas", "cut-clients"):
            if os.geteuid() != 0:
                return "cutting connections needs root (iptables tells processes apart by their account)"
            if not shutil.which("iptables"):
                return "cutting connections needs the package iptables"
            tried = subprocess.run(["iptables", "-w", "-n", "-L", "OUTPUT"], capture_output=True, check=False)
            return "" if tried.returncode == 0 else "iptables does not work on this machine"
        if fault == "fill-disk" and os.geteuid() != 0:
            return "a file system of limited size needs root (mount)"
        return ""

    def _members(self, instance: str) -> list[Stat]:
        supervisor = self._target.supervisor
        found: dict[int, Stat] = {}
        for entry in supervisor.record_of(instance).get("processes", []):
            record = supervisor.process_record(instance, entry["name"])
            sessions, first = record.sessions(), record.find()
            for stat in [*processes.members(sessions), *([first] if first else [])]:
                found[stat.pid] = stat
        return list(found.values())

    def _signal(self, stats: list[Stat], number: int) -> None:
        for stat in stats:
            handle = Handle.of(stat)
            if handle:
                handle.send(number)
                handle.close()

    def kill(self, instance: str) -> None:
        """SIGKILL all of a server's processes, what visitors reach first: in a power cut nobody hears from the rest."""
        self._signal(self._members(instance)[::-1], signal.SIGKILL)

    def freeze(self, instance: str) -> None:
        """SIGSTOP all of a server's processes."""
        self._frozen[instance] = self._members(instance)
        self._signal(self._frozen[instance], signal.SIGSTOP)

    def thaw(self, instance: str) -> None:
        """SIGCONT to exactly the processes that were frozen; those that were killed meanwhile stay dead."""
        self._signal(self._frozen.pop(instance, []), signal.SIGCONT)

    def restart(self, instance: str) -> None:
        """The stop signal; the controller or a recovery starts it again."""
        supervisor = self._target.supervisor
        for entry in supervisor.record_of(instance).get("processes", []):
            supervisor.signal(instance, entry["name"], int(entry["stop_signal"]))

    def kill_controller(self) -> None:
        """SIGKILL the controller."""
        found = self._target.controller.record.find()
        self._signal([found] if found else [], signal.SIGKILL)

    def start_controller(self) -> None:
        """A new controller."""
        asyncio.run(self._target.ensure_controller())

    def cut(self, instance: str, from_replicas: bool) -> None:
        """Drop packets to the server's port: those of the account `mysql` come from its replicas."""
        port = self._topology.by_name[instance].endpoint("mysql").port
        owner = ["-m", "owner", *([] if from_replicas else ["!"]), "--uid-owner", "mysql"]
        rule = ["OUTPUT", "-o", "lo", "-p", "tcp", "--dport", str(port), *owner, "-j", "DROP"]
        self._iptables("-I", rule)
        self._rules.append((instance, rule))

    def fill_disk(self, instance: str) -> None:
        """Give the server a small file system of its own (its data are moved there), and fill that."""
        data = self._target.supervisor.home(instance) / "data"
        if instance not in self._mounts:
            self._small_disk(instance, data)
        with (data / "filler").open("wb") as filler, contextlib.suppress(OSError):
            while True:
                filler.write(b"\0" * 2**20)
                filler.flush()

    def _small_disk(self, instance: str, data: Path) -> None:
        supervisor, server = self._target.supervisor, self._topology.by_name[instance]
        aside = data.with_name("data-before-drill")

        async def move() -> None:
            await supervisor.stop(instance)
            data.rename(aside)
            data.mkdir()
            size = max(FILLED_DISK, round(_size(aside) * 1.3))
            _run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0750", "lampstand-drill", str(data)])
            shutil.copytree(aside, data, symlinks=True, dirs_exist_ok=True)
            _run(["chown", "-R", f"{server.account}:", str(data)])
            await supervisor.start(server)

        self._mounts[instance] = data
        with self._target.folder.lock("lampstand drill"):
            asyncio.run(move())

    def heal(self, instance: str) -> None:
        """Thaw, let packets through, free the disk."""
        self.thaw(instance)
        for found in [r for r in self._rules if r[0] == instance]:
            self._iptables("-D", found[1])
            self._rules.remove(found)
        if instance in self._mounts:
            (self._mounts[instance] / "filler").unlink(missing_ok=True)

    def heal_all(self) -> None:
        """Undo everything, data on a small disk moved back included."""
        for instance in list(self._frozen):
            self.thaw(instance)
        rules, self._rules = self._rules, []
        for _, rule in rules:
            self._iptables("-D", rule)
        for instance in list(self._mounts):
            self._large_disk(instance)
        if self._target.controller.record.find() is None:
            self.start_controller()

    def _large_disk(self, instance: str) -> None:
        supervisor, data = self._target.supervisor, self._mounts.pop(instance)
        (data / "filler").unlink(missing_ok=True)
        aside = data.with_name("data-before-drill")

        async def back() -> None:
            await supervisor.stop(instance)
            await asyncio.sleep(UNDER_WAY)
            await supervisor.kill(instance)
            shutil.rmtree(aside)
            _run(["cp", "-a", str(data), str(aside)])
            _run(["umount", str(data)])
            data.rmdir()
            aside.rename(data)
            await supervisor.start(self._topology.by_name[instance])

        with self._target.folder.lock("lampstand drill"):
            asyncio.run(back())

    @staticmethod
    def _iptables(action: str, rule: list[str]) -> None:
        _run(["iptables", "-w", action, *rule])


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LampstandError(f"ended with exit code {done.returncode}: {done.stderr.strip()}", " ".join(argv))


def _size(folder: Path) -> int:
    return sum(p.lstat().st_size for p in folder.rglob("*"))
