"""`deploy`, `rollback`, `releases` on AWS, with receipts in the bucket of releases."""

import contextlib
import getpass
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from lampstand.errors import LampstandError, UnavailableError, UsageError
from lampstand.plan import Action, Plan, Verb
from lampstand.releases.hooks import run_hook
from lampstand.releases.origin import Origin, committed, working
from lampstand.releases.receipts import Moment, Outcome, Receipt, rollback_to
from lampstand.releases.words import Confirm, Order
from lampstand.site.secrets import application_secret_values
from lampstand.targets.aws.cloud import explained
from lampstand.targets.aws.shells import Shells
from lampstand.targets.aws.shipping import Shipping, project_release
from lampstand.targets.base import Progress, Shell

PREFIX = "receipts/"


@dataclass
class AwsReleasing:
    """Implements `releases.words.Releasing`. Nothing is measured here: CloudWatch counts requests and errors."""

    shipping: Shipping
    shells: Shells
    complete: Callable[[], bool]
    """Whether the site is there."""
    first: Callable[[Path, Confirm, Progress], Awaitable[bool]]
    """Makes the site, with the files of a folder as its first release; False when it was not confirmed."""

    @property
    def _bucket(self) -> str:
        try:
            return self.shipping.outputs()["ReleasesBucket"]
        except KeyError:
            raise LampstandError("the site is not there", mend="run `lampstand up -t aws` first") from None

    async def deploy(self, order: Order, confirm: Confirm, progress: Progress) -> Mapping[str, Any] | None:
        """Roll a release out and return its receipt; where the site is not there yet, walk the six steps first.

        Raises UnavailableError for a canary, LampstandError when the release failed: the old one serves then.
        """
        if order.canary:
            raise UnavailableError(
                "canary releases are not available on AWS", "--canary", "an instance refresh returns by itself when a "
                "new machine is not well",
            )  # fmt: skip
        site = self.shipping.scope.site
        if order.verb == "deploy" and not order.release and not self.complete():
            return await self._first(order, confirm, progress)
        previous = self.shipping.running_release() or ""
        receipt = self._begin(order.verb, previous)
        try:
            await run_hook("before_deploy", site.hooks.before_deploy, self.shipping.project, {})
            done = await self._bring(order, receipt, confirm, progress)
        except LampstandError as error:
            self._end(receipt, "refused" if not receipt.release else "returned", str(error.what), previous)
            facts = {"release": receipt.release, "reason": receipt.reason}
            await run_hook("on_failure", site.hooks.on_failure, self.shipping.project, facts)
            raise
        if not done:
            self._end(receipt, "refused", "not confirmed", previous)
            return None
        self._end(receipt, "done", "", receipt.release)
        facts = {"release": receipt.release}
        await run_hook("after_deploy", site.hooks.after_deploy, self.shipping.project, facts)
        return receipt.document()

    async def _first(self, order: Order, confirm: Confirm, progress: Progress) -> Mapping[str, Any] | None:
        """There is no bucket for a receipt before the end, so what failed before it leaves none."""
        site, project, begun = self.shipping.scope.site, self.shipping.project, time.time()
        await run_hook("before_deploy", site.hooks.before_deploy, project, {})
        try:
            with self._origin(order) as origin:
                notes = _left_out(origin, progress)
                if not await self.first(origin.folder, confirm, progress):
                    return None
                commit = origin.commit
        except LampstandError as error:
            await run_hook("on_failure", site.hooks.on_failure, project, {"reason": str(error.what)})
            raise
        release = self.shipping.running_release() or ""
        receipt = self._begin(order.verb, "")
        receipt.begun, receipt.release, receipt.commit, receipt.notes = begun, release, commit, notes
        receipt.steps = {"six steps": round(time.time() - begun, 3)}
        self._end(receipt, "done", "", release)
        progress.say(f"The site is at {self.shipping.outputs().get('Url', 'no address yet')}")
        await run_hook("after_deploy", site.hooks.after_deploy, project, {"release": release})
        return receipt.document()

    async def _bring(self, order: Order, receipt: Receipt, confirm: Confirm, progress: Progress) -> bool:
        groups = self.shipping.groups()
        if order.verb == "rollback" or order.release:
            wanted = self._chosen(order, receipt.previous)
            if not self._confirmed(confirm, receipt.previous, wanted):
                return False
        else:
            with self._origin(order) as origin:
                receipt.notes += _left_out(origin, progress)
                receipt.commit = origin.commit
                wanted = project_release(self.shipping.scope, origin.folder)
                if not self._confirmed(confirm, receipt.previous, wanted):
                    return False
                values = application_secret_values(self.shipping.scope.site, self.shipping.project)
                self.shipping.keep_secrets(values)
                begun = time.monotonic()
                replace(self.shipping, project=origin.folder).ship(wanted, progress)
                receipt.steps = {"build": round(time.monotonic() - begun, 3)}
        receipt.release = wanted
        begun = time.monotonic()

        def said(sentence: str) -> None:
            receipt.moment("", sentence)
            progress.waiting(sentence)

        self.shipping.roller.roll(groups, wanted, said)
        receipt.steps = {**receipt.steps, "roll": round(time.monotonic() - begun, 3)}
        return True

    def _confirmed(self, confirm: Confirm, previous: str, wanted: str) -> bool:
        cause = f"release {previous or 'none'} -> {wanted}"
        return confirm(Plan(((Action(Verb.RESTART, self.shipping.scope.prefix, "web", cause),),)))

    def _origin(self, order: Order) -> AbstractContextManager[Origin]:
        project = self.shipping.project
        return contextlib.nullcontext(working(project)) if order.dirty else committed(project)

    def _chosen(self, order: Order, running: str) -> str:
        there = [s.id for s in self.shipping.roller.shipped(self._bucket)]
        if order.release:
            found = [r for r in there if r.startswith(order.release)]
            if len(found) != 1:
                raise UsageError("no such release", order.release, "`lampstand releases -t aws` lists them")
            return found[0]
        release = rollback_to(self._receipts(), running, there)
        if release is None:
            raise LampstandError(
                "there is no release to return to", mend="`lampstand releases -t aws` lists them"
            )
        return release

    # -- receipts -----------------------------------------------------------------------------------------------------

    def _begin(self, verb: str, previous: str) -> Receipt:
        numbers = [int(key) for key in self._keys()]
        receipt = Receipt(max(numbers, default=0) + 1, verb, "", previous, time.time(), getpass.getuser())
        self._keep(receipt)
        return receipt

    def _end(self, receipt: Receipt, outcome: Outcome, reason: str, serves: str) -> None:
        receipt.outcome, receipt.reason, receipt.serves = outcome, reason, serves
        receipt.duration_seconds = round(time.time() - receipt.begun, 3)
        self._keep(receipt)

    def _keep(self, receipt: Receipt) -> None:
        with explained("keeping the receipt"):
            self.shipping.cloud.client("s3").put_object(
                Bucket=self._bucket,
                Key=f"{PREFIX}{receipt.number:05}.json",
                Body=json.dumps(receipt.document(), indent=1).encode(),
                ContentType="application/json",
            )

    def _keys(self) -> list[str]:
        with explained("listing receipts"):
            found = self.shipping.cloud.pages(
                "s3", "list_objects_v2", "Contents", Bucket=self._bucket, Prefix=PREFIX
            )
            return sorted(str(o["Key"]).removeprefix(PREFIX).removesuffix(".json") for o in found)

    def _receipts(self) -> list[Receipt]:
        """The newest `deploy.history`, the oldest first; those of another version are left out."""
        known = {f.name for f in fields(Receipt)}
        client, result = self.shipping.cloud.client("s3"), list[Receipt]()
        for key in self._keys()[-max(1, self.shipping.scope.site.deploy.history) :]:
            with explained("reading a receipt"):
                body = client.get_object(Bucket=self._bucket, Key=f"{PREFIX}{key}.json")["Body"].read()
            value: dict[str, Any] = json.loads(body)
            value.pop("version", None)
            if value.keys() == known:
                value["timeline"] = [Moment(**m) for m in value["timeline"]]
                result.append(Receipt(**value))
        return result

    def releases(self) -> Sequence[Mapping[str, Any]]:
        """The releases in the bucket, the newest first."""
        running, receipts = self.shipping.running_release(), self._receipts()
        return [
            {
                "release": s.id,
                "commit": next((r.commit for r in reversed(receipts) if r.release == s.id), None),
                "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(s.when)),
                "state": "serves" if s.id == running else "there",
                "deploys": [
                    {"number": r.number, "outcome": r.outcome} for r in receipts if r.release == s.id
                ],
            }
            for s in self.shipping.roller.shipped(self._bucket)
        ]

    def release(self, name: str) -> Mapping[str, Any]:
        """The receipt with a number, or the newest of a release."""
        for receipt in reversed(self._receipts()):
            if str(receipt.number) == name or (len(name) >= 4 and receipt.release.startswith(name)):
                return receipt.document()
        raise LampstandError("no such deploy", name, "`lampstand releases -t aws` lists releases and deploys")

    # -- the rest -----------------------------------------------------------------------------------------------------

    def maintenance(self, facts: Mapping[str, str] | None) -> None:
        """Not on AWS: machines have no controller that would rewrite nginx's files."""
        raise UnavailableError(
            "maintenance mode is not available on AWS",
            mend="releases need none: old and new machines serve side by side",
        )

    def maintained(self) -> bool:
        return False

    def run(self, argv: Sequence[str]) -> Shell:
        """A command in the application's container on a web machine."""
        return self.shells.shell("web", argv)


def _left_out(origin: Origin, progress: Progress) -> list[str]:
    """Says what is changed and not committed, and returns the note for the receipt."""
    if not origin.left_out:
        return []
    note = f"not committed, so not part of it: {', '.join(origin.left_out[:5])}"
    progress.say(f"{note} (--dirty takes the folder as it is)")
    return [note]
