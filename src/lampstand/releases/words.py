"""What the verbs of releases ask for, on every target."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lampstand.errors import ExitCode, LampstandError
from lampstand.plan import Plan

if TYPE_CHECKING:
    from lampstand.targets.base import Progress, Shell

Confirm = Callable[[Plan], bool]


@dataclass(frozen=True, slots=True)
class Order:
    """One deploy, as it was asked for."""

    verb: str
    """`deploy`, `rollback`, `up` or `scale`."""
    release: str | None = None
    """A release that is there already; without, the project's files make one."""
    dirty: bool = False
    """The folder as it is, not what is committed."""
    canary: float | None = None
    """Share of the visitors (0 to 1) who get the new release first; 0: nobody, although the site file says so."""
    canary_time: float | None = None
    """Seconds; the site file's without."""
    force: bool = False
    """Also when fewer servers are well than a deploy needs."""


class TakenBackError(LampstandError):
    """The old release serves again."""


class BudgetError(TakenBackError):
    """… because the new one failed or was slow too often."""

    exit_code = ExitCode.BREACHED


class Releasing(Protocol):
    """The verbs of releases on one target."""

    async def deploy(self, order: Order, confirm: Confirm, progress: "Progress") -> Mapping[str, Any] | None:
        """Bring a release about and return its receipt; None when it was not confirmed or there is nothing to do.

        Raises LampstandError when it was refused, failed or was taken back; the receipt is kept all the same.
        """
        ...

    def releases(self) -> Sequence[Mapping[str, Any]]:
        """Every release that is there, the newest first: release, commit, created, state, deploys."""
        ...

    def release(self, name: str) -> Mapping[str, Any]:
        """The receipt of the last deploy of a release, of the deploy with a number, or (an empty name) of the last."""
        ...

    def maintenance(self, facts: Mapping[str, str] | None) -> None:
        """Close the site for visitors (`retry_after`, `allow`, `page`), or open it again with None."""
        ...

    def maintained(self) -> bool:
        """Whether maintenance is on."""
        ...

    def run(self, argv: Sequence[str]) -> "Shell":
        """A command in the environment of the release that serves."""
        ...
