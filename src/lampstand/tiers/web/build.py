"""Makes an unpacked release ready to serve: packages of the language, the application's own build, links to uploads.

`build` does I/O and runs programs; `recipe` is pure.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from lampstand.engines import Engines
from lampstand.errors import LampstandError
from lampstand.site import Site
from lampstand.tiers.web import build_perl, build_php, build_python
from lampstand.tiers.web.environment import TOOLS, language_environment
from lampstand.tiers.web.tier import ACCOUNT
from lampstand.tiers.web.workshop import Workshop

RECIPE = 1
"""Raised whenever the same sources must be built again because this code changed."""


def recipe(site: Site, engines: Engines) -> str:
    """What besides its files makes a release what it is. A release whose files and recipe are the same is the same."""
    language = {"php": engines.php, "python": engines.python3, "perl": engines.perl}[site.app.runtime]
    return json.dumps(
        [RECIPE, site.app.runtime, language.version, site.app.build, site.app.entry, site.app.uploads]
    )


def build(
    site: Site,
    folder: Path,
    final: Path,
    engines: Engines,
    uploads: Path,
    *,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> str:
    """Build the release unpacked in `folder`, which will be renamed to `final`, and return the build log.

    `uploads` is the folder that all web servers share; `cache` keeps packages for the next build (default: `builds`
    beside the releases); `say` hears what is done. Raises LampstandError when a command fails or is missing.
    """
    cache = cache or final.parent.parent / "builds"
    cache.mkdir(mode=0o755, parents=True, exist_ok=True)
    environment = {**language_environment(site, str(folder), str(folder)), **site.app.env}
    workshop = Workshop(folder, final, cache, environment, say)
    link_uploads(site, folder, uploads)
    with workshop.opened():
        match site.app.runtime:
            case "php":
                build_php.install(workshop)
            case "python":
                build_python.install(workshop, engines, site)
            case "perl":
                build_perl.install(workshop, engines)
        if site.app.build:
            workshop.run(
                ("/usr/bin/env", *site.app.build), purpose="`app.build`", mend="run it by hand in the project"
            )
    return workshop.log


def link_uploads(site: Site, folder: Path, uploads: Path) -> None:
    """Make every folder of `app.uploads` a link to the shared one, which is made when it is not there.

    Raises LampstandError where the release has a file of that name.
    """
    for name in site.app.uploads:
        shared, link = uploads / name, folder / name
        if not shared.is_dir():
            shared.mkdir(parents=True)
            for place in (shared, *shared.parents):
                if place == uploads:
                    break
                place.chmod(0o755)
                if os.geteuid() == 0:
                    shutil.chown(place, ACCOUNT, ACCOUNT)
        if link.is_dir() and not link.is_symlink():
            _remove_empty(link)
        if link.is_symlink():
            link.unlink()
        elif link.exists():
            raise LampstandError(
                "an upload folder is in the release already and is not empty",
                str(link),
                f"name `{name}` in `app.uploads` only when the application's own files are elsewhere",
            )
        link.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        link.symlink_to(shared)


def prune(cache: Path, releases: Path) -> list[str]:
    """Remove what no release links to any more and return the names. Hold the site's lock: no build may run."""
    in_use = {
        os.path.basename(os.readlink(link))
        for pattern in (f"*/{TOOLS}/venv", "*/local")
        for link in releases.glob(pattern)
        if link.is_symlink()
    }
    removed = [
        entry.name
        for entry in sorted(cache.iterdir())
        if entry.name.startswith(("venv-", "local-")) and entry.name not in in_use
    ]
    for name in removed:
        shutil.rmtree(cache / name)
        (cache / f".{name}.lock").unlink(missing_ok=True)
    return removed


def _remove_empty(folder: Path) -> None:
    """Remove a folder with nothing in it but placeholders (`.gitkeep`) and folders like it."""
    for entry in list(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            _remove_empty(entry)
        elif entry.name in (".gitkeep", ".gitignore", ".keep"):
            entry.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
