"""What an operator or a command may ask of a running controller."""

from typing import TYPE_CHECKING, Any

from lampstand.errors import LampstandError

if TYPE_CHECKING:
    from lampstand.controller.api import Operation
    from lampstand.controller.loop import Controller


def operations(controller: "Controller") -> "dict[str, Operation]":
    """By name; each takes and returns JSON, and raises LampstandError when it is refused."""

    async def wake(_: dict[str, Any]) -> dict[str, Any]:
        await controller.cycle_now()
        return {"generation": controller.runtime.generation}

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

    async def switchover(arguments: dict[str, Any]) -> dict[str, Any]:
        from lampstand.controller.failover import switchover_steps
        from lampstand.controller.problems import Finding

        name = arguments.get("to")
        steps = switchover_steps(controller.view, str(name) if name else None)
        return await controller.operate(
            "database", Finding("switchover", "database", "planned switchover"), steps
        )

    async def promote(arguments: dict[str, Any]) -> dict[str, Any]:
        from lampstand.controller.failover import promote_steps
        from lampstand.controller.problems import Finding

        name = str(arguments["instance"])
        accept = bool(arguments.get("accept_loss"))
        steps = promote_steps(controller.view, name, accept_loss=accept)
        finding = Finding("promote", name, f"{name} is promoted by the operator")
        return await controller.operate("database", finding, steps)

    return {"wake": wake, "hold": hold, "release": release, "switchover": switchover, "promote": promote}


def refuse_unknown(controller: "Controller", name: str) -> None:
    """Raises LampstandError when the site has no such instance."""
    if name not in controller.topology.by_name:
        raise LampstandError(
            f"the site has no {name!r}", mend=f"it has {', '.join(controller.topology.by_name)}"
        )
