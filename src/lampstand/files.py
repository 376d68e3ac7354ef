"""Files that are replaced as a whole."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from lampstand.errors import LampstandError

T = TypeVar("T")


class Kept(Generic[T]):
    """What a file that is only ever replaced as a whole says: read again when it is another file than before."""

    def __init__(self, path: Path, read: Callable[[Path], T]) -> None:
        self._path = path
        self._read = read
        self._found: tuple[tuple[int, int], T] | None = None

    def get(self) -> T:
        """Raises what `read` raises, and FileNotFoundError."""
        seen = os.stat(self._path)
        stamp = seen.st_ino, seen.st_mtime_ns
        if self._found is None or self._found[0] != stamp:
            self._found = stamp, self._read(self._path)
        return self._found[1]


def write_text(path: Path, text: str, mode: int = 0o644, durable: bool = False) -> None:
    """Replace a file as a whole: a reader sees the old text or the new one, never a part.

    `durable` also waits for the disk. Raises LampstandError when the disk is full or the folder is not writable.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "w") as handle:
            os.fchmod(handle.fileno(), mode)
            handle.write(text)
            if durable:
                handle.flush()
                os.fsync(handle.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise LampstandError(
            f"cannot write: {error.strerror}", str(path), "free some space or make the folder writable"
        ) from error


def write_json(path: Path, value: Mapping[str, object], mode: int = 0o644, durable: bool = False) -> None:
    """`write_text` of a JSON object."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n", mode, durable)
