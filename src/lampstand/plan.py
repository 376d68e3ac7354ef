"""(Topology, Observed) -> Plan: the difference between what should run and what runs, as printable steps.

Pure. Applying a Plan executes its actions in order and decides nothing.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from lampstand.observed import Observed, ObservedInstance, State
from lampstand.topology import Instance, Topology


class Verb(StrEnum):
    """What an action does to one instance."""

    CREATE = "create"  # folders, files, preparation, start
    START = "start"  # made before, all stopped
    RESTART = "restart"  # command or start-time files changed, or only a part of it runs
    RELOAD = "reload"  # only files that the engine reads again on reload changed
    SWITCHOVER = "switchover"  # another server becomes the primary, before this one is restarted or removed
    STOP = "stop"  # drain and stop; data stay
    REMOVE = "remove"  # no longer in the site: drain, stop; data stay until `down --delete-data`


@dataclass(frozen=True, slots=True)
class Action:
    """One step for one instance, with its cause."""

    verb: Verb
    instance: str
    kind: str
    cause: str

    def __str__(self) -> str:
        return f"{self.verb:10} {self.instance:16} {self.cause}"


@dataclass(frozen=True)
class Plan:
    """Steps in waves: the actions of one wave may run side by side; waves run one after the other."""

    waves: tuple[tuple[Action, ...], ...] = field(default=())

    @property
    def actions(self) -> tuple[Action, ...]:
        return tuple(a for wave in self.waves for a in wave)

    def __bool__(self) -> bool:
        return bool(self.waves)

    def __str__(self) -> str:
        if not self:
            return "nothing to do\n"
        return "".join(f"{action}\n" for action in self.actions)


def plan(topology: Topology, observed: Observed) -> Plan:
    """What `up` would do. Empty when what runs is what the site asks for.

    Whatever starts from nothing starts side by side in the first wave. What runs already is restarted or reloaded
    one server of a kind at a time, so that a change never takes a whole tier away; the kinds go in the order data to
    edge, so that a server is never newer than what it depends on. What is no longer wanted goes last.
    """
    starts: list[Action] = []
    changes: dict[str, list[Action]] = {}
    for instance in topology.instances:
        action = _difference(instance, observed.instances.get(instance.name))
        if action is None:
            continue
        if action.verb in (Verb.CREATE, Verb.START):
            starts.append(action)
        else:
            changes.setdefault(instance.kind, []).append(action)
    removals: list[Action] = [
        Action(Verb.REMOVE, found.name, found.kind, "no longer in the site file")
        for found in observed.instances.values()
        if found.name not in topology.by_name and found.state is not State.MISSING
    ]
    waves: list[tuple[Action, ...]] = []
    if starts:
        waves.append(tuple(starts))
    for kind in reversed(list(changes)):
        for action in sorted(changes[kind], key=lambda a: _is_primary(a, observed)):
            waves.extend((step,) for step in (*_hand_over(action, topology, observed), action))
    for removal in removals:
        waves.extend((step,) for step in _hand_over(removal, topology, observed))
    if removals:
        waves.append(tuple(removals))
    return Plan(tuple(waves))


def _is_primary(action: Action, observed: Observed) -> bool:
    found = observed.instances.get(action.instance)
    return found is not None and found.role == "primary"


def _hand_over(action: Action, topology: Topology, observed: Observed) -> tuple[Action, ...]:
    """A primary that runs is not restarted or removed: another of its group becomes the primary first."""
    if action.verb not in (Verb.RESTART, Verb.REMOVE) or not _is_primary(action, observed):
        return ()
    found = observed.instances[action.instance]
    others = [i for i in topology.of_kind(action.kind) if i.name != action.instance]
    if found.state is not State.RUNNING or not others:
        return ()
    why = "is removed" if action.verb is Verb.REMOVE else "is restarted next"
    return (Action(Verb.SWITCHOVER, action.instance, action.kind, f"it is the primary and {why}"),)


def _difference(instance: Instance, found: ObservedInstance | None) -> Action | None:
    def action(verb: Verb, cause: str) -> Action:
        return Action(verb, instance.name, instance.kind, cause)

    if found is None or found.state is State.MISSING:
        return action(Verb.CREATE, "not there yet")
    if found.state is State.STOPPED:
        return action(Verb.START, "stopped")
    if found.state is State.PARTIAL:
        running = ", ".join(p.name for p in found.processes if p.pid is not None)
        return action(Verb.RESTART, f"only {running} runs")
    if found.restart_hash != instance.restart_hash:
        if instance.release != found.release and instance.release and found.release:
            return action(Verb.RESTART, f"release {found.release} -> {instance.release}")
        return action(Verb.RESTART, "its command or configuration changed")
    if found.config_hash != instance.config_hash:
        return action(Verb.RELOAD, "its configuration changed")
    return None
