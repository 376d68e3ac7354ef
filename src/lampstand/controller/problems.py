"""The words of diagnosis and recovery: Problem, Finding, Step, and the Hands a step may use.

A Problem is a row in a table. Its matcher is pure over (Topology, Observed, Memory), without I/O, so that every row is
tested with values. Its recovery is a list of named Steps, each bounded in time and safe to repeat: a controller that
was killed half-way matches again and repeats from what it then observes.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lampstand.observed import Observed
from lampstand.topology import File, Instance, Topology


@dataclass(frozen=True)
class Memory:
    """What the controller remembers between cycles and across its own restarts (kept in `memory.json`)."""

    primaries: Mapping[str, str] = field(default_factory=dict[str, str])
    """Kind (`database`, `cache`, `sessions`) -> name of the instance that is the primary, once one was chosen."""
    known: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    """Kind -> every server that may hold an acknowledged write (it may acknowledge) -> the position of the primary when
    it joined: from there on it lacks nothing of what was acknowledged before."""
    terms: Mapping[str, int] = field(default_factory=dict[str, int])
    """Kind -> number of its promotions so far; every new primary writes its own into its data first."""
    intents: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    """Kind -> facts of a recovery under way (`step`, `candidate`, `old_primary`, …): how one resumes after a kill."""
    held: Mapping[str, str] = field(default_factory=dict[str, str])
    """Instance -> reason why the operator or a roll took it out of the routes (`drain`, `maintenance`)."""
    baselines: Mapping[str, int] = field(default_factory=dict[str, int])
    """Counters whose rise is an alarm (`database-1/semi_sync_no_tx`)."""


@dataclass(frozen=True)
class View:
    """All that a matcher may look at."""

    topology: Topology
    observed: Observed
    memory: Memory
    now: float
    """Unix time in seconds."""


@dataclass(frozen=True)
class Finding:
    """One Problem seen on one subject."""

    code: str
    subject: str
    """An instance, or a kind where the whole group is meant."""
    sentence: str
    detail: Mapping[str, str] = field(default_factory=dict[str, str])


class Hands(Protocol):
    """What a recovery step may do to the world. The target supplies it; engine clients connect by Endpoint."""

    async def fence(self, instance: Instance) -> None:
        """Kill every process of the instance and confirm its death (SIGKILL and pidfd locally). Safe to repeat.
        It stays down until `start`. Raises LampstandError when death cannot be confirmed."""
        ...

    async def start(self, instance: Instance) -> None:
        """Start what does not run of the instance. Safe to repeat."""
        ...

    async def restart(self, instance: Instance) -> None:
        """Kill what is left and start again."""
        ...

    async def clear_data(self, instance: Instance, keep_as: str) -> str:
        """Move the data folder of a stopped instance aside (never delete), and return where it is now."""
        ...

    async def run(self, instance: Instance, argv: Sequence[str], *, deadline: float) -> str:
        """Run a program where the instance lives (its account, its folders) and return its output.
        Raises LampstandError with the last lines when it exits other than 0 or needs more than `deadline` seconds."""
        ...

    def secret(self, name: str) -> str:
        """A generated secret by name."""
        ...

    async def route(self, *, drop_old: bool = False) -> None:
        """Write the route files from the current memory and health, and have the gateways and balancers reload them;
        effective when it returns. `drop_old` also ends connections that a gateway made by the routes before."""
        ...

    def write_live(self, instance: Instance, file: File) -> None:
        """Replace a live file of an instance; it is read at the instance's next start or reload."""
        ...

    def remember(self, **changes: object) -> None:
        """Replace fields of Memory, durably (written and fsynced before it returns)."""
        ...

    @property
    def view(self) -> View:
        """The newest View; refreshed by the prober, also while a recovery runs."""
        ...

    async def refresh(self, *instances: str) -> View:
        """Probe the named instances now and return the View after it."""
        ...

    def event(self, code: str, subject: str, step: str, outcome: str, **detail: object) -> None:
        """Append one line to the audit log `events.ndjson`."""
        ...


@dataclass(frozen=True)
class Step:
    """One bounded, repeatable step of a recovery."""

    name: str
    deadline: float
    """Seconds; the step is cancelled and counts as failed after it."""
    run: Callable[[Hands], Awaitable[None]]
    attempts: int = 1


@dataclass(frozen=True)
class Problem:
    """A row in the table of what can be wrong."""

    code: str
    sentence: str
    """What it means for the site, in one plain sentence; shown by `lampstand explain CODE`."""
    priority: int
    """Lower is mended first; the recoveries of one kind never run side by side."""
    matches: Callable[[View], Sequence[Finding]]
    recover: Callable[[View, Finding], Sequence[Step]] | None = None
    """None: nothing to do but tell the operator."""
    mend: str = ""
    """What the operator can do, where the controller cannot."""
    group: str = ""
    """Kind whose recoveries exclude each other (`database`); empty: the subject itself."""
