"""What the controller writes: its memory (durable), its status (for readers), its events (the audit log)."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from lampstand.controller.problems import Memory
from lampstand.files import write_json, write_text

STALE = 5.0
"""Seconds after which an unchanged status is written again, so that a reader can tell a living controller."""


class Journal:
    """Files in one folder: `memory.json`, `status.json`, `events.ndjson`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._published: tuple[float, str] = (0.0, "")

    def read_memory(self) -> Memory:
        """The memory of the controller before this one; empty at first. A damaged file raises LampstandError."""
        path = self.folder / "memory.json"
        try:
            value = cast("dict[str, Any]", json.loads(path.read_text()))
        except FileNotFoundError:
            return Memory()
        return Memory(**value)

    def write_memory(self, memory: Memory) -> None:
        """Written and on disk when this returns."""
        write_json(self.folder / "memory.json", asdict(memory), mode=0o600, durable=True)

    def publish(self, status: Mapping[str, object]) -> None:
        """Write `status.json` when it says something new, or has not been written for a while."""
        text = json.dumps({k: v for k, v in status.items() if k != "time"})
        when, last = self._published
        if text == last and time.monotonic() - when < STALE:
            return
        write_text(self.folder / "status.json", f'{{"time": {status["time"]}, {text[1:]}\n', mode=0o640)
        self._published = (time.monotonic(), text)

    def event(self, code: str, subject: str, step: str, outcome: str, detail: Mapping[str, object]) -> None:
        """Append one line to the audit log."""
        self.append(_line(code, subject, step, outcome, detail))

    def append(self, line: str) -> None:
        """Keep a line of the audit log."""
        with (self.folder / "events.ndjson").open("a") as handle:
            handle.write(line + "\n")


def _line(code: str, subject: str, step: str, outcome: str, detail: Mapping[str, object]) -> str:
    line = {"time": round(time.time(), 4), "code": code, "subject": subject, "step": step, "outcome": outcome}
    return json.dumps(line | dict(detail), default=str)
