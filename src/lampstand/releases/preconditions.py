"""What must be true before a deploy begins. Pure; a deploy is refused, it never quietly does less."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lampstand.errors import LampstandError
from lampstand.site import Site


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason."""

    what: str
    where: str
    mend: str
    forcible: bool = False
    """`--force` goes on all the same."""


def refusals(site: Site, status: Mapping[str, Any]) -> list[Refusal]:
    """Why a deploy of the site cannot begin; `status` is the document of `lampstand status`."""
    return list(_refusals(site, status))


def _refusals(site: Site, status: Mapping[str, Any]) -> Iterator[Refusal]:
    if site.app.health is None:
        yield Refusal(
            "nobody could tell whether a new server is well",
            "app.health",
            "name a path that answers 200 when the application and what it needs are well",
        )
    rows: Sequence[Mapping[str, Any]] = status["instances"]
    if not rows or not any(r["state"] == "running" for r in rows):
        yield Refusal("the site is not up", site.site, "run `lampstand up`")
        return
    if not status["controller"]["running"]:
        yield Refusal("the controller does not run, so nothing is watched", site.site, "run `lampstand up`")
        return
    yield from _servers(site, [r for r in rows if r["kind"] == "web"])
    for row in rows:
        if row["kind"] == "database" and row["health"] != "good":
            yield Refusal(
                f"{row['name']} {row['text'] or 'is not well'}: a release step would meet a broken replication",
                row["name"],
                "wait until `lampstand status` says that it is well, or go on with --force",
                forcible=True,
            )


def _servers(site: Site, rows: Sequence[Mapping[str, Any]]) -> Iterator[Refusal]:
    web = site.web
    if web.surge == 0 and web.max_unavailable >= web.servers:
        yield Refusal(
            "no web server would be left while the release rolls out",
            "web.max_unavailable",
            "set `web.surge` to 1 or more, or `web.max_unavailable` below `web.servers`",
        )
    well = [r["name"] for r in rows if r["health"] == "good"]  # those that stand in serve as well as any
    needed = max(1, min(web.servers, len(rows)) - web.max_unavailable)
    if len(well) < needed:
        ill = "; ".join(f"{r['name']} {r['text'] or 'is not well'}" for r in rows if r["name"] not in well)
        yield Refusal(
            f"{len(well)} web servers are well, and {needed} are needed ({ill})",
            "web",
            "mend them first, or go on with --force where the release is what mends them",
            forcible=True,
        )


def refuse(found: Sequence[Refusal], *, force: bool) -> None:
    """Raises LampstandError with the first reason that stands."""
    standing = [r for r in found if not (force and r.forcible)]
    if standing:
        first, *others = standing
        more = "".join(f"; {r.what}" for r in others)
        raise LampstandError(f"refused: {first.what}{more}", first.where, first.mend)
