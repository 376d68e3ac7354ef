"""The verbs of one site on AWS."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lampstand.errors import LampstandError, UnavailableError, UsageError
from lampstand.plan import Action, Plan, Verb
from lampstand.site import Site
from lampstand.site.aws import Traffic
from lampstand.site.secrets import application_secret_values
from lampstand.targets.aws import changes, export, images, inventory, preflight
from lampstand.targets.aws.application import log_group
from lampstand.targets.aws.bundle import bundle
from lampstand.targets.aws.changes import ChangeSet
from lampstand.targets.aws.cloud import AwsError, Cloud, error_code, explained, open_cloud
from lampstand.targets.aws.cost import Estimate, bundled, estimate, online
from lampstand.targets.aws.releasing import AwsReleasing
from lampstand.targets.aws.remove import Remover, delete_kept
from lampstand.targets.aws.run import Runner
from lampstand.targets.aws.scope import Scope
from lampstand.targets.aws.shells import Shells
from lampstand.targets.aws.shipping import Shipping, project_release
from lampstand.targets.aws.stacks import Stack, stacks
from lampstand.targets.aws.steps import Steps, action_of, creation
from lampstand.targets.aws.tail import tail
from lampstand.targets.aws.userdata import GROUPS, parameters
from lampstand.targets.base import Progress, Shell
from lampstand.targets.scaling import scaled

if TYPE_CHECKING:
    from lampstand.drills.runner import Site as DrillSite


class AwsDeployment:
    """Implements `targets.base.Deployment`."""

    name = "aws"

    def __init__(
        self, site: Site, project: Path, environment: str | None, cloud: Cloud | None = None
    ) -> None:
        self.project = project
        self.environment = environment
        self._file_site = site
        self._cloud = cloud
        self.allowed: frozenset[str] = frozenset()
        """Resources (`database/Primary`) whose data may be lost: those of `lampstand aws apply --replace`."""

    # -- what it works with ------------------------------------------------------------------------

    @cached_property
    def cloud(self) -> Cloud:
        """The account. Raises LampstandError without credentials, without a region, or for another
        account."""
        return self._cloud or open_cloud(self._file_site.targets.aws)

    @property
    def scope(self) -> Scope:
        """The site, with what `scale` changed since."""
        return Scope(scaled(self._file_site, self.overrides()))

    @cached_property
    def stacks(self) -> tuple[Stack, ...]:
        return stacks(self.scope)

    @cached_property
    def runner(self) -> Runner:
        return Runner(self.cloud, self.scope)

    @cached_property
    def shipping(self) -> Shipping:
        """What its releases need."""
        return Shipping(self.cloud, self.scope, self.project, self.environment, self.outputs)

    @cached_property
    def shells(self) -> Shells:
        """Sessions on its machines."""
        return Shells(self.cloud, self.scope, self.outputs)

    def overrides(self) -> Mapping[str, str]:
        """What `scale` changed; kept in Parameter Store."""
        found = self._parameter("scaled")
        return {} if found is None else {str(k): str(v) for k, v in json.loads(found).items()}

    def _parameter(self, name: str) -> str | None:
        client = self.cloud.client("ssm")
        full = f"{parameters(Scope(self._file_site))}/{name}"
        with explained("reading what `scale` changed"):
            try:
                return str(client.get_parameter(Name=full)["Parameter"]["Value"])
            except client.exceptions.ClientError as error:
                if error_code(error) == "ParameterNotFound":
                    return None
                raise

    def outputs(self) -> dict[str, str]:
        """Outputs of all stacks that exist, by name."""
        with explained("looking at the stacks"):
            return {k: v for stack in self.stacks for k, v in self.runner.outputs(stack).items()}

    # -- plan, up, down ----------------------------------------------------------------------------

    async def plan(self) -> Plan:
        """What `up` would do: CloudFormation's own change sets, and whole stacks that do not exist yet."""
        planned = self._planned()
        for change_set in planned.values():
            changes.discard(self.cloud, change_set.arn, self._stack(change_set.stack).region)
        return self._as_plan(planned)

    def _stack(self, key: str) -> Stack:
        return next(s for s in self.stacks if s.key == key)

    def _planned(self) -> dict[str, ChangeSet]:
        """Change sets of the stacks that exist; those without a change are left out."""
        self.runner.known.update(preflight.looked_up(self.scope, self.cloud))
        self.runner.known.update(self.outputs())
        result: dict[str, ChangeSet] = {}
        with explained("planning"):
            for stack in self.stacks:
                found = self.runner.describe(stack)
                if found is None or not str(found["StackStatus"]).endswith("_COMPLETE"):
                    continue
                change_set = self.runner.change_set(stack, self.runner.known.get("ReleasesBucket"))
                if change_set is not None:
                    result[stack.key] = change_set
        return result

    def _as_plan(self, planned: Mapping[str, ChangeSet]) -> Plan:
        waves: list[tuple[Action, ...]] = []
        for stack in self.stacks:
            if stack.key in planned:
                waves.append(tuple(action_of(c) for c in planned[stack.key].changes))
            elif self.runner.describe(stack) is None:
                waves.append((creation(self.scope, stack),))
        return Plan(tuple(w for w in waves if w))

    def outline(self) -> Plan:
        """What `up` would do in an account without this site. Asks nobody."""
        scope = Scope(self._file_site)
        return Plan(tuple((creation(scope, stack),) for stack in stacks(scope)))

    async def up(self, confirm: Callable[[Plan], bool], progress: Progress) -> bool:
        """Walk the six steps; then machines run the release of the project's folder. What the site costs a month is
        said before the question, when there is something to make."""
        preflight.require(preflight.preflight(self.scope, self.cloud))
        values = application_secret_values(self.scope.site, self.project)
        planned = self._planned()
        every = [c for change_set in planned.values() for c in change_set.changes]
        plan = self._as_plan(planned)
        try:
            changes.check(every, self.allowed)
            if any(action.verb is Verb.CREATE for action in plan.actions):
                progress.say(self.cost().summary())
            agreed = not plan or confirm(plan)
        except BaseException:
            self._discard(planned)
            raise
        if not agreed:
            self._discard(planned)
            return False
        release = self.shipping.release()
        self.runner.known.setdefault("Release", self.shipping.running_release() or release)

        def ship() -> Mapping[str, str]:
            self.shipping.keep_secrets(values)
            wanted = self.runner.known["Release"]
            if wanted == release:
                self.shipping.ship(release, progress)
            return {"Release": wanted}

        self.runner.apply(
            self.stacks,
            Steps(progress),
            allowed=self.allowed,
            planned=planned,
            prepare={"application": ship, "cluster": ship},
        )
        await self.settle(release, progress)
        return True

    def complete(self) -> bool:
        """Whether all six steps were walked to their end once; none of them is under way."""
        with explained("looking at the stacks"):
            states = [str((self.runner.describe(s) or {}).get("StackStatus", "")) for s in self.stacks]
        return all(s in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE") for s in states)

    async def first(self, folder: Path, confirm: Callable[[Plan], bool], progress: Progress) -> bool:
        """The first `deploy`: all six steps, with the files of `folder` as the release."""
        self.shipping.project = folder
        try:
            return await self.up(confirm, progress)
        finally:
            self.shipping.project = self.project

    def _discard(self, planned: Mapping[str, ChangeSet]) -> None:
        for change_set in planned.values():
            changes.discard(self.cloud, change_set.arn, self._stack(change_set.stack).region)

    async def settle(self, release: str, progress: Progress) -> None:
        """Machines that run another release, or an older launch template, are replaced."""
        if self.scope.aws.compute == "kubernetes":
            progress.say(
                "The cluster is there; `lampstand deploy -t kubernetes` puts the application onto it."
            )
            return
        groups = self.shipping.groups()
        if any(g.release != release for g in groups):
            self.shipping.ship(release, progress)
            self.shipping.roller.roll(groups, release, progress.waiting)
        else:
            for group in groups:
                self.shipping.roller.refresh(group, progress.waiting)

    async def down(self, progress: Progress) -> Sequence[str]:
        """Delete everything but data and what they need. Returns what was deleted; says what is left and
        its cost."""
        gone = [s for s in self.stacks if s.life != "data" and s.key != "network"]
        there = [s for s in gone if self.runner.describe(s) is not None]
        try:
            Remover(self.runner).delete(gone, Steps(progress))
        finally:
            # Also when a stack could not be deleted, or somebody had enough: what goes on costing is named.
            for item in self.left():
                if item.monthly != 0.0:
                    progress.say(f"left: {item}")
        return [self.scope.stack(s.key) for s in there]

    def left(self) -> tuple[inventory.Left, ...]:
        """Whatever still carries the site's tag."""
        return inventory.left(self.scope, self.cloud)

    def data(self) -> Sequence[str]:
        """What `delete_data` would delete."""
        return [str(item) for item in self.left() if item.monthly != 0.0]

    def delete_data(self) -> None:
        """Delete the stacks of data, then the buckets, images and secrets that they leave behind.

        The database's last snapshot stays: it is listed, with its cost. Raises LampstandError while the
        database is protected by the site file.
        """
        if self.scope.aws.protect_data:
            raise LampstandError(
                "the site file protects its data", "targets.aws.protect_data",
                "write `protect_data: false`, run `lampstand up -t aws` once, and try again",
            )  # fmt: skip
        kept = {k: v for k, v in self.outputs().items() if k.endswith(("Bucket", "Secret"))}
        Remover(self.runner).delete(
            [s for s in self.stacks if s.life == "data" or s.key == "network"], lambda _: None
        )
        delete_kept(self.cloud, kept, self.shipping.repository)

    async def scale(
        self, changes: Mapping[str, str], confirm: Callable[[Plan], bool], progress: Progress
    ) -> bool:
        """Change numbers: of machines at once, of database and cache through their stacks."""
        merged = {**self.overrides(), **changes}
        if any(name.startswith(("edge", "balancer")) for name in changes):
            raise UnavailableError(
                "edges and balancer are CloudFront's and the load balancer's, which scale alone"
            )
        site = scaled(self._file_site, merged)
        action = Action(
            Verb.RELOAD, self.scope.prefix, "site", ", ".join(f"{k}={v}" for k, v in changes.items())
        )
        if not confirm(Plan(((action,),))):
            return False
        with explained("keeping the numbers"):
            self.cloud.client("ssm").put_parameter(
                Name=f"{parameters(self.scope)}/scaled",
                Type="String",
                Value=json.dumps(merged),
                Overwrite=True,
            )
        for name in ("stacks", "runner", "shipping", "shells"):
            self.__dict__.pop(name, None)
        if "web" in changes and self.scope.aws.compute == "ec2":
            with explained("changing the number of machines"):
                self.cloud.client("autoscaling").update_auto_scaling_group(
                    AutoScalingGroupName=self.outputs()[GROUPS["web"]],
                    MinSize=site.web.servers,
                    MaxSize=self.scope.web_maximum,
                    DesiredCapacity=site.web.servers,
                )
        if set(changes) != {"web"}:
            return await self.up(lambda _: True, progress)
        return True

    # -- releases ----------------------------------------------------------------------------------

    @property
    def releasing(self) -> AwsReleasing:
        """Its releases."""
        return AwsReleasing(self.shipping, self.shells, self.complete, self.first)

    # -- looking -----------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The document of `status --json`, version 1."""
        outputs = self.outputs()
        rows = inventory.status_rows(self.scope, self.cloud, outputs) if outputs else []
        states = {
            s.key: str((self.runner.describe(s) or {}).get("StackStatus", "missing")) for s in self.stacks
        }
        going = [k for k, v in states.items() if v.endswith("IN_PROGRESS")]
        bad = [r["name"] for r in rows if r["health"] != "good"]
        missing = [k for k, v in states.items() if v == "missing"]
        if going:
            sentence = f"CloudFormation changes {', '.join(going)}"
        elif bad:
            sentence = f"not well: {', '.join(bad)}"
        elif missing:
            sentence = "the site was never brought up" if not rows else f"not there: {', '.join(missing)}"
        else:
            sentence = "everything is well"
        return {
            "version": 1,
            "site": self.scope.site.site,
            "target": self.name,
            "region": self.cloud.region,
            "sentence": sentence,
            "well": bool(rows) and not bad and not going and not missing,
            "controller": {"running": False, "pid": None},
            "lock": None,
            "release": self.shipping.running_release() if GROUPS["web"] in outputs else None,
            "scaled": dict(self.overrides()),
            "urls": {"site": outputs["Url"]} if "Url" in outputs else {},
            "problems": [],
            "stacks": states,
            "instances": rows,
        }

    def logs(self, names: Sequence[str], lines: int, follow: bool) -> Iterator[tuple[str, str]]:
        """Lines that machines sent to CloudWatch: the last hour's, at most `lines`, then new ones with `follow`."""
        return tail(self.cloud, log_group(self.scope), names, lines, follow)

    def events(self, follow: bool) -> Iterator[dict[str, Any]]:
        """CloudTrail keeps the audit log on AWS."""
        raise UnavailableError(
            "on AWS the audit log is CloudTrail's", mend="`aws cloudtrail lookup-events` reads it"
        )

    # -- shells ------------------------------------------------------------------------------------

    def shell(self, instance: str, argv: Sequence[str]) -> Shell:
        """A program in the application's container on a machine."""
        return self.shells.shell(instance, argv)

    def database_shell(self, replica: bool, arguments: Sequence[str]) -> Shell:
        """The MariaDB client, as the application's account."""
        return self.shells.database_shell(replica, arguments)

    def redis_shell(self, sessions: bool, arguments: Sequence[str]) -> Shell:
        """redis-cli on the cache, or on the session store."""
        return self.shells.redis_shell(sessions, arguments)

    # -- the CDN, and walking away -----------------------------------------------------------------

    def purge(self, paths: Sequence[str], tags: Sequence[str]) -> dict[str, Any]:
        """Invalidate paths (`/news/*`) and tags at every location. CloudFront names a tag `#tag` among the paths.

        Returns when CloudFront has taken it, as the document of `purge --json`; it is everywhere seconds later.
        """
        items = [*paths, *(f"#{tag}" for tag in tags)]
        began = time.monotonic()
        with explained("purging"):
            answer = self.cloud.client("cloudfront").create_invalidation(
                DistributionId=self.outputs()["Distribution"],
                InvalidationBatch={
                    "Paths": {"Quantity": len(items), "Items": items},
                    "CallerReference": f"lampstand-{time.time_ns()}",
                },
            )
        row = {
            "edge": "cloudfront",
            "purged": len(items),
            "ms": 1000 * (time.monotonic() - began),
            "error": "",
        }
        return {
            "edges": [row],
            "ms": row["ms"],
            "failed": [],
            "invalidation": str(answer["Invalidation"]["Id"]),
        }

    def cost(self, offline: bool = False, traffic: Traffic | None = None) -> Estimate:
        """What the site costs a month: by the Pricing API, or by the bundled table without credentials.

        `traffic` stands for the site file's `targets.aws.traffic`.
        """
        region = self._file_site.targets.aws.region or (
            self.cloud.region if not offline else bundled().region
        )
        site = self._file_site
        if traffic is not None:
            aws = site.targets.aws.model_copy(update={"traffic": traffic})
            site = site.model_copy(update={"targets": site.targets.model_copy(update={"aws": aws})})
        scope = Scope(site)
        if offline:
            return estimate(scope, region)
        try:
            return estimate(scope, region, online(scope, self.cloud, lambda: time.strftime("%Y-%m-%d")))
        except AwsError:
            # No credentials, or no right to ask: the table says where its prices are from and how old they are.
            return estimate(scope, region)

    async def operate(self, operation: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        """`purge` and `switchover`; there is no controller on AWS to ask for anything else."""
        if operation == "purge":
            urls: Sequence[str] = arguments.get("urls") or ()
            paths = [urlsplit(url).path or "/" for url in urls]
            if prefix := arguments.get("prefix"):
                paths.append(f"{prefix}*")
            if arguments.get("everything"):
                paths = ["/*"]
            tags: Sequence[str] = arguments.get("tags") or ()
            if not paths and not tags:
                raise UsageError("nothing is named", mend="name URLs, --tag, --prefix or --all")
            return self.purge(paths, tags)
        if operation == "switchover" and arguments.get("kind", "database") == "database":
            began = time.monotonic()
            primary = self.outputs()["PrimaryId"]
            with explained("failing over the database"):
                self.cloud.client("rds").reboot_db_instance(DBInstanceIdentifier=primary, ForceFailover=True)
            return {"primaries": {"database": primary}, "seconds": round(time.monotonic() - began, 1)}
        raise UnavailableError(f"{operation} is not available on AWS")

    def drill_site(self) -> "DrillSite":
        """Drills kill processes; on AWS they would have to be AWS's own (Fault Injection Service)."""
        raise UnavailableError("drills are not available on AWS", mend="run them on another target")

    def export(self, folder: str) -> Sequence[str]:
        """Templates, and a script for the AWS CLI. Needs no account: images are named as they will be."""
        scope = Scope(self._file_site)
        release = project_release(scope, self.project)
        region = scope.aws.region or "us-east-1"
        registry = (
            f"{scope.aws.account or 'ACCOUNT'}.dkr.ecr.{region}.amazonaws.com/lampstand/{scope.site.site}"
        )
        references = {name: f"{registry}:{release}-{name}" for name in images.NAMES}
        many = export.files(scope, region, {release: bundle(scope, release, references)})
        return export.write(Path(folder), many)
