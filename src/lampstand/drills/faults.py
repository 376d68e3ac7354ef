"""What a drill may do to a site. Each target supplies its own; everything that was broken can be healed."""

from typing import Protocol


class Faults(Protocol):
    """Faults on the servers of one site. `heal_all` undoes whatever is still broken, also after Ctrl-C."""

    def unavailable(self, fault: str) -> str:
        """Why a fault cannot be made here, in one sentence; empty when it can."""
        ...

    def kill(self, instance: str) -> None:
        """SIGKILL every process of a server."""
        ...

    def freeze(self, instance: str) -> None:
        """Stop every process of a server where it stands."""
        ...

    def thaw(self, instance: str) -> None:
        """Let what was frozen go on: the ghost returns."""
        ...

    def restart(self, instance: str) -> None:
        """Stop a server politely, behind the controller's back."""
        ...

    def kill_controller(self) -> None:
        """SIGKILL the controller."""
        ...

    def start_controller(self) -> None:
        """Bring a controller back."""
        ...

    def cut(self, instance: str, from_replicas: bool) -> None:
        """Drop packets to a database server: from its replicas, or from everybody else."""
        ...

    def fill_disk(self, instance: str) -> None:
        """Leave a database server no space on its disk."""
        ...

    def heal(self, instance: str) -> None:
        """Undo what was done to one server."""
        ...

    def heal_all(self) -> None:
        """Undo everything."""
        ...
