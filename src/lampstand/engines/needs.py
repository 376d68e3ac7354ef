"""What a site needs from the machine, what of that is missing, and the commands that install it. All of it is pure."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from lampstand.engines.facts import Engine, Engines, parse_version
from lampstand.errors import EngineMissingError
from lampstand.site import Site
from lampstand.topology import TIERS, TierName

Need = Literal[
    "host",
    "balancer",
    "web",
    "php",
    "python",
    "perl",
    "database",
    "cache",
    "edge",
    "tls",
    "acme",
    "places",
    "drill",
    "test",
    "bench",
]
"""Why something is needed: the tier, the language of the application, Lampstand itself, drills, tests or benchmarks."""

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Requirement:
    """One row of `debian.txt`."""

    need: Need
    engine: str
    """Field of `Engines` that must be there; empty where the installed package is all that can be known."""
    package: str
    minimum: str
    """Oldest version that will do; empty for any."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A requirement that is not met, and why in a few words."""

    requirement: Requirement
    why: str

    def __str__(self) -> str:
        return f"{self.requirement.package} ({self.requirement.need}): {self.why}"


def parse_requirements(text: str) -> tuple[Requirement, ...]:
    """The rows of `debian.txt`. Raises ValueError for a row that is none."""
    rows: list[Requirement] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        columns = ["" if column == "-" else column for column in line.split()]
        if len(columns) != 4 or columns[0] not in get_args(Need):
            raise ValueError(f"debian.txt:{number}: not a requirement: {line!r}")
        need, engine, package, minimum = columns
        rows.append(Requirement(cast("Need", need), engine, package, minimum))
    return tuple(rows)


REQUIREMENTS: tuple[Requirement, ...] = parse_requirements((_FOLDER / "debian.txt").read_text("utf-8"))
"""Everything, in the order of `debian.txt`; bin/setup reads the same file."""


def site_needs(
    runtime: Literal["php", "python", "perl"], tiers: Iterable[TierName] = TIERS
) -> frozenset[Need]:
    """What a site with those tiers and an application in that language needs."""
    return frozenset(("host", runtime, *tiers))


def needs_of(site: Site) -> frozenset[Need]:
    """What this very site needs of one machine that has all of it."""
    found: set[Need] = set(site_needs(site.app.runtime))
    if site.tls.enabled:
        found.add("tls")
    if site.tls.mode == "acme":
        found.add("acme")
    if site.cdn.visitors is not None and site.cdn.visitors.mmdb:
        found.add("places")
    return frozenset(found)


def packages(needs: Iterable[Need]) -> tuple[str, ...]:
    """The Debian packages for some needs, sorted, each once. For `apt-get install` lines in container images too."""
    wanted = frozenset(needs)
    return tuple(sorted({r.package for r in REQUIREMENTS if r.need in wanted}))


def missing(engines: Engines, needs: Iterable[Need]) -> tuple[Missing, ...]:
    """Every requirement of those needs that the machine does not meet, in the order of `debian.txt`."""
    wanted = frozenset(needs)
    found = ((r, _why(engines, r)) for r in REQUIREMENTS if r.need in wanted)
    return tuple(Missing(requirement, why) for requirement, why in found if why)


def install_plan(lacking: Iterable[Missing], *, as_root: bool | None = None) -> tuple[tuple[str, ...], ...]:
    """The commands (argument lists) that install what is missing; none when nothing is.

    They run the same script as bin/setup, which keeps the services of the new packages from starting. `as_root` says
    whether the caller is root already; None asks the system. Otherwise sudo, which may ask for a password, is in front.
    """
    names = sorted({m.requirement.package for m in lacking})
    if not names:
        return ()
    root = os.geteuid() == 0 if as_root is None else as_root
    return ((*(() if root else ("sudo",)), "sh", str(_FOLDER / "install.sh"), *names),)


def require(engines: Engines, needs: Iterable[Need]) -> None:
    """Nothing when the machine has what the needs say. Raises EngineMissingError with what is missing and the mend."""
    lacking = missing(engines, needs)
    if not lacking:
        return
    names = " ".join(sorted({m.requirement.package for m in lacking}))
    raise EngineMissingError(
        "this machine lacks " + "; ".join(str(m) for m in lacking),
        mend=f"run `lampstand doctor --fix`, or install with your package manager: {names}",
    )


def _why(engines: Engines, requirement: Requirement) -> str:
    """Why a requirement is not met; empty when it is."""
    if not requirement.engine:
        absent = engines.packages is not None and requirement.package not in engines.packages
        return "not installed" if absent else ""
    engine: Engine = engines[requirement.engine]
    if not engine:
        return "not found"
    # An engine that does not say its version is given the benefit of the doubt.
    if requirement.minimum and engine.release and engine.release < parse_version(requirement.minimum):
        return f"{engine.path} is version {engine.version}, at least {requirement.minimum} is needed"
    return ""
