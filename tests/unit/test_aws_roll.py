"""Releases on EC2: what is asked of Auto Scaling, when it returns by itself, and what is said then."""

from pathlib import Path
from typing import Any

import pytest
from botocore.stub import ANY

from lampstand.errors import LampstandError, TimedOutError
from lampstand.targets.aws.roll import Group, Roller
from tests.aws_support import Clock, Paper, scope

WEB = Group("asg-web", "web", "lt-1", "3", "r1", 2)
WORKER = Group("asg-worker", "worker", "lt-2", "5", "r1", 1)
TAGS = [
    {
        "ResourceType": "instance",
        "Tags": [{"Key": "Name", "Value": "w"}, {"Key": "lampstand:release", "Value": "r1"}],
    },
    {"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "w"}]},
]


def roller(paper: Paper, **more: Any) -> Roller:  # noqa: ANN401 - keys of a site file
    clock = Clock()
    return Roller(paper.cloud, scope("full", **more), clock=clock, sleep=clock.sleep)


def step_is(paper: Paper, value: str | None) -> None:
    stub = paper.stub("ssm")
    if value is None:
        stub.add_client_error("get_parameter", "ParameterNotFound", "no", 400)
    else:
        stub.add_response(
            "get_parameter", {"Parameter": {"Value": value}}, {"Name": "/lampstand/shop/step/r2"}
        )


def new_version(paper: Paper, group: Group, version: int) -> None:
    stub = paper.stub("ec2")
    stub.add_response(
        "describe_launch_template_versions",
        {"LaunchTemplateVersions": [{"LaunchTemplateData": {"TagSpecifications": TAGS}}]},
        {"LaunchTemplateId": group.launch_template, "Versions": [group.version]},
    )
    wanted = [
        {
            "ResourceType": "instance",
            "Tags": [{"Key": "Name", "Value": "w"}, {"Key": "lampstand:release", "Value": "r2"}],
        },
        TAGS[1],
    ]
    stub.add_response(
        "create_launch_template_version",
        {"LaunchTemplateVersion": {"VersionNumber": version}},
        {
            "LaunchTemplateId": group.launch_template, "SourceVersion": group.version,
            "VersionDescription": "release r2", "LaunchTemplateData": {"TagSpecifications": wanted},
        },
    )  # fmt: skip


def begins(paper: Paper, group: Group, version: str, preferences: object = ANY) -> None:
    paper.stub("autoscaling").add_response(
        "start_instance_refresh",
        {"InstanceRefreshId": "id"},
        {
            "AutoScalingGroupName": group.name, "Strategy": "Rolling", "Preferences": preferences,
            "DesiredConfiguration": {
                "LaunchTemplate": {"LaunchTemplateId": group.launch_template, "Version": version}
            },
        },
    )  # fmt: skip


def is_(paper: Paper, status: str, percent: int = 0, reason: str = "") -> None:
    paper.stub("autoscaling").add_response(
        "describe_instance_refreshes",
        {
            "InstanceRefreshes": [
                {"Status": status, "PercentageComplete": percent, "StatusReason": reason or "-"}
            ]
        },
    )


def activities(paper: Paper, *many: tuple[str, str]) -> None:
    paper.stub("autoscaling").add_response(
        "describe_scaling_activities",
        {
            "Activities": [
                {
                    "ActivityId": "a", "AutoScalingGroupName": "g", "Cause": "c", "StartTime": 0, "StatusCode": code,
                    "StatusMessage": message,
                }
                for code, message in many
            ]
        },
    )  # fmt: skip


def test_a_release_is_a_tag_of_the_launch_template_and_an_instance_refresh() -> None:
    paper, said = Paper(), list[str]()
    step_is(paper, "done")
    new_version(paper, WEB, 4)
    begins(
        paper, WEB, "4",
        {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 150, "AutoRollback": True, "SkipMatching": True,
         "InstanceWarmup": 5},
    )  # fmt: skip
    is_(paper, "Pending")
    is_(paper, "InProgress", 50)
    is_(paper, "InProgress", 50)
    is_(paper, "Successful", 100)
    roller(paper).roll([WEB], "r2", said.append)
    assert said == ["web: Pending 0 %", "web: InProgress 50 %", "web: Successful 100 %"]
    paper.done()


def test_a_release_that_is_not_well_returns_and_says_why() -> None:
    paper = Paper()
    step_is(paper, None)
    new_version(paper, WEB, 4)
    begins(paper, WEB, "4")
    is_(paper, "RollbackInProgress", 0, "rolling back")
    is_(paper, "RollbackSuccessful", 100, "rolled back")
    activities(paper, ("Successful", "fine"), ("Cancelled", "Lifecycle action completed with ABANDON result"))
    with pytest.raises(LampstandError) as caught:
        roller(paper).roll([WEB, WORKER], "r2", lambda _: None)
    assert caught.value.what == "the old release serves: Lifecycle action completed with ABANDON result"
    paper.done()


def test_when_the_workers_fail_the_web_machines_return_too() -> None:
    paper, said = Paper(), list[str]()
    step_is(paper, None)
    new_version(paper, WEB, 4)
    begins(paper, WEB, "4")
    is_(paper, "Successful", 100)
    step_is(paper, "done")
    new_version(paper, WORKER, 6)
    begins(paper, WORKER, "6")
    is_(paper, "RollbackSuccessful")
    activities(paper)
    begins(paper, WEB, "3")
    is_(paper, "Successful", 100)
    with pytest.raises(LampstandError, match="worker machines"):
        roller(paper).roll([WEB, WORKER], "r2", said.append)
    assert "web: returns to r1" in said
    paper.done()


def test_a_failed_release_step_is_run_again_by_the_next_deploy() -> None:
    paper = Paper()
    step_is(paper, "failed: no such table")
    paper.stub("ssm").add_response("delete_parameter", {}, {"Name": "/lampstand/shop/step/r2"})
    new_version(paper, WEB, 4)
    begins(paper, WEB, "4")
    is_(paper, "Successful", 100)
    roller(paper).roll([WEB], "r2", lambda _: None)
    paper.done()


def test_a_roll_without_an_end_is_taken_back() -> None:
    paper = Paper()
    step_is(paper, None)
    new_version(paper, WEB, 4)
    begins(paper, WEB, "4")
    for _ in range(124):
        is_(paper, "InProgress")
    paper.stub("autoscaling").add_response(
        "rollback_instance_refresh", {"InstanceRefreshId": "id"}, {"AutoScalingGroupName": "asg-web"}
    )
    with pytest.raises(TimedOutError, match="the old release returns"):
        roller(paper, deploy={"timeout": "10s"}).roll([WEB], "r2", lambda _: None)
    paper.done()


@pytest.mark.parametrize(
    ("count", "web", "expected"),
    [
        (2, {"surge": 1, "max_unavailable": 0}, (100, 150)),
        (1, {"surge": 1, "max_unavailable": 0}, (100, 200)),
        (4, {"surge": 1, "max_unavailable": 1}, (75, 125)),
        (2, {"surge": 0, "max_unavailable": 2}, (0, 100)),
        (1, {"surge": 5, "max_unavailable": 1}, (0, 100)),
        (3, {"surge": 9, "max_unavailable": 0}, (100, 200)),
    ],
)
def test_how_careful_a_roll_is(count: int, web: dict[str, int], expected: tuple[int, int]) -> None:
    """Auto Scaling wants at most 100 between the two, and the second between 100 and 200."""
    group = Group("g", "web", "lt", "1", "r", count)
    found = roller(Paper(), web=web).preferences(group)
    assert (found["MinHealthyPercentage"], found["MaxHealthyPercentage"]) == expected


def test_there_are_never_two_schedulers() -> None:
    found = roller(Paper()).preferences(WORKER)
    assert (found["MinHealthyPercentage"], found["MaxHealthyPercentage"]) == (0, 100)


def test_assets_are_uploaded_once_with_a_type_and_for_ever(tmp_path: Path) -> None:
    (tmp_path / "app.css").write_text("a{}")
    (tmp_path / "app.js").write_text("1")
    paper = Paper()
    stub = paper.stub("s3")
    stub.add_response("head_object", {"ContentLength": 3}, {"Bucket": "b", "Key": "app.css"})
    stub.add_client_error("head_object", "404", "Not Found", 404)
    stub.add_response(
        "put_object",
        {},
        {
            "Bucket": "b", "Key": "app.js", "Body": b"1", "ContentType": "text/javascript",
            "CacheControl": "public, max-age=31536000, immutable",
        },
    )  # fmt: skip
    assert roller(paper).upload_assets("b", tmp_path, ["app.css", "app.js"]) == 1
    paper.done()
