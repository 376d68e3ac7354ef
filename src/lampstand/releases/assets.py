"""Static files of releases that no longer serve, kept for `deploy.assets_keep`: an old page finds its style sheet.

One folder with the union of them, as hard links, so that they cost no space while a release has them too, and so that
how many deploys there were makes no request slower. Releases that serve are looked up first.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lampstand.errors import LampstandError
from lampstand.files import write_json
from lampstand.site import Site
from lampstand.tiers.balancer.statics import Files, files
from lampstand.tiers.balancer.tier import SCRIPTS

_NEVER = re.compile(rf"(?:\.(?:{SCRIPTS})|~)$", re.IGNORECASE)


@dataclass(frozen=True)
class Assets:
    """The folder, and the file that says when each path was served last (unix time)."""

    folder: Path
    index: Path

    def take(self, site: Site, release: Path, known: Mapping[str, float], now: float) -> dict[str, float]:
        """Link every static file of a release; the index after it."""
        found = dict(known)
        for path in static_files(site, release):
            self._link(release / path, self.folder / path)
            found[path] = now
        return found

    def keep(self, site: Site, serving: Iterable[Path], now: float, *, last: float) -> None:
        """Take what these releases serve, and remove what no release has served since `last` (unix time).

        Raises LampstandError when the disk is full.
        """
        known = self._read()
        try:
            self._make(self.folder)
            for release in serving:
                known = self.take(site, release, known, now)
            for path in [p for p, when in known.items() if when < last]:
                self._remove(path)
                del known[path]
        except OSError as error:
            raise LampstandError(f"cannot keep assets: {error.strerror}", str(error.filename)) from error
        write_json(self.index, known)

    def _read(self) -> dict[str, float]:
        import json

        try:
            return {str(k): float(v) for k, v in json.loads(self.index.read_text()).items()}
        except (FileNotFoundError, ValueError):
            return {}

    def _link(self, source: Path, target: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            if target.samefile(source):
                return
        self._make(target.parent)
        part = target.with_name(f".{target.name[:200]}.part")
        part.unlink(missing_ok=True)
        os.link(source, part)
        os.replace(part, target)

    def _make(self, folder: Path) -> None:
        """A folder that nginx may enter, whatever the umask."""
        if not folder.is_dir():
            if folder != self.folder:
                self._make(folder.parent)
            folder.mkdir()
            folder.chmod(0o755)

    def _remove(self, path: str) -> None:
        target = self.folder / path
        target.unlink(missing_ok=True)
        for parent in target.parents:
            if parent == self.folder:
                break
            try:
                parent.rmdir()
            except OSError:
                break  # not empty


def static_files(site: Site, release: Path) -> Iterator[str]:
    """Paths, relative to the release, of what nginx may serve from it."""
    for entry in files(site):
        base = release / entry.folder.lstrip("/")
        for folder, names, contents in os.walk(base):
            names[:] = [n for n in names if not n.startswith(".")]
            for name in contents:
                path = Path(folder) / name
                inner = path.relative_to(base).as_posix()
                if path.is_file() and not path.is_symlink() and servable(entry, inner):
                    yield path.relative_to(release).as_posix()


def servable(entry: Files, inner: str) -> bool:
    """Whether nginx would serve this path below the folder of an entry. Pure."""
    if any(part.startswith(".") for part in inner.split("/")) or _NEVER.search(inner):
        return False
    # Where URLs have a prefix of their own the whole folder is for visitors.
    return entry.variable != "$uri" or re.search(entry.regex, f"/{inner}") is not None
