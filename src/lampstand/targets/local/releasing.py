"""The verbs of releases on this machine, and the way in which `up` and `scale` change what runs."""

import asyncio
import contextlib
import getpass
import os
import shlex
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lampstand.controller.routes import CANARY, CLOSED
from lampstand.errors import LampstandError, TimedOutError
from lampstand.observed import Health, Observed, State
from lampstand.plan import Action, Plan, Verb
from lampstand.releases.hooks import run_hook
from lampstand.releases.origin import Origin, committed, working
from lampstand.releases.preconditions import refusals, refuse
from lampstand.releases.probe import Lane, Probe, asks, lanes, phases
from lampstand.releases.receipts import ENDED, Outcome, Receipt, Receipts, good_releases, rollback_to
from lampstand.releases.roll import rolling
from lampstand.releases.store import Store
from lampstand.releases.traffic import Ledger, Traffic
from lampstand.releases.watch import Watch
from lampstand.releases.words import Confirm, Order, TakenBackError
from lampstand.site.secrets import application_secret_values
from lampstand.targets.base import Progress, Shell
from lampstand.targets.local import processes, sizes
from lampstand.targets.local.desired import Desired, load_ports
from lampstand.targets.local.rollout import Rollout, Trial
from lampstand.targets.waiting import all_well, has_primary
from lampstand.tiers.balancer.live import COOKIE
from lampstand.tiers.web.commands import one_off

if TYPE_CHECKING:
    from lampstand.targets.local.deployment import LocalDeployment

READY_WITHIN = 120.0
"""Seconds that a change waits for the site to be well, above the application's own start time."""
BEFORE = 0.5
"""Seconds of the deploy's own requests before anything changes, and after the last change."""


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
            try:
                refuse(refusals(self.site, self.deployment.status()), force=order.force)
                desired = replace(
                    Desired(self.site, str(self.deployment.project), ""),
                    release=self._release(order, receipt, progress),
                )
            except LampstandError as error:
                self._end(receipt, "refused", str(error.what), previous)
                raise
            if order.verb == "deploy" and desired.release not in (previous, unfinished):
                # Once for each deploy; one that goes on where another was killed does not do it again.
                self.store.released(desired.release).unlink(missing_ok=True)
            begun = await self.bring_about(desired, order, confirm, progress, receipt)
        return receipt.document() if begun else None

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
        self._end(others[-1], "interrupted", "its command was killed", "")
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
        previous = self._serving()
        receipt = receipt or self._receipt_of(order, desired, previous)
        receipt.release = desired.release
        rollout = self._rollout(receipt, order, progress)
        steps, surge, observed = await rollout.planned(desired)
        if steps and not confirm(steps):
            self._end(receipt, "refused", "it was not confirmed", previous)
            return False
        self.deployment.make_shared_folders()
        change = _Change(self, rollout, desired, before, steps, surge, observed)
        if any(o.state is State.RUNNING for o in observed.of_kind("web")):
            await self._gently(change, order)
        else:
            await self._from_nothing(change)
        return True

    def _receipt_of(self, order: Order, desired: Desired, previous: str) -> Receipt:
        """Kept where the application changes; else only filled in, and forgotten."""
        self._close_unfinished(None)
        if desired.release != previous:
            return self.receipts.begin(order.verb, previous, getpass.getuser())
        return Receipt(0, order.verb, desired.release, previous, time.time())

    async def _from_nothing(self, change: "_Change") -> None:
        receipt = change.receipt
        try:
            if change.steps or not self.target.controller.running() or change.before is None:
                change.desired = await self.target.want(change.desired, self.target.expand(change.desired)[1])
            starts = any(
                a.kind == "database" and a.verb in (Verb.CREATE, Verb.START) for a in change.steps.actions
            )
            if not starts:
                await self.release_step(change, receipt)
            topology, _ = self.target.expand(change.desired)
            await self.target.apply(change.steps, topology, change.progress.action)
            if starts:
                await self.release_step(change, receipt)
            await self._all_well(change)
        except LampstandError as error:
            self._end(receipt, "failed", error.what, "")
            raise
        self._end(receipt, "done", "", change.desired.release)

    async def _all_well(self, change: "_Change") -> None:
        desired = Desired.read(self.folder)
        topology, _ = self.target.expand(desired)
        await all_well(
            self.target.controller,
            topology,
            desired.generation,
            READY_WITHIN + self.site.app.start_timeout,
            lambda status: change.progress.waiting(str(status.get("sentence", ""))),
        )

    async def release_step(self, change: "_Change", receipt: Receipt) -> None:
        """Run `app.release` once for a release, against the primary. Raises LampstandError when it fails or does not end
        in time; then it runs again at the next try."""
        command, done = self.site.app.release, self.store.released(change.desired.release)
        if not command or done.exists() or receipt.verb == "rollback":
            return
        change.progress.say(f"Release step: {shlex.join(command)}")
        begun = time.monotonic()
        receipt.moment("", "release step")
        await has_primary(
            self.target.controller,
            READY_WITHIN,
            lambda status: change.progress.waiting(str(status.get("sentence", ""))),
        )
        ports = load_ports(self.folder, self.site)
        process = one_off(change.desired.context(self.folder, ports, self.target.engines), command)
        await processes.run_once(
            process.argv,
            env=dict(process.env),
            account=processes.account_of(process),
            cwd=process.cwd,
            deadline=self.site.app.release_timeout,
        )
        done.touch()
        receipt.steps = {**receipt.steps, "release_step": round(time.monotonic() - begun, 3)}

    # -- the roll, measured ------------------------------------------------------------------------------------------
    async def _gently(self, change: "_Change", order: Order) -> None:
        receipt, previous = change.receipt, change.receipt.previous
        hooks, facts = self.site.hooks, self._facts(receipt)
        project = self.deployment.project
        measured = receipt.number > 0 and bool(rolling(change.steps)) and not self.maintained()
        probe = change.probe if measured else None
        begin = end = time.time()
        try:
            if order.verb in ("deploy", "rollback"):
                await run_hook("before_deploy", hooks.before_deploy, project, facts)
            if probe:
                probe.start()
                await asyncio.sleep(BEFORE)
            async with asyncio.timeout(self.site.deploy.timeout):
                await self.release_step(change, receipt)
                begin = time.time()
                await change.rollout.carry_out(change.desired, change.steps, change.surge, change.observed)
                await change.rollout.ask("intend", intent=CANARY, facts=None)
                end = time.time()
                await change.rollout.look(BEFORE if probe else 0.0)
                await self._all_well(change)
        except (LampstandError, OSError, TimeoutError) as error:
            end = await self._back(change, error)
            self._measured(change, probe, begin, end)
            outcome: Outcome = "returned" if change.rollout.watch.exposed else "failed"
            self._end(receipt, outcome, _why(error, self.site.deploy.timeout), previous)
            await self._told(hooks.on_failure, "on_failure", receipt, order)
            raise self._error(error, receipt) from error
        except BaseException:
            self._measured(change, probe, begin, time.time())
            self._end(receipt, "interrupted", "it was interrupted; the next `deploy` or `up` goes on", "")
            raise
        self._measured(change, probe, begin, end)
        receipt.steps = {**receipt.steps, "roll": round(end - begin, 3)}
        self._end(receipt, "done", "", change.desired.release)
        await self._told(hooks.after_deploy, "after_deploy", receipt, order)

    def _measured(self, change: "_Change", probe: Probe | None, begin: float, end: float) -> None:
        receipt = change.receipt
        receipt.visitors = change.rollout.watch.summary()
        if probe is None:
            return
        probe.stop()
        failed = [s for s in probe.samples if s.failure]
        receipt.requests, receipt.failed_requests = len(probe.samples), len(failed)
        receipt.phases = phases(probe.samples, begin, end)
        receipt.failures = [f"{s.begun - receipt.begun:.3f} s: {s.failure}" for s in failed[:20]]

    async def _told(self, argv: Sequence[str] | None, name: str, receipt: Receipt, order: Order) -> None:
        """A hook after the fact: its failure changes nothing any more, and is written down."""
        if order.verb not in ("deploy", "rollback"):
            return
        try:
            await run_hook(name, argv, self.deployment.project, self._facts(receipt))
        except LampstandError as error:
            receipt.notes.append(str(error))
            self.receipts.keep(receipt)

    def _facts(self, receipt: Receipt) -> dict[str, str]:
        return {
            "site": self.site.site, "verb": receipt.verb, "release": receipt.release, "previous": receipt.previous,
            "commit": receipt.commit or "", "outcome": receipt.outcome, "reason": receipt.reason,
            "deploy": str(receipt.number),
        }  # fmt: skip

    async def _back(self, change: "_Change", error: BaseException) -> float:
        """Have the release before serve again, where anything was changed; when that was done (unix time)."""
        before, rollout, receipt = change.before, change.rollout, change.receipt
        begun = Desired.read(self.folder).generation != (before.generation if before else 0)
        if before is None or not begun:
            return time.time()
        rollout.watch.lenient = True
        receipt.moment("", f"taken back: {_why(error, self.site.deploy.timeout)}")
        change.progress.say(f"Taking it back: {_why(error, self.site.deploy.timeout)}")
        back = replace(before, release=receipt.previous, releases={}, surge=0)
        facts = {"release": receipt.release, "percent": "0"}
        if back.release != receipt.release:
            rollout.watch.canary = facts
            await rollout.ask("intend", intent=CANARY, facts=facts)
        observed = await self.target.observe()
        left = [o for o in observed.of_kind("web") if o.release == back.release and o.health is Health.GOOD]
        web = self.site.web
        if left and back.release != receipt.release:
            # The others get no requests any more: they can all be replaced at once.
            web = web.model_copy(
                update={"surge": 0, "max_unavailable": max(web.servers, len(observed.instances))}
            )
        steps, surge, observed = await rollout.planned(back, web)
        await rollout.carry_out(back, steps, surge, observed)
        await rollout.wish(back)
        rollout.watch.canary = None
        await rollout.ask("intend", intent=CANARY, facts=None)
        receipt.moment("", f"{back.release} serves")
        return time.time()

    def _error(self, error: BaseException, receipt: Receipt) -> LampstandError:
        why = _why(error, self.site.deploy.timeout)
        text = f"{why}\n  {receipt.previous} serves" + (
            "" if receipt.outcome == "returned" else ", and served all the time"
        )
        where = error.where if isinstance(error, LampstandError) else None
        found = TakenBackError(text, where, f"`lampstand releases show {receipt.number}` tells more")
        if isinstance(error, LampstandError):
            found.exit_code = error.exit_code
        elif isinstance(error, TimeoutError):
            found.exit_code = TimedOutError.exit_code
        return found

    def _end(self, receipt: Receipt, outcome: Outcome, reason: str, serves: str) -> None:
        receipt.outcome, receipt.reason, receipt.serves = outcome, reason, serves
        receipt.duration_seconds = round(time.time() - receipt.begun, 3)
        if receipt.number:
            self.receipts.keep(receipt)

    # -- measuring ---------------------------------------------------------------------------------------------------
    def _rollout(self, receipt: Receipt, order: Order, progress: Progress) -> Rollout:
        ledger = Ledger()
        for instance in self.target.supervisor.observe_all().values():
            port = load_ports(self.folder, self.site).kept.get(f"{instance.name}/http")
            if instance.kind == "web" and instance.release and port:
                ledger.note(f"127.0.0.1:{port}", instance.release, 0.0)
        logs = sorted(self.folder.instances.glob("balancer-*/log/access.log"))
        watch = Watch(receipt, self.site.deploy, Traffic(logs, ledger), ledger)
        share = order.canary if order.canary is not None else self.site.deploy.canary or 0.0
        if order.verb == "deploy" and share > 0 and receipt.release != receipt.previous:
            watch.canary = {"release": receipt.release, "percent": f"{100 * share:g}"}
        rollout = Rollout(self.target, progress, watch)
        return rollout

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
        manifest = self.store.manifest(receipt.release) if self.store.has(receipt.release) else None
        files = manifest.pop("files") if manifest else {}
        shown = {**manifest, "files": len(files)} if manifest else None
        return {**receipt.document(), "manifest": shown}

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


class _Change:
    """One change under way."""

    def __init__(
        self, of: LocalReleasing, rollout: Rollout, desired: Desired, before: Desired | None, steps: Plan, surge: int,
        observed: Observed,
    ) -> None:  # fmt: skip
        self.rollout, self.desired, self.before = rollout, desired, before
        self.steps, self.surge, self.observed = steps, surge, observed
        self.progress, self.receipt = rollout.progress, rollout.watch.receipt
        site = of.site
        found = asks(site.deploy.requests, site.app.health)
        self.probe = Probe(
            of.deployment.front_url(), site.tls.domains[0] if site.tls.domains else None, lanes(found)
        )
        canary = rollout.watch.canary
        if canary is not None:
            seconds = of.site.deploy.canary_time
            rollout.trial = Trial(canary, seconds, self._sides(canary["release"], found))

    def _sides(self, release: str, found: Sequence[Any]) -> Callable[[], AbstractContextManager[None]]:
        reads = tuple(a for a in found if a.method in ("GET", "HEAD"))

        @contextlib.contextmanager
        def both() -> Generator[None]:
            ends = [
                self.probe.add(Lane(reads, True, {"Cookie": f"{COOKIE}={side}"}))
                for side in (release, "old")
                if reads
            ]
            try:
                yield
            finally:
                for end in ends:
                    end()

        return both


def _why(error: BaseException, timeout: float) -> str:
    if isinstance(error, LampstandError):
        return error.what
    if isinstance(error, TimeoutError):
        return f"it took longer than {timeout:g} s (`deploy.timeout`)"
    return str(error)
