"""What the edges keep: `purge`, `cdn explain`, `cdn status`."""

import asyncio
from typing import Annotated, Any

import typer

from lampstand.cli.options import verb
from lampstand.cli.session import Session
from lampstand.errors import LampstandError

cdn = typer.Typer(no_args_is_help=True, help="Look at the edges.", rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("purge")(purge)
    app.add_typer(cdn, name="cdn")


@verb
def purge(
    session: Session,
    urls: Annotated[list[str] | None, typer.Argument(help="URLs or paths; the host does not matter.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Answers with this tag.")] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help="Paths that begin so.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is kept.")] = False,
    hard: Annotated[
        bool,
        typer.Option("--hard", help="Forget at once, instead of giving the old answer while it is fetched."),
    ] = False,
) -> None:
    """Have all edges fetch anew what they keep."""
    outcome = asyncio.run(
        session.deployment.operate(
            "purge", urls=urls or [], tags=tag or [], prefix=prefix, everything=everything, soft=not hard
        )
    )
    if session.json:
        session.document({"version": 1, **outcome})
    else:
        rows = [
            [e["edge"], str(e["purged"]), f"{e['ms']:.1f} ms", e["error"] or "done"] for e in outcome["edges"]
        ]
        session.table(["edge", "answers", "time", ""], rows, lambda cell: "green" if cell == "done" else None)
    if outcome["failed"]:
        raise LampstandError(
            f"{', '.join(outcome['failed'])} did not answer",
            mend="the controller repeats the purge as soon as they do",
        )


@verb
def explain(
    session: Session,
    url: Annotated[str, typer.Argument(help="A URL or a path.")],
    method: Annotated[str, typer.Option("--method", "-X", help="Method of the request.")] = "GET",
    cookie: Annotated[
        list[str] | None, typer.Option("--cookie", help="Name of a cookie of the request.")
    ] = None,
    authorization: Annotated[
        bool, typer.Option("--authorization", help="The request has an Authorization header.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no edge.")] = False,
) -> None:
    """Say which rule a URL meets, what its key is, what each edge keeps of it, and why."""
    from lampstand.tiers.edge.rules import explain as explained

    said = explained(session.site, url, method=method, cookies=cookie or (), authorization=authorization)
    edges: list[dict[str, Any]] = []
    if not offline:
        edges = asyncio.run(session.deployment.operate("cdn-look", url=url))["edges"]
    if session.json:
        session.document(
            {
                "version": 1,
                "url": url,
                "rule": said.behaviour.name,
                "key": said.key,
                "fetched": said.fetched,
                "dropped": list(said.dropped),
                "reasons": list(said.reasons),
                "edges": edges,
            }
        )
        return
    lines = [f"rule     {said.behaviour.name}", f"key      {said.key}", f"fetched  {said.fetched}"]
    if said.dropped:
        lines.append(f"dropped  {' '.join(said.dropped)}")
    session.out("\n".join([*lines, *(f"- {reason}" for reason in said.reasons)]))
    for edge in edges:
        session.out(f"{edge['edge']}  {_state(edge)}")


def _state(edge: dict[str, Any]) -> str:
    if edge["state"] not in ("hit", "stale"):
        return edge["error"] or edge["state"]
    left = f"fresh for {edge['ttl']} s" if edge["ttl"] >= 0 else f"too old by {-edge['ttl']} s"
    return f"keeps it: status {edge['status']}, {edge['age']} s old, {left}"


@verb
def status(session: Session) -> None:
    """Show what each edge did since it started."""
    outcome = asyncio.run(session.deployment.operate("cdn-figures"))
    if session.json:
        session.document({"version": 1, **outcome})
        return
    rows = [_row(e) for e in outcome["edges"]]
    columns = ["edge", "requests", "hits", "stale", "fetches", "saved", "kept", "memory", "purge p99"]
    session.table(columns, rows, lambda _: None)
    for entry in outcome["owed"]:
        session.say(f"owed by {', '.join(entry['edges'])}: a purge", style="yellow")


def _row(edge: dict[str, Any]) -> list[str]:
    """At most 80 columns for figures of usual size; `--json` has all of them."""
    if "error" in edge:
        return [edge["edge"], edge["error"], *[""] * 7]
    failed = edge["fetch_failures"]
    total = edge["bytes_used"] + edge["bytes_free"]
    slowest = edge.get("purge_p99_ms")
    return [
        edge["edge"],
        str(edge["requests"]),
        f"{edge['hit_ratio']:.1%}",
        str(edge["stale"]),
        str(edge["fetches"]) + (f" ({failed} failed)" if failed else ""),
        f"{edge['bytes_saved'] / 1e6:.1f} MB",
        str(edge["kept"]),
        f"{edge['bytes_used'] / 1e6:.0f}/{total / 1e6:.0f} MB",
        "" if slowest is None else f"{slowest:.0f} ms",
    ]


cdn.command("explain")(explain)
cdn.command("status")(status)
