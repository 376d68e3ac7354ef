"""Talks to the controller of a site: HTTP over its unix socket, and the status file it publishes."""

import asyncio
import http.client
import json
import os
import socket
import time
from collections.abc import Callable
from typing import Any, cast

from lampstand.errors import LampstandError, TimedOutError
from lampstand.targets.local.folder import StateFolder
from lampstand.targets.local.processes import Record


class UnreachableError(LampstandError):
    """Nobody answers on the controller's socket (yet, or any more)."""


class UnixConnection(http.client.HTTPConnection):
    """http.client over a unix socket: only how it connects differs."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("controller", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        # Through a descriptor of its folder, because the name of a socket may have only 107 bytes (unix(7)).
        folder = os.open(os.path.dirname(self._path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{os.path.basename(self._path)}")
        finally:
            os.close(folder)


class ControllerClient:
    """The controller of one site."""

    def __init__(self, folder: StateFolder) -> None:
        self.folder = folder

    @property
    def record(self) -> Record:
        """The record of its process."""
        return Record(self.folder.root, "controller")

    def running(self) -> bool:
        """Whether its process lives."""
        return self.record.find() is not None

    def post(self, operation: str, timeout: float = 30.0, **arguments: object) -> dict[str, Any]:
        """Ask for an operation and wait for its outcome.

        Raises LampstandError with the controller's own words when it refuses, or when it does not run.
        """
        connection = UnixConnection(str(self.folder.socket), timeout)
        try:
            connection.request(
                "POST", f"/{operation}", json.dumps(arguments), {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            value = cast("dict[str, Any]", json.loads(answer.read()))
        except TimeoutError:
            raise TimedOutError(f"the controller did not answer within {timeout:g} s", operation) from None
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(
                f"the controller cannot be reached ({error})", mend="run `lampstand up`"
            ) from error
        finally:
            connection.close()
        if answer.status != 200:
            raise LampstandError(str(value.get("error")), value.get("where"), value.get("mend"))
        return value

    def get(self, path: str, timeout: float = 5.0) -> str:
        """The text of a GET. Raises LampstandError when the controller does not run."""
        connection = UnixConnection(str(self.folder.socket), timeout)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(
                f"the controller cannot be reached ({error})", mend="run `lampstand up`"
            ) from error
        finally:
            connection.close()

    async def ready(self, deadline: float = 15.0) -> None:
        """Wait until its API answers. Raises TimedOutError."""
        until = time.monotonic() + deadline
        while time.monotonic() < until:
            if self.folder.socket.exists():
                try:
                    await asyncio.to_thread(self.get, "/status")
                except LampstandError:
                    pass
                else:
                    return
            await asyncio.sleep(0.02)
        raise TimedOutError("the controller did not start", str(self.folder.root / "controller.log"))

    def last_words(self) -> str:
        """The end of its log."""
        try:
            return "\n".join((self.folder.root / "controller.log").read_text().splitlines()[-8:])
        except OSError:
            return ""

    def status(self) -> dict[str, Any]:
        """The status it published last; empty when there is none."""
        return self.folder.read_json(self.folder.status)

    async def wait_until(
        self, good: Callable[[dict[str, Any]], bool], deadline: float, heard: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """Wait for a published status that is `good`; `heard` gets every new one.

        Raises TimedOutError with the controller's sentence after `deadline` seconds.
        """
        until = time.monotonic() + deadline
        stamp = 0
        status: dict[str, Any] = {}
        while time.monotonic() < until:
            try:
                now = self.folder.status.stat().st_mtime_ns
            except FileNotFoundError:
                now = 0
            if now != stamp:
                stamp, status = now, self.status()
                heard(status)
                if good(status):
                    return status
            if not self.running():
                raise LampstandError(
                    f"the controller ended:\n{self.last_words()}", str(self.folder.root / "controller.log")
                )
            await asyncio.sleep(0.02)
        raise TimedOutError(
            f"not ready after {deadline:g} s: {status.get('sentence', 'the controller says nothing')}",
            mend="`lampstand status` and `lampstand logs` tell more; `lampstand up` goes on from here",
        )
