"""The verbs on AWS as the command line has them: cost before anything is made, the first deploy, what is left."""

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lampstand.cli import main
from lampstand.errors import LampstandError, UnavailableError, UsageError
from lampstand.plan import Action, Plan
from lampstand.releases.words import Order
from lampstand.targets.aws import cost, preflight
from lampstand.targets.aws.deployment import AwsDeployment
from lampstand.targets.aws.inventory import Left
from lampstand.targets.aws.remove import Remover
from lampstand.targets.aws.run import Runner, StackFailedError
from lampstand.targets.aws.stacks import stacks
from tests.aws_support import Paper, scope


class Told:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def action(self, action: Action, state: str) -> None: ...

    def waiting(self, sentence: str) -> None: ...


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the smallest site."""
    (tmp_path / "lampstand.yaml").write_text(
        "site: shop\napp: {health: /h}\ntargets: {aws: {region: eu-central-1, traffic: {transfer: 2TB}}}\n"
    )
    (tmp_path / "index.php").write_text("<?php echo 'good';\n")
    return tmp_path


def lampstand(project: Path, *arguments: str, target: str = "aws") -> int:
    """The command line; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lampstand", *arguments, "-t", target, "-C", str(project)])
        return main()


# -- cost -----------------------------------------------------------------------------------------------------------


def test_plan_shows_the_cost_by_tier_with_its_source_and_assumptions(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lampstand(project, "plan", "--cost", "--offline") == 0
    text = capsys.readouterr().out
    amounts = {line.split()[0] for line in text.splitlines() if "USD a month" in line}
    assert amounts == {"edge", "balancer", "web", "database", "cache", "storage", "logs", "total"}
    assert (
        f"prices of us-east-1 (the site is in eu-central-1; its prices differ), {cost.bundled().date}" in text
    )
    assert "requests and 2TB to visitors a month" in text
    assert [line.split()[1] for line in text.splitlines() if line.startswith("create")] == [
        f"lampstand-shop-{s.key}" for s in stacks(scope("small"))
    ]


def test_traffic_of_the_command_line_stands_over_the_site_files(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lampstand(project, "plan", "--cost", "--offline", "--json", "--traffic", "transfer=5TB") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["waves"]) == len(stacks(scope("small")))
    assert found["cost"]["tiers"]["edge"] == pytest.approx(4000 * 0.085 + 0.3)
    assert lampstand(project, "aws", "cost", "--offline", "--json") == 0
    own = json.loads(capsys.readouterr().out)
    assert own["tiers"]["edge"] == pytest.approx(1000 * 0.085 + 0.3)


@pytest.mark.parametrize("wrong", ["transfer=2", "nothing=1", "hit_rate=200%", "requests"])
def test_traffic_that_means_nothing_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong.partition("=")[0]):
        cost.assumed(scope().aws.traffic, [wrong])


def test_other_targets_have_no_cost(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lampstand(project, "plan", "--cost", target="local") == 7
    assert "known for -t aws only" in capsys.readouterr().err


@pytest.fixture
def deployment(project: Path, monkeypatch: pytest.MonkeyPatch) -> AwsDeployment:
    """A site in an empty account; nothing is asked of AWS."""
    made = AwsDeployment(scope("small").site, project, None, Paper().cloud)
    monkeypatch.setattr(made, "_parameter", lambda _: None)
    monkeypatch.setattr(Runner, "describe", lambda *_: None)
    monkeypatch.setattr(preflight, "preflight", lambda *_: ())
    monkeypatch.setattr(preflight, "looked_up", lambda *_: {})
    monkeypatch.setattr(made, "cost", lambda: cost.estimate(made.scope, "eu-central-1"))
    return made


def no(said: Told, asked: list[Sequence[str]]) -> Callable[[Plan], bool]:
    """Somebody who says no, and remembers what was said before the question."""

    def confirm(_: Plan) -> bool:
        asked.append(tuple(said.said))
        return False

    return confirm


@pytest.mark.parametrize("verb", ["up", "deploy"])
def test_the_cost_is_said_before_the_question(deployment: AwsDeployment, verb: str) -> None:
    """And `deploy` of a site that is not there is the six steps."""
    said, asked = Told(), list[Sequence[str]]()
    if verb == "up":
        assert asyncio.run(deployment.up(no(said, asked), said)) is False
    else:
        order = Order("deploy", dirty=True)
        assert asyncio.run(deployment.releasing.deploy(order, no(said, asked), said)) is None
    assert len(asked) == 1
    assert "USD a month, before taxes" in asked[0][0]
    assert "assumed: 5,000,000 requests" in asked[0][0]
    assert deployment.shipping.project == deployment.project


# -- down -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
def test_down_names_what_goes_on_costing_also_when_it_fails(
    deployment: AwsDeployment, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    def delete(*_: object) -> None:
        if fails:
            raise StackFailedError("Vpc (AWS::EC2::VPC) could not be deleted: it has dependencies")

    monkeypatch.setattr(Remover, "delete", delete)
    monkeypatch.setattr(
        deployment, "left", lambda: (Left("arn:x", "db.t4g.small", 46.72), Left("y", "vpc", 0.0))
    )
    said = Told()
    try:
        asyncio.run(deployment.down(said))
    except StackFailedError:
        assert fails
    assert [line for line in said.said if "left" in line] == [
        "left: db.t4g.small                    46.72 USD a month   arn:x"
    ]


# -- what AWS has not -----------------------------------------------------------------------------------------------


def test_what_is_not_there_says_so_in_one_sentence(deployment: AwsDeployment) -> None:
    releasing = deployment.releasing
    wishes: dict[str, Callable[[], object]] = {
        "canary releases": lambda: asyncio.run(
            releasing.deploy(Order("deploy", canary=0.1), lambda _: True, Told())
        ),
        "maintenance mode": lambda: releasing.maintenance({}),
        "drills": deployment.drill_site,
        "figures": lambda: asyncio.run(deployment.operate("figures")),
    }
    documented = (Path(__file__).parents[2] / "docs/aws.md").read_text()
    for name, wish in wishes.items():
        with pytest.raises(UnavailableError) as caught:
            wish()
        assert "on AWS" in caught.value.what, name
        assert caught.value.exit_code == 7
    assert "Canary releases" in documented
    with pytest.raises(LampstandError):
        releasing.maintenance(None)
