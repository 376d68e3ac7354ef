"""Packages of a PHP application: composer, when composer.json names any and they are not in the release already."""

import json
import re
import shutil
from pathlib import Path
from typing import Any, cast

from lampstand.errors import LampstandError
from lampstand.tiers.web.workshop import Workshop, give_to_builder

_PLATFORM = re.compile(r"php(-\w+)?|ext-.+|lib-.+|composer(-\w+)*-api|composer", re.IGNORECASE)


def install(workshop: Workshop) -> None:
    """Run `composer install` where it is needed. Raises LampstandError when composer is missing or fails."""
    source = workshop.folder / "composer.json"
    if not source.exists() or (workshop.folder / "vendor/autoload.php").exists():
        return
    wanted = needed_packages(source)
    composer = workshop.find("composer")
    if composer is None:
        if not wanted:
            workshop.note("# composer.json names no packages and composer is not installed: nothing to do")
            return
        raise LampstandError(
            f"composer.json names packages ({', '.join(wanted[:3])}{' …' if len(wanted) > 3 else ''}), "
            "but composer is not installed",
            str(source),
            "install Debian's package `composer`, or put the folder `vendor` into the project",
        )
    lock = workshop.folder / "composer.lock"
    inputs = lock.read_bytes() if lock.exists() else b""
    vendor = workshop.folder / "vendor"
    with workshop.kept("vendor", inputs, source.read_bytes()) as (place, complete):
        if complete:
            # A copy: composer writes the class map of this release's own code into it.
            shutil.copytree(place / "vendor", vendor, symlinks=True)
            give_to_builder(vendor)
            workshop.note(f"# {place.name}: packages of a release with the same composer.lock")
        workshop.run(
            (composer, "install", "--no-dev", "--no-interaction", "--no-progress", "--optimize-autoloader"),
            purpose="composer install",
            mend="run `composer install --no-dev` in the project and mend what it says",
        )
        if not complete:
            shutil.copytree(vendor, place / "vendor", symlinks=True)


def needed_packages(source: Path) -> list[str]:
    """The packages of `require` that are not PHP itself or an extension. Raises LampstandError for broken JSON."""
    try:
        document = cast("dict[str, Any]", json.loads(source.read_text("utf-8")))
        return sorted(name for name in document.get("require", {}) if not _PLATFORM.fullmatch(name))
    except (ValueError, AttributeError, TypeError) as error:
        raise LampstandError(f"composer.json cannot be read ({error})", str(source), "mend it") from error
