"""Compares what is written about a Debian release with what is found on a machine of that release.

    SUITE=trixie tests/fresh/run.sh sh -c './bin/setup test && .venv/bin/python tests/fresh/facts.py'

Ends with 1 and names the differences when there are some.
"""

import platform
import sys
import tempfile
from pathlib import Path
from typing import cast

from lampstand.engines import Engine, discover, for_debian
from lampstand.engines.facts import NAMES, Release

OPTIONAL = {"hitch", "certbot", "wrk", "h2load"}
"""Engines that bin/setup does not install by itself."""


def release_of_machine() -> Release:
    """Codename of this Debian. Raises SystemExit when nothing is written about it."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    if codename not in ("bookworm", "trixie"):
        raise SystemExit(f"nothing is written about {codename or 'this system'}")
    return cast("Release", codename)


def differences(release: Release) -> list[str]:
    """One line for each fact that is written otherwise than found."""
    written = for_debian(release, platform.machine())
    with tempfile.TemporaryDirectory() as folder:
        found = discover(Path(folder, "engines.json"))
    return [
        f"{name}: written {written[name]}, found {found[name]}"
        for name in NAMES
        if not (name in OPTIONAL and not found[name]) and not _agree(written[name], found[name])
    ]


def _agree(written: Engine, found: Engine) -> bool:
    same_version = found.release[: len(written.release)] == written.release
    return (written.path, written.modules) == (found.path, found.modules) and same_version


if __name__ == "__main__":
    lines = differences(release_of_machine())
    print("\n".join(lines) or "all facts are as written")
    sys.exit(1 if lines else 0)
