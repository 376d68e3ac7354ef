"""What the controller does for the edges: purges, and what it is asked about them."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

from lampstand.errors import LampstandError, UnavailableError
from lampstand.tiers.edge.probe import Figures, figures_command, look, parse_figures
from lampstand.tiers.edge.purge import Journal, Purge, purge, replay
from lampstand.topology import Endpoint, Instance, Topology


class Owner(Protocol):
    """What is needed of the controller."""

    topology: Topology

    def secret(self, name: str) -> str:
        """A generated secret."""
        ...

    async def run(self, instance: Instance, argv: tuple[str, ...], *, deadline: float) -> str:
        """Run a program where the instance lives; its output."""
        ...


@dataclass
class _Memory:
    """What is remembered of one edge."""

    purges: int = 0
    """Since the controller started."""
    purge_ms: deque[float] = field(default_factory=lambda: deque[float](maxlen=1000))
    """Milliseconds of the last ones."""
    seen: Figures | None = None
    fetched: int = 0

    def since_start(self, figures: Figures) -> Figures:
        """The figures with what was fetched before the VCL was reloaded, as far as it was looked at."""
        last = self.seen
        if last is None or figures.seconds < last.seconds:
            self.fetched = figures.bytes_fetched
        elif figures.bytes_fetched < last.bytes_fetched:
            self.fetched += figures.bytes_fetched
        else:
            self.fetched += figures.bytes_fetched - last.bytes_fetched
        self.seen = figures
        return replace(figures, bytes_fetched=self.fetched)

    def purge_figures(self) -> dict[str, Any]:
        """How long purges took on this edge, the last thousand."""
        ordered = sorted(self.purge_ms)
        return {
            "purges": self.purges,
            "purge_p50_ms": ordered[len(ordered) // 2] if ordered else None,
            "purge_p99_ms": ordered[-1 - len(ordered) // 100] if ordered else None,
        }


class Edges:
    """One per controller."""

    def __init__(self, owner: Owner, folder: Path) -> None:
        self._owner = owner
        self._memory: dict[str, _Memory] = {}
        self._journal = Journal(folder / "purges.ndjson")
        self._catching_up: asyncio.Task[object] | None = None

    def catch_up(self) -> None:
        """Have edges do what they missed, in the background. Called in each cycle; costs a look at one file."""
        if self._catching_up is not None and not self._catching_up.done():
            return
        if self._journal.pending() and self._owner.topology.of_kind("edge"):
            self._catching_up = asyncio.create_task(
                replay(self._journal, self._endpoints(), self._owner.secret("purge"), shield=self._shield())
            )

    async def purge(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """`urls`, `tags`, `prefix`, `everything`, `soft` -> what each edge did."""
        what = Purge(
            urls=_texts(arguments.get("urls")),
            tags=_texts(arguments.get("tags")),
            prefix=str(arguments["prefix"]) if arguments.get("prefix") else None,
            everything=bool(arguments.get("everything")),
            soft=bool(arguments.get("soft", True)),
        )
        report = await purge(
            self._endpoints(), self._owner.secret("purge"), what, shield=self._shield(), journal=self._journal
        )
        for edge in report.edges:
            if not edge.error:
                memory = self._memory.setdefault(edge.edge, _Memory())
                memory.purges += 1
                memory.purge_ms.append(edge.ms)
        return {"edges": [asdict(e) for e in report.edges], "ms": report.ms, "failed": list(report.failed)}

    async def look(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """`url`, `host` -> what each edge keeps of it."""
        kept = await look(self._endpoints(), str(arguments["url"]), host=str(arguments.get("host") or ""))
        return {"edges": [asdict(k) for k in kept]}

    async def figures(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Counters of each edge since it started; `error` where it could not be asked."""
        self._instances()
        return {"edges": await self.rows(), "owed": [asdict(e) for e in self._journal.pending()]}

    async def rows(self) -> list[dict[str, Any]]:
        """Counters of each edge; none for a site without edges."""
        return list(await asyncio.gather(*(self._figures(i) for i in self._owner.topology.of_kind("edge"))))

    async def _figures(self, instance: Instance) -> dict[str, Any]:
        try:
            text = await self._owner.run(instance, figures_command(instance, "varnishstat"), deadline=5.0)
            figures = parse_figures(text)
        except (LampstandError, OSError, ValueError) as error:
            return {"edge": instance.name, "error": str(error)}
        memory = self._memory.setdefault(instance.name, _Memory())
        figures = memory.since_start(figures)
        return {
            "edge": instance.name,
            "hit_ratio": round(figures.hit_ratio, 4),
            "bytes_saved": figures.bytes_saved,
            **asdict(figures),
            **memory.purge_figures(),
        }

    def _instances(self) -> tuple[Instance, ...]:
        found = self._owner.topology.of_kind("edge")
        if not found:
            raise UnavailableError("the site has no edges", mend="name some in `cdn.edges`")
        return found

    def _endpoints(self) -> list[Endpoint]:
        return [i.endpoint("http") for i in self._instances()]

    def _shield(self) -> str | None:
        return next((i.name for i in self._instances() if any(e.name == "shield" for e in i.endpoints)), None)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, cast("list[object]", value))) if isinstance(value, list) else ()
