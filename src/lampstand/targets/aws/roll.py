"""Releases on the machines: ship one, roll it out by instance refresh, return to another, list them.

Which release a machine runs is a tag of its launch template, so shipping one is a new version of the launch
template and an instance refresh to it. The refresh starts new machines beside the old ones, waits until the
lifecycle hook says that they are well, and returns to the old version by itself when one is not; it goes on
when this command dies.
"""

import math
import mimetypes
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lampstand.errors import LampstandError, TimedOutError
from lampstand.targets.aws.application import BOOT_SECONDS
from lampstand.targets.aws.cloud import Cloud, error_code, explained
from lampstand.targets.aws.scope import RELEASE_TAG, Scope
from lampstand.targets.aws.userdata import parameters

POLL = 5.0
GOING = ("Pending", "InProgress", "Cancelling", "RollbackInProgress", "Baking")
"""Statuses of an instance refresh that is under way."""


@dataclass(frozen=True)
class Group:
    """One Auto Scaling group and what it runs."""

    name: str
    kind: str
    launch_template: str
    version: str
    release: str
    count: int


@dataclass(frozen=True, slots=True)
class Shipped:
    """A release in the bucket."""

    id: str
    when: float
    """Unix time."""


@dataclass
class Roller:
    """Rolls releases of one site."""

    cloud: Cloud
    scope: Scope
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    # --- shipping ----------------------------------------------------------------------------------

    def ship(self, bucket: str, release: str, document: str) -> None:
        """Put a release's document where machines find it."""
        with explained(f"uploading the release {release}"):
            self.cloud.client("s3").put_object(
                Bucket=bucket,
                Key=f"releases/{release}.json",
                Body=document.encode(),
                ContentType="application/json",
            )

    def upload_assets(self, bucket: str, root: Path, files: Iterable[str]) -> int:
        """Put files of the document root into the bucket of assets, by their paths; returns how many were
        new.

        Old ones stay: a page of the release before finds its style sheet.
        """
        client, count = self.cloud.client("s3"), 0
        for name in files:
            path = root / name
            with explained(f"uploading {name}"):
                try:
                    found = client.head_object(Bucket=bucket, Key=name)
                    if int(found["ContentLength"]) == path.stat().st_size:
                        continue
                except client.exceptions.ClientError as error:
                    if error_code(error) not in ("404", "NoSuchKey", "NotFound"):
                        raise
                client.put_object(
                    Bucket=bucket,
                    Key=name,
                    Body=path.read_bytes(),
                    ContentType=mimetypes.guess_type(name)[0] or "application/octet-stream",
                    CacheControl="public, max-age=31536000, immutable",
                )
            count += 1
        return count

    def shipped(self, bucket: str) -> tuple[Shipped, ...]:
        """The releases in the bucket, the newest first."""
        with explained("listing releases"):
            found = [
                Shipped(
                    str(o["Key"]).removeprefix("releases/").removesuffix(".json"),
                    o["LastModified"].timestamp(),
                )
                for o in self.cloud.pages(
                    "s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix="releases/"
                )
            ]
        return tuple(sorted(found, key=lambda s: s.when, reverse=True))

    # --- what runs ---------------------------------------------------------------------------------

    def group(self, name: str, kind: str) -> Group:
        """A group, with the release of its launch template."""
        with explained("looking at the machines"):
            found = self.cloud.client("autoscaling").describe_auto_scaling_groups(
                AutoScalingGroupNames=[name]
            )
            groups: list[Any] = found["AutoScalingGroups"]
            if not groups:
                raise LampstandError(
                    f"there is no Auto Scaling group {name}", mend="run `lampstand up -t aws`"
                )
            template: Mapping[str, str] = groups[0]["LaunchTemplate"]
            version = self._version(template["LaunchTemplateId"], template["Version"])
        release = next((v for k, v in _tags(version) if k == RELEASE_TAG), "")
        return Group(
            name,
            kind,
            template["LaunchTemplateId"],
            template["Version"],
            release,
            int(groups[0]["DesiredCapacity"]),
        )

    def _version(self, template: str, version: str) -> Mapping[str, Any]:
        answer = self.cloud.client("ec2").describe_launch_template_versions(
            LaunchTemplateId=template, Versions=[version]
        )
        return answer["LaunchTemplateVersions"][0]["LaunchTemplateData"]

    # --- rolling -----------------------------------------------------------------------------------

    def roll(self, groups: Iterable[Group], release: str, said: Callable[[str], None]) -> None:
        """Bring every group to a release, one after the other; when one fails, those before it return as
        well.

        Raises LampstandError with the reason: the old release serves then.
        """
        done: list[Group] = []
        for group in groups:
            try:
                self._forget_failed_step(release)
                self._refresh(group, self._new_version(group, release), said)
            except LampstandError:
                for earlier in reversed(done):
                    said(f"{earlier.kind}: returns to {earlier.release}")
                    self._refresh(earlier, earlier.version, said)
                raise
            done.append(group)

    def refresh(self, group: Group, said: Callable[[str], None]) -> None:
        """Replace the machines whose launch template is not the group's (after a change of the stack)."""
        self._refresh(group, group.version, said)

    def _forget_failed_step(self, release: str) -> None:
        """A release step that failed in an earlier deploy is run again; one that is done is not."""
        client = self.cloud.client("ssm")
        name = f"{parameters(self.scope)}/step/{release}"
        with explained("looking at the release step"):
            try:
                if client.get_parameter(Name=name)["Parameter"]["Value"] != "done":
                    client.delete_parameter(Name=name)
            except client.exceptions.ClientError as error:
                if error_code(error) != "ParameterNotFound":
                    raise

    def _new_version(self, group: Group, release: str) -> str:
        client = self.cloud.client("ec2")
        with explained(f"preparing machines for {release}"):
            data = self._version(group.launch_template, group.version)
            specifications = [
                {
                    "ResourceType": spec["ResourceType"],
                    "Tags": [
                        {"Key": t["Key"], "Value": release if t["Key"] == RELEASE_TAG else t["Value"]}
                        for t in spec["Tags"]
                    ],
                }
                for spec in data.get("TagSpecifications") or ()
            ]
            answer = client.create_launch_template_version(
                LaunchTemplateId=group.launch_template,
                SourceVersion=group.version,
                VersionDescription=f"release {release}",
                LaunchTemplateData={"TagSpecifications": specifications},
            )
        return str(answer["LaunchTemplateVersion"]["VersionNumber"])

    def preferences(self, group: Group) -> dict[str, Any]:
        """How careful a refresh is: `max_unavailable` and `surge` as shares of the group."""
        web = self.scope.site.web
        warm = {"AutoRollback": True, "SkipMatching": True, "InstanceWarmup": round(web.slow_start)}
        if group.kind != "web":
            # There must not be two schedulers, so the old one goes first.
            return {"MinHealthyPercentage": 0, "MaxHealthyPercentage": 100, **warm}
        count = max(group.count, 1)
        least = max(100 - math.ceil(100 * web.max_unavailable / count), 0)
        most = min(100 + math.ceil(100 * web.surge / count), 200, least + 100)
        return {"MinHealthyPercentage": least, "MaxHealthyPercentage": max(most, 100), **warm}

    def _refresh(self, group: Group, version: str, said: Callable[[str], None]) -> None:
        client = self.cloud.client("autoscaling")
        with explained("starting the roll"):
            answer = client.start_instance_refresh(
                AutoScalingGroupName=group.name,
                Strategy="Rolling",
                DesiredConfiguration={
                    "LaunchTemplate": {"LaunchTemplateId": group.launch_template, "Version": version}
                },
                Preferences=self.preferences(group),
            )
        self._follow(group, str(answer["InstanceRefreshId"]), said)

    def _follow(self, group: Group, refresh: str, said: Callable[[str], None]) -> None:
        client = self.cloud.client("autoscaling")
        deadline = self.scope.site.deploy.timeout + BOOT_SECONDS
        end, last = self.clock() + deadline, ""
        while True:
            with explained("following the roll"):
                answer = client.describe_instance_refreshes(
                    AutoScalingGroupName=group.name, InstanceRefreshIds=[refresh]
                )["InstanceRefreshes"][0]
            status, reason = str(answer["Status"]), str(answer.get("StatusReason") or "")
            sentence = f"{group.kind}: {status} {answer.get('PercentageComplete', 0)} %"
            if sentence != last:
                said(sentence)
                last = sentence
            if status == "Successful":
                return
            if status not in GOING:
                returned = (
                    "the old release serves" if status == "RollbackSuccessful" else f"the roll is {status}"
                )
                raise LampstandError(f"{returned}: {self._why(group.name, reason)}", f"{group.kind} machines")
            if self.clock() > end:
                with explained("returning to the old release"):
                    client.rollback_instance_refresh(AutoScalingGroupName=group.name)
                raise TimedOutError(
                    f"the roll took longer than {deadline:.0f} s; the old release returns",
                    f"{group.kind} machines",
                )
            self.sleep(POLL)

    def _why(self, group: str, reason: str) -> str:
        """The reason of a failed roll: the last activity of the group that failed says more than the
        refresh."""
        with explained("looking for the reason"):
            found = self.cloud.client("autoscaling").describe_scaling_activities(
                AutoScalingGroupName=group, MaxRecords=20
            )
        for activity in found["Activities"]:
            if activity["StatusCode"] in ("Failed", "Cancelled") and activity.get("StatusMessage"):
                return str(activity["StatusMessage"])
        return reason or "no reason given"


def _tags(version: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for spec in version.get("TagSpecifications") or ():
        if spec["ResourceType"] == "instance":
            for tag in spec["Tags"]:
                yield str(tag["Key"]), str(tag["Value"])
