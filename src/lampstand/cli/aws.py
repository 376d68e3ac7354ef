"""What only AWS has: its IAM policy, what is looked at before, what it costs, what is left, and a way to cancel."""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer

from lampstand.cli.options import verb
from lampstand.cli.session import Session
from lampstand.errors import ExitCode

if TYPE_CHECKING:
    from lampstand.targets.aws.cost import Estimate
    from lampstand.targets.aws.deployment import AwsDeployment

Offline = Annotated[bool, typer.Option("--offline", help="Prices of the bundled table; asks nobody.")]
TrafficOption = Annotated[
    list[str] | None,
    typer.Option(
        "--traffic",
        metavar="KEY=VALUE",
        help="An assumption about a month instead of the site file's: requests, transfer, hit_rate, uploads, logs.",
    ),
]

app = typer.Typer(no_args_is_help=True, help="The target AWS: rights, checks, cost.", rich_markup_mode=None)


def register(main: typer.Typer) -> None:
    """Add the verbs of this module."""
    main.add_typer(app, name="aws")


def deployment(session: Session) -> "AwsDeployment":
    """The site on AWS, whatever -t says."""
    from lampstand.targets.aws.deployment import AwsDeployment

    return AwsDeployment(session.site, session.project, session.environment)


@app.command("policy")
@verb
def policy(
    session: Session,
    account: Annotated[
        str | None, typer.Option(help="Number of the account; by default the credentials'.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="Region; by default the site's.")] = None,
) -> None:
    """Print the IAM policy that whoever deploys this site needs: exactly this, as one or more documents."""
    from lampstand.targets.aws.policy import documents
    from lampstand.targets.aws.scope import Scope

    here = None if account and region else deployment(session).cloud
    number = account or (here.account if here else "")
    where = region or (here.region if here else "")
    found = documents(Scope(session.site), where, number)
    if session.json:
        session.document({"version": 1, "policies": found})
        return
    for number_of, document in enumerate(found, 1):
        if len(found) > 1:
            session.say(f"policy {number_of} of {len(found)} (a managed policy has at most 6,144 characters)")
        session.out(json.dumps(document, indent=2))


@app.command("preflight")
@verb
def preflight(session: Session) -> None:
    """Look at everything that `up` would trip over, and change nothing."""
    from lampstand.targets.aws.preflight import preflight as look
    from lampstand.targets.aws.scope import Scope

    results = look(Scope(session.site), deployment(session).cloud)
    bad = [r for r in results if r.state == "bad"]
    if session.json:
        rows = [{"state": r.state, "what": r.what, "mend": r.mend} for r in results]
        session.document({"version": 1, "good": not bad, "checks": rows})
    else:
        for result in results:
            session.out(str(result))
    if bad:
        raise typer.Exit(int(ExitCode.FAILED))


@app.command("cost")
@verb
def cost(
    session: Session,
    offline: Offline = False,
    traffic: TrafficOption = None,
) -> None:
    """Estimate what the site costs a month, by tier. Assumptions about traffic: `targets.aws.traffic`."""
    found = estimate(session, offline, traffic)
    if session.json:
        session.document(found.document())
    else:
        session.out(str(found))


def estimate(session: Session, offline: bool, traffic: list[str] | None) -> "Estimate":
    """What the site costs a month on AWS, with the assumptions of the command line over the site file's."""
    from lampstand.targets.aws.cost import assumed

    return deployment(session).cost(offline, assumed(session.site.targets.aws.traffic, traffic or ()))


@app.command("apply")
@verb
def apply(
    session: Session,
    replace: Annotated[
        list[str] | None,
        typer.Option(help="A resource whose data may be lost, as the refusal names it: database/Primary."),
    ] = None,
) -> None:
    """As `up -t aws`, and may remove or replace the resources that are named."""
    from lampstand.cli.progress import progress_of

    site = deployment(session)
    site.allowed = frozenset(replace or ())
    with progress_of(session) as progress:
        done = asyncio.run(
            site.up(lambda plan: progress.paused(lambda: session.confirm_plan(plan)), progress)
        )
    if not done:
        session.say("Nothing was changed.")


@app.command("cancel")
@verb
def cancel(session: Session) -> None:
    """Cancel what CloudFormation is doing for this site; it returns to what was before."""
    from lampstand.targets.aws.remove import Remover

    site = deployment(session)
    said = Remover(site.runner).cancel(site.stacks)
    if session.json:
        session.document({"version": 1, "cancelled": list(said)})
    else:
        session.out("\n".join(said) or "nothing is under way")


@app.command("left")
@verb
def left(session: Session) -> None:
    """List everything in the account that carries this site's tag, with what it costs a month."""
    found = deployment(session).left()
    if session.json:
        rows = [{"arn": item.arn, "what": item.what, "monthly": item.monthly} for item in found]
        session.document({"version": 1, "left": rows})
    else:
        session.out("\n".join(str(item) for item in found) or "nothing")
