"""One change of what runs on this machine: from nothing, or by a roll that is measured and taken back where it fails.

`up`, `scale`, `deploy` and `rollback` differ in what they wish for; how a wish comes true is here.
"""

import asyncio
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lampstand.controller.routes import CANARY
from lampstand.errors import LampstandError, TimedOutError
from lampstand.observed import Health, Observed, State
from lampstand.plan import Plan, Verb
from lampstand.releases.hooks import run_hook
from lampstand.releases.measure import Measure
from lampstand.releases.receipts import Receipt
from lampstand.releases.roll import rolling
from lampstand.releases.words import Order, TakenBackError
from lampstand.targets.base import Progress
from lampstand.targets.local import processes
from lampstand.targets.local.desired import Desired, load_ports
from lampstand.targets.local.rollout import Rollout
from lampstand.targets.waiting import all_well, has_primary
from lampstand.tiers.web.commands import one_off

if TYPE_CHECKING:
    from lampstand.targets.local.releasing import LocalReleasing

READY_WITHIN = 120.0
"""Seconds that a change waits for the site to be well, above the application's own start time."""
ASIDE = 0.3
"""Seconds of the deploy's own requests before anything changes, and after the last change."""
WITH_HOOKS = ("deploy", "rollback")


@dataclass
class Change:
    """One change under way. The lock is held."""

    of: "LocalReleasing"
    order: Order
    desired: Desired
    before: Desired | None
    """What was wished before; None for a site that was never brought up."""
    receipt: Receipt
    rollout: Rollout
    measure: Measure
    steps: Plan
    surge: int
    observed: Observed

    @property
    def progress(self) -> Progress:
        return self.rollout.progress

    async def bring_about(self) -> None:
        """Raises LampstandError when it failed; where a new release was to blame, the one before serves again."""
        if any(o.state is State.RUNNING for o in self.observed.of_kind("web")):
            await self._gently()
        else:
            await self._from_nothing()

    # -- where nobody is served --------------------------------------------------------------------------------------
    async def _from_nothing(self) -> None:
        target = self.of.target
        try:
            if self.steps or not target.controller.running() or self.before is None:
                await target.want(self.desired, target.expand(self.desired)[1])
            starts = any(
                a.kind == "database" and a.verb in (Verb.CREATE, Verb.START) for a in self.steps.actions
            )
            if not starts:
                await self.release_step()
            await target.apply(self.steps, target.expand(self.desired)[0], self.progress.action)
            if starts:
                await self.release_step()
            await self._all_well()
        except LampstandError as error:
            self.of.end(self.receipt, "failed", error.what, "")
            raise
        self.of.end(self.receipt, "done", "", self.desired.release)

    # -- where visitors are served -----------------------------------------------------------------------------------
    async def _gently(self) -> None:
        receipt = self.receipt
        measured = receipt.number > 0 and bool(rolling(self.steps)) and not self.of.maintained()
        begin = end = time.time()
        try:
            await self._hook("before_deploy", self.of.site.hooks.before_deploy)
            if measured:
                self.measure.start()
                await asyncio.sleep(ASIDE)
            async with asyncio.timeout(self.of.site.deploy.timeout):
                await self.release_step()
                begin = time.time()
                await self.rollout.carry_out(self.desired, self.steps, self.surge, self.observed)
                await self.rollout.ask("intend", intent=CANARY, facts=None)
                end = time.time()
                await self.rollout.look(ASIDE if measured else 0.0)
                await self._all_well()
        except (LampstandError, OSError, TimeoutError) as error:
            why = _why(error, self.of.site.deploy.timeout)
            try:
                await self._take_back(why)
            except (LampstandError, OSError, TimeoutError) as second:
                why = f"{why}; and it could not be taken back: {second}"
            self.measure.stop(begin, time.time())
            outcome = "returned" if self.rollout.watch.exposed else "failed"
            self.of.end(receipt, outcome, why, receipt.previous)
            await self._told("on_failure", self.of.site.hooks.on_failure)
            raise self._error(error, why) from error
        except BaseException:
            self.measure.stop(begin, time.time())
            self.of.end(receipt, "interrupted", "it was interrupted; the next `deploy` or `up` goes on", "")
            raise
        self.measure.stop(begin, end)
        receipt.steps = {**receipt.steps, "roll": round(end - begin, 3)}
        self.of.end(receipt, "done", "", self.desired.release)
        await self._told("after_deploy", self.of.site.hooks.after_deploy)

    async def _take_back(self, why: str) -> None:
        """Have the release before serve again, where anything was changed."""
        before, rollout, receipt = self.before, self.rollout, self.receipt
        if before is None or Desired.read(self.of.folder).generation == before.generation:
            return
        rollout.watch.lenient = True
        rollout.watch.canary, rollout.trial = None, None
        receipt.moment("", f"taken back: {why}")
        self.progress.say(f"Taking it back: {why}")
        back = replace(before, release=receipt.previous, releases={}, surge=0)
        web, other = self.of.site.web, receipt.previous != receipt.release
        if other:
            rollout.watch.canary = {"release": receipt.release, "percent": "0"}
            await rollout.ask("intend", intent=CANARY, facts=rollout.watch.canary)
            seen = (await self.of.target.observe()).of_kind("web")
            if any(o.release == receipt.previous and o.health is Health.GOOD for o in seen):
                # The others get no requests any more: they can all be replaced at once.
                web = web.model_copy(update={"surge": 0, "max_unavailable": len(seen)})
        steps, surge, observed = await rollout.planned(back, web)
        await rollout.carry_out(back, steps, surge, observed)
        await rollout.wish(back)
        rollout.watch.canary = None
        await rollout.ask("intend", intent=CANARY, facts=None)
        receipt.moment("", f"{receipt.previous} serves")

    def _error(self, error: BaseException, why: str) -> LampstandError:
        receipt = self.receipt
        all_along = "" if receipt.outcome == "returned" else ", as it did all the time"
        found = TakenBackError(
            f"{why}\n  {receipt.previous} serves{all_along}",
            error.where if isinstance(error, LampstandError) else None,
            f"`lampstand releases show {receipt.number}` tells more" if receipt.number else None,
        )
        if isinstance(error, LampstandError):
            found.exit_code = error.exit_code
        elif isinstance(error, TimeoutError):
            found.exit_code = TimedOutError.exit_code
        return found

    # -- steps -------------------------------------------------------------------------------------------------------
    async def release_step(self) -> None:
        """Run `app.release` once for a release, against the primary; a rollback has none. Raises LampstandError when it
        fails or does not end in time (then it was killed): it runs again at the next try."""
        site, done = self.of.site, self.of.store.released(self.desired.release)
        if not site.app.release or done.exists() or self.order.verb == "rollback":
            return
        self.progress.say(f"Release step: {shlex.join(site.app.release)}")
        begun = time.monotonic()
        self.rollout.watch.moment("", "release step")
        await has_primary(self.of.target.controller, READY_WITHIN, self._heard)
        ports = load_ports(self.of.folder, site)
        process = one_off(
            self.desired.context(self.of.folder, ports, self.of.target.engines), site.app.release
        )
        await processes.run_once(
            process.argv,
            env=dict(process.env),
            account=processes.account_of(process),
            cwd=process.cwd,
            deadline=site.app.release_timeout,
        )
        done.touch()
        self.receipt.steps = {**self.receipt.steps, "release_step": round(time.monotonic() - begun, 3)}

    async def _all_well(self) -> None:
        desired = Desired.read(self.of.folder)
        topology, _ = self.of.target.expand(desired)
        within = READY_WITHIN + self.of.site.app.start_timeout
        patience = desired.site.app.start_timeout
        await all_well(self.of.target.controller, topology, desired.generation, within, self._heard, patience)

    def _heard(self, status: dict[str, object]) -> None:
        self.progress.waiting(str(status.get("sentence", "")))

    async def _hook(self, name: str, argv: Sequence[str] | None) -> None:
        receipt = self.receipt
        if self.order.verb in WITH_HOOKS:
            facts = {
                "site": self.of.site.site, "verb": receipt.verb, "release": receipt.release, "outcome": receipt.outcome,
                "previous": receipt.previous, "commit": receipt.commit or "", "reason": receipt.reason,
                "deploy": str(receipt.number),
            }  # fmt: skip
            await run_hook(name, argv, self.of.deployment.project, facts)

    async def _told(self, name: str, argv: Sequence[str] | None) -> None:
        """A hook after the fact: its failure changes nothing any more, and is written down."""
        try:
            await self._hook(name, argv)
        except LampstandError as error:
            self.receipt.notes.append(str(error))
            self.of.keep(self.receipt)


def _why(error: BaseException, timeout: float) -> str:
    if isinstance(error, TimeoutError) and not isinstance(error, LampstandError):
        return f"it took longer than {timeout:g} s (`deploy.timeout`)"
    if isinstance(error, LampstandError):
        return f"{error.where}: {error.what}" if error.where else error.what
    return str(error)
