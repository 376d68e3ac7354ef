"""Runs an application's jobs at their times: `python3 scheduler.py jobs.json`. Needs only Python's own library.

It lives in the environment and folder of the application, in the foreground, and writes one line for each start and
end to its output, between what the jobs print there themselves. SIGHUP reads the jobs again; SIGTERM starts no more
jobs, waits for those that run, and a second SIGTERM ends them.

As with cron(8), a job whose time comes while it still runs is left out this once, and when the clock jumps forward
or the machine slept, what was missed in the last three hours runs once.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

MISSED = timedelta(hours=3)
"""Jobs missed longer ago are not made up for; cron's limit for corrections of the clock."""
GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL for a job that ran out of its time."""


@dataclass(frozen=True)
class Job:
    """A command and the minutes (UTC) at which it runs: crontab(5), parsed by whoever wrote the file."""

    name: str
    run: tuple[str, ...]
    timeout: float
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    @classmethod
    def read(cls, name: str, value: Mapping[str, Any]) -> "Job":
        """A job of the file. Raises KeyError or TypeError for anything else."""
        sets = {key: frozenset(value[key]) for key in ("minutes", "hours", "days", "months", "weekdays")}
        return cls(
            name, tuple(value["run"]), float(value["timeout"]), either_day=bool(value["either_day"]), **sets
        )

    def due(self, moment: datetime) -> bool:
        """Whether it runs in this minute."""
        day, weekday = moment.day in self.days, moment.isoweekday() % 7 in self.weekdays
        return (
            moment.minute in self.minutes
            and moment.hour in self.hours
            and moment.month in self.months
            and (day or weekday if self.either_day else day and weekday)
        )


def minutes_between(last: datetime, now: datetime) -> Iterator[datetime]:
    """The minutes after `last` up to that of `now`, those too long ago left out. None when the clock went back."""
    end = now.replace(second=0, microsecond=0)
    moment = max(last + timedelta(minutes=1), end - MISSED)
    while moment <= end:
        yield moment
        moment += timedelta(minutes=1)


def missed_or_due(jobs: Mapping[str, Job], last: datetime, now: datetime) -> list[Job]:
    """The jobs to start now, each once, when the last minute looked at was `last`."""
    moments = list(minutes_between(last, now))
    return [job for job in jobs.values() if any(job.due(moment) for moment in moments)]


class Run:
    """One run of a job, in a process group of its own."""

    def __init__(self, job: Job) -> None:
        """Raises OSError when the command cannot be started."""
        self.job = job
        self.began = time.monotonic()
        self._ended_at: float | None = None
        self.child = subprocess.Popen(job.run, stdin=subprocess.DEVNULL, process_group=0)

    def over(self) -> bool:
        """Whether it has ended; ends it when its time is over. Logs the end once."""
        code = self.child.poll()
        if code is None:
            now = time.monotonic()
            if self._ended_at is None and now - self.began > self.job.timeout:
                say(f"{self.job.name}: longer than {self.job.timeout:g} s, ending it")
                self.end()
            elif self._ended_at is not None and now - self._ended_at > GRACE:
                self._signal(signal.SIGKILL)
            return False
        how = f"exit {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        say(f"{self.job.name}: ended: {how} after {time.monotonic() - self.began:.1f} s")
        return True

    def end(self) -> None:
        """Ask it to end; `over` insists after a while."""
        if self._ended_at is None:
            self._ended_at = time.monotonic()
            self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, number)


class Scheduler:
    """The loop: wakes for the next minute, a signal, or the end of a job."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.jobs: dict[str, Job] = {}
        self.runs: dict[str, Run] = {}
        self.stopping = 0
        self.last = datetime.now(UTC).replace(second=0, microsecond=0)

    def load(self) -> None:
        """Read the jobs; when the file cannot be read, keep those known."""
        try:
            with open(self.path, encoding="utf-8") as file:
                self.jobs = {name: Job.read(name, value) for name, value in json.load(file).items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            say(f"cannot read {self.path}: {error!r}")
            return
        say(f"{len(self.jobs)} jobs: {', '.join(sorted(self.jobs))}")

    def start(self, job: Job) -> None:
        """Start a job unless it still runs."""
        if job.name in self.runs:
            say(f"{job.name}: still running, left out this time")
            return
        try:
            self.runs[job.name] = run = Run(job)
        except OSError as error:
            say(f"{job.name}: cannot be started: {error}")
            return
        say(f"{job.name}: started as process {run.child.pid}")

    def cycle(self, signals: set[int], now: datetime) -> None:
        """What one wake-up does."""
        if signal.SIGHUP in signals:
            self.load()
        if signals & {signal.SIGTERM, signal.SIGINT}:
            self.stopping += 1
            say(f"stopping, {len(self.runs)} jobs still running")
        if self.stopping > 1:
            for run in self.runs.values():
                run.end()
        self.runs = {name: run for name, run in self.runs.items() if not run.over()}
        if not self.stopping:
            for job in missed_or_due(self.jobs, self.last, now):
                self.start(job)
        # When the clock was set back, the same minutes do not come twice within the hour; beyond that it was wrong.
        this_minute = now.replace(second=0, microsecond=0)
        if this_minute > self.last or self.last - this_minute > timedelta(hours=1):
            self.last = this_minute

    def run(self) -> None:
        """Until SIGTERM and the end of the running jobs."""
        # Signals arrive as bytes of a pipe. A blocked mask would be simpler, but the jobs would inherit it.
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer)
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)
        self.load()
        while not (self.stopping and not self.runs):
            ready, _, _ = select.select([reader], [], [], self.pause(time.time()))
            self.cycle(set(os.read(reader, 4096)) if ready else set(), datetime.now(UTC))

    def pause(self, now: float) -> float:
        """Seconds to sleep: to the next minute, or shortly while a job may have to be ended."""
        to_minute = 60.0 - now % 60.0
        return min(1.0, to_minute) if self.runs else to_minute


def say(text: str) -> None:
    """One line of the log."""
    print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} scheduler: {text}", flush=True)


if __name__ == "__main__":
    Scheduler(sys.argv[1]).run()
