"""Carries a change of a site on Docker out: wave by wave, a canary compared in between, and a look at what it does."""

import asyncio
import contextlib
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lampstand.controller.routes import CANARY
from lampstand.errors import TimedOutError
from lampstand.files import write_json
from lampstand.observed import Observed
from lampstand.plan import Action, Plan, Verb
from lampstand.releases.roll import STARTING, Stage, admitted, stages
from lampstand.releases.watch import Trial, Watch
from lampstand.releases.words import Order
from lampstand.targets.base import Progress
from lampstand.targets.docker.compose import RELEASE, container_name
from lampstand.targets.docker.wish import Wish
from lampstand.targets.local.desired import Desired
from lampstand.targets.waiting import all_well, has_primary
from lampstand.topology import Instance, Topology, expand

if TYPE_CHECKING:
    from lampstand.targets.docker.deployment import DockerDeployment

READY_WITHIN = 180.0
"""Seconds that a change waits for the site to be well, above the application's own start time."""
LOOK = 0.6
"""Seconds that a new server serves before more follow."""


@dataclass(frozen=True)
class Steps:
    """A plan, as it is shown, and what it takes to carry it out."""

    plan: Plan
    surge: int
    observed: Observed


class Rollout:
    """One change of one site. The lock is held."""

    def __init__(
        self,
        deployment: "DockerDeployment",
        order: Order,
        progress: Progress,
        watch: Watch,
        trial: Trial | None = None,
    ) -> None:
        self.deployment = deployment
        self.folder = deployment.folder
        self.target = deployment.target
        self.order = order
        self.progress = progress
        self.watch = watch
        self.trial = trial

    async def carry_out(self, wish: Wish, steps: Steps) -> None:
        """Every wave, with what is wished while it runs; then wait until everything is well.

        Raises LampstandError at the first thing that goes wrong, TakenBackError where that is the new release's fault.
        """
        web = wish.desired.site.web
        starts = any(
            a.kind in ("database", "gateway") and a.verb in (Verb.CREATE, Verb.START)
            for a in steps.plan.actions
        )
        found = stages(steps.plan, steps.observed, wish.desired.release, web, steps.surge)
        await self._make(wish.wider(found[0].surge, found[0].releases) if found else wish, bool(steps.plan))
        if self.watch.canary:
            await self._intend(self.watch.canary)
        if not starts:
            await self._release_step(wish)
        for number, stage in enumerate(found):
            staged = wish.wider(stage.surge, stage.releases)
            if number:
                await self._make(staged, True)
            await self._stage(stage, staged, serving=bool(steps.observed.of_kind("web")))
        if self.watch.canary:
            await self._all_get_it()
        if starts:
            await self._release_step(wish)
        if found:
            wish = await self._make(wish, True)
        desired = Desired.read(self.folder.state)
        await all_well(
            self.target.controller,
            self._topology(replace(wish, desired=desired)),
            desired.generation,
            READY_WITHIN + desired.site.app.start_timeout,
            self._heard,
        )

    def _topology(self, wish: Wish) -> Topology:
        return expand(self.folder.context(wish.desired, wish.project.addresses, wish.ports))

    def _heard(self, status: Mapping[str, object]) -> None:
        self.progress.waiting(str(status.get("sentence", "")))

    async def _stage(self, stage: Stage, staged: Wish, *, serving: bool) -> None:
        topology = self._topology(staged)
        for action in stage.actions:
            if action.verb is Verb.REMOVE:
                self.watch.gone(action.instance)
        report = _Timed(self.progress, self.watch).action
        await self.target.apply(Plan((stage.actions,)), topology, staged.project, report)
        for action in stage.actions:
            if action.kind == "web" and action.verb in STARTING and serving:
                instance = topology.by_name[action.instance]
                await self._well(instance, staged.desired.site.app.start_timeout)
                self.watch.serves(instance.endpoint("http").address, instance.name, instance.release or "")
        if admitted(stage) and self.watch.canary and self.trial:
            await self._compare(self.trial)
        elif self.watch.exposed:
            await self._look(LOOK)

    async def _well(self, instance: Instance, seconds: float) -> None:
        """Raises TimedOutError with what its health path answers."""
        try:
            await self.target.until_well(instance, seconds)
        except TimedOutError as error:
            seen = self.target.controller.status().get("instances", {}).get(instance.name, {})
            what = seen.get("health_text") or "does not answer"
            mend = f"`lampstand logs {instance.name}` tells more"
            raise TimedOutError(f"not well within {seconds:g} s: {what}", instance.name, mend) from error

    async def _make(self, wish: Wish, changed: bool) -> Wish:
        """Write a wish, and have the controller follow it."""
        if changed or not self.folder.state.desired.exists():
            wish.desired.write(self.folder.state)
        self.deployment.write(wish, everything=False)
        await self.target.ensure_controller()
        await self.target.controller.ready()
        await asyncio.to_thread(self.target.controller.post, "wake")
        return wish

    # -- canary ------------------------------------------------------------------------------------------------------
    async def _intend(self, canary: Mapping[str, str] | None) -> None:
        facts = dict(canary) if canary else None
        await asyncio.to_thread(self.target.controller.post, "intend", 30.0, intent=CANARY, facts=facts)

    async def _all_get_it(self) -> None:
        self.watch.canary = None
        await self._intend(None)

    async def _compare(self, trial: Trial) -> None:
        """Let the new release be a canary for its time. Raises TakenBackError."""
        self.watch.moment("", trial.sentence)
        self.progress.say(trial.sentence)
        with trial.sides():
            await self._look(trial.seconds, times=True)
        await self._all_get_it()
        self.watch.moment("", "promoted")

    async def _look(self, seconds: float, *, times: bool = False) -> None:
        """Watch for a while. Raises TakenBackError."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.watch.lenient:
            self.watch.check(self.target.controller.status(), times=times)
            await asyncio.sleep(0.1)

    # -- the release step --------------------------------------------------------------------------------------------
    async def _release_step(self, wish: Wish) -> None:
        """Run `app.release` once for a release: before its servers start where a database is there already, else as
        soon as there is a primary; a rollback has none. Raises LampstandError when it fails."""
        command = wish.desired.site.app.release
        kept = self.folder.root / "released.json"
        done = self.folder.state.read_json(kept)
        again = self.order.verb == "deploy" and wish.desired.release != self.watch.receipt.previous
        if not command or self.order.verb == "rollback" or (wish.desired.release in done and not again):
            return
        self.progress.say(f"Release step: {shlex.join(command)}")
        await has_primary(self.target.controller, READY_WITHIN, self._heard)
        cli, seconds = self.deployment.cli, wish.desired.site.app.release_timeout
        await cli.run(cli.compose("run", "--rm", "--no-deps", "-T", RELEASE), deadline=seconds)
        write_json(kept, {**done, wish.desired.release: time.strftime("%Y-%m-%dT%H:%M:%S%z")})


@contextlib.contextmanager
def followed(project: str, names: Sequence[str]) -> Generator[list[Path]]:
    """Files that grow with what these containers log: `Traffic` reads them as it reads the logs of processes."""
    with tempfile.TemporaryDirectory(prefix="lampstand-logs-") as folder, contextlib.ExitStack() as stack:
        found: list[Path] = []
        for name in names:
            found.append(Path(folder) / name)
            handle = stack.enter_context(found[-1].open("wb"))
            argv = ("docker", "logs", "--follow", "--tail", "0", container_name(project, name))
            process = stack.enter_context(subprocess.Popen(argv, stdout=handle, stderr=subprocess.DEVNULL))
            stack.callback(process.kill)
        yield found


class _Timed:
    """Progress that also fills the receipt's timeline."""

    def __init__(self, progress: Progress, watch: Watch) -> None:
        self._progress = progress
        self._watch = watch

    def action(self, action: Action, state: str) -> None:
        """An action of the plan begins, or is done, or failed."""
        if action.kind == "web" and state == "done":
            self._watch.moment(action.instance, f"{action.verb}: {action.cause}")
        report: Callable[[Action, str], None] = self._progress.action
        report(action, state)
