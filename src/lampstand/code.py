"""Which code a long-running part of Lampstand runs, so that a command can tell an older one."""

import hashlib
import os
from functools import cache
from pathlib import Path

from lampstand import __version__


@cache
def fingerprint() -> str:
    """The version, and 8 hex digits over names, sizes and times of the package's files: a few milliseconds, once."""
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(Path(__file__).parent):
        folders[:] = sorted(f for f in folders if f != "__pycache__")
        for name in sorted(names):
            found = os.stat(os.path.join(folder, name))
            digest.update(f"{name} {found.st_size} {found.st_mtime_ns}\n".encode())
    return f"{__version__}+{digest.hexdigest()[:8]}"
