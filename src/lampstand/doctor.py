"""What `lampstand doctor` looks at: engines, memory, disk, and habits of the application that will hurt later."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lampstand.engines import discover, install_plan, missing, needs_of
from lampstand.errors import LampstandError
from lampstand.releases.package import MANIFEST
from lampstand.site import Site
from lampstand.targets.local import sizes
from lampstand.targets.local.desired import Desired, load_ports
from lampstand.targets.local.folder import StateFolder
from lampstand.tiers.edge import certificates
from lampstand.tiers.web.warnings import warnings, written_files

if TYPE_CHECKING:
    from lampstand.cli.session import Session

LEAST_DISK = 2_000_000_000
"""Bytes of free disk below which a database is in danger."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    outcome: Literal["good", "warning", "bad"]
    text: str
    mend: str = ""


def examine(session: "Session") -> list[Check]:
    """Every check of the site in the session's folder; a site file that is wrong raises SiteFileError."""
    site, project = session.site, session.project
    folder = StateFolder.of(project, site.site, session.environment)
    found: list[Check] = []
    for check in (_engines, _memory):
        found += check(site, project)
    found += _application(site, folder)
    found += _state(folder)
    found += _certificate(site, project, folder)
    return found


def _engines(site: Site, _: Path) -> Iterator[Check]:
    lacking = missing(discover(), needs_of(site))
    if lacking:
        yield Check(
            "engines", "bad", "; ".join(str(m) for m in lacking), "`lampstand doctor --fix` installs them"
        )
    else:
        yield Check("engines", "good", f"all that a {site.app.runtime} site needs is installed")
    if lacking := missing(discover(), ("drill",)):
        text = "drills need " + ", ".join(m.requirement.package for m in lacking)
        yield Check("engines", "warning", text, "`lampstand doctor --fix` installs them")


def _memory(site: Site, _: Path) -> Iterator[Check]:
    wanted, there = sizes.asked(site), sizes.memory_of_machine()
    text = f"the site uses up to {wanted / 1e9:.1f} GB of {there / 1e9:.1f} GB"
    if wanted > there:
        yield Check(
            "memory", "bad", text, "ask for less in database.memory, cache.memory, cdn.memory or web.servers"
        )
    elif wanted > 0.8 * there:
        yield Check("memory", "warning", text, "little is left for anything else on this machine")
    else:
        yield Check("memory", "good", text)


def _application(site: Site, folder: StateFolder) -> Iterator[Check]:
    said = warnings(site, _written(folder))
    for finding in said:
        yield Check("application", "warning", finding.what, finding.mend or "")
    if not said:
        yield Check("application", "good", f"{site.app.runtime}, health path {site.app.health or '/'}")


def _written(folder: StateFolder) -> list[str]:
    """What the application changed in the release that runs."""
    if not folder.desired.exists():
        return []
    release = folder.releases / Desired.read(folder).release
    manifest = release / MANIFEST
    return written_files(release, manifest.stat().st_mtime) if manifest.exists() else []


def _state(folder: StateFolder) -> Iterator[Check]:
    place = next(p for p in (folder.root, *folder.root.parents) if p.exists())
    free = shutil.disk_usage(place).free
    outcome: Literal["good", "bad"] = "good" if os.access(place, os.W_OK) else "bad"
    yield Check(
        "state folder", outcome, str(folder.root), "" if outcome == "good" else f"make {place} writable"
    )
    if free < LEAST_DISK:
        yield Check("disk", "bad", f"{free / 1e9:.1f} GB free at {place}", "free some space")
    else:
        yield Check("disk", "good", f"{free / 1e9:.0f} GB free")


def _certificate(site: Site, project: Path, folder: StateFolder) -> Iterator[Check]:
    """The certificate that visitors get; with `own` it is there before the site is."""
    if not site.tls.enabled or not shutil.which("openssl"):
        return
    tls, made = site.tls, folder.instances / "visitors-1" / "data" / "tls"
    names = tls.domains or (() if tls.mode == "own" else ("localhost",))
    if tls.mode == "own":
        pairs = [(project / (tls.certificate or ""), project / (tls.key or ""))]
    else:
        newest = sorted(made.glob("*/fullchain.pem"), key=lambda p: p.stat().st_mtime)[-1:]
        pairs = [(p, p.with_name("privkey.pem")) for p in newest]
    authority = made / "ca.pem" if tls.mode == "local" else None
    for certificate, key in pairs:
        found = list(certificates.examine(certificate, key, names, authority=authority))
        port = load_ports(folder, site).kept.get("visitors-1/https")
        if port and not any(f.outcome == "bad" for f in found):
            found += certificates.served(certificate, "127.0.0.1", port)
        for finding in found:
            yield Check("certificate", finding.outcome, finding.text, finding.mend)


def fix_engines(session: "Session") -> None:
    """Install what is missing, after saying what and asking. Raises LampstandError when that fails."""
    lacking = missing(discover(), {*needs_of(session.site), "drill"})
    run: Callable[[tuple[str, ...]], int] = subprocess.call
    for argv in install_plan(lacking):
        session.say(f"This will run: {' '.join(argv)}")
        if not session.confirm("Install?"):
            return
        if run(argv):
            raise LampstandError(
                "the packages could not be installed", " ".join(argv), "the lines above tell why"
            )
