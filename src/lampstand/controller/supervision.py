"""Which dead instances are started again, and when: back-off, so that nothing restarts in a tight loop. No I/O."""

from collections.abc import Iterable
from dataclasses import dataclass

from lampstand.controller.problems import View
from lampstand.observed import State
from lampstand.topology import Instance

LONGEST = 30.0
FORGIVEN_AFTER = 15.0
"""Seconds; a server that ran so long starts again at once, and its earlier ends are forgotten."""


@dataclass
class _Past:
    restarts: int = 0
    last: float = float("-inf")


class Supervision:
    """Remembers past restarts of every instance."""

    def __init__(self) -> None:
        self._past: dict[str, _Past] = {}

    def restarts(self, name: str, now: float) -> int:
        """Restarts in a row, each soon after the one before."""
        past = self._past.get(name)
        return past.restarts if past and now - past.last < FORGIVEN_AFTER + _wait(past.restarts) else 0

    def due(self, view: View, fenced: Iterable[str], recovering: Iterable[str], now: float) -> list[Instance]:
        """The instances to start now; asking counts as starting.

        Not those that a recovery fenced, nor the primary of a group with replicas: what becomes of that one is a
        decision of the failover, never of a restart.
        """
        out: list[Instance] = []
        excluded = set(fenced)
        busy = set(recovering)
        for instance in view.topology.instances:
            if instance.name in excluded or view.observed.state(instance.name) not in (
                State.STOPPED,
                State.PARTIAL,
            ):
                continue
            primary = view.memory.primaries.get(instance.kind) == instance.name
            if primary and (len(view.topology.of_kind(instance.kind)) > 1) and instance.kind in busy:
                continue
            if primary and len(view.topology.of_kind(instance.kind)) > 1:
                continue
            past = self._past.setdefault(instance.name, _Past())
            if now - past.last > FORGIVEN_AFTER + _wait(past.restarts):
                past.restarts = 0
            if now - past.last < _wait(past.restarts):
                continue
            past.restarts += 1
            past.last = now
            out.append(instance)
        return out


def _wait(restarts: int) -> float:
    """Seconds between a restart and the next, after so many in a row."""
    return 0.0 if restarts == 0 else min(LONGEST, 0.5 * 2.0 ** (restarts - 1))
