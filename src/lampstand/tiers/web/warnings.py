"""What is allowed but will surprise somebody: for `lampstand doctor`. Pure, but for `written_files`."""

import os
from collections.abc import Sequence
from pathlib import Path

from lampstand.errors import Finding
from lampstand.site import Site
from lampstand.tiers.web.environment import TOOLS, secret_variables

_SHOWN = 3


def warnings(site: Site, written: Sequence[str] = (), *, file: str = "lampstand.yaml") -> tuple[Finding, ...]:
    """Findings about the application and its web servers. `written` is what `written_files` saw in a release."""
    found: list[Finding] = []

    def warn(what: str, key: str, mend: str) -> None:
        found.append(Finding(what, file, key=key, mend=mend))

    if written:
        names = ", ".join(written[:_SHOWN]) + (" …" if len(written) > _SHOWN else "")
        lost = (
            f"the {site.web.servers} web servers need not share them, and the next release starts without them"
            if site.web.servers > 1
            else "the next release starts without them"
        )
        folders = sorted({str(Path(name).parent) for name in written} - {"."})
        mend = (
            f"name the folders: `uploads: [{', '.join(folders[:_SHOWN])}]`"
            if folders
            else "write below a folder"
        )
        warn(f"the application writes into its own release ({names}); {lost}", "app.uploads", mend)
    if site.app.health is None:
        warn(
            "there is no health path: `lampstand deploy` refuses, and a server that answers nonsense counts as well",
            "app.health",
            "add a page that asks the database and the cache, and name it: `health: /healthz`",
        )
    own = secret_variables(site) - set(site.app.secrets)
    for name in sorted(own & {*site.app.env, *site.app.secrets}):
        section = "app.env" if name in site.app.env else "app.secrets"
        warn(
            f"{name} replaces the value that Lampstand gives, which leads to this site's own servers",
            section,
            "remove it, unless the application is meant to use another server",
        )
    if site.app.php_ini and site.app.runtime != "php":
        warn("settings of php.ini have no effect here", "app.php_ini", "remove them")
    if site.web.threads > 1 and site.app.runtime != "python":
        warn("threads have no effect with this language", "web.threads", "raise `processes` instead")
    return tuple(found)


def written_files(release: Path, since: float, most: int = 100) -> list[str]:
    """Files of a release that changed after `since` (unix time), relative to it, at most so many. Reads the disk.

    Uploads are links and are not followed; caches of compiled code do not count.
    """
    found: list[str] = []
    for place, folders, files in os.walk(release):
        folders[:] = [name for name in folders if name not in (TOOLS, "__pycache__")]
        for name in files:
            path = Path(place, name)
            if not path.is_symlink() and path.lstat().st_mtime > since:
                found.append(str(path.relative_to(release)))
                if len(found) == most:
                    return sorted(found)
    return sorted(found)
