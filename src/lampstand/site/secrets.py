"""Values of `app.secrets`: the site file has their names only."""

import os
from pathlib import Path

from lampstand.errors import LampstandError
from lampstand.site import Site

FILE = "lampstand.secrets"


def application_secret_values(site: Site, project: Path) -> dict[str, str]:
    """Name -> value, from the environment of the command, else from lines `NAME=value` in `lampstand.secrets`.

    That file lies beside the site file, has mode 0600 and is never part of a release.

    Raises LampstandError naming every secret without a value, or when the file can be read by others.
    """
    if not site.app.secrets:
        return {}
    path = project / FILE
    lines: dict[str, str] = {}
    if path.exists():
        if path.stat().st_mode & 0o077:
            raise LampstandError("others can read this file of secrets", str(path), f"chmod 600 {path}")
        for line in path.read_text().splitlines():
            name, sign, value = line.partition("=")
            if sign and not line.lstrip().startswith("#"):
                lines[name.strip()] = value
    found = {
        name: value
        for name in site.app.secrets
        if (value := os.environ.get(name, lines.get(name))) is not None
    }
    lacking = [name for name in site.app.secrets if name not in found]
    if lacking:
        raise LampstandError(
            f"no value for {', '.join(lacking)}", "app.secrets",
            f"set the variable where you run lampstand, or write NAME=value into {FILE} (chmod 600)",
        )  # fmt: skip
    return found
