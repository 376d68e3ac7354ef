"""Free ports on the loopback, chosen once and kept with the site."""

import contextlib
import os
import random
import socket
from collections.abc import Mapping
from pathlib import Path

from lampstand.errors import LampstandError

RANGE = range(20000, 32768)
"""Below the ports that Linux gives to outgoing connections (32768…, ip(7) ip_local_port_range), so that a kept port
is not lent to a client while the server is down."""

CLAIMS = Path("/tmp/.lampstand-ports")
"""One empty-handed file per claimed port: two sites that start at the same moment must not choose the same one before
either listens. A claim is a courtesy: the kept ports are in each site's `state.json`."""


class Ports:
    """`instance/port` -> number. New keys get a free number; `kept` is what to write back."""

    def __init__(self, kept: Mapping[str, int], fixed: Mapping[str, int], owner: str) -> None:
        self.kept = dict(kept) | dict(fixed)
        self.fixed = dict(fixed)
        self._owner = owner
        self._random = random.Random()
        self._taken = set(self.kept.values())

    def get(self, key: str) -> int:
        """The number of a key, chosen free when it is new."""
        if key not in self.kept:
            self.kept[key] = self._choose()
            self._taken.add(self.kept[key])
        return self.kept[key]

    def replace(self, key: str) -> int:
        """Choose another number for a key whose number a stranger took."""
        self.kept.pop(key, None)
        return self.get(key)

    def forget(self, instance: str) -> None:
        """Give the ports of a removed instance back."""
        for key in [k for k in self.kept if k.startswith(f"{instance}/")]:
            number = self.kept.pop(key)
            self._taken.discard(number)
            with contextlib.suppress(OSError):
                (CLAIMS / str(number)).unlink()

    def forget_all(self) -> None:
        """Give every port back."""
        for instance in {key.partition("/")[0] for key in self.kept}:
            self.forget(instance)

    def _choose(self) -> int:
        for _ in range(500):
            number = self._random.choice(RANGE)
            if number not in self._taken and is_free("127.0.0.1", number) and self._claim(number):
                return number
        raise LampstandError("no free port was found", f"127.0.0.1:{RANGE.start}-{RANGE.stop - 1}")

    def _claim(self, number: int) -> bool:
        with contextlib.suppress(FileExistsError, PermissionError):
            CLAIMS.mkdir()
            CLAIMS.chmod(0o1777)
        path = CLAIMS / str(number)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            with contextlib.suppress(OSError):
                holder = path.read_text()
                if holder and holder != self._owner and not Path(holder).exists():
                    path.unlink()  # the site is gone; another call may claim it
            return False
        except OSError:
            return True
        with open(handle, "w") as claim:
            claim.write(self._owner)
        return True


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
