"""The releases that lie in a folder: made once, never changed, removed when nobody needs them."""

import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lampstand.engines import Engines
from lampstand.errors import LampstandError
from lampstand.files import write_json
from lampstand.releases.origin import Origin
from lampstand.releases.package import MANIFEST, copy_sources, read_sources, release_id
from lampstand.site import Site
from lampstand.tiers.web.build import build, prune, recipe

RESERVE = 64 * 2**20
"""Bytes that must be free beside what a new release needs: logs and databases go on writing."""


@dataclass(frozen=True)
class Store:
    """The folder of releases, and the folder of uploads that every release links to."""

    folder: Path
    uploads: Path

    # -- making ------------------------------------------------------------------------------------------------------
    def name(self, site: Site, origin: Origin, engines: Engines) -> str:
        """The id of the release that these files make. Raises LampstandError where there are none."""
        sources = read_sources(origin.folder, site.app.uploads)
        if not sources:
            raise LampstandError(
                "the folder has no application",
                str(origin.folder),
                "put the site file beside the application",
            )
        return release_id(sources, recipe(site, engines))

    def make(self, site: Site, origin: Origin, engines: Engines, say: Callable[[str], None]) -> str:
        """Package and build, unless it is there; returns its id. Raises LampstandError when the build fails or the disk
        is too small; then nothing is left behind."""
        sources = read_sources(origin.folder, site.app.uploads)
        release = self.name(site, origin, engines)
        path = self.folder / release
        if self.has(release):
            return release
        self._require_space(sum((origin.folder / s.path).lstat().st_size for s in sources))
        say(f"Building release {release} of {len(sources)} files")
        part = self.folder / f".{release}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o755)
        try:
            copy_sources(origin.folder, sources, part)
            log = build(site, part, path, engines, self.uploads)
            manifest = {
                "version": 1,
                "release": release,
                "commit": origin.commit,
                "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "files": {s.path: s.digest for s in sources},
                "build_log": log,
            }
            write_json(part / MANIFEST, manifest)
            part.chmod(0o755)
            os.rename(part, path)
        except OSError as error:
            raise LampstandError(
                f"cannot make the release: {error.strerror}", str(error.filename or part)
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return release

    def _require_space(self, size: int) -> None:
        """The release twice: packages may be as large as the sources."""
        free = shutil.disk_usage(self.folder).free
        if free < 2 * size + RESERVE:
            raise LampstandError(
                f"the disk is too small: {free // 2**20} MiB are free, {(2 * size + RESERVE) // 2**20} MiB are needed",
                str(self.folder),
                "free some space, or keep fewer releases (`deploy.keep`)",
            )

    # -- looking -----------------------------------------------------------------------------------------------------
    def has(self, release: str) -> bool:
        """Whether a release is there, complete."""
        return (self.folder / release / MANIFEST).is_file()

    def manifest(self, release: str) -> dict[str, Any]:
        """The manifest of a release. Raises LampstandError when there is none."""
        try:
            return cast("dict[str, Any]", json.loads((self.folder / release / MANIFEST).read_text()))
        except (OSError, ValueError) as error:
            raise LampstandError("no such release", release, "`lampstand releases` lists them") from error

    def all(self) -> list[str]:
        """Ids of the complete releases, the newest first."""
        try:
            found = [
                e.name for e in os.scandir(self.folder) if not e.name.startswith(".") and self.has(e.name)
            ]
        except FileNotFoundError:
            return []
        return sorted(
            found, key=lambda name: (self.folder / name / MANIFEST).stat().st_mtime_ns, reverse=True
        )

    def find(self, name: str) -> str:
        """The release that begins with `name`. Raises LampstandError for none or several."""
        found = [r for r in self.all() if r.startswith(name)] if name else []
        if len(found) == 1:
            return found[0]
        what = "no such release" if not found else f"could be {' or '.join(found)}"
        raise LampstandError(what, name, "`lampstand releases` lists them")

    # -- the release step --------------------------------------------------------------------------------------------
    def released(self, release: str) -> Path:
        """The file whose existence says that the release step of a release was done."""
        return self.folder / f".{release}.released"

    # -- removing ----------------------------------------------------------------------------------------------------
    def prune(self, order: Sequence[str], keep: int, needed: Collection[str]) -> list[str]:
        """Remove all but the first `keep` of `order` (the releases, the most recently used first) and those that are
        `needed`; returns the ids of what was removed. Hold the site's lock: no build may run."""
        known = self.all()
        ordered = [r for r in dict.fromkeys((*order, *known)) if r in known]
        doomed = superfluous(ordered, keep, needed)
        for release in doomed:
            # Renamed first: what is half removed must not look complete.
            trash = self.folder / f".{release}.gone"
            shutil.rmtree(trash, ignore_errors=True)
            os.rename(self.folder / release, trash)
            shutil.rmtree(trash, ignore_errors=True)
            self.released(release).unlink(missing_ok=True)
        if doomed and (cache := self.folder.parent / "builds").is_dir():
            prune(cache, self.folder)
        return doomed


def superfluous(order: Sequence[str], keep: int, needed: Collection[str]) -> list[str]:
    """Which releases can go: those beyond the first `keep`, but none that is needed. Pure."""
    return [release for release in order[max(1, keep) :] if release not in needed]
