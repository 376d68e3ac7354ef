"""The engines on this machine: what is needed, what is there, how to install what is missing.

`discover()` is the only function here that looks at the machine. Everything else is a table or pure, so that container
images and golden tests use the facts of a Debian release (`for_debian`, `BOOKWORM`) without looking.
"""

from lampstand.engines.discover import discover
from lampstand.engines.facts import BOOKWORM, TRIXIE, Engine, Engines, for_debian
from lampstand.engines.needs import (
    REQUIREMENTS,
    Missing,
    Need,
    Requirement,
    install_plan,
    missing,
    needs_of,
    packages,
    require,
    site_needs,
)

__all__ = [
    "BOOKWORM",
    "REQUIREMENTS",
    "TRIXIE",
    "Engine",
    "Engines",
    "Missing",
    "Need",
    "Requirement",
    "discover",
    "for_debian",
    "install_plan",
    "missing",
    "needs_of",
    "packages",
    "require",
    "site_needs",
]
