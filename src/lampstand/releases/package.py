"""Packages an application folder into an immutable, content-addressed release."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lampstand.errors import LampstandError

MANIFEST = ".lampstand-release.json"
NEVER: tuple[str, ...] = (
    ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".env", ".env.*", "*.pyc", ".DS_Store",
    "lampstand.secrets*", "lampstand.yaml", "lampstand.*.yaml", MANIFEST,
)  # fmt: skip
"""What never belongs into a release: history, what a build makes again, and files that hold secrets."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file or link of the application."""

    path: str
    """Relative to the project, with slashes."""
    mode: int
    digest: str
    """SHA-256 of the content, or of the link's target."""
    link: str | None = None


def read_sources(project: Path, uploads: tuple[str, ...] = ()) -> list[Source]:
    """Every file that belongs into a release, sorted by path.

    `.lampstandignore` has lines as .gitignore(5) has them, without negation. Raises LampstandError for a link that
    leads out of the project or in a circle, and for a file that cannot be read.
    """
    patterns = [*NEVER, *_ignored(project)]
    found: list[Source] = []
    for path in _walk(project, project, patterns, {PurePosixPath(u) for u in uploads}):
        relative = path.relative_to(project).as_posix()
        try:
            if path.is_symlink():
                target = os.readlink(path)
                _check_link(project, path)
                found.append(Source(relative, 0o777, hashlib.sha256(target.encode()).hexdigest(), target))
            else:
                with path.open("rb") as handle:
                    digest = hashlib.file_digest(handle, "sha256").hexdigest()
                found.append(Source(relative, 0o755 if path.stat().st_mode & 0o100 else 0o644, digest))
        except OSError as error:
            raise LampstandError(
                f"cannot read: {error.strerror}", str(path), "make it readable or ignore it"
            ) from error
    return sorted(found, key=lambda s: s.path)


def release_id(sources: list[Source], recipe: str) -> str:
    """The name of the release these files make: the same content and recipe have the same name."""
    text = json.dumps([[s.path, s.mode, s.digest, s.link] for s in sources])
    return hashlib.sha256(f"{recipe}\0{text}".encode()).hexdigest()[:12]


def copy_sources(project: Path, sources: list[Source], target: Path) -> None:
    """Copy the files; the folder is readable by every service account and writable by its owner only."""
    for source in sources:
        path = target / source.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if source.link is not None:
            path.symlink_to(source.link)
        else:
            shutil.copyfile(project / source.path, path)
            path.chmod(source.mode)
    for folder, _, _ in os.walk(target):
        Path(folder).chmod(0o755)


def commit_of(project: Path) -> str | None:
    """`abc1234` or `abc1234-dirty`, None where the project is no git checkout."""
    try:
        found = subprocess.run(
            ["git", "-C", str(project), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, check=False, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None


def _ignored(project: Path) -> list[str]:
    try:
        lines = (project / ".lampstandignore").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _walk(project: Path, folder: Path, patterns: list[str], uploads: set[PurePosixPath]) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        path = Path(entry.path)
        relative = PurePosixPath(path.relative_to(project).as_posix())
        if any(_matches(pattern, relative, entry.is_dir(follow_symlinks=False)) for pattern in patterns):
            continue
        if relative in uploads:
            continue  # shared by all web servers, linked into the release
        if entry.is_symlink() or entry.is_file():
            yield path
        elif entry.is_dir():
            yield from _walk(project, path, patterns, uploads)


def _matches(pattern: str, path: PurePosixPath, folder: bool) -> bool:
    if pattern.endswith("/"):
        if not folder:
            return False
        pattern = pattern[:-1]
    if pattern.startswith("/") or "/" in pattern:
        return PurePosixPath("/" + str(path)).match("/" + pattern.lstrip("/"))
    return path.match(pattern)


def _check_link(project: Path, path: Path) -> None:
    try:
        end = path.resolve(strict=True)
    except (RuntimeError, OSError) as error:
        raise LampstandError(
            "a link that leads in a circle or nowhere", str(path), "mend it or ignore it"
        ) from error
    if not end.is_relative_to(project.resolve()):
        raise LampstandError(
            f"a link that leads out of the project, to {end}", str(path), "copy it in or ignore it"
        )
