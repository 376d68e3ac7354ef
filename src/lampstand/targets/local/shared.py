"""The folders of uploads, which all web servers of a site share."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from lampstand.tiers.web.tier import ACCOUNT


def make_folders(project: Path, uploads: Path, names: Sequence[str]) -> None:
    """Make a shared folder for each name. What the project's folder of that name holds is copied into it once, when
    it is made: a site that moves here keeps its pictures. As root they belong to the account of the web servers."""
    _make(uploads)
    for name in names:
        shared, own = uploads / name, project / name
        if not shared.exists() and own.is_dir():
            _copy(own, shared)
        _make(shared)


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(folder, ACCOUNT, ACCOUNT)


def _copy(own: Path, shared: Path) -> None:
    # Beside it first: a copy that was broken off is not taken for a whole one.
    part = shared.with_name(f".{shared.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(own, part, symlinks=True)
    if os.geteuid() == 0:
        for path in part.rglob("*"):
            if not path.is_symlink():
                shutil.chown(path, ACCOUNT, ACCOUNT)
    part.rename(shared)
