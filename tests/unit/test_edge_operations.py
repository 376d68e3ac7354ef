"""The controller's part: purges that are owed, and a journal that survives."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lampstand.errors import UnavailableError
from lampstand.tiers.edge.operations import Edges
from lampstand.tiers.edge.purge import Entry, Journal, Purge
from lampstand.tiers.edge.tier import expand
from lampstand.topology import Instance, Topology
from tests.web_support import paper_context


@dataclass
class Owner:
    """A controller on paper."""

    topology: Topology = field(default_factory=lambda: Topology("shop", ()))

    def secret(self, name: str) -> str:
        return name

    async def run(self, instance: Instance, argv: tuple[str, ...], *, deadline: float) -> str:
        return json.dumps({"MAIN.uptime": {"value": 5}})


def test_a_site_without_edges(tmp_path: Path) -> None:
    edges = Edges(Owner(), tmp_path)
    Journal(tmp_path / "purges.ndjson").begin(Purge(everything=True), ["edge-fra"])

    async def ask() -> None:
        edges.catch_up()
        with pytest.raises(UnavailableError):
            await edges.purge({"everything": True})

    asyncio.run(ask())


def test_figures_of_each_edge(tmp_path: Path) -> None:
    owner = Owner(Topology("shop", tuple(expand(paper_context({})))))
    found = asyncio.run(Edges(owner, tmp_path).figures({}))
    assert [(e["edge"], e["seconds"]) for e in found["edges"]] == [("edge-fra", 5), ("edge-iad", 5)]
    assert found["owed"] == []


def test_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state" / "purges.ndjson")
    assert journal.pending() == ()
    first = journal.begin(Purge(tags=("a",)), ["edge-fra", "edge-iad"])
    second = journal.begin(Purge(urls=("/x",), soft=False), ["edge-fra"])
    journal.done(first, ["edge-fra"])
    journal.done("unknown", ["edge-fra"])
    again = Journal(tmp_path / "state" / "purges.ndjson").pending()
    assert [(e.key, e.what, e.edges) for e in again] == [
        (first, Purge(tags=("a",)), ("edge-iad",)),
        (second, Purge(urls=("/x",), soft=False), ("edge-fra",)),
    ]
    journal.done(first, ["edge-iad"])
    journal.done(second, ["edge-fra"])
    assert journal.pending() == ()


def test_what_is_very_old_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "purges.ndjson"
    journal = Journal(path)
    journal.begin(Purge(tags=("a",)), ["edge-fra"])
    old = json.loads(path.read_text()) | {"at": time.time() - 8 * 86_400}
    path.write_text(json.dumps(old) + "\n")
    assert journal.pending() == ()


def test_requests_of_a_purge() -> None:
    what = Purge(
        urls=("https://a.test/x?b=1", "/y"), tags=("t1", "t2"), prefix="/a.b/", everything=True, soft=False
    )
    assert list(what.requests()) == [
        ("/x?b=1", (("X-Purge-Mode", "hard"),)),
        ("/y", (("X-Purge-Mode", "hard"),)),
        ("/", (("X-Purge-Mode", "hard"), ("Surrogate-Key", "t1 t2"))),
        ("/", (("X-Purge-Prefix", r"/a\.b/"),)),
        ("/", (("X-Purge-Mode", "hard"), ("X-Purge-All", "1"))),
    ]
    assert Entry("k", 0.0, what, ("edge-fra",)).what.soft is False
