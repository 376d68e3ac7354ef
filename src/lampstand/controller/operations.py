"""What an operator or a command may ask of a running controller."""

from typing import TYPE_CHECKING, Any

from lampstand.controller.cache_switchover import cache_switchover_steps
from lampstand.controller.failover_switchover import promote_steps, switchover_steps
from lampstand.controller.problems import Finding
from lampstand.errors import LampstandError

if TYPE_CHECKING:
    from lampstand.controller.api import Operation
    from lampstand.controller.loop import Controller


def operations(controller: "Controller") -> "dict[str, Operation]":
    """By name; each takes and returns JSON, and raises LampstandError when it is refused."""

    async def wake(_: dict[str, Any]) -> dict[str, Any]:
        await controller.cycle_now()
        return {"generation": controller.runtime.generation}

    async def look(arguments: dict[str, Any]) -> dict[str, Any]:
        """Notice which processes a server has now, and ask it at once, so that nobody waits for the next probe."""
        await controller.cycle_now()
        await controller.refresh(str(arguments["instance"]))
        await controller.cycle_now()
        return {"sentence": controller.sentence}

    async def supervise(_: dict[str, Any]) -> dict[str, Any]:
        await controller.supervise_now()
        return {"sentence": controller.sentence}

    async def hold(arguments: dict[str, Any]) -> dict[str, Any]:
        name = str(arguments["instance"])
        controller.remember(held={**controller.memory.held, name: str(arguments.get("reason", "operator"))})
        await controller.route()
        return {"held": dict(controller.memory.held)}

    async def release(arguments: dict[str, Any]) -> dict[str, Any]:
        name = str(arguments["instance"])
        controller.remember(held={k: v for k, v in controller.memory.held.items() if k != name})
        await controller.route()
        return {"held": dict(controller.memory.held)}

    async def intend(arguments: dict[str, Any]) -> dict[str, Any]:
        """Remember an intent of a command (a canary, maintenance), or forget it; effective when this answers."""
        key, facts = str(arguments["intent"]), arguments.get("facts")
        others = {k: v for k, v in controller.memory.intents.items() if k != key}
        mine = {key: {str(k): str(v) for k, v in facts.items()}} if facts is not None else {}
        controller.remember(intents={**others, **mine})
        await controller.route()
        return {"intents": list(controller.memory.intents)}

    async def switchover(arguments: dict[str, Any]) -> dict[str, Any]:
        kind, name = str(arguments.get("kind", "database")), arguments.get("to")
        await controller.idle(kind)
        target = str(name) if name else None
        if kind == "database":
            steps = switchover_steps(controller.view, target)
        else:
            steps = cache_switchover_steps(controller.view, kind, target)
        return await controller.operate(kind, Finding("switchover", kind, "planned switchover"), steps)

    async def promote(arguments: dict[str, Any]) -> dict[str, Any]:
        name = str(arguments["instance"])
        accept = bool(arguments.get("accept_loss"))
        steps = promote_steps(controller.view, name, accept_loss=accept)
        finding = Finding("promote", name, f"{name} is promoted by the operator")
        return await controller.operate("database", finding, steps)

    return {
        "wake": wake,
        "look": look,
        "supervise": supervise,
        "hold": hold,
        "release": release,
        "intend": intend,
        "switchover": switchover,
        "promote": promote,
        "purge": controller.edges.purge,
        "cdn-look": controller.edges.look,
        "cdn-figures": controller.edges.figures,
    }


def refuse_unknown(controller: "Controller", name: str) -> None:
    """Raises LampstandError when the site has no such instance."""
    if name not in controller.topology.by_name:
        raise LampstandError(
            f"the site has no {name!r}", mend=f"it has {', '.join(controller.topology.by_name)}"
        )
