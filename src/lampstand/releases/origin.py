"""Where the files of a release come from: what is committed in git, or the folder as it is."""

import contextlib
import subprocess
import tarfile
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from lampstand.errors import LampstandError

GIT_WITHIN = 120.0
"""Seconds that one call of git may take."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A folder to package, and what is known about it."""

    folder: Path
    commit: str | None
    """Abbreviated commit, with `-dirty` where the folder differs from it; None where there is no git checkout."""
    left_out: tuple[str, ...] = ()
    """Paths that were changed and not committed, so they are not part of the release."""


def working(project: Path) -> Origin:
    """The folder as it is."""
    if not in_checkout(project):
        return Origin(project, None)
    commit = _head(project)
    if commit is None:
        return Origin(project, None)
    return Origin(project, f"{commit}-dirty" if changed(project) else commit)


@contextlib.contextmanager
def committed(project: Path) -> Generator[Origin]:
    """What is committed of the project, in a folder that is removed afterwards; `export-ignore` of gitattributes(5)
    applies. The folder itself where it is no git checkout.

    Raises LampstandError where nothing of it is committed, or git refuses.
    """
    if not in_checkout(project):
        yield Origin(project, None)
        return
    commit = _head(project)
    if commit is None or not _git(project, "ls-tree", "-r", "--name-only", "HEAD", "--", "."):
        raise LampstandError(
            "nothing of this folder is committed", str(project), "commit it, or take it as it is with --dirty"
        )
    with tempfile.TemporaryDirectory(prefix="lampstand-tree-") as name:
        folder = Path(name) / "tree"
        folder.mkdir()
        archive = Path(name) / "tree.tar"
        _git(project, "archive", "--format=tar", f"--output={archive}", "HEAD")
        with tarfile.open(archive) as tar:
            # Python 3.12 warns without a filter, 3.11 has none.
            tar.extraction_filter = getattr(tarfile, "tar_filter", lambda member, _: member)
            tar.extractall(folder)
        yield Origin(folder, commit, changed(project))


def in_checkout(project: Path) -> bool:
    """Whether git knows the folder. Raises LampstandError where it is a checkout that git refuses to read."""
    try:
        found = _run(project, "rev-parse", "--is-inside-work-tree")
    except FileNotFoundError:
        return False
    if found.returncode == 0:
        return found.stdout.strip() == "true"
    if "dubious ownership" in found.stderr:
        raise LampstandError(
            "git refuses to read this checkout, because it belongs to somebody else",
            str(project),
            f"git config --global --add safe.directory {project}",
        )
    return False


def changed(project: Path) -> tuple[str, ...]:
    """Paths below the project that differ from what is committed, or are new and not ignored."""
    lines = _git(project, "status", "--porcelain", "-z", "--", ".").split("\0")
    found: list[str] = []
    while lines:
        line = lines.pop(0)
        if line:
            found.append(line[3:])
            if line[0] in "RC":
                lines.pop(0)  # the name before
    return tuple(found)


def _head(project: Path) -> str | None:
    found = _run(project, "rev-parse", "--verify", "--quiet", "--short=12", "HEAD")
    return found.stdout.strip() if found.returncode == 0 else None


def _git(project: Path, *arguments: str) -> str:
    found = _run(project, *arguments)
    if found.returncode:
        raise LampstandError(f"git {arguments[0]} failed: {found.stderr.strip()}", str(project))
    return found.stdout


def _run(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            ["git", "-C", str(project), *arguments],
            capture_output=True, text=True, errors="surrogateescape", check=False, timeout=GIT_WITHIN,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise LampstandError(
            f"git {arguments[0]} did not end within {GIT_WITHIN:g} s", str(project)
        ) from error
