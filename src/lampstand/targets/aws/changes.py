"""Change sets: what CloudFormation would do to a stack, as values; and the gate that keeps data.

A change set is CloudFormation's own plan, so what is shown is what is done. Nothing that holds data is
removed or replaced unless it is named on the command line.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lampstand.errors import LampstandError
from lampstand.targets.aws.cloud import Cloud, error_code, explained
from lampstand.targets.aws.stacks import STATEFUL
from lampstand.targets.aws.template import BODY_LIMIT, S3_LIMIT, Template

Replacement = Literal["no", "maybe", "yes"]
_REPLACEMENTS: Mapping[str, Replacement] = {"True": "yes", "Conditional": "maybe"}
EMPTY = ("didn't contain changes", "No updates are to be performed")
"""How CloudFormation says that a change set is empty (its status is FAILED)."""


class DataLossError(LampstandError):
    """A change would remove or replace something that holds data, and it was not named."""


@dataclass(frozen=True, slots=True)
class Change:
    """What would happen to one resource."""

    stack: str
    """Key of the stack: `database`."""
    verb: Literal["add", "modify", "remove", "import", "dynamic"]
    resource: str
    """Logical id."""
    type: str
    physical: str = ""
    replacement: Replacement = "no"
    causes: tuple[str, ...] = ()
    """Properties that change."""

    @property
    def name(self) -> str:
        """How it is named on the command line: `database/Primary`."""
        return f"{self.stack}/{self.resource}"

    @property
    def loses(self) -> str | None:
        """Why it loses data, or None when it does not."""
        kind = STATEFUL.get(self.type)
        if kind is None:
            return None
        if self.verb == "remove":
            return f"removes the {kind} {self.name}"
        if self.replacement == "yes":
            return f"replaces the {kind} {self.name} by an empty one"
        if self.replacement == "maybe":
            return f"may replace the {kind} {self.name} by an empty one"
        return None

    def __str__(self) -> str:
        what = {"yes": "replace", "maybe": "replace?"}.get(self.replacement, self.verb)
        cause = f" ({', '.join(self.causes)})" if self.causes else ""
        return f"{what:8} {self.name:32} {self.type}{cause}"


@dataclass(frozen=True)
class ChangeSet:
    """A change set that CloudFormation has worked out."""

    stack: str
    arn: str
    stack_name: str
    creates: bool
    """Whether the stack does not exist yet."""
    changes: tuple[Change, ...] = field(default=())


def losses(changes: Sequence[Change], allowed: Collection[str] = ()) -> tuple[Change, ...]:
    """The changes that lose data and were not named."""
    return tuple(c for c in changes if c.loses is not None and c.name not in allowed)


def check(changes: Sequence[Change], allowed: Collection[str] = ()) -> None:
    """The gate. Raises DataLossError; names in `allowed` are those of `--replace`."""
    found = losses(changes, allowed)
    if found:
        raise DataLossError(
            "; ".join(
                f"this {c.loses} ({', '.join(c.causes) or 'no longer in the template'})" for c in found
            ),
            mend="to do it all the same: lampstand aws apply "
            + " ".join(f"--replace {c.name}" for c in found),
        )


def template_argument(template: Template, cloud: Cloud, bucket: str | None) -> dict[str, str]:
    """`TemplateBody`, or `TemplateURL` for a template too large for a request, which is put into the
    bucket first."""
    body = template.as_json()
    size = len(body.encode())
    if size <= BODY_LIMIT:
        return {"TemplateBody": body}
    if size > S3_LIMIT:
        raise LampstandError(
            f"the template is {size} bytes; CloudFormation takes {S3_LIMIT}", template.description
        )
    if bucket is None:
        raise LampstandError(f"the template is {size} bytes and there is no bucket yet", template.description)
    key = f"templates/{hashlib.sha256(body.encode()).hexdigest()}.json"
    with explained("uploading a template"):
        cloud.client("s3").put_object(
            Bucket=bucket, Key=key, Body=body.encode(), ContentType="application/json"
        )
    return {"TemplateURL": f"https://{bucket}.s3.{cloud.region}.amazonaws.com/{key}"}


def change_from(stack: str, answer: Mapping[str, Any]) -> Change:
    """A Change out of an item of DescribeChangeSet."""
    inner: Mapping[str, Any] = answer["ResourceChange"]
    details: Sequence[Mapping[str, Any]] = inner.get("Details") or ()
    targets: list[Mapping[str, Any]] = [d.get("Target") or {} for d in details]
    causes = dict.fromkeys(str(t.get("Name") or t.get("Attribute") or "") for t in targets)
    verb: Any = str(inner["Action"]).lower()
    return Change(
        stack,
        verb,
        str(inner["LogicalResourceId"]),
        str(inner["ResourceType"]),
        str(inner.get("PhysicalResourceId") or ""),
        _REPLACEMENTS.get(str(inner.get("Replacement")), "no"),
        tuple(c for c in causes if c),
    )


def describe(cloud: Cloud, stack: str, arn: str, region: str | None) -> tuple[str, str, tuple[Change, ...]]:
    """Status, reason and all changes of a change set."""
    client = cloud.client("cloudformation", region)
    changes: list[Change] = []
    more: dict[str, str] = {}
    while True:
        answer: Mapping[str, Any] = client.describe_change_set(ChangeSetName=arn, **more)
        changes += [
            change_from(stack, item) for item in answer.get("Changes") or () if "ResourceChange" in item
        ]
        if not answer.get("NextToken"):
            return str(answer["Status"]), str(answer.get("StatusReason") or ""), tuple(changes)
        more = {"NextToken": str(answer["NextToken"])}


def is_empty(status: str, reason: str) -> bool:
    """Whether a change set failed because there is nothing to do."""
    return status == "FAILED" and any(text in reason for text in EMPTY)


def discard(cloud: Cloud, arn: str, region: str | None) -> None:
    """Delete a change set; one that is gone already is no error."""
    try:
        cloud.client("cloudformation", region).delete_change_set(ChangeSetName=arn)
    except cloud.client("cloudformation", region).exceptions.ClientError as error:
        if error_code(error) not in ("ChangeSetNotFound", "ChangeSetNotFoundException", "ValidationError"):
            raise
