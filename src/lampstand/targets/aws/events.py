"""Stack events: what CloudFormation is doing, and in one sentence why it failed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lampstand.targets.aws.cloud import Cloud

CONSEQUENCES = ("Resource creation cancelled", "Resource update cancelled", "Resource deletion cancelled")
"""Reasons that only say that something else failed."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a stack's history."""

    id: str
    when: datetime
    resource: str
    type: str
    status: str
    reason: str = ""

    @property
    def failed(self) -> bool:
        return self.status.endswith("FAILED")


def event_from(answer: Mapping[str, Any]) -> Event:
    """An Event out of an item of DescribeStackEvents."""
    return Event(
        str(answer["EventId"]),
        answer["Timestamp"],
        str(answer.get("LogicalResourceId") or ""),
        str(answer.get("ResourceType") or ""),
        str(answer.get("ResourceStatus") or ""),
        str(answer.get("ResourceStatusReason") or ""),
    )


def since(cloud: Cloud, stack_name: str, start: datetime, region: str | None) -> tuple[Event, ...]:
    """The events from `start` on, oldest first. CloudFormation gives the newest first, in pages."""
    client = cloud.client("cloudformation", region)
    found: list[Event] = []
    more: dict[str, str] = {}
    while True:
        answer: Mapping[str, Any] = client.describe_stack_events(StackName=stack_name, **more)
        page = [event_from(item) for item in answer.get("StackEvents") or ()]
        found += [e for e in page if e.when >= start]
        if not answer.get("NextToken") or (page and page[-1].when < start):
            return tuple(reversed(found))
        more = {"NextToken": str(answer["NextToken"])}


def first_failure(events: Iterable[Event], stack_name: str) -> Event | None:
    """The failure that the others follow from: the earliest that has a reason of its own."""
    failed = [e for e in events if e.failed and e.resource != stack_name]
    own = [e for e in failed if e.reason and not e.reason.startswith(CONSEQUENCES)]
    return next(iter(own or failed), None)


def sentence(events: Sequence[Event], stack_name: str) -> str:
    """What failed and why, such as `Primary (AWS::RDS::DBInstance) could not be created: no such class`."""
    event = first_failure(events, stack_name)
    if event is None:
        return "CloudFormation gave no reason"
    verb = {"CREATE": "created", "UPDATE": "changed", "DELETE": "deleted"}.get(
        event.status.partition("_")[0], "made"
    )
    reason = " ".join(event.reason.split()) or "no reason given"
    return f"{event.resource} ({event.type}) could not be {verb}: {reason}"


def under_way(events: Sequence[Event], stack_name: str) -> tuple[str, ...]:
    """The resources whose last event is in progress, with their types."""
    last: dict[str, Event] = {e.resource: e for e in events if e.resource != stack_name}
    return tuple(f"{e.resource} ({e.type})" for e in last.values() if e.status.endswith("IN_PROGRESS"))
