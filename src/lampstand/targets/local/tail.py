"""Reads the ends of log files, and follows them."""

import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

PAUSE = 0.2
"""Seconds between two looks at files that are followed."""


def tail(files: Sequence[tuple[str, Path]], lines: int, follow: bool) -> Iterator[tuple[str, str]]:
    """The last `lines` lines of each file, then, with `follow`, every line that comes. Pairs of name and line."""
    handles: list[tuple[str, TextIO]] = []
    for name, path in files:
        try:
            handle = path.open(errors="replace")
        except OSError:
            continue
        for line in deque(handle, maxlen=lines):
            yield name, line.rstrip("\n")
        handles.append((name, handle))
    while follow:
        quiet = True
        for name, handle in handles:
            if handle.tell() > Path(handle.name).stat().st_size:
                handle.seek(0)  # rotated by copytruncate
            for line in handle:
                quiet = False
                yield name, line.rstrip("\n")
        if quiet:
            time.sleep(PAUSE)
    for _, handle in handles:
        handle.close()


def follow_json(path: Path, follow: bool) -> Iterator[dict[str, Any]]:
    """The objects of an NDJSON file; with `follow`, also those that come."""
    for _, line in tail([("", path)], 1_000_000, follow):
        if line:
            yield json.loads(line)
