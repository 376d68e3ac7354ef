"""The controller's HTTP API: on a unix socket that only its owner may use (a port inside a container).

| request | does |
|---|---|
| `GET /status` | the document of `lampstand status --json` |
| `GET /metrics` | Prometheus text |
| `POST /wake` | look again now: `desired.json` changed |
| `POST /hold` `{"instance", "reason"}` | take a server out of the routes; answers when no new request reaches it |
| `POST /release` `{"instance"}` | let it in again |
| `POST /run` `{"name", "arguments"}` | an operator's step list (`switchover`, `promote`); answers with its outcome |
"""

import asyncio
import contextlib
import json
import logging
import os
import socket as socket_module
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lampstand.errors import LampstandError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from lampstand.controller.loop import Controller

log = logging.getLogger("lampstand.controller")


async def serve_api(controller: "Controller", socket: Path | None = None, port: int | None = None) -> None:
    """Serve until cancelled. The libraries are imported here, after the loop has begun: they cost a quarter second."""
    uvicorn = await asyncio.to_thread(_import)
    from lampstand.controller.operations import operations

    app = await asyncio.to_thread(_application, controller, operations(controller))
    where = {"host": "0.0.0.0", "port": port} if socket is None else {"uds": str(socket)}
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", **where))
    sockets = None if socket is None else [_private_socket(socket)]
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await server._serve(sockets)  # `serve` would capture the signals  # pyright: ignore[reportPrivateUsage]
    finally:
        if socket is not None:
            socket.unlink(missing_ok=True)


def _private_socket(path: Path) -> socket_module.socket:
    """A listening unix socket that belongs to its owner alone from its first moment (uvicorn opens its own to all)."""
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket_module.socket(socket_module.AF_UNIX)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(128)
    return listener


def _import() -> Any:  # noqa: ANN401 - the module
    import uvicorn

    return uvicorn


Operation = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def _application(controller: "Controller", operations: dict[str, Operation]) -> Any:  # noqa: ANN401 - an ASGI application
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, PlainTextResponse
    from starlette.routing import Route

    async def status(_: "Request") -> "Response":
        return JSONResponse(controller.status())

    async def metrics(_: "Request") -> "Response":
        from lampstand.controller.metrics import exposition

        text, kind = exposition(controller, await controller.edges.rows())
        return PlainTextResponse(text, media_type=kind)

    async def operate(request: "Request") -> "Response":
        name = request.path_params["name"]
        operation = operations.get(name)
        if operation is None:
            return JSONResponse({"error": f"no operation {name!r}"}, 404)
        body = await request.body()
        arguments = cast("dict[str, Any]", json.loads(body) if body else {})
        try:
            return JSONResponse(await operation(arguments))
        except LampstandError as error:
            return JSONResponse({"error": error.what, "where": error.where, "mend": error.mend}, 409)
        except (KeyError, ValueError) as error:
            return JSONResponse({"error": f"missing or unknown: {error}"}, 400)

    return Starlette(
        routes=[
            Route("/status", status),
            Route("/metrics", metrics),
            Route("/{name}", operate, methods=["POST"]),
        ]
    )
