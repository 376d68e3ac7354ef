"""Applies stacks: the six steps, side by side where nothing stands in the way, with progress, deadlines and
resuming.

One loop asks CloudFormation about every stack that is under way; nothing here waits for one stack alone.
Whatever was under way when an earlier command ended is found and waited for, so the same command resumes.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from lampstand.errors import LampstandError, TimedOutError
from lampstand.targets.aws import changes, events
from lampstand.targets.aws.changes import ChangeSet
from lampstand.targets.aws.cloud import THROTTLED, Cloud, error_code, explained
from lampstand.targets.aws.scope import STEPS, Scope
from lampstand.targets.aws.stacks import Stack, parameters

CAPABILITIES = ("CAPABILITY_IAM",)
"""The application's stack makes roles without names of their own."""
POLL = 5.0
"""Seconds between two questions."""
CHANGE_SET_SECONDS = 300.0
GOES_ON = "CloudFormation goes on; run the same command again to follow it, or `lampstand aws cancel`"
CLOCK_SKEW = timedelta(seconds=30)
"""This machine's clock may be ahead of AWS's by so much."""


class StackFailedError(LampstandError):
    """A stack could not be made, changed or deleted."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One step as it is shown."""

    step: int
    """1 to 6."""
    name: str
    state: Literal["waits", "runs", "done", "unchanged", "failed"]
    done: int = 0
    """Resources that are complete."""
    total: int = 0
    seconds: float = 0.0
    doing: str = ""

    def __str__(self) -> str:
        count = f"{self.done}/{self.total} resources" if self.total else ""
        time_text = f"{self.seconds:.0f} s" if self.seconds else ""
        parts = [
            f"{self.step}/{len(STEPS)}",
            f"{self.name:26}",
            f"{self.state:9}",
            count,
            time_text,
            self.doing,
        ]
        return " ".join(p for p in parts if p).rstrip()


Report = Callable[[Progress], None]
Prepare = Callable[[], Mapping[str, str]]
"""Called before a stack begins; what it returns are more parameters."""


@dataclass
class Operation:
    """A stack that is under way."""

    stack: Stack
    began: float
    since: datetime
    state: Literal["runs", "done", "unchanged", "failed"] = "runs"
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    doing: str = ""
    error: LampstandError | None = None
    attached: bool = False
    """It was under way when this command began: its end is awaited, and then the template is applied."""

    def fail(self, error: LampstandError) -> None:
        """Ends it with an error, which is told where it happened."""
        error.where = error.where or f"step {self.stack.step} ({self.stack.step_name})"
        self.state, self.error = "failed", error


@dataclass
class Runner:
    """Applies and deletes the stacks of one site. `clock` and `sleep` are replaced in tests."""

    cloud: Cloud
    scope: Scope
    known: dict[str, str] = field(default_factory=dict[str, str])
    """Parameters of the templates by name."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    # --- reading -----------------------------------------------------------------------------------

    def describe(self, stack: Stack) -> Mapping[str, Any] | None:
        """What CloudFormation says of a stack; None when it does not exist."""
        client = self.cloud.client("cloudformation", stack.region)
        try:
            return client.describe_stacks(StackName=self.scope.stack(stack.key))["Stacks"][0]
        except client.exceptions.ClientError as error:
            if error_code(error) == "ValidationError" and "does not exist" in str(error):
                return None
            raise

    def outputs(self, stack: Stack) -> dict[str, str]:
        """The outputs of a stack; empty when it does not exist."""
        found = self.describe(stack) or {}
        return {str(o["OutputKey"]): str(o["OutputValue"]) for o in found.get("Outputs") or ()}

    # --- change sets -------------------------------------------------------------------------------

    def change_set(self, stack: Stack, bucket: str | None = None) -> ChangeSet | None:
        """Have CloudFormation work out what would change; None when nothing would.

        Raises StackFailedError when it cannot, TimedOutError after five minutes.
        """
        found = self.describe(stack)
        creates = found is None or found["StackStatus"] == "REVIEW_IN_PROGRESS"
        client = self.cloud.client("cloudformation", stack.region)
        name = self.scope.stack(stack.key)
        with explained(f"planning the stack {name}"):
            answer = client.create_change_set(
                StackName=name,
                ChangeSetName=f"lampstand-{self.now():%Y%m%d-%H%M%S}",
                ChangeSetType="CREATE" if creates else "UPDATE",
                Parameters=[
                    {"ParameterKey": k, "ParameterValue": v}
                    for k, v in parameters(stack, {**self.known, **self._kept(stack, found)}).items()
                ],
                Capabilities=list(CAPABILITIES),
                Tags=[{"Key": k, "Value": v} for k, v in self.scope.tags(stack.key).items()],
                **changes.template_argument(stack.template, self.cloud, bucket),
            )
        arn = str(answer["Id"])
        end = self.clock() + CHANGE_SET_SECONDS
        while True:
            status, reason, found_changes = changes.describe(self.cloud, stack.key, arn, stack.region)
            if status == "CREATE_COMPLETE":
                return ChangeSet(stack.key, arn, name, creates, found_changes)
            if status == "FAILED":
                changes.discard(self.cloud, arn, stack.region)
                if changes.is_empty(status, reason):
                    return None
                raise StackFailedError(f"CloudFormation cannot plan the stack {name}: {reason}")
            if self.clock() > end:
                raise TimedOutError(
                    f"CloudFormation did not plan the stack {name} in {CHANGE_SET_SECONDS:.0f} s"
                )
            self.sleep(POLL)

    def _kept(self, stack: Stack, found: Mapping[str, Any] | None) -> dict[str, str]:
        """The values that a stack has for parameters that nobody gave now (the release, between two
        deploys)."""
        old = {
            str(p["ParameterKey"]): str(p["ParameterValue"]) for p in (found or {}).get("Parameters") or ()
        }
        return {k: v for k, v in old.items() if k in stack.template.parameters and k not in self.known}

    # --- applying ----------------------------------------------------------------------------------

    def apply(
        self,
        stacks: Sequence[Stack],
        report: Report,
        *,
        allowed: Collection[str] = (),
        planned: Mapping[str, ChangeSet] | None = None,
        prepare: Mapping[str, Prepare] | None = None,
        deadline: float | None = None,
    ) -> None:
        """Bring every stack to its template. `planned` are change sets that were shown and agreed to: exactly
        these are executed. `deadline` bounds the whole, in seconds.

        Raises DataLossError before anything is changed in a stack that would lose data, StackFailedError
        with the resource and its reason, TimedOutError when a step takes too long: then CloudFormation goes
        on by itself, and the same command resumes.
        """
        running: dict[str, Operation] = {}
        whole = self.clock() + deadline if deadline is not None else None
        while True:
            failed = any(o.error for o in running.values())
            for stack in stacks:
                ready = all(n in running and running[n].state in ("done", "unchanged") for n in stack.needs)
                if stack.key not in running and ready and not failed:
                    running[stack.key] = self._begin(
                        stack, allowed, (prepare or {}).get(stack.key), (planned or {}).get(stack.key)
                    )
            for operation in running.values():
                if operation.state == "runs":
                    self._poll(operation)
            for key in [k for k, o in running.items() if o.attached and o.state != "runs"]:
                del running[key]
            self.report(stacks, running, report)
            if not any(o.state == "runs" for o in running.values()):
                errors = [o.error for o in running.values() if o.error]
                if errors:
                    raise errors[0]
                if len(running) == len(stacks):
                    return
                continue
            if whole is not None and self.clock() > whole:
                raise TimedOutError(
                    self._unfinished(running),
                    mend=GOES_ON,
                )
            self.sleep(POLL)

    def _begin(
        self, stack: Stack, allowed: Collection[str], prepare: Prepare | None, planned: ChangeSet | None
    ) -> Operation:
        operation = self.operation(stack)
        try:
            if prepare is not None:
                self.known.update(prepare())
            found = self.describe(stack)
            status = str(found["StackStatus"]) if found else ""
            if status.endswith("IN_PROGRESS") and status != "REVIEW_IN_PROGRESS":
                operation.attached, operation.doing = True, "was under way already"
                operation.since = (
                    found["CreationTime"] if found and status.startswith("CREATE") else operation.since
                )
                return operation
            self._repair(stack, status)
            bucket = self.known.get("ReleasesBucket")
            change_set = planned or self.change_set(stack, bucket)
            if change_set is None:
                operation.state = "unchanged"
                self._remember(stack)
                return operation
            try:
                changes.check(change_set.changes, allowed)
            except changes.DataLossError:
                changes.discard(self.cloud, change_set.arn, stack.region)
                raise
            with explained(f"changing the stack {change_set.stack_name}"):
                self.cloud.client("cloudformation", stack.region).execute_change_set(
                    ChangeSetName=change_set.arn
                )
            operation.total = len(change_set.changes)
        except LampstandError as error:
            operation.fail(error)
        return operation

    def operation(self, stack: Stack) -> Operation:
        """An operation that begins now."""
        return Operation(stack, self.clock(), self.now() - CLOCK_SKEW)

    def _repair(self, stack: Stack, status: str) -> None:
        """Bring a stack that an earlier failure left behind into a state that can be changed."""
        client = self.cloud.client("cloudformation", stack.region)
        name = self.scope.stack(stack.key)
        if status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"):
            # A stack that was never complete holds nothing; CloudFormation takes no change for it but this.
            with explained(f"removing the failed stack {name}"):
                client.delete_stack(StackName=name)
            self._settle(stack, gone=True)
        elif status == "UPDATE_ROLLBACK_FAILED":
            with explained(f"rolling the stack {name} back"):
                client.continue_update_rollback(StackName=name)
            self._settle(stack, gone=False)

    def _settle(self, stack: Stack, *, gone: bool) -> None:
        end = self.clock() + stack.deadline
        while True:
            found = self.describe(stack)
            status = str(found["StackStatus"]) if found else ""
            if not status.endswith("IN_PROGRESS"):
                if gone and found is not None:
                    raise StackFailedError(f"the stack {found['StackName']} could not be removed ({status})")
                return
            if self.clock() > end:
                raise TimedOutError(f"the stack {self.scope.stack(stack.key)} is still {status}")
            self.sleep(POLL)

    def _poll(self, operation: Operation) -> None:
        stack = operation.stack
        name = self.scope.stack(stack.key)
        operation.seconds = self.clock() - operation.began
        client = self.cloud.client("cloudformation", stack.region)
        try:
            found = self.describe(stack)
            status = str(found["StackStatus"]) if found else "DELETE_COMPLETE"
            history = events.since(self.cloud, name, operation.since, stack.region)
        except client.exceptions.ClientError as error:
            if error_code(error) in THROTTLED:
                return  # The next round asks again; the deadline still counts.
            raise
        ended = {e.resource for e in history if e.status.endswith("_COMPLETE") and e.resource != name}
        operation.done = len(ended)
        operation.total = max(operation.total, len({e.resource for e in history if e.resource != name}))
        operation.doing = ", ".join(events.under_way(history, name)[:2])
        if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"):
            operation.state, operation.doing, operation.done = "done", "", operation.total
            self._remember(stack)
        elif not status.endswith("IN_PROGRESS"):
            mend = f"mend the cause and run the same command again (the stack is {status})"
            operation.fail(StackFailedError(events.sentence(history, name), mend=mend))
        elif operation.seconds > stack.deadline:
            what = f"not done after {operation.seconds / 60:.0f} minutes: {operation.doing or status}"
            operation.fail(TimedOutError(what, mend=GOES_ON))

    def _remember(self, stack: Stack) -> None:
        """What a complete stack tells the ones after it, and its protection."""
        self.known.update(self.outputs(stack))
        if stack.life == "data" and self.scope.aws.protect_data:
            self.cloud.client("cloudformation", stack.region).update_termination_protection(
                StackName=self.scope.stack(stack.key), EnableTerminationProtection=True
            )

    def _unfinished(self, running: Mapping[str, Operation]) -> str:
        many = [
            f"step {o.stack.step} ({o.stack.step_name}): {o.doing}"
            for o in running.values()
            if o.state == "runs"
        ]
        return "not done in time: " + "; ".join(many)

    def report(self, stacks: Sequence[Stack], running: Mapping[str, Operation], report: Report) -> None:
        """Tell how each of the six steps stands."""
        for number, name in enumerate(STEPS, 1):
            mine = [running[s.key] for s in stacks if s.step == number and s.key in running]
            wanted = sum(1 for s in stacks if s.step == number)
            if wanted:
                report(_progress(number, name, mine, wanted))


def _progress(number: int, name: str, mine: Sequence[Operation], wanted: int) -> Progress:
    """One step out of its stacks."""
    states = [o.state for o in mine]
    state: Literal["waits", "runs", "done", "unchanged", "failed"]
    if "failed" in states:
        state = "failed"
    elif not mine:
        state = "waits"
    elif "runs" in states or len(mine) < wanted:
        state = "runs"
    elif set(states) == {"unchanged"}:
        state = "unchanged"
    else:
        state = "done"
    return Progress(
        number,
        name,
        state,
        sum(o.done for o in mine),
        sum(o.total for o in mine),
        max((o.seconds for o in mine), default=0.0),
        "; ".join(o.doing for o in mine if o.doing),
    )
