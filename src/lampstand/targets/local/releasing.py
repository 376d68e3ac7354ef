"""The verbs of releases on this machine."""

import asyncio
import contextlib
import getpass
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lampstand.controller.routes import CLOSED
from lampstand.errors import LampstandError
from lampstand.plan import Action, Plan
from lampstand.releases.assets import Assets
from lampstand.releases.measure import Measure
from lampstand.releases.origin import Origin, committed, working
from lampstand.releases.preconditions import refusals, refuse
from lampstand.releases.probe import asks
from lampstand.releases.receipts import ENDED, Outcome, Receipt, Receipts, good_releases, rollback_to
from lampstand.releases.refresh import refresh_edges
from lampstand.releases.store import Store
from lampstand.releases.traffic import Ledger, Traffic
from lampstand.releases.watch import Trial, Watch
from lampstand.releases.words import Confirm, Order
from lampstand.site.secrets import application_secret_values
from lampstand.targets.base import Progress, Shell
from lampstand.targets.local import processes, sizes
from lampstand.targets.local.change import Change
from lampstand.targets.local.desired import Desired, load_ports
from lampstand.targets.local.rollout import Rollout
from lampstand.targets.local.shared import make_folders
from lampstand.tiers.web.commands import one_off

if TYPE_CHECKING:
    from lampstand.targets.local.deployment import LocalDeployment


COMING_BACK = 10.0
"""Seconds that a deploy waits for servers that are not well before it is refused."""


class LocalReleasing:
    """Implements `releases.words.Releasing`."""

    def __init__(self, deployment: "LocalDeployment") -> None:
        self.deployment = deployment
        self.folder = deployment.folder
        self.target = deployment.target
        self.site = deployment.site
        self.store = Store(self.folder.releases, self.folder.uploads)
        self.receipts = Receipts(self.folder.root / "deploys", self.site.deploy.history)

    # -- packaging ---------------------------------------------------------------------------------------------------
    def make(self, origin: Origin, progress: Progress) -> str:
        """Package and build a release, unless it is there."""
        return self.store.make(self.site, origin, self.target.engines, progress.say)

    def name(self, origin: Origin) -> str:
        """The id of the release that these files make."""
        return self.store.name(self.site, origin, self.target.engines)

    def _origin(self, order: Order) -> AbstractContextManager[Origin]:
        project = self.deployment.project
        return contextlib.nullcontext(working(project)) if order.dirty else committed(project)

    # -- deploy, rollback --------------------------------------------------------------------------------------------
    async def deploy(self, order: Order, confirm: Confirm, progress: Progress) -> Mapping[str, Any] | None:
        """Bring a release about. Raises LampstandError when it was refused, failed or was taken back."""
        self.deployment.require_engines()
        sizes.check(self.site)
        if not self.folder.desired.exists():
            raise LampstandError("the site is not up", mend="run `lampstand up` first")
        with self.folder.lock(f"lampstand {order.verb}"):
            previous = self._serving()
            receipt = self.receipts.begin(order.verb, previous, getpass.getuser())
            unfinished = self._close_unfinished(receipt)
            outcome: Outcome = "refused"
            try:
                await self._refuse(order)
                outcome = "failed"
                release = self._release(order, receipt, progress)
            except LampstandError as error:
                self.end(receipt, outcome, error.what, previous)
                raise
            desired = Desired(self.site, str(self.deployment.project), release)
            if order.verb == "deploy" and desired.release not in (previous, unfinished):
                # Once for each deploy; one that goes on where another was killed does not do it again.
                self.store.released(desired.release).unlink(missing_ok=True)
            begun = await self.bring_about(desired, order, confirm, progress, receipt)
        return receipt.document() if begun else None

    async def _refuse(self, order: Order) -> None:
        """Raises LampstandError when a deploy cannot begin. A server that is only just coming back is waited for."""
        end = time.monotonic() + COMING_BACK
        while True:
            found = refusals(self.site, self.deployment.status())
            if not all(r.forcible for r in found) or time.monotonic() > end or not found or order.force:
                refuse(found, force=order.force)
                return
            await asyncio.to_thread(self.target.controller.post, "supervise")
            await asyncio.sleep(0.2)

    def _release(self, order: Order, receipt: Receipt, progress: Progress) -> str:
        if order.verb == "rollback" or order.release:
            return self._chosen(order, receipt)
        self.folder.keep_application_secrets(application_secret_values(self.site, self.deployment.project))
        begun = time.monotonic()
        with self._origin(order) as origin:
            if origin.left_out:
                note = f"not committed, so not part of it: {', '.join(origin.left_out[:5])}"
                more = len(origin.left_out) - 5
                receipt.notes.append(note + (f" and {more} more" if more > 0 else ""))
                progress.say(f"{receipt.notes[-1]} (--dirty takes the folder as it is)")
            release = self.make(origin, progress)
        receipt.steps = {**receipt.steps, "build": round(time.monotonic() - begun, 3)}
        receipt.commit = self.store.manifest(release).get("commit")
        return release

    def _chosen(self, order: Order, receipt: Receipt) -> str:
        if order.release:
            release = self.store.find(order.release)
        else:
            found = rollback_to(self.receipts.all(), self._serving(), self.store.all())
            if found is None:
                raise LampstandError(
                    "there is no release to return to", mend="`lampstand releases` lists them"
                )
            release = found
        receipt.commit = self.store.manifest(release).get("commit")
        return release

    def _serving(self) -> str:
        """The release that serves: what the last deploy that came to an end left, else what was asked for last."""
        ended = [r for r in self.receipts.all() if r.outcome in ENDED and r.serves]
        if ended and self.store.has(ended[-1].serves):
            return ended[-1].serves
        if not self.folder.desired.exists():
            return ""
        desired = Desired.read(self.folder)
        return next(iter(desired.releases.values()), desired.release)

    def _close_unfinished(self, mine: Receipt | None) -> str:
        """Say of the deploy before, if it was killed, that it was; the release it wanted, or nothing."""
        others = [r for r in self.receipts.all() if mine is None or r.number != mine.number]
        if not others or others[-1].outcome != "running":
            return ""
        self.end(others[-1], "interrupted", "its command was killed", "")
        return others[-1].release

    async def planned(self, desired: Desired) -> Plan:
        """What `bring_about` would do."""
        receipt = Receipt(0, "plan", desired.release, "", time.time())
        return (await self._rollout(receipt, Order("up"), _Silent()).planned(desired))[0]

    # -- bringing about ----------------------------------------------------------------------------------------------
    async def bring_about(
        self,
        desired: Desired,
        order: Order,
        confirm: Confirm,
        progress: Progress,
        receipt: Receipt | None = None,
    ) -> bool:
        """Make a wish true, by a roll where anybody is being served. False when it was not confirmed. The lock is held.

        Raises LampstandError when it failed; where a new release was to blame, the one before serves again.
        """
        before = Desired.read(self.folder) if self.folder.desired.exists() else None
        receipt = receipt or self._receipt_of(order, desired)
        receipt.release = desired.release
        self.keep(receipt)
        rollout = self._rollout(receipt, order, progress)
        steps, surge, observed = await rollout.planned(desired)
        if steps and not confirm(steps):
            self.end(receipt, "refused", "it was not confirmed", receipt.previous)
            return False
        if before is not None:
            # What follows asks it for things that an older one may not know.
            await self.target.ensure_controller()
            await self.target.controller.ready()
        make_folders(self.deployment.project, self.folder.uploads, self.site.app.uploads)
        self._keep_assets(desired.release, receipt.previous)
        requests = asks(self.site.deploy.requests, self.site.app.health)
        host = self.site.tls.domains[0] if self.site.tls.domains else None
        measure = Measure(self.deployment.front_url(), host, requests, rollout.watch)
        if rollout.watch.canary is not None:
            seconds = order.canary_time or self.site.deploy.canary_time
            rollout.trial = Trial(rollout.watch.canary, seconds, measure.sides)
        change = Change(self, order, desired, before, receipt, rollout, measure, steps, surge, observed)
        await change.bring_about()
        await refresh_edges(self.site, receipt, self.deployment.operate, progress.say)
        self._prune(receipt)
        return True

    def _receipt_of(self, order: Order, desired: Desired) -> Receipt:
        """Kept where the application changes; else only filled in, and forgotten."""
        self._close_unfinished(None)
        previous = self._serving()
        if desired.release != previous:
            return self.receipts.begin(order.verb, previous, getpass.getuser())
        return Receipt(0, order.verb, desired.release, previous, time.time())

    def _rollout(self, receipt: Receipt, order: Order, progress: Progress) -> Rollout:
        ledger = Ledger()
        ports = load_ports(self.folder, self.site).kept
        for instance in self.target.supervisor.observe_all().values():
            port = ports.get(f"{instance.name}/http")
            if instance.kind == "web" and instance.release and port:
                ledger.note(f"127.0.0.1:{port}", instance.release, 0.0)
        logs = sorted(self.folder.instances.glob("balancer-*/log/access.log"))
        watch = Watch(receipt, self.site.deploy, Traffic(logs, ledger), ledger, self.keep)
        share = order.canary if order.canary is not None else self.site.deploy.canary or 0.0
        if order.verb == "deploy" and share > 0 and receipt.release != receipt.previous:
            watch.canary = {"release": receipt.release, "percent": f"{100 * share:g}"}
        return Rollout(self.target, progress, watch)

    def _keep_assets(self, *releases: str) -> None:
        """What the release before and the new one serve stays there for `deploy.assets_keep`."""
        now = time.time()
        serving = [self.folder.releases / r for r in reversed(releases) if r and self.store.has(r)]
        assets = Assets(self.folder.assets, self.folder.root / "assets.json")
        assets.keep(self.site, serving, now, last=now - self.site.deploy.assets_keep)

    def _prune(self, receipt: Receipt) -> None:
        """Remove releases beyond `deploy.keep`, never one that runs or that a rollback would take."""
        good = good_releases(self.receipts.all())
        observed = self.target.supervisor.observe_all().values()
        needed = {o.release for o in observed if o.release} | {Desired.read(self.folder).release, *good[-2:]}
        gone = self.store.prune(list(reversed(good)), self.site.deploy.keep, needed)
        if gone:
            receipt.pruned = gone
            self.keep(receipt)

    def end(self, receipt: Receipt, outcome: Outcome, reason: str, serves: str) -> None:
        """Close a receipt."""
        receipt.outcome, receipt.reason, receipt.serves = outcome, reason, serves
        receipt.duration_seconds = round(time.time() - receipt.begun, 3)
        self.keep(receipt)

    def keep(self, receipt: Receipt) -> None:
        """Write a receipt; one without a number is nobody's business."""
        if receipt.number:
            self.receipts.keep(receipt)

    # -- looking -----------------------------------------------------------------------------------------------------
    def releases(self) -> Sequence[Mapping[str, Any]]:
        """Every release that is there, the newest first."""
        receipts = self.receipts.all()
        serving, good = self._serving(), good_releases(receipts)
        found: list[dict[str, Any]] = []
        for name in self.store.all():
            manifest = self.store.manifest(name)
            mine = [r for r in receipts if r.release == name]
            found.append(
                {
                    "release": name,
                    "commit": manifest.get("commit"),
                    "created": manifest.get("created"),
                    "state": "serves" if name == serving else "good" if name in good else "",
                    "deploys": [
                        {"number": r.number, "verb": r.verb, "outcome": r.outcome, "begun": r.begun}
                        for r in mine
                    ],
                }
            )
        return found

    def release(self, name: str) -> Mapping[str, Any]:
        """The receipt of a deploy or of a release's last one, with the manifest where the release is still there."""
        receipt = self.receipts.of(name)
        there = self.store.has(receipt.release)
        return {**receipt.document(), "manifest": self.store.manifest(receipt.release) if there else None}

    # -- maintenance and one-off commands ----------------------------------------------------------------------------
    def maintenance(self, facts: Mapping[str, str] | None) -> None:
        """Close the site for visitors, or open it again."""
        self.target.controller.post("intend", 30.0, intent=CLOSED, facts=dict(facts) if facts else None)

    def maintained(self) -> bool:
        """Whether maintenance is on."""
        return CLOSED in self.folder.read_json(self.folder.memory).get("intents", {})

    def run(self, argv: Sequence[str]) -> Shell:
        """A command in the environment of the release that serves."""
        desired = Desired.read(self.folder)
        ports = load_ports(self.folder, desired.site)
        process = one_off(
            replace(desired, release=self._serving()).context(self.folder, ports, self.target.engines), argv
        )
        environment = processes.base_environment() | dict(process.env)
        environment |= {k: v for k, v in os.environ.items() if k in ("TERM", "COLORTERM")}
        account = processes.account_of(process)
        prefix: tuple[str, ...] = ()
        if account:
            prefix = ("/usr/bin/setpriv", f"--reuid={account}", f"--regid={account}", "--init-groups", "--")
        return Shell((*prefix, *process.argv), environment, process.cwd or "/")


class _Silent:
    """Progress of what nobody waits for."""

    def say(self, text: str) -> None: ...
    def action(self, action: Action, state: str) -> None: ...
    def waiting(self, sentence: str) -> None: ...
