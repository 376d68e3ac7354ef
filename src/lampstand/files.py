"""Files that are replaced as a whole."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from lampstand.errors import LampstandError


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
