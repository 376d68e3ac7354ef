"""Start, adopt, signal and bury processes that outlive Lampstand.

A process is known by its pid *and* its start time, so that a stale record never names a stranger. Programs are started
by Debian's start-stop-daemon(8), which writes the pid file in the child just before the program begins: a Lampstand
killed at any moment leaves nothing unknown behind.
"""

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from lampstand.errors import LampstandError
from lampstand.files import Kept, write_json
from lampstand.topology import Process

TICKS = os.sysconf("SC_CLK_TCK")
STARTER = "/sbin/start-stop-daemon"


@dataclass(frozen=True, slots=True)
class Identity:
    """A process beyond doubt: pid, start time in clock ticks since boot (proc(5), stat field 22), and which boot; and
    the session that it and its workers live in."""

    pid: int
    ticks: int
    session: int
    boot: str


@cache
def boot_id() -> str:
    """A name for this boot of the machine (random(4)): after another one, no record means anything."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True, slots=True)
class Stat:
    """What /proc/PID/stat says."""

    pid: int
    state: str
    parent: int
    session: int
    ticks: int


def read_stat(pid: int) -> Stat | None:
    """The stat of a process, None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command stands in parentheses and may itself contain blanks and parentheses: read from the last one.
    fields = text[text.rindex(b")") + 2 :].split()
    return Stat(pid, fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]))


def all_stats() -> list[Stat]:
    """The stats of all processes of the machine."""
    return [found for name in os.listdir("/proc") if name.isdigit() and (found := read_stat(int(name)))]


def started_at(ticks: int) -> float:
    """Unix time at which a process with this start time began."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / TICKS


class Record:
    """The record of one process of one instance: `NAME.pid` (start-stop-daemon's) and `NAME.json` (ours)."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.pid_file = folder / f"{name}.pid"
        self.json_file = folder / f"{name}.json"
        self._written = Kept(self.json_file, _identity)

    def find(self) -> Stat | None:
        """The running process of this record, None when there is none. A zombie counts as gone."""
        identity = self._read()
        found = read_stat(identity.pid) if identity else None
        if not identity or not found or found.state in "ZX" or not _same(found, identity):
            return None
        return found

    def sessions(self) -> set[int]:
        """The sessions its processes live in, also when its first process is gone.

        Usually the one that start-stop-daemon made and left; some programs (php-fpm) then make one of their own. Linux
        lends a pid to nobody while a session of that number has members; so if another process of that pid lives, it is
        a stranger and our session is gone.
        """
        identity = self._read()
        if not identity or identity.boot != boot_id():
            return set()
        return {n for n in (identity.session, identity.pid) if _is_ours(n, identity)}

    def write(self, pid: int) -> None:
        """Remember a process just started."""
        if found := read_stat(pid):
            write_json(self.json_file, asdict(Identity(pid, found.ticks, found.session, boot_id())))

    def forget(self) -> None:
        """The process is gone; so are its records."""
        self.json_file.unlink(missing_ok=True)
        self.pid_file.unlink(missing_ok=True)

    def _read(self) -> Identity | None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return self._written.get()
        # Lampstand died between starting the program and writing the record. The pid file was written by the child
        # itself just before its program began, so a process of that pid that began then is the one.
        with contextlib.suppress(OSError, ValueError):
            pid = int(self.pid_file.read_text())
            found = read_stat(pid)
            if found and abs(started_at(found.ticks) - self.pid_file.stat().st_mtime) < 1.0:
                return Identity(pid, found.ticks, found.session, boot_id())
        return None


def _identity(path: Path) -> Identity:
    value = json.loads(path.read_text())
    return Identity(int(value["pid"]), int(value["ticks"]), int(value["session"]), str(value["boot"]))


def _is_ours(session: int, identity: Identity) -> bool:
    leader = read_stat(session)
    # An init that is slow to collect the dead leaves start-stop-daemon there as a zombie.
    return leader is None or leader.state in "ZX" or (leader.pid == identity.pid and _same(leader, identity))


def _same(found: Stat, identity: Identity) -> bool:
    return found.ticks == identity.ticks and identity.boot == boot_id()


def account_of(process: Process) -> str | None:
    """The account to run under: None (our own) unless we are root."""
    return process.account if os.geteuid() == 0 else None


def base_environment() -> dict[str, str]:
    """What every program gets, whoever started Lampstand: nothing of the caller's shell leaks into a server."""
    kept = {k: v for k, v in os.environ.items() if k in ("TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")}
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **kept}


async def spawn(record: Record, process: Process, log: Path) -> None:
    """Start one program in the background, in a session of its own, its output appended to `log`.

    Raises LampstandError when the program cannot be started at all.
    """
    record.forget()
    argv = [
        STARTER,
        "--start",
        "--quiet",
        "--background",
        "--make-pidfile",
        "--pidfile",
        str(record.pid_file),
    ]
    argv += ["--output", str(log), "--umask", "027", "--chdir", process.cwd or "/"]
    if account := account_of(process):
        argv += ["--chuid", account]
    argv += ["--startas", process.argv[0], "--", *process.argv[1:]]
    starter = await asyncio.create_subprocess_exec(
        *argv, env=base_environment() | dict(process.env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await starter.communicate()
    if starter.returncode:
        said = output.decode(errors="replace").strip()
        raise LampstandError(f"cannot start {process.argv[0]}: {said}", record.name)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            record.write(int(record.pid_file.read_text()))
            return
        await asyncio.sleep(0.005)
    raise LampstandError(f"{process.argv[0]} did not start within 5 s", record.name)


async def run_once(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, account: str | None = None, cwd: str | None = None,
    deadline: float = 60.0,
) -> str:  # fmt: skip
    """Run a program to its end and return what it printed.

    Raises LampstandError with its last lines when it fails, is missing, or needs more than `deadline` seconds.
    """
    as_account: dict[str, object] = {}
    if account and os.geteuid() == 0:
        as_account = {"user": account, "group": _group_of(account), "extra_groups": []}
    try:
        child = await asyncio.create_subprocess_exec(
            *argv, env=base_environment() | dict(env or {}), cwd=cwd or "/", stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, **as_account,  # type: ignore[arg-type]  # typeshed lacks user=
        )  # fmt: skip
    except FileNotFoundError as error:
        raise LampstandError("no such program", argv[0], "run `lampstand doctor`") from error
    try:
        output, _ = await asyncio.wait_for(child.communicate(), deadline)
    except TimeoutError:
        raise LampstandError(f"did not end within {deadline:g} s", " ".join(argv[:3])) from None
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
    text = output.decode(errors="replace")
    if child.returncode:
        tail = "\n".join(text.strip().splitlines()[-12:])
        raise LampstandError(f"ended with exit code {child.returncode}:\n{tail}", " ".join(argv[:3]))
    return text


def _group_of(account: str) -> int:
    import pwd

    return pwd.getpwnam(account).pw_gid


class Handle:
    """A pidfd of a process beyond doubt; a signal through it can never reach a stranger (pidfd_send_signal(2))."""

    def __init__(self, stat: Stat) -> None:
        self.stat = stat
        self.fd = os.pidfd_open(stat.pid)

    @classmethod
    def of(cls, stat: Stat) -> "Handle | None":
        """The handle, or None when the process ended meanwhile or its pid went to another."""
        try:
            handle = cls(stat)
        except (ProcessLookupError, OSError):
            return None
        now = read_stat(stat.pid)
        if now is None or now.ticks != stat.ticks or now.state in "ZX":
            handle.close()
            return None
        return handle

    def send(self, number: int) -> None:
        """Send a signal; nothing happens when the process is gone."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.fd, number)

    def dead(self) -> bool:
        """Whether it has ended (a pidfd is readable from then on, also of a zombie)."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(0))

    async def wait(self, deadline: float) -> bool:
        """Wait at most `deadline` seconds for the end; whether it came."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self.fd, lambda: ended.done() or ended.set_result(None))
        try:
            await asyncio.wait_for(ended, deadline)
        except TimeoutError:
            return False
        else:
            return True
        finally:
            loop.remove_reader(self.fd)

    def close(self) -> None:
        os.close(self.fd)


def members(sessions: Iterable[int]) -> list[Stat]:
    """Every process in these sessions (workers of a server whose first process may be dead)."""
    wanted = set(sessions)
    return [s for s in all_stats() if s.session in wanted and s.state not in "ZX"]


async def stop(record: Record, number: int, seconds: float) -> bool:
    """Ask a process to end, and kill what is left of its session after `seconds`. Whether it went by itself."""
    found = record.find()
    handle = Handle.of(found) if found else None
    went = True
    if handle:
        try:
            handle.send(number)
            handle.send(signal.SIGCONT)  # a frozen process handles its signal only when it runs again
            went = await handle.wait(seconds)
        finally:
            handle.close()
    await kill(record)
    return went


async def kill(record: Record, deadline: float = 5.0) -> None:
    """SIGKILL the process and everything in its session, and confirm every death.

    Raises LampstandError when one cannot be confirmed within `deadline` seconds (a process in an uninterruptible
    disk wait): then it must not be taken for dead.
    """
    sessions = record.sessions()
    until = time.monotonic() + deadline
    while sessions and (left := members(sessions)):
        handles = [h for s in left if (h := Handle.of(s))]
        try:
            for handle in handles:
                handle.send(signal.SIGKILL)
            for handle in handles:
                if not await handle.wait(max(0.0, until - time.monotonic())):
                    raise LampstandError(f"process {handle.stat.pid} does not die", record.name)
        finally:
            for handle in handles:
                handle.close()
    record.forget()
