"""The verbs of releases on Docker: the same roll, the same receipts; a release is an image.

`up`, `scale`, `deploy` and `rollback` differ in what they wish for; how a wish comes true is `bring_about`.
"""

import asyncio
import contextlib
import getpass
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lampstand.controller.routes import CLOSED
from lampstand.errors import LampstandError
from lampstand.observed import Observed, State
from lampstand.plan import Plan, plan
from lampstand.releases.hooks import run_hook
from lampstand.releases.measure import Measure
from lampstand.releases.origin import Origin, committed, working
from lampstand.releases.preconditions import refusals, refuse
from lampstand.releases.probe import asks
from lampstand.releases.receipts import ENDED, Outcome, Receipt, Receipts, good_releases, rollback_to
from lampstand.releases.refresh import refresh_edges
from lampstand.releases.roll import rolled, rolling, surge_of
from lampstand.releases.traffic import Ledger, Traffic
from lampstand.releases.watch import Trial, Watch
from lampstand.releases.words import Confirm, Order, TakenBackError
from lampstand.site import Site
from lampstand.targets.base import Progress, Shell
from lampstand.targets.docker import builder
from lampstand.targets.docker.compose import RELEASE
from lampstand.targets.docker.images import Application, read_application
from lampstand.targets.docker.rollout import LOOK, Rollout, Steps, followed
from lampstand.targets.docker.wish import Wish
from lampstand.targets.local.desired import Desired
from lampstand.topology import expand

if TYPE_CHECKING:
    from lampstand.targets.docker.deployment import DockerDeployment


class DockerReleasing:
    """Implements `releases.words.Releasing`."""

    def __init__(self, deployment: "DockerDeployment") -> None:
        self.deployment = deployment
        self.folder = deployment.folder
        self.target = deployment.target
        self.site = deployment.site
        self.receipts = Receipts(self.folder.root / "deploys", self.site.deploy.history)

    # -- what is asked for -------------------------------------------------------------------------------------------
    async def deploy(self, order: Order, confirm: Confirm, progress: Progress) -> Mapping[str, Any] | None:
        """Bring a release about. Raises LampstandError when it was refused, failed or was taken back."""
        self.deployment.cli.require()
        if not self.folder.state.desired.exists():
            raise LampstandError("the site is not up", mend="run `lampstand up -t docker` first")
        with self.folder.state.lock(f"lampstand {order.verb}"):
            previous = self.serving()
            receipt = self.receipts.begin(order.verb, previous, getpass.getuser())
            try:
                refuse(refusals(self.site, self.deployment.status()), force=order.force)
                wish = await self._wished(order, receipt, progress)
            except LampstandError as error:
                self._end(receipt, "refused", str(error.what), previous)
                raise
            begun = await self.bring_about(wish, order, confirm, progress, receipt)
        return receipt.document() if begun else None

    async def _wished(self, order: Order, receipt: Receipt, progress: Progress) -> Wish:
        if order.verb == "rollback" or order.release:
            return self.deployment.wish(self.site, None, self._chosen(order))
        with self._origin(order) as origin:
            if origin.left_out:
                note = f"not committed, so not part of it: {', '.join(origin.left_out[:5])}"
                receipt.notes.append(note)
                progress.say(f"{note} (--dirty takes the folder as it is)")
            application = read_application(self.site, origin.folder, origin.commit)
            receipt.commit = origin.commit
            begun = time.monotonic()
            await self.build(self.site, application, progress)
        receipt.steps = {**receipt.steps, "build": round(time.monotonic() - begun, 3)}
        return self.deployment.wish(self.site, application)

    def _origin(self, order: Order) -> AbstractContextManager[Origin]:
        project = self.deployment.project
        return contextlib.nullcontext(working(project)) if order.dirty else committed(project)

    def _chosen(self, order: Order) -> str:
        there = self.there()
        if order.release:
            found = [r for r in there if r.startswith(order.release)]
            if len(found) != 1:
                raise LampstandError("no such release", order.release, "`lampstand releases` lists them")
            return found[0]
        release = rollback_to(self.receipts.all(), self.serving(), there)
        if release is None:
            raise LampstandError("there is no release to return to", mend="`lampstand releases` lists them")
        return release

    def there(self) -> list[str]:
        """The releases whose images are on this machine, the newest first."""
        made = {r: self.deployment.cli.created(tag) for r, tag in self.folder.tags().items()}
        return sorted((r for r, when in made.items() if when), key=made.__getitem__, reverse=True)

    def serving(self) -> str:
        """The release that serves: what the last deploy that came to an end left, else what was asked for last."""
        ended = [r for r in self.receipts.all() if r.outcome in ENDED and r.serves]
        if ended:
            return ended[-1].serves
        if not self.folder.state.desired.exists():
            return ""
        return Desired.read(self.folder.state).release

    async def build(self, site: Site, application: Application, progress: Progress) -> list[str]:
        """Build the images that are missing."""
        found = self.deployment.images(site, application).values()
        folder = self.folder.root
        return await builder.build(self.deployment.cli, found, application.project, folder, progress.say)

    # -- bringing about ----------------------------------------------------------------------------------------------
    async def planned(self, wish: Wish) -> Steps:
        """What leads to a wish: a roll, where anybody is being served."""
        direct = await self._difference(wish)
        _, observed = direct
        web = wish.desired.site.web
        if not any(o.state is State.RUNNING for o in observed.of_kind("web")):
            return Steps(direct[0], 0, observed)
        surge = surge_of(direct[0], web)
        wide = (await self._difference(wish.wider(surge)))[0] if surge else direct[0]
        return Steps(rolled(wide, web, surge), surge, observed)

    async def _difference(self, wish: Wish) -> tuple[Plan, Observed]:
        topology = expand(self.folder.context(wish.desired, wish.project.addresses, wish.ports))
        observed = await self.target.compare(topology, wish.project)
        return plan(topology, observed), observed

    async def bring_about(
        self, wish: Wish, order: Order, confirm: Confirm, progress: Progress, receipt: Receipt | None = None
    ) -> bool:
        """Make a wish true. False when it was not confirmed. The lock is held.

        Raises LampstandError when it failed; where a new release was to blame, the one before serves again.
        """
        state = self.folder.state
        before = Desired.read(state) if state.desired.exists() else None
        receipt = receipt or self._receipt_of(order, wish.desired.release)
        receipt.release = wish.desired.release
        self.keep(receipt)
        steps = await self.planned(wish)
        if steps.plan and not confirm(steps.plan):
            self._end(receipt, "refused", "it was not confirmed", receipt.previous)
            return False
        served = any(o.state is State.RUNNING for o in steps.observed.of_kind("web"))
        with contextlib.ExitStack() as stack:
            balancers = [o.name for o in steps.observed.of_kind("balancer") if o.state is State.RUNNING]
            logs = stack.enter_context(followed(self.deployment.project_name, balancers if served else ()))
            return await self._brought_about(wish, steps, order, progress, receipt, before, logs)

    async def _brought_about(
        self,
        wish: Wish,
        steps: Steps,
        order: Order,
        progress: Progress,
        receipt: Receipt,
        before: Desired | None,
        logs: Sequence[Path],
    ) -> bool:
        """The same, confirmed; `logs` grow with the balancers' logs."""
        watch = self._watch(steps, order, receipt, logs)
        host = self.site.tls.domains[0] if self.site.tls.domains else None
        url = self.deployment.front_url()
        measure = Measure(url, host, asks(self.site.deploy.requests, self.site.app.health), watch)
        served = any(o.state is State.RUNNING for o in steps.observed.of_kind("web"))
        trial = None
        if watch.canary and rolling(steps.plan):
            trial = Trial(watch.canary, order.canary_time or self.site.deploy.canary_time, measure.sides)
        begin = end = time.time()
        try:
            if served:
                await self._hook("before_deploy", self.site.hooks.before_deploy, order, receipt)
            if served and receipt.number and rolling(steps.plan) and not self.maintained():
                measure.start()
                await asyncio.sleep(LOOK)
            async with asyncio.timeout(self.site.deploy.timeout if served else None):
                begin = time.time()
                await Rollout(self.deployment, order, progress, watch, trial).carry_out(wish, steps)
                end = time.time()
        except (LampstandError, OSError, TimeoutError) as error:
            why = str(error.what) if isinstance(error, LampstandError) else str(error) or "it took too long"
            outcome: Outcome = "failed"
            if served and before is not None and before.release != wish.desired.release:
                why, outcome = await self._taken_back(before, why, progress, watch)
            measure.stop(begin, time.time())
            self._end(receipt, outcome, why, receipt.previous)
            with contextlib.suppress(LampstandError):
                await self._hook("on_failure", self.site.hooks.on_failure, order, receipt)
            if outcome == "returned":
                mend = f"`lampstand releases show {receipt.number}` tells more"
                raise TakenBackError(f"{why}\n  {receipt.previous} serves", mend=mend) from error
            raise
        measure.stop(begin, end)
        receipt.steps = {**receipt.steps, "roll": round(end - begin, 3)}
        self._end(receipt, "done", "", wish.desired.release)
        await refresh_edges(self.site, receipt, self.deployment.operate, progress.say)
        if served:
            await self._hook("after_deploy", self.site.hooks.after_deploy, order, receipt)
        return True

    async def _taken_back(
        self, before: Desired, why: str, progress: Progress, watch: Watch
    ) -> tuple[str, Outcome]:
        """Have the release before serve again."""
        progress.say(f"Taking it back: {why}")
        watch.lenient = True
        watch.moment("", f"taken back: {why}")
        if watch.canary:  # nobody meets it any more, while its servers are replaced
            watch.canary = {**watch.canary, "percent": "0"}
        try:
            wish = self.deployment.wish(before.site, None, before.release)
            steps = await self.planned(wish)
            await Rollout(self.deployment, Order("rollback"), progress, watch).carry_out(wish, steps)
        except (LampstandError, OSError) as second:
            return f"{why}; and it could not be taken back: {second}", "failed"
        return why, "returned"

    async def _hook(self, name: str, argv: Sequence[str] | None, order: Order, receipt: Receipt) -> None:
        if order.verb in ("deploy", "rollback"):
            facts = {
                "site": self.site.site, "verb": receipt.verb, "release": receipt.release, "outcome": receipt.outcome,
                "previous": receipt.previous, "commit": receipt.commit or "", "reason": receipt.reason,
                "deploy": str(receipt.number),
            }  # fmt: skip
            await run_hook(name, argv, self.deployment.project, facts)

    def _receipt_of(self, order: Order, release: str) -> Receipt:
        """Kept where the application changes; else only filled in, and forgotten."""
        previous = self.serving()
        if release != previous:
            return self.receipts.begin(order.verb, previous, getpass.getuser())
        return Receipt(0, order.verb, release, previous, time.time())

    def _watch(self, steps: Steps, order: Order, receipt: Receipt, logs: Sequence[Path]) -> Watch:
        """Who serves what, and how the new release comes in."""
        ledger = Ledger()
        topology = self.deployment.topology()
        for seen in steps.observed.of_kind("web"):
            if topology and seen.release and (instance := topology.by_name.get(seen.name)):
                ledger.note(instance.endpoint("http").address, seen.release, 0.0)
        watch = Watch(receipt, self.site.deploy, Traffic(logs, ledger), ledger, self.keep)
        share = order.canary if order.canary is not None else self.site.deploy.canary or 0.0
        if order.verb == "deploy" and share > 0 and receipt.release != receipt.previous:
            watch.canary = {"release": receipt.release, "percent": f"{100 * share:g}"}
        return watch

    def _end(self, receipt: Receipt, outcome: Outcome, reason: str, serves: str) -> None:
        receipt.outcome, receipt.reason, receipt.serves = outcome, reason, serves
        receipt.duration_seconds = round(time.time() - receipt.begun, 3)
        self.keep(receipt)

    def keep(self, receipt: Receipt) -> None:
        """Write a receipt; one without a number is nobody's business."""
        if receipt.number:
            self.receipts.keep(receipt)

    # -- looking -----------------------------------------------------------------------------------------------------
    def releases(self) -> Sequence[Mapping[str, Any]]:
        """Every release whose image is there, the newest first."""
        receipts = self.receipts.all()
        serving, good = self.serving(), good_releases(receipts)
        return [
            {
                "release": name,
                "commit": next(
                    (r.commit for r in reversed(receipts) if r.release == name and r.commit), None
                ),
                "created": self.deployment.cli.created(self.folder.tags()[name]),
                "state": "serves" if name == serving else "good" if name in good else "",
                "deploys": [
                    {"number": r.number, "verb": r.verb, "outcome": r.outcome, "begun": r.begun}
                    for r in receipts
                    if r.release == name
                ],
            }
            for name in self.there()
        ]

    def release(self, name: str) -> Mapping[str, Any]:
        """The receipt of a deploy or of a release's last one."""
        receipt = self.receipts.of(name)
        return {**receipt.document(), "image": self.folder.tags().get(receipt.release)}

    # -- maintenance and one-off commands ----------------------------------------------------------------------------
    def maintenance(self, facts: Mapping[str, str] | None) -> None:
        """Close the site for visitors, or open it again."""
        self.target.controller.post("intend", 30.0, intent=CLOSED, facts=dict(facts) if facts else None)

    def maintained(self) -> bool:
        """Whether maintenance is on."""
        return CLOSED in self.folder.state.read_json(self.folder.state.memory).get("intents", {})

    def run(self, argv: Sequence[str]) -> Shell:
        """A command in a container of its own, with the environment of the release that serves."""
        if not self.deployment.site.app.release:
            return self.deployment.shell("web", argv)
        terminal = () if os.isatty(0) and os.isatty(1) else ("-T",)
        command = self.deployment.cli.compose("run", "--rm", "--no-deps", *terminal, RELEASE, *argv)
        return Shell(command, dict(os.environ))
