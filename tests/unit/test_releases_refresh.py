"""Which deploys have the edges fetch anew."""

import asyncio
from typing import Any

import pytest

from lampstand.errors import LampstandError
from lampstand.releases.receipts import Receipt
from lampstand.releases.refresh import refresh_edges
from lampstand.site import Site


@pytest.mark.parametrize(
    ("previous", "release", "edges", "asked"),
    [
        ("r1", "r2", ["fra"], True),
        ("", "r2", ["fra"], False),
        ("r1", "r1", ["fra"], False),
        ("r1", "r2", [], False),
    ],
)
def test_only_where_another_release_serves(
    previous: str, release: str, edges: list[str], asked: bool
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    async def operate(operation: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        calls.append((operation, arguments))
        return {}

    site = Site.model_validate({"site": "shop", "cdn": {"edges": edges}})
    asyncio.run(refresh_edges(site, Receipt(1, "deploy", release, previous, 0.0), operate, print))
    assert calls == ([("purge", {"everything": True, "soft": True})] if asked else [])


def test_a_controller_that_does_not_answer_fails_no_deploy() -> None:
    async def operate(_: str, **__: object) -> dict[str, Any]:
        raise LampstandError("the controller does not answer")

    said: list[str] = []
    site = Site.model_validate({"site": "shop"})
    asyncio.run(refresh_edges(site, Receipt(1, "deploy", "r2", "r1", 0.0), operate, said.append))
    assert "the controller does not answer" in said[0]
