"""Change sets, the gate, failures, resuming, deadlines: canned answers that botocore checks against the API's shapes.

The stand-in for AWS (moto) cannot say `Replacement`, roll back or throttle; these tests can.
"""

from datetime import timedelta
from typing import Any

import pytest
from botocore.stub import ANY

from lampstand.errors import LampstandError, TimedOutError
from lampstand.targets.aws import changes
from lampstand.targets.aws.changes import Change, DataLossError
from lampstand.targets.aws.events import Event, first_failure, sentence
from lampstand.targets.aws.remove import Remover
from lampstand.targets.aws.run import Progress, Runner, StackFailedError
from lampstand.targets.aws.stacks import STATEFUL, Stack
from lampstand.targets.aws.template import BODY_LIMIT, Parameter, Ref, Resource, Template
from tests.aws_support import NOW, Clock, Paper, fixed_now, scope

TOPIC = Template("test", {"Topic": Resource("AWS::SNS::Topic")})
STACK = Stack("network", 1, TOPIC, deadline=60.0)
NAME = "lampstand-shop-network"
ARN = "arn:aws:cloudformation:eu-central-1:123456789012:changeSet/c/1"


def runner(paper: Paper) -> tuple[Runner, Clock]:
    clock = Clock()
    return Runner(paper.cloud, scope(), clock=clock, sleep=clock.sleep, now=fixed_now), clock


def is_(paper: Paper, status: str, **more: Any) -> None:  # noqa: ANN401 - fields of an answer
    """The next question about the stack is answered with a status."""
    stack = {"StackName": NAME, "CreationTime": NOW, "StackStatus": status, **more}
    paper.stub("cloudformation").add_response("describe_stacks", {"Stacks": [stack]}, {"StackName": NAME})


def gone(paper: Paper) -> None:
    paper.stub("cloudformation").add_client_error(
        "describe_stacks", "ValidationError", f"Stack with id {NAME} does not exist", 400
    )


def planned(
    paper: Paper, kind: str, many: list[dict[str, Any]], status: str = "CREATE_COMPLETE", why: str = ""
) -> None:
    stub = paper.stub("cloudformation")
    stub.add_response(
        "create_change_set",
        {"Id": ARN},
        {
            "StackName": NAME, "ChangeSetName": ANY, "ChangeSetType": kind, "Parameters": ANY, "Capabilities": ANY,
            "Tags": ANY, "TemplateBody": TOPIC.as_json(),
        },
    )  # fmt: skip
    stub.add_response(
        "describe_change_set",
        {"Status": status, "StatusReason": why, "Changes": many},
        {"ChangeSetName": ARN},
    )


def resource(
    action: str, id_: str, type_: str, replacement: str | None = None, cause: str = ""
) -> dict[str, Any]:
    change: dict[str, Any] = {"Action": action, "LogicalResourceId": id_, "ResourceType": type_}
    if replacement:
        change |= {
            "Replacement": replacement,
            "Details": [{"Target": {"Attribute": "Properties", "Name": cause}}],
        }
    return {"Type": "Resource", "ResourceChange": change}


def happened(paper: Paper, *events: tuple[str, str, str]) -> None:
    many = [
        {
            "StackId": "s", "EventId": str(i), "StackName": NAME, "Timestamp": NOW + timedelta(seconds=i),
            "LogicalResourceId": id_, "ResourceType": "AWS::RDS::DBInstance", "ResourceStatus": status,
            "ResourceStatusReason": why,
        }
        for i, (id_, status, why) in enumerate(events)
    ]  # fmt: skip
    paper.stub("cloudformation").add_response(
        "describe_stack_events", {"StackEvents": list(reversed(many))}, {"StackName": NAME}
    )


def executed(paper: Paper) -> None:
    paper.stub("cloudformation").add_response("execute_change_set", {}, {"ChangeSetName": ARN})


def apply(paper: Paper, **more: Any) -> list[Progress]:  # noqa: ANN401 - fields of an answer
    told: list[Progress] = []
    run, _ = runner(paper)
    run.apply([STACK], told.append, **more)
    paper.done()
    return told


# -- the gate -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", STATEFUL)
@pytest.mark.parametrize(("verb", "replacement"), [("remove", "no"), ("modify", "yes"), ("modify", "maybe")])
def test_nothing_that_holds_data_is_removed_or_replaced(type_: str, verb: Any, replacement: Any) -> None:  # noqa: ANN401 - literals
    change = Change("database", verb, "Primary", type_, replacement=replacement, causes=("Engine",))
    with pytest.raises(DataLossError, match="--replace database/Primary"):
        changes.check([change])
    with pytest.raises(DataLossError):
        changes.check([change], ["database/Other", "Primary"])
    changes.check([change], ["database/Primary"])


def test_the_gate_lets_all_else_through() -> None:
    changes.check(
        [
            Change("database", "modify", "Primary", "AWS::RDS::DBInstance", causes=("DBInstanceClass",)),
            Change("database", "add", "Primary", "AWS::RDS::DBInstance"),
            Change("balancer", "remove", "Balancer", "AWS::ElasticLoadBalancingV2::LoadBalancer"),
            Change("network", "modify", "Vpc", "AWS::EC2::VPC", replacement="yes"),
        ]
    )


def test_a_change_set_that_replaces_the_database_is_discarded_and_not_executed() -> None:
    paper = Paper()
    is_(paper, "UPDATE_COMPLETE")
    is_(paper, "UPDATE_COMPLETE")
    planned(paper, "UPDATE", [resource("Modify", "Primary", "AWS::RDS::DBInstance", "True", "Engine")])
    paper.stub("cloudformation").add_response("delete_change_set", {}, {"ChangeSetName": ARN})
    with pytest.raises(DataLossError) as caught:
        apply(paper)
    assert "replaces the database network/Primary by an empty one (Engine)" in caught.value.what
    assert caught.value.where == "step 1 (EC2, S3 and the network)"
    paper.done()


def test_a_named_replacement_is_executed() -> None:
    paper = Paper()
    is_(paper, "UPDATE_COMPLETE")
    is_(paper, "UPDATE_COMPLETE")
    planned(paper, "UPDATE", [resource("Modify", "Primary", "AWS::RDS::DBInstance", "Conditional", "Engine")])
    executed(paper)
    is_(paper, "UPDATE_COMPLETE")
    happened(paper, ("Primary", "UPDATE_COMPLETE", ""))
    is_(paper, "UPDATE_COMPLETE")
    assert apply(paper, allowed=["network/Primary"])[-1].state == "done"


def test_pages_of_a_change_set_are_all_read() -> None:
    paper = Paper()
    stub = paper.stub("cloudformation")
    page = {"Status": "CREATE_COMPLETE", "Changes": [resource("Add", "One", "AWS::SNS::Topic")]}
    stub.add_response("describe_change_set", {**page, "NextToken": "next"}, {"ChangeSetName": ARN})
    page = {"Status": "CREATE_COMPLETE", "Changes": [resource("Remove", "Bucket", "AWS::S3::Bucket")]}
    stub.add_response("describe_change_set", page, {"ChangeSetName": ARN, "NextToken": "next"})
    _, _, found = changes.describe(paper.cloud, "storage", ARN, None)
    assert [c.name for c in found] == ["storage/One", "storage/Bucket"]
    assert changes.losses(found) == found[1:]


# -- applying -------------------------------------------------------------------------------------------------------


def test_a_new_stack_is_made_and_followed() -> None:
    paper = Paper()
    gone(paper)
    gone(paper)
    planned(paper, "CREATE", [resource("Add", "Topic", "AWS::SNS::Topic")])
    executed(paper)
    is_(paper, "CREATE_IN_PROGRESS")
    happened(paper, ("Topic", "CREATE_IN_PROGRESS", ""))
    is_(paper, "CREATE_COMPLETE")
    happened(paper, ("Topic", "CREATE_IN_PROGRESS", ""), ("Topic", "CREATE_COMPLETE", ""))
    is_(paper, "CREATE_COMPLETE", Outputs=[{"OutputKey": "Vpc", "OutputValue": "vpc-1"}])
    told = apply(paper)
    assert [p.state for p in told] == ["runs", "done"]
    assert (told[0].done, told[0].total, told[0].doing) == (0, 1, "Topic (AWS::RDS::DBInstance)")
    assert (told[1].done, told[1].total) == (1, 1)
    assert str(told[1]).startswith("1/6 EC2, S3 and the network")


def test_nothing_to_change_is_no_error() -> None:
    for why in (
        "The submitted information didn't contain changes. Submit different information to create a change set.",
        "No updates are to be performed.",
    ):
        paper = Paper()
        is_(paper, "UPDATE_COMPLETE")
        is_(paper, "UPDATE_COMPLETE")
        planned(paper, "UPDATE", [], "FAILED", why)
        paper.stub("cloudformation").add_response("delete_change_set", {}, {"ChangeSetName": ARN})
        is_(paper, "UPDATE_COMPLETE")
        assert apply(paper)[-1].state == "unchanged"


def test_a_failure_names_the_resource_and_its_reason() -> None:
    paper = Paper()
    gone(paper)
    gone(paper)
    planned(paper, "CREATE", [resource("Add", "Primary", "AWS::RDS::DBInstance")])
    executed(paper)
    is_(paper, "ROLLBACK_COMPLETE")
    happened(
        paper,
        ("Other", "CREATE_FAILED", "Resource creation cancelled"),
        ("Primary", "CREATE_FAILED", "DB Instance class\n db.x is not supported"),
        (NAME, "ROLLBACK_IN_PROGRESS", "The following resource(s) failed to create: [Primary]"),
    )
    with pytest.raises(StackFailedError) as caught:
        apply(paper)
    assert caught.value.what == (
        "Primary (AWS::RDS::DBInstance) could not be created: DB Instance class db.x is not supported"
    )
    assert "ROLLBACK_COMPLETE" in (caught.value.mend or "")


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "CREATE_FAILED", "DELETE_FAILED"])
def test_a_stack_that_never_was_complete_is_made_anew(status: str) -> None:
    paper = Paper()
    is_(paper, status)
    paper.stub("cloudformation").add_response("delete_stack", {}, {"StackName": NAME})
    is_(paper, "DELETE_IN_PROGRESS")
    gone(paper)
    gone(paper)
    planned(paper, "CREATE", [resource("Add", "Topic", "AWS::SNS::Topic")])
    executed(paper)
    is_(paper, "CREATE_COMPLETE")
    happened(paper, ("Topic", "CREATE_COMPLETE", ""))
    is_(paper, "CREATE_COMPLETE")
    assert apply(paper)[-1].state == "done"


def test_a_roll_back_that_failed_is_continued() -> None:
    paper = Paper()
    is_(paper, "UPDATE_ROLLBACK_FAILED")
    paper.stub("cloudformation").add_response("continue_update_rollback", {}, {"StackName": NAME})
    is_(paper, "UPDATE_ROLLBACK_COMPLETE")
    is_(paper, "UPDATE_ROLLBACK_COMPLETE")
    planned(paper, "UPDATE", [resource("Modify", "Topic", "AWS::SNS::Topic", "False", "DisplayName")])
    executed(paper)
    is_(paper, "UPDATE_COMPLETE")
    happened(paper, ("Topic", "UPDATE_COMPLETE", ""))
    is_(paper, "UPDATE_COMPLETE")
    assert apply(paper)[-1].state == "done"


def test_what_an_earlier_command_began_is_awaited_and_then_brought_up_to_date() -> None:
    paper = Paper()
    is_(paper, "CREATE_IN_PROGRESS")
    is_(paper, "CREATE_COMPLETE")
    happened(paper, ("Topic", "CREATE_COMPLETE", ""))
    is_(paper, "CREATE_COMPLETE")
    is_(paper, "CREATE_COMPLETE")
    is_(paper, "CREATE_COMPLETE")
    planned(paper, "UPDATE", [], "FAILED", "No updates are to be performed.")
    paper.stub("cloudformation").add_response("delete_change_set", {}, {"ChangeSetName": ARN})
    is_(paper, "CREATE_COMPLETE")
    assert apply(paper)[-1].state == "unchanged"


def test_throttling_is_waited_out() -> None:
    paper = Paper()
    gone(paper)
    gone(paper)
    planned(paper, "CREATE", [resource("Add", "Topic", "AWS::SNS::Topic")])
    executed(paper)
    for _ in range(3):
        paper.stub("cloudformation").add_client_error("describe_stacks", "Throttling", "Rate exceeded", 400)
    is_(paper, "CREATE_COMPLETE")
    happened(paper, ("Topic", "CREATE_COMPLETE", ""))
    is_(paper, "CREATE_COMPLETE")
    assert apply(paper)[-1].state == "done"


def test_a_step_that_takes_too_long_says_what_it_waits_for() -> None:
    paper = Paper()
    gone(paper)
    gone(paper)
    planned(paper, "CREATE", [resource("Add", "Topic", "AWS::SNS::Topic")])
    executed(paper)
    for _ in range(14):
        is_(paper, "CREATE_IN_PROGRESS")
        happened(paper, ("Topic", "CREATE_IN_PROGRESS", ""))
    with pytest.raises(TimedOutError) as caught:
        apply(paper)
    assert "not done after 1 minutes: Topic (AWS::RDS::DBInstance)" in caught.value.what
    assert "run the same command again" in (caught.value.mend or "")


def test_the_whole_has_a_deadline_too() -> None:
    paper = Paper()
    gone(paper)
    gone(paper)
    planned(paper, "CREATE", [resource("Add", "Topic", "AWS::SNS::Topic")])
    executed(paper)
    for _ in range(4):
        is_(paper, "CREATE_IN_PROGRESS")
        happened(paper, ("Topic", "CREATE_IN_PROGRESS", ""))
    with pytest.raises(TimedOutError, match="step 1"):
        apply(paper, deadline=12.0)


def test_a_stack_is_not_begun_before_those_it_needs() -> None:
    paper = Paper()
    later = Stack("balancer", 2, TOPIC, ("network",))
    gone(paper)
    gone(paper)
    planned(paper, "CREATE", [resource("Add", "Topic", "AWS::SNS::Topic")])
    executed(paper)
    is_(paper, "ROLLBACK_COMPLETE")
    happened(paper, ("Topic", "CREATE_FAILED", "no"))
    run, _ = runner(paper)
    told: list[Progress] = []
    with pytest.raises(StackFailedError):
        run.apply([STACK, later], told.append)
    assert [(p.step, p.state) for p in told][-2:] == [(1, "failed"), (2, "waits")]
    paper.done()


def test_refused_requests_say_what_to_do() -> None:
    paper = Paper()
    gone(paper)
    gone(paper)
    paper.stub("cloudformation").add_client_error("create_change_set", "AccessDenied", "not authorized", 403)
    with pytest.raises(LampstandError) as caught:
        apply(paper)
    assert "not authorized (AccessDenied)" in caught.value.what
    assert "lampstand aws policy" in (caught.value.mend or "")


def test_data_stacks_are_protected_once_they_are_complete() -> None:
    paper = Paper()
    stack = Stack("network", 1, TOPIC, life="data")
    gone(paper)
    gone(paper)
    planned(paper, "CREATE", [resource("Add", "Topic", "AWS::SNS::Topic")])
    executed(paper)
    is_(paper, "CREATE_COMPLETE")
    happened(paper, ("Topic", "CREATE_COMPLETE", ""))
    is_(paper, "CREATE_COMPLETE")
    paper.stub("cloudformation").add_response(
        "update_termination_protection", {}, {"StackName": NAME, "EnableTerminationProtection": True}
    )
    run, _ = runner(paper)
    run.apply([stack], lambda _: None)
    paper.done()


def test_a_stack_keeps_the_parameters_that_nobody_gives_now() -> None:
    template = Template(
        "test",
        {"Topic": Resource("AWS::SNS::Topic", {"DisplayName": Ref("Release")})},
        {"Release": Parameter("id")},
    )
    stack = Stack("network", 1, template)
    paper = Paper()
    is_(paper, "CREATE_COMPLETE", Parameters=[{"ParameterKey": "Release", "ParameterValue": "r7"}])
    paper.stub("cloudformation").add_response(
        "create_change_set",
        {"Id": ARN},
        {
            "StackName": NAME, "ChangeSetName": ANY, "ChangeSetType": "UPDATE", "Capabilities": ANY, "Tags": ANY,
            "TemplateBody": ANY, "Parameters": [{"ParameterKey": "Release", "ParameterValue": "r7"}],
        },
    )  # fmt: skip
    page = {"Status": "CREATE_COMPLETE", "Changes": []}
    paper.stub("cloudformation").add_response("describe_change_set", page, {"ChangeSetName": ARN})
    run, _ = runner(paper)
    assert run.change_set(stack) is not None


def test_a_template_too_large_for_a_request_goes_through_the_bucket() -> None:
    large = Template(
        "large", {f"Topic{i}": Resource("AWS::SNS::Topic", {"DisplayName": "x" * 90}) for i in range(500)}
    )
    assert len(large.as_json()) > BODY_LIMIT
    paper = Paper()
    paper.stub("s3").add_response(
        "put_object", {}, {"Bucket": "b", "Key": ANY, "Body": ANY, "ContentType": "application/json"}
    )
    argument = changes.template_argument(large, paper.cloud, "b")
    assert argument.keys() == {"TemplateURL"}
    assert argument["TemplateURL"].startswith("https://b.s3.eu-central-1.amazonaws.com/templates/")
    with pytest.raises(LampstandError, match="there is no bucket yet"):
        changes.template_argument(large, paper.cloud, None)
    assert changes.template_argument(TOPIC, paper.cloud, None) == {"TemplateBody": TOPIC.as_json()}
    paper.done()


# -- deleting and cancelling ----------------------------------------------------------------------------------------


def test_a_deletion_that_fails_says_what_is_in_the_way() -> None:
    paper = Paper()
    is_(paper, "CREATE_COMPLETE")
    paper.stub("cloudformation").add_response("delete_stack", {}, {"StackName": NAME})
    is_(paper, "DELETE_IN_PROGRESS")
    is_(paper, "DELETE_FAILED")
    happened(paper, ("Vpc", "DELETE_FAILED", "The vpc has dependencies and cannot be deleted"))
    run, _ = runner(paper)
    with pytest.raises(StackFailedError, match=r"Vpc .* could not be deleted: The vpc has dependencies"):
        Remover(run).delete([STACK], lambda _: None)
    paper.done()


def test_protection_is_lifted_only_for_a_stack_that_is_deleted() -> None:
    paper = Paper()
    stub = paper.stub("cloudformation")
    is_(paper, "CREATE_COMPLETE")
    stub.add_response(
        "update_termination_protection", {}, {"StackName": NAME, "EnableTerminationProtection": False}
    )
    stub.add_response("delete_stack", {}, {"StackName": NAME})
    gone(paper)
    run, _ = runner(paper)
    Remover(run).delete([Stack("network", 1, TOPIC, life="data")], lambda _: None)
    paper.done()


@pytest.mark.parametrize(
    ("status", "operation", "said"),
    [
        ("UPDATE_IN_PROGRESS", "cancel_update_stack", "returns"),
        ("CREATE_IN_PROGRESS", "delete_stack", "is removed"),
    ],
)
def test_cancelling(status: str, operation: str, said: str) -> None:
    paper = Paper()
    is_(paper, status)
    paper.stub("cloudformation").add_response(operation, {}, {"StackName": NAME})
    run, _ = runner(paper)
    assert said in Remover(run).cancel([STACK])[0]
    paper.done()


def test_the_first_failure_is_the_one_with_a_reason_of_its_own() -> None:
    def event(number: int, resource: str, status: str, reason: str) -> Event:
        return Event(str(number), NOW + timedelta(seconds=number), resource, "T", status, reason)

    many = [
        event(0, "A", "CREATE_IN_PROGRESS", ""),
        event(1, "B", "CREATE_FAILED", "Resource creation cancelled"),
        event(2, "A", "CREATE_FAILED", "quota"),
        event(3, "C", "DELETE_FAILED", "later"),
        event(4, NAME, "ROLLBACK_FAILED", "stack"),
    ]
    found = first_failure(many, NAME)
    assert found is not None
    assert found.resource == "A"
    assert sentence(many, NAME) == "A (T) could not be created: quota"
    assert sentence([], NAME) == "CloudFormation gave no reason"
