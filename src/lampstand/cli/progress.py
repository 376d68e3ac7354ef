"""Progress of long work: a live line on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.status import Status

    from lampstand.cli.session import Session
    from lampstand.plan import Action

T = TypeVar("T")


class TerminalProgress:
    """Implements targets.base.Progress."""

    def __init__(self, session: "Session", live: "Status | None") -> None:
        self._session = session
        self._live = live
        self._begun = time.monotonic()
        self._last = ""

    def say(self, text: str) -> None:
        """A line that stays."""
        self._session.say(text)

    def action(self, action: "Action", state: str) -> None:
        """Actions are shown as they end; on a terminal also while they run."""
        if state == "begin":
            self.waiting(f"{action.verb} {action.instance}")
        elif state == "done":
            self._session.say(f"  {self._clock()} {action.verb:10} {action.instance}")
        else:
            self._session.say(f"  {self._clock()} {action.verb:10} {action.instance}: {state}", style="red")

    def waiting(self, sentence: str) -> None:
        """What is waited for."""
        if sentence == self._last:
            return
        self._last = sentence
        if self._live is not None:
            self._live.update(f"{self._clock()} {sentence}")
        elif self._session.verbose:
            self._session.say(f"  {self._clock()} {sentence}")

    def paused(self, ask: Callable[[], T]) -> T:
        """Ask something while nothing moves on the terminal."""
        if self._live is None:
            return ask()
        self._live.stop()
        try:
            return ask()
        finally:
            self._live.start()

    def _clock(self) -> str:
        return f"{time.monotonic() - self._begun:5.1f}s"


@contextmanager
def progress_of(session: "Session") -> Generator[TerminalProgress]:
    """The progress of one command."""
    if session.quiet or not sys.stderr.isatty():
        yield TerminalProgress(session, None)
        return
    with session.console(error=True).status("") as live:
        yield TerminalProgress(session, live)
