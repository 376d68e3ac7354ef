"""Starts the processes of Instances for tests: a small stand-in for the local target, general over Instance.

`Ground` is a Placement below one folder, with free ports. `launch(instance)` makes folders and files, runs
preparations and checks, starts the processes and ends them again, by their own pids, when the block ends.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from lampstand.engines import discover
from lampstand.site import Site
from lampstand.topology import SECRETS, Context, Folder, Instance, Process
from tests.support import free_port


@dataclass
class Ground:
    """A Placement for tests: everything below `root`, sockets in a short folder, free ports on the loopback."""

    root: Path
    run: Path
    ports: dict[tuple[str, str], int] = field(default_factory=dict)

    def bind(self, instance: str, port: str) -> tuple[str, int]:
        return "127.0.0.1", self.ports.setdefault((instance, port), free_port())

    def reach(self, instance: str, port: str) -> tuple[str, int]:
        return self.bind(instance, port)

    def folder(self, instance: str, folder: Folder) -> str:
        return str(self.run / instance if folder == "run" else self.root / "instances" / instance / folder)

    def release(self, release: str) -> str:
        return str(self.root / "releases" / release)

    def uploads(self) -> str:
        return str(self.root / "uploads")

    def public_url(self) -> str:
        return "http://127.0.0.1:{}".format(self.bind("edge-test", "http")[1])


@contextlib.contextmanager
def ground(folder: str = "site") -> Iterator[Ground]:
    """A Ground that service accounts can reach (pytest's own folders are closed to them), removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="lst") as short:
        top = Path(short)
        top.chmod(0o711)
        place = Ground(top / folder, top / "r")
        for made in (place.root, place.run, place.root / "releases", place.root / "uploads"):
            made.mkdir(mode=0o711)
        (place.root / "releases").chmod(0o755)
        own(place.root / "uploads", "www-data")
        yield place


def context(place: Ground, site: Mapping[str, object] | Site, release: str = "r1", **secrets: str) -> Context:
    """A Context on this machine: its real engines, and a password for everything."""
    parsed = site if isinstance(site, Site) else Site.model_validate(site)
    values = {name: f"{name}-of-the-test" for name in SECRETS} | secrets
    return Context(parsed, place, discover(), values, release)


def answers(url: str, status: int = 200) -> bool:
    """Whether a URL answers with this status now; a connection that fails is a no."""
    try:
        return httpx.get(url, timeout=10).status_code == status
    except httpx.TransportError:
        return False


def own(path: Path, account: str) -> None:
    """Gives a path to a service account, when we may."""
    if os.geteuid() == 0:
        shutil.chown(path, account, pwd.getpwnam(account).pw_gid)


class Running:
    """The started processes of one instance."""

    def __init__(self, instance: Instance, place: Ground) -> None:
        self.instance = instance
        self._place = place
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def url(self, endpoint: str = "http") -> str:
        """`http://host:port` of an endpoint."""
        return f"http://{self.instance.endpoint(endpoint).address}"

    def output(self, process: str) -> str:
        """What a process has printed so far."""
        return self._output(process).read_text("utf-8", "replace")

    def log(self, name: str) -> str:
        """A file of the instance's log folder; empty when there is none."""
        path = Path(self._place.folder(self.instance.name, "log"), name)
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def pids(self) -> list[int]:
        """All processes of the instance: the started ones and their descendants (by session, proc(5))."""
        sessions = {child.pid for child in self.children.values()}
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[3]) in sessions and fields[0] != "Z":
                        found.append(int(entry.name))
        return found

    def start(self, process: Process) -> None:
        """Start one process in the background, in a session of its own, its output in a file."""
        with self._output(process.name).open("ab") as output:
            self.children[process.name] = subprocess.Popen[bytes](
                process.argv,
                cwd=process.cwd or "/",
                env=_environment(process),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o027,
                **_identity(process.account),
            )

    def signal(self, process: str, number: int) -> None:
        """Send a signal to one started process."""
        self.children[process].send_signal(number)

    def stop(self, *, seconds: float | None = None) -> None:
        """Stop all as the local target does: in reverse order, each with its own signal, killed after its time."""
        for process in reversed(self.instance.processes):
            child = self.children.get(process.name)
            if child is None:
                continue
            if child.poll() is None:
                child.send_signal(process.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(process.stop_seconds if seconds is None else seconds)
        self.kill()

    def kill(self) -> None:
        """SIGKILL whatever is left of the started processes and what they started."""
        for child in self.children.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for child in self.children.values():
            child.wait(10)

    def _output(self, process: str) -> Path:
        return self._place.root / "instances" / self.instance.name / f"{process}.log"


def make(instance: Instance, place: Ground) -> None:
    """Folders, files, preparations: what comes before the first start. Then the engines' own checkers."""
    for kind in ("etc", "data", "log", "run"):
        _folder(Path(place.folder(instance.name, kind)), instance.account, place)
    for extra in instance.folders:
        _folder(Path(extra), instance.account, place)
    for file in (*instance.files, *instance.live_files):
        path = Path(file.path)
        path.parent.mkdir(exist_ok=True)
        path.write_text(file.content, "utf-8")
        path.chmod(file.mode)
        own(path, instance.account)
    for preparation in instance.prepare:
        if not Path(preparation.creates).exists():
            env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **dict(preparation.env)}
            subprocess.run(
                preparation.argv, env=env, check=True, timeout=60, **_identity(preparation.account)
            )
    for process in instance.processes:
        if process.check:
            done = subprocess.run(
                process.check, cwd=process.cwd or "/", env=_environment(process), capture_output=True, text=True,
                timeout=30, check=False, **_identity(process.account),
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def launch(instance: Instance, place: Ground) -> Iterator[Running]:
    """The instance, made and started; killed by its pids when the block ends, however it ends."""
    make(instance, place)
    running = Running(instance, place)
    try:
        for process in instance.processes:
            running.start(process)
        yield running
    finally:
        running.kill()


def _folder(path: Path, account: str, place: Ground) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for parent in path.parents:
        if parent in (place.root, place.run):
            break
        parent.chmod(0o711)
    path.chmod(0o700)
    own(path, account)


def _environment(process: Process) -> dict[str, str]:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "LANG": "C.UTF-8", **dict(process.env)}


def _identity(account: str) -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    return {"user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": []}
