"""The controller's container, from outside: its API is a socket in the project's folder, as is what it publishes."""

import subprocess

from lampstand.errors import TimedOutError
from lampstand.targets.docker.tree import ProjectFolder
from lampstand.targets.local.client import ControllerClient
from lampstand.targets.local.folder import is_locked


class DockerController(ControllerClient):
    """The same as on this machine, but for how one knows that it lives and what it said last."""

    def __init__(self, folder: ProjectFolder, container: str) -> None:
        super().__init__(folder.state)
        self._container = container

    def running(self) -> bool:
        """Whether somebody holds its lock: flock(2) reaches across containers, because the file is the same."""
        return is_locked(self.folder.root / "controller.lock")

    async def ready(self, deadline: float = 60.0) -> None:
        """Wait until its API answers. Raises TimedOutError with the end of its log."""
        try:
            await super().ready(deadline)
        except TimedOutError:
            raise TimedOutError(
                f"the controller did not start:\n{self.last_words()}", self._container
            ) from None

    def last_words(self) -> str:
        """The end of its container's log."""
        argv = ("docker", "logs", "--tail", "6", self._container)
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
        return (done.stdout + done.stderr).rstrip()
