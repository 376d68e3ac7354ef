"""What runs inside containers: `controller`, and `release SITE SOURCE ID` while an image is built."""

import argparse
import asyncio
import fcntl
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lampstand.errors import ExitCode, LampstandError

if TYPE_CHECKING:
    from lampstand.targets.docker.tree import ProjectFolder


def main() -> int:
    """Exit code 6 when another controller of this site runs."""
    parser = argparse.ArgumentParser(prog="lampstand-docker", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    controller = verbs.add_parser("controller")
    controller.add_argument("--project", required=True, help="name of the Compose project")
    release = verbs.add_parser("release")
    release.add_argument("site", type=Path)
    release.add_argument("source", type=Path)
    release.add_argument("id")
    arguments = parser.parse_args()
    try:
        if arguments.verb == "release":
            return _release(arguments.site, arguments.source, arguments.id)
        return _controller(arguments.project)
    except LampstandError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _controller(project: str) -> int:
    """Until SIGTERM, in the foreground."""
    from lampstand.targets.docker.compose import SITE
    from lampstand.targets.docker.placement import CONFIGURATION, CONTROL
    from lampstand.targets.docker.tree import ProjectFolder

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    os.umask(0o022)
    folder = ProjectFolder(Path(SITE), Path(CONFIGURATION), Path(CONTROL))
    with (folder.root / "controller.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another controller of this site runs", file=sys.stderr)
            return ExitCode.LOCKED
        asyncio.run(_serve(project, folder))
    return ExitCode.DONE


async def _serve(project: str, folder: "ProjectFolder") -> None:
    from lampstand.controller.api import serve_api
    from lampstand.controller.journal import Journal
    from lampstand.controller.loop import Controller
    from lampstand.targets.docker.api import EngineApi
    from lampstand.targets.docker.compose import ENGINE_SOCKET
    from lampstand.targets.docker.runtime import DockerRuntime

    controller = Controller(DockerRuntime(folder, project, EngineApi(ENGINE_SOCKET)), Journal(folder.root))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, controller.stop)
    loop.add_signal_handler(signal.SIGHUP, controller.wake)
    api = asyncio.create_task(serve_api(controller, folder.state.socket))
    try:
        await controller.serve()
    finally:
        api.cancel()
        await asyncio.gather(api, return_exceptions=True)


def _release(site_file: Path, source: Path, release: str) -> int:
    """Build the application at `source` into the place of its release. What only builds need is removed."""
    import shutil

    from lampstand.releases.package import MANIFEST
    from lampstand.site import Site
    from lampstand.targets.docker.images import engines_of
    from lampstand.targets.docker.placement import RELEASES, UPLOADS
    from lampstand.tiers.web.build import build

    site = Site.model_validate_json(site_file.read_text("utf-8"))
    final, cache = Path(RELEASES) / release, Path(RELEASES).parent / "builds"
    part = final.with_name(f".{release}.part")
    part.parent.mkdir(mode=0o755, parents=True)
    shutil.copytree(source, part, symlinks=True)
    release_text = Path("/etc/os-release").read_text("utf-8")
    base = "trixie" if "trixie" in release_text else "bookworm"
    print(build(site, part, final, engines_of(base), Path(UPLOADS), cache=cache, say=print))
    # No time and no log in it: what is built from the same files is the same.
    (part / MANIFEST).write_text(json.dumps({"version": 1, "release": release}))
    part.rename(final)
    for leftover in ("home", *(p.name for p in cache.glob("vendor-*"))):
        shutil.rmtree(cache / leftover, ignore_errors=True)
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
