"""What a target is: the verbs of the command line ask a Target, the controller asks a Runtime."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lampstand.observed import Observed, ObservedInstance
from lampstand.plan import Action, Plan
from lampstand.topology import File, Instance, Topology

if TYPE_CHECKING:
    from lampstand.drills.runner import Site as DrillSite

Report = Callable[[Action, str], None]
"""Called as actions begin and end: the action, and `begin`, `done` or a sentence about what went wrong."""


class Target(Protocol):
    """Where a Topology lives."""

    name: str

    async def observe(self) -> Observed:
        """Read what really runs, once."""
        ...

    async def apply(self, plan: Plan, topology: Topology, report: Report) -> None:
        """Execute a plan; decide nothing. Raises LampstandError at the first action that fails."""
        ...


class Runtime(Protocol):
    """What the controller needs of the target it runs on."""

    supervises: bool
    """Whether the controller restarts dead processes itself (only where nothing else does)."""

    generation: int
    """Counts what `up`, `deploy` and `scale` asked for; that of the Topology that `load` returned last."""

    def load(self) -> Topology | None:
        """What should run, as the last `up`, `deploy` or `scale` left it; cheap when nothing changed."""
        ...

    def observe(self) -> Mapping[str, ObservedInstance]:
        """State and processes of every instance, without asking the engines."""
        ...

    def watch(self, wake: Callable[[str], None]) -> None:
        """Have `wake(instance)` called as soon as a process ends."""
        ...

    def may_supervise(self) -> bool:
        """False while a command changes the site: then it alone starts and stops processes."""
        ...

    async def fence(self, instance: Instance) -> None:
        """Kill and confirm death (DESIGN.md section 4); safe to repeat."""
        ...

    async def start(self, instance: Instance) -> None:
        """Start what does not run; safe to repeat."""
        ...

    async def clear_data(self, instance: Instance, keep_as: str) -> str:
        """Move the data of a stopped instance aside; returns where they are."""
        ...

    async def run(self, instance: Instance, argv: Sequence[str], deadline: float) -> str:
        """Run a program where the instance lives."""
        ...

    def secret(self, name: str) -> str:
        """A generated secret."""
        ...

    def read_live(self, file: File) -> str | None:
        """What a live file contains now."""
        ...

    def write_live(self, instance: Instance, file: File) -> None:
        """Replace a live file."""
        ...

    async def reload_routes(self, instance: Instance, drop_old: bool) -> None:
        """Have a balancer or gateway take its live files, effective when this returns. `drop_old` also ends the
        connections that the routes before it made."""
        ...


@dataclass(frozen=True, slots=True)
class Shell:
    """A program to hand the terminal to: what `exec`, `db` and `redis` become."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str = "/"


class Progress(Protocol):
    """How a long operation speaks while it works."""

    def say(self, text: str) -> None:
        """A line about what begins now."""
        ...

    def action(self, action: Action, state: str) -> None:
        """An action of a plan begins (`begin`), is `done`, or failed with a sentence."""
        ...

    def waiting(self, sentence: str) -> None:
        """What is waited for now; replaces the sentence before."""
        ...


class Deployment(Protocol):
    """One site on one target: what the verbs of the command line call. A verb that a target cannot do raises
    UnavailableError with one sentence."""

    name: str

    async def plan(self) -> Plan:
        """What `up` would do."""
        ...

    async def up(self, confirm: Callable[[Plan], bool], progress: Progress) -> bool:
        """Make what runs what the site file says; False when the plan was not confirmed."""
        ...

    async def down(self, progress: Progress) -> Sequence[str]:
        """Stop everything; data stay. Returns the names of what was stopped."""
        ...

    def data(self) -> Sequence[str]:
        """What `delete_data` would delete, by name."""
        ...

    def delete_data(self) -> None:
        """Delete all that is left of a stopped site."""
        ...

    def status(self) -> dict[str, Any]:
        """The versioned document of `status --json`."""
        ...

    def logs(self, names: Sequence[str], lines: int, follow: bool) -> Iterator[tuple[str, str]]:
        """Pairs of a server's name and a line of its logs."""
        ...

    def shell(self, instance: str, argv: Sequence[str]) -> Shell:
        """A program in the place and environment of a server."""
        ...

    def database_shell(self, replica: bool, arguments: Sequence[str]) -> Shell:
        """The MariaDB client on the primary, or on a replica."""
        ...

    def redis_shell(self, sessions: bool, arguments: Sequence[str]) -> Shell:
        """redis-cli on the cache, or on the session store."""
        ...

    async def scale(
        self, changes: Mapping[str, str], confirm: Callable[[Plan], bool], progress: Progress
    ) -> bool:
        """Change numbers of servers (`web` -> `6`, `edge` -> `+tokyo`) and bring them about."""
        ...

    async def operate(self, operation: str, **arguments: object) -> dict[str, Any]:
        """Ask the controller (controller/operations.py)."""
        ...

    def events(self, follow: bool) -> Iterator[dict[str, Any]]:
        """The audit log."""
        ...

    def drill_site(self) -> "DrillSite":
        """The site as drills see it."""
        ...

    def export(self, folder: str) -> Sequence[str]:
        """Write everything that is generated to a folder, to be used without Lampstand. Returns the files."""
        ...
