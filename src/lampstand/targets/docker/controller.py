"""The controller's container, from outside: its API is a socket in the project's folder, as is what it publishes."""

import fcntl
import os

from lampstand.targets.docker.tree import ProjectFolder
from lampstand.targets.local.client import ControllerClient


class DockerController(ControllerClient):
    """The same as on this machine, but for how one knows that it lives."""

    def __init__(self, folder: ProjectFolder) -> None:
        super().__init__(folder.state)

    def running(self) -> bool:
        """Whether somebody holds its lock: flock(2) reaches across containers, because the file is the same."""
        try:
            handle = os.open(self.folder.root / "controller.lock", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def last_words(self) -> str:
        """It writes to its container's log."""
        return "`docker compose logs controller` tells why"
