"""What the tests of the web tier share without engines: a Placement on paper, its Context, golden texts."""

import os
from collections.abc import Mapping
from pathlib import Path

from lampstand.engines import BOOKWORM
from lampstand.site import Site
from lampstand.topology import SECRETS, Context, Folder

PORTS: Mapping[tuple[str, str], int] = {
    ("gateway-1", "writer"): 3306,
    ("gateway-1", "reader"): 3307,
    ("gateway-1", "cache"): 6379,
    ("gateway-1", "sessions"): 6380,
}


class Paper:
    """A Placement whose answers are easy to read; `top` is put in front of every folder."""

    def __init__(self, top: str = "/srv", address: str = "127.0.0.1") -> None:
        self.top = top
        self.address = address

    def bind(self, instance: str, port: str) -> tuple[str, int]:
        return self.address, PORTS.get((instance, port), 8080)

    def reach(self, instance: str, port: str) -> tuple[str, int]:
        return "127.0.0.1", PORTS.get((instance, port), 8080)

    def folder(self, instance: str, folder: Folder) -> str:
        return f"/run/shop/{instance}" if folder == "run" else f"{self.top}/instances/{instance}/{folder}"

    def release(self, release: str) -> str:
        return f"{self.top}/releases/{release}"

    def uploads(self) -> str:
        return f"{self.top}/uploads"

    def public_url(self) -> str:
        return "http://127.0.0.1:8000"


def paper_context(
    site: Mapping[str, object],
    place: Paper | None = None,
    *,
    surge: int = 0,
    secrets: Mapping[str, str] | None = None,
) -> Context:
    """A Context of Debian 12's engines."""
    values = {name: f"<{name}>" for name in SECRETS} | dict(secrets or {})
    return Context(
        Site.model_validate({"site": "shop", **site}), place or Paper(), BOOKWORM, values, "r1", surge=surge
    )


def golden(name: str, text: str) -> None:
    """The text is that of tests/golden/NAME. With UPDATE_GOLDEN=1 it is written there first."""
    path = Path(__file__).parent / "golden" / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    assert path.read_text("utf-8") == text
