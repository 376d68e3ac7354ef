"""Makes the release of the project's folder, in the state folder of the local target."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lampstand.errors import LampstandError
from lampstand.releases.package import MANIFEST, commit_of, copy_sources, read_sources, release_id
from lampstand.tiers.web.build import build, recipe

if TYPE_CHECKING:
    from lampstand.targets.base import Progress
    from lampstand.targets.local.deployment import LocalDeployment


def prepare_release(deployment: "LocalDeployment", progress: "Progress | None") -> str:
    """The id of the release that the project's files make; packaged and built when it is not there yet.

    Without `progress` nothing is made: only the id is told. Raises LampstandError when the build fails.
    """
    site, project = deployment.site, deployment.project
    sources = read_sources(project, site.app.uploads)
    if not sources:
        raise LampstandError(
            "the folder has no application", str(project), "put the site file beside the application"
        )
    release = release_id(sources, recipe(site, deployment.target.engines))
    path = deployment.folder.releases / release
    if progress is None or (path / MANIFEST).exists():
        return release
    progress.say(f"Building release {release} of {len(sources)} files")
    part = deployment.folder.releases / f".{release}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o755)
    try:
        copy_sources(project, sources, part)
        log = build(site, part, path, deployment.target.engines, deployment.folder.uploads)
        manifest = {
            "version": 1,
            "release": release,
            "commit": commit_of(project),
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "files": {s.path: s.digest for s in sources},
            "build_log": log,
        }
        (part / MANIFEST).write_text(json.dumps(manifest, indent=1))
        part.chmod(0o755)
        os.rename(part, path)
    except OSError as error:
        raise LampstandError(
            f"cannot make the release: {error.strerror}", str(error.filename or part)
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return release


def manifest_of(releases: Path, release: str) -> dict[str, object]:
    """The manifest of a release. Raises LampstandError when there is none."""
    try:
        return json.loads((releases / release / MANIFEST).read_text())
    except OSError as error:
        raise LampstandError("no such release", release, "`lampstand releases` lists them") from error
