"""Releases: deploy, rollback, releases, maintenance, run."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lampstand.cli.data import THROUGH, become
from lampstand.cli.options import Common, verb
from lampstand.cli.session import Session
from lampstand.errors import LampstandError, UnavailableError, UsageError

if TYPE_CHECKING:
    from lampstand.releases.words import Order, Releasing

listing = typer.Typer(
    invoke_without_command=True, help="List releases; `show` tells what a deploy did.", rich_markup_mode=None
)


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("deploy")(deploy)
    app.command("rollback")(rollback)
    app.add_typer(listing, name="releases")
    app.command("maintenance")(maintenance)
    app.command("run", context_settings=THROUGH)(run)


@verb
def deploy(
    session: Session,
    release: Annotated[
        str | None, typer.Argument(help="A release that is there already; without, the project makes one.")
    ] = None,
    dirty: Annotated[
        bool, typer.Option("--dirty", help="The folder as it is, not what is committed.")
    ] = False,
    canary: Annotated[
        str | None, typer.Option("--canary", help="Share of the visitors who get it first: 10%; 0% for none.")
    ] = None,
    canary_time: Annotated[
        str | None, typer.Option("--canary-time", help="How long the two are compared: 5m.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also when servers are not well, because the release mends them.")
    ] = False,
) -> None:
    """Release the application without a failed request; the old release returns when the new one is not good."""
    from lampstand.releases.words import Order
    from lampstand.site.units import parse_duration, parse_percent

    try:
        share = None if canary is None else float(parse_percent(canary))  # type: ignore[arg-type]
        seconds = None if canary_time is None else float(parse_duration(canary_time))  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError(str(error), "--canary") from error
    _bring(session, Order("deploy", release, dirty, share, seconds, force))


@verb
def rollback(
    session: Session,
    release: Annotated[
        str | None, typer.Argument(help="The release; without, the last good one before this.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also when servers are not well, because the release mends them.")
    ] = False,
) -> None:
    """Return to another release, by the same roll. A change of the database is not undone."""
    from lampstand.releases.words import Order

    session.say(
        "What releases changed in the database stays as it is: a rollback does not undo it.", style="yellow"
    )
    _bring(session, Order("rollback", release, force=force))


def _bring(session: Session, order: "Order") -> None:
    from lampstand.cli.progress import progress_of

    releasing = _releasing(session)
    with progress_of(session) as progress:
        receipt = asyncio.run(
            releasing.deploy(
                order, lambda plan: progress.paused(lambda: session.confirm_plan(plan)), progress
            )
        )
    if receipt is None:
        session.say("Nothing was changed.")
    elif session.json:
        session.document(receipt)
    else:
        session.say(_sentence(receipt), style="green")


def _sentence(receipt: Any) -> str:  # noqa: ANN401 - a document
    measured = (
        f"; {receipt['failed_requests']} of {receipt['requests']} requests failed"
        if receipt["requests"]
        else ""
    )
    took = f"{receipt['duration_seconds']:.1f} s"
    return f"{receipt['serves']} serves, after {took}{measured}. Deploy {receipt['number']}."


@verb
def releases(session: Session) -> None:
    """List the releases that are there, the newest first."""
    found = _releasing(session).releases()
    if session.json:
        session.document({"version": 1, "releases": list(found)})
        return
    rows = [
        [
            str(r["release"]),
            str(r["commit"] or ""),
            str(r["created"]),
            str(r["state"]),
            ", ".join(f"{d['number']} {d['outcome']}" for d in r["deploys"][-3:]),
        ]
        for r in found
    ]
    session.table(["RELEASE", "COMMIT", "CREATED", "STATE", "DEPLOYS"], rows, {"serves": "green"}.get)


@verb
def show(
    session: Session,
    name: Annotated[
        str,
        typer.Argument(metavar="[ID]", help="A release, or the number of a deploy; the last deploy without."),
    ] = "",
) -> None:
    """Show what the deploy of a release did, as it was measured."""
    receipt = _releasing(session).release(name)
    if session.json:
        session.document(receipt)
        return
    session.out(_receipt_text(receipt))


def _receipt_text(receipt: Any) -> str:  # noqa: ANN401 - a document
    over = receipt["previous"] or "nothing"
    lines = [
        f"deploy {receipt['number']}: {receipt['verb']} of {receipt['release']} over {over}",
        f"outcome     {receipt['outcome']}" + (f": {receipt['reason']}" if receipt["reason"] else ""),
        f"serves      {receipt['serves'] or '(see `lampstand status`)'}",
        f"took        {receipt['duration_seconds']:.1f} s"
        + "".join(f", {k} {v:.1f} s" for k, v in receipt["steps"].items()),
        f"requests    {receipt['requests']}, {receipt['failed_requests']} failed",
    ]
    for title, table in (("measured", receipt["phases"]), ("visitors", receipt["visitors"])):
        for phase, figures in table.items():
            if figures["requests"]:
                lines.append(
                    f"{title:11} {phase:7} {figures['requests']:7.0f} requests, "
                    f"{figures['failed_requests']:.0f} failed, p50 {1000 * figures['p50_seconds']:.1f} ms, "
                    f"p99 {1000 * figures['p99_seconds']:.1f} ms"
                )
    lines += [f"note        {note}" for note in receipt["notes"]]
    lines += [f"failed      {failure}" for failure in receipt["failures"]]
    lines += [f"{m['at']:9.3f} s  {m['server']:16} {m['what']}" for m in receipt["timeline"]]
    return "\n".join(lines)


@verb
def maintenance(
    session: Session,
    state: Annotated[str, typer.Argument(metavar="on|off", help="Close the site, or open it again.")],
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="A network for which the site stays open; may be repeated."),
    ] = None,
    retry_after: Annotated[
        str, typer.Option("--retry-after", help="When visitors are asked to come again.")
    ] = "5m",
    page: Annotated[
        Path | None, typer.Option("--page", help="HTML file of the page they see meanwhile.")
    ] = None,
) -> None:
    """Close the site for visitors with 503 and Retry-After. The edges go on serving what they have."""
    import ipaddress

    from lampstand.site.units import parse_duration
    from lampstand.tiers.balancer.live import MAINTENANCE_PAGE

    if state not in ("on", "off"):
        raise UsageError(f"{state!r} is neither on nor off", mend="`lampstand maintenance on`")
    releasing = _releasing(session)
    if state == "off":
        releasing.maintenance(None)
        session.say("The site is open.", style="green")
        return
    try:
        networks = [str(ipaddress.ip_network(network, strict=False)) for network in allow or []]
        seconds = float(parse_duration(retry_after))  # type: ignore[arg-type]
        text = page.read_text() if page else MAINTENANCE_PAGE
    except ValueError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise LampstandError(f"cannot read: {error.strerror}", str(page)) from error
    facts = {"retry_after": f"{max(1, round(seconds))}", "allow": " ".join(networks), "page": text}
    releasing.maintenance(facts)
    session.say("The site is closed for visitors; `lampstand maintenance off` opens it.", style="yellow")


def run(
    session: Session,
    command: Annotated[list[str], typer.Argument(help="-- COMMAND and its arguments.")],
) -> None:
    """Run a command once in the folder and environment of the release that serves."""
    become(_releasing(session).run(command[1:] if command[0] == "--" else command))


run = verb(run, common=False)


def _releasing(session: Session) -> "Releasing":
    found: Releasing | None = getattr(session.deployment, "releasing", None)
    if found is None:
        raise UnavailableError(
            f"the target {session.target} has releases of its own kind", mend="see its page in docs/"
        )
    return found


def _listed(context: typer.Context, **given: Any) -> None:  # noqa: ANN401 - Typer passes what it parsed
    """`lampstand releases` alone is the list; its options may stand before `show` too."""
    if context.invoked_subcommand is None:
        releases(context, **given)
    else:
        here = Common(**given)
        context.obj = here.over(context.obj) if isinstance(context.obj, Common) else here


for _name in ("__signature__", "__annotations__", "__doc__"):
    setattr(_listed, _name, getattr(releases, _name))
listing.callback()(_listed)
listing.command("show")(show)
