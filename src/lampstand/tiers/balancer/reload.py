"""Has a running nginx take its files again, and knows when it has.

nginx reloads on SIGHUP (https://nginx.org/en/docs/control.html): the master reads the files and starts new workers;
100 ms later it tells the old ones to finish, and until then both take connections. Its workers say what they are in
their titles: `nginx: worker process` once they serve (set after ngx_worker_process_init), then `… is shutting down`
from the moment they take no new connection. So the state is read from /proc, and as soon as a new worker serves, the
old ones are told to finish directly. A reload is effective after some 20 ms instead of 120; only one that follows
another within 100 ms has to wait for the master first.

Which connections end: none, when `drop_old_connections` is false: old workers serve what they have, until it ends by
itself or `worker_shutdown_timeout` passes. With true, all that the routes before it made: the workers that made them
are ended. That is for a failover: a session with a deposed server that is still alive must not go on.
"""

import asyncio
import os
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from lampstand.errors import LampstandError, TimedOutError

_SERVING = b"nginx: worker process"
_LEAVING = b"nginx: worker process is shutting down"
_POLL = 0.002
"""Seconds between two looks at /proc."""


@dataclass(frozen=True, slots=True)
class Workers:
    """The workers of one nginx, by pid."""

    serving: frozenset[int]
    """They take new connections."""
    leaving: frozenset[int]
    """They finish what they have, and then end."""


def workers(master: int) -> Workers:
    """What the workers of the nginx with this (master) pid do. One that is only just starting is not there yet."""
    titles = {pid: _title(pid) for pid in _children(master)}
    return Workers(
        frozenset(pid for pid, title in titles.items() if title == _SERVING),
        frozenset(pid for pid, title in titles.items() if title == _LEAVING),
    )


async def reload_nginx(master: int, *, drop_old_connections: bool = False, deadline: float = 5.0) -> None:
    """Returns when every new connection is served by the files as they were when it was called.

    Raises LampstandError when there is no such process or it is not ours, TimedOutError when nginx has not taken the
    files within `deadline` seconds: it refused them (its error log says why; what ran goes on), or it hangs.
    One reload at a time: the caller sees to that.
    """
    end = time.monotonic() + deadline
    try:
        # A master that is only just starting has not said yet what SIGHUP means to it, and would die of one.
        while not (before := workers(master)).serving:
            os.kill(master, 0)
            await _pause(end, "does not start to serve; its error log says why")
        old = before.serving | before.leaving
        os.kill(master, signal.SIGHUP)
        while not workers(master).serving - old:
            await _pause(end, "did not take its configuration; its error log says why")
        if drop_old_connections:
            _signal(old, signal.SIGTERM)
        else:
            _signal(before.serving, signal.SIGQUIT)
        while (now := workers(master)).serving & old or (drop_old_connections and now.leaving & old):
            await _pause(end, "has old workers that do not let go")
    except (ProcessLookupError, PermissionError) as error:
        raise LampstandError(f"nginx with pid {master} cannot be reloaded: {error.strerror}") from error


async def drained(master: int, *, deadline: float) -> bool:
    """Whether all connections that reloads left to old workers have ended within `deadline` seconds."""
    end = time.monotonic() + deadline
    while workers(master).leaving:
        if time.monotonic() >= end:
            return False
        await asyncio.sleep(0.05)
    return True


async def _pause(end: float, complaint: str) -> None:
    if time.monotonic() >= end:
        raise TimedOutError(f"nginx {complaint}")
    await asyncio.sleep(_POLL)


def _signal(pids: Collection[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:  # it had nothing left to do
            continue


def _title(pid: int) -> bytes:
    """What a process calls itself; empty when it is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0 ")
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _children(pid: int) -> list[int]:
    """The children of a process (proc(5), /proc/PID/task/TID/children; needs CONFIG_PROC_CHILDREN)."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and _parent(int(name)) == pid]


def _parent(pid: int) -> int:
    """The parent of a process, 0 when it is gone. The command in parentheses may contain blanks: read behind it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(text[text.rindex(b")") + 2 :].split()[1])
