"""Takes stacks away: cancels what is under way, deletes in the right order, and lists what is left and
what it costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lampstand.errors import LampstandError
from lampstand.targets.aws import events
from lampstand.targets.aws.cloud import Cloud, error_code, explained
from lampstand.targets.aws.run import POLL, Operation, Report, Runner, StackFailedError
from lampstand.targets.aws.stacks import Stack


@dataclass
class Remover:
    """Deletes the stacks of one site."""

    runner: Runner

    def cancel(self, stacks: Sequence[Stack]) -> tuple[str, ...]:
        """Cancel every change that is under way; CloudFormation rolls them back. Returns sentences."""
        said: list[str] = []
        for stack in stacks:
            found = self.runner.describe(stack)
            status = str(found["StackStatus"]) if found else ""
            name = self.runner.scope.stack(stack.key)
            client = self.runner.cloud.client("cloudformation", stack.region)
            with explained(f"cancelling the stack {name}"):
                if status == "UPDATE_IN_PROGRESS":
                    client.cancel_update_stack(StackName=name)
                    said.append(f"{name}: returns to what it was")
                elif status == "CREATE_IN_PROGRESS":
                    client.delete_stack(StackName=name)
                    said.append(f"{name}: was never complete and is removed")
        return tuple(said)

    def delete(self, stacks: Sequence[Stack], report: Report) -> None:
        """Delete stacks, each after those that need it.

        Raises StackFailedError with the resource that could not be deleted and why; those before it are
        gone, and the same command goes on.
        """
        running: dict[str, Operation] = {}
        while True:
            failed = any(o.error for o in running.values())
            for stack in stacks:
                users = [s.key for s in stacks if stack.key in s.needs]
                ended = all(k in running and running[k].state in ("done", "unchanged") for k in users)
                if stack.key not in running and ended and not failed:
                    running[stack.key] = self._begin(stack)
            for operation in running.values():
                if operation.state == "runs":
                    self._poll(operation)
            self.runner.report(stacks, running, report)
            if not any(o.state == "runs" for o in running.values()):
                errors = [o.error for o in running.values() if o.error]
                if errors:
                    raise errors[0]
                if len(running) == len(stacks):
                    return
                continue
            self.runner.sleep(POLL)

    def _begin(self, stack: Stack) -> Operation:
        operation = self.runner.operation(stack)
        if self.runner.describe(stack) is None:
            operation.state = "unchanged"
            return operation
        client = self.runner.cloud.client("cloudformation", stack.region)
        name = self.runner.scope.stack(stack.key)
        try:
            with explained(f"deleting the stack {name}"):
                if stack.life == "data":
                    client.update_termination_protection(StackName=name, EnableTerminationProtection=False)
                client.delete_stack(StackName=name)
        except LampstandError as error:
            operation.fail(error)
        return operation

    def _poll(self, operation: Operation) -> None:
        stack, runner = operation.stack, self.runner
        name = runner.scope.stack(stack.key)
        operation.seconds = runner.clock() - operation.began
        found = runner.describe(stack)
        if found is None:
            operation.state = "done"
            return
        going = str(found["StackStatus"]).endswith("IN_PROGRESS")
        if going and operation.seconds <= stack.deadline:
            return
        history = events.since(runner.cloud, name, operation.since, stack.region)
        reason = "it takes too long" if going else events.sentence(history, name)
        operation.fail(StackFailedError(f"{name} could not be deleted: {reason}"))


def delete_kept(cloud: Cloud, kept: Mapping[str, str], repository: str) -> None:
    """Delete what the stacks of data leave behind: buckets with all versions, secrets, images.

    `kept` are outputs of those stacks: `…Bucket` and `…Secret`.
    """
    for name, value in kept.items():
        if name.endswith("Bucket"):
            _delete_bucket(cloud, value)
        else:
            with explained(f"deleting {name}"):
                cloud.client("secretsmanager").delete_secret(SecretId=value)
    with explained("deleting the images"):
        client = cloud.client("ecr")
        try:
            client.delete_repository(repositoryName=repository, force=True)
        except client.exceptions.ClientError as error:
            if error_code(error) != "RepositoryNotFoundException":
                raise


def _delete_bucket(cloud: Cloud, bucket: str) -> None:
    client = cloud.client("s3")
    with explained(f"emptying {bucket}"):
        for kind in ("Versions", "DeleteMarkers"):
            for item in cloud.pages("s3", "list_object_versions", kind, Bucket=bucket):
                client.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
        client.delete_bucket(Bucket=bucket)
