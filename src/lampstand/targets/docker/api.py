"""The few requests to Docker that the controller may make, through the container `engine`.

Which they are is said by compose.engine_configuration. Paths carry no version of the API: every Engine speaks its own
newest, and what is used here has not changed since 20.10 (https://docs.docker.com/reference/api/engine/).
"""

import json
from collections.abc import Iterator
from typing import Any

from lampstand.errors import LampstandError
from lampstand.targets.local.client import UnixConnection

TIMEOUT = 10.0


class EngineApi:
    """Docker, as far as it may be asked here. Methods block; call them in threads."""

    def __init__(self, socket: str) -> None:
        self._socket = socket

    def containers(self) -> list[dict[str, Any]]:
        """The site's containers, as `docker ps` sees them."""
        return json.loads(self._request("GET", "/containers"))

    def inspect(self, name: str) -> dict[str, Any] | None:
        """One container; None when there is none, or it is no server of the site."""
        body = self._request("GET", f"/containers/{name}/json", (403, 404))
        document: dict[str, Any] = json.loads(body) if body.startswith(b"{") else {}
        return document if "State" in document else None

    def kill(self, name: str) -> None:
        """SIGKILL to the first process, with which all others of the container end. Nothing when it does not run."""
        self._request("POST", f"/containers/{name}/kill?signal=SIGKILL", (409,))

    def start(self, name: str) -> None:
        """Start it; nothing when it runs."""
        self._request("POST", f"/containers/{name}/start", (304,))

    def events(self) -> Iterator[dict[str, Any]]:
        """What happens to the site's containers, until the connection ends."""
        connection = UnixConnection(self._socket, None)
        try:
            connection.request("GET", "/events")
            answer = connection.getresponse()
            while line := answer.readline():
                yield json.loads(line)
        finally:
            connection.close()

    def _request(self, method: str, path: str, also_good: tuple[int, ...] = ()) -> bytes:
        connection = UnixConnection(self._socket, TIMEOUT)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
        except OSError as error:
            raise LampstandError(f"Docker cannot be reached ({error})", "engine") from error
        finally:
            connection.close()
        if answer.status >= 300 and answer.status not in also_good:
            text = body.decode(errors="replace").strip()
            raise LampstandError(f"Docker answers {answer.status}: {text}", path)
        return body
