"""The six steps and CloudFormation's changes in the words of every target: progress lines and actions of a plan."""

from collections.abc import Mapping

from lampstand.plan import Action, Verb
from lampstand.targets.aws.changes import Change
from lampstand.targets.aws.run import Progress as StepProgress
from lampstand.targets.aws.scope import Scope
from lampstand.targets.aws.stacks import Stack
from lampstand.targets.base import Progress

_VERBS: Mapping[str, Verb] = {"add": Verb.CREATE, "remove": Verb.REMOVE}


class Steps:
    """Tells how the six steps stand: a line when one begins or ends, and the present state in between."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._states: dict[int, str] = {}

    def __call__(self, step: StepProgress) -> None:
        if self._states.get(step.step) != step.state:
            self._states[step.step] = step.state
            if step.state != "waits":
                self._progress.say(str(step))
        elif step.state == "runs":
            self._progress.waiting(str(step))


def action_of(change: Change) -> Action:
    """A change of a change set as an action of a plan."""
    verb = Verb.RESTART if change.replacement == "yes" else _VERBS.get(change.verb, Verb.RELOAD)
    what = {"yes": "replaced", "maybe": "perhaps replaced"}.get(change.replacement, "")
    cause = " ".join(filter(None, [change.type, what, ", ".join(change.causes)]))
    return Action(verb, change.name, change.stack, cause)


def creation(scope: Scope, stack: Stack) -> Action:
    """A stack that does not exist yet, as an action of a plan."""
    count = len(stack.template.resources)
    cause = f"step {stack.step}, {stack.step_name}: {count} resources"
    return Action(Verb.CREATE, scope.stack(stack.key), stack.key, cause)
