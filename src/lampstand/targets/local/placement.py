"""Addresses and folders of the instances on this machine."""

from collections.abc import Mapping
from pathlib import Path

from lampstand.errors import LampstandError
from lampstand.targets.local.folder import LONGEST_SOCKET, StateFolder
from lampstand.targets.local.ports import Ports
from lampstand.topology import Folder


class LocalPlacement:
    """Everything on the loopback unless the site file asks for another address; ports free and kept."""

    def __init__(
        self, folder: StateFolder, ports: Ports, bind_address: str, public: Mapping[str, str]
    ) -> None:
        """`public` maps instance names that visitors reach to the address they listen on (`0.0.0.0`)."""
        self._folder = folder
        self._ports = ports
        self._bind = bind_address
        self._public = dict(public)
        self.front: tuple[str, str] = ("", "http")
        """Instance and port that visitors use; set once the site is known."""

    def bind(self, instance: str, port: str) -> tuple[str, int]:
        return self._public.get(f"{instance}/{port}", "127.0.0.1"), self._ports.get(f"{instance}/{port}")

    def reach(self, instance: str, port: str) -> tuple[str, int]:
        return "127.0.0.1", self._ports.get(f"{instance}/{port}")

    def folder(self, instance: str, folder: Folder) -> str:
        if folder == "run":
            path = self._folder.run / instance
            if len(str(path)) + 24 > LONGEST_SOCKET:
                raise LampstandError(
                    "the folder for sockets has too long a name", str(path), "set XDG_RUNTIME_DIR"
                )
            return str(path)
        return str(self._folder.instances / instance / folder)

    def release(self, release: str) -> str:
        return str(self._folder.releases / release)

    def uploads(self) -> str:
        return str(self._folder.uploads)

    def public_url(self) -> str:
        host = "127.0.0.1" if self._bind in ("0.0.0.0", "::", "") else self._bind
        return f"http://{host}:{self._ports.get('/'.join(self.front))}"

    def path(self, *parts: str) -> Path:
        """A path below the state folder."""
        return self._folder.root.joinpath(*parts)
