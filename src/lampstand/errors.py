"""What every error says: what is wrong, where, and how to mend it.

This module imports nothing but the standard library's small change, because every other module imports it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """The numbers `lampstand` ends with; scripts may rely on them."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    SITE_FILE = 3
    BREACHED = 4
    """A drill, a bench or an error budget went over its limit."""
    TIMED_OUT = 5
    LOCKED = 6
    """Somebody else holds the lock of the site."""
    UNAVAILABLE = 7
    """The verb or option does not exist on this target."""
    ENGINE_MISSING = 8
    INTERRUPTED = 130
    """128 + SIGINT, as shells count it."""


class LampstandError(Exception):
    """An error that a user can read and act on.

    `what` is one sentence about what is wrong, `where` a place (`lampstand.yaml:12 database.replicas`, a path,
    an instance), `mend` what to do about it. The command line prints the three and ends with `exit_code`.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, what: str, where: str | None = None, mend: str | None = None) -> None:
        super().__init__(what, where, mend)
        self.what = what
        self.where = where
        self.mend = mend

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  {self.mend}" if self.mend else head


class UsageError(LampstandError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = ExitCode.USAGE


class BreachedError(LampstandError):
    """A drill, bench or error budget went over its limit."""

    exit_code = ExitCode.BREACHED


class TimedOutError(LampstandError):
    """Something that has a deadline did not happen in time."""

    exit_code = ExitCode.TIMED_OUT


class LockedError(LampstandError):
    """Somebody else is changing the site; `what` names the holder."""

    exit_code = ExitCode.LOCKED


class UnavailableError(LampstandError):
    """The verb or option does not exist on this target."""

    exit_code = ExitCode.UNAVAILABLE


class EngineMissingError(LampstandError):
    """An engine (nginx, MariaDB, …) is not installed or too old."""

    exit_code = ExitCode.ENGINE_MISSING


class InterruptedByUserError(LampstandError):
    """SIGINT or SIGTERM ended the command before it was done."""

    exit_code = ExitCode.INTERRUPTED


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong in a site file.

    `line` and `column` count from 1; they are None where nothing can be pointed at.
    """

    what: str
    file: str
    line: int | None = None
    column: int | None = None
    key: str = ""
    """Path of the key, such as `app.jobs.nightly.schedule`; empty for the file as a whole."""
    mend: str | None = None

    @property
    def where(self) -> str:
        """`lampstand.yaml:12:5 database.replicas`: the form that editors and terminals turn into a link."""
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return f"{place} {self.key}" if self.key else place

    def as_error(self) -> LampstandError:
        """The finding alone, as an error to print."""
        return LampstandError(self.what, self.where, self.mend)


class SiteFileError(LampstandError):
    """The site file is wrong: everything that is wrong with it, not only the first thing."""

    exit_code = ExitCode.SITE_FILE

    def __init__(self, findings: Sequence[Finding]) -> None:
        if not findings:
            raise ValueError("a SiteFileError needs at least one finding")
        self.findings = tuple(findings)
        first = self.findings[0]
        if len(self.findings) == 1:
            super().__init__(first.what, first.where, first.mend)
        else:
            super().__init__(f"{len(self.findings)} things are wrong in the site file", first.file)

    def __str__(self) -> str:
        return "\n".join(str(finding.as_error()) for finding in self.findings)

    def __reduce__(self) -> tuple[type["SiteFileError"], tuple[tuple[Finding, ...]]]:
        # Exception.__reduce__ would call the class with `args`, which are not what __init__ takes here.
        return (type(self), (self.findings,))
