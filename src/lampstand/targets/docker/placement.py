"""Addresses, ports and folders of the containers. Pure: what was chosen before comes in, what was chosen now is kept.

Every container sees the same paths, so what is rendered for one is read by the controller under the same name.
Addresses are static: nginx and Varnish resolve names once, and a container that comes back under another address would
leave them talking to a stranger.
"""

import hashlib
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network
from typing import Literal

from lampstand.errors import LampstandError
from lampstand.topology import Folder

Zone = Literal["edge", "web", "data"]
ZONES: tuple[Zone, ...] = ("edge", "web", "data")
"""Networks, from the visitors' side inwards; `data` is internal: no way in or out but through the gateway."""

_HOME: Mapping[str, Zone] = {
    "edge": "edge", "visitors": "edge", "balancer": "edge",
    "web": "web", "worker": "web", "scheduler": "web", "gateway": "web", "release": "web",
    "database": "data", "cache": "data", "sessions": "data",
}  # fmt: skip
_ALSO: Mapping[str, tuple[Zone, ...]] = {
    "balancer": ("web",), "gateway": ("data",), "controller": ("edge", "web", "data"),
}  # fmt: skip
"""Kinds that lead from one zone to the next, and the controller, which asks everybody."""

CONFIGURATION = "/etc/lampstand"
DATA = "/var/lib/lampstand"
LOGS = "/var/log/lampstand"
SOCKETS = "/run/lampstand"
CONTROL = "/run/control"
"""Where the socket of a container's first process lies; a folder for each server in the controller's container."""
RELEASES = "/srv/lampstand/releases"
UPLOADS = "/srv/lampstand/uploads"
PUBLISHED = "/srv/lampstand/shared"
"""Where web servers put a copy of their release, which the balancers see as RELEASES."""
ASSETS = f"{RELEASES}/assets"
"""The static files of all releases within `deploy.assets_keep`, put together there by the web servers."""

PORTS: Mapping[tuple[str, str], int] = {
    ("gateway", "writer"): 3306, ("gateway", "reader"): 3307, ("gateway", "cache"): 6379,
    ("gateway", "sessions"): 6380, ("gateway", "status"): 8082,
    ("balancer", "http"): 8080, ("balancer", "unsafe"): 8081, ("balancer", "status"): 8082,
    ("edge", "http"): 8080, ("edge", "shield"): 8081, ("edge", "proxy"): 8082, ("edge", "admin"): 6082,
    ("visitors", "http"): 8080, ("visitors", "https"): 8443,
    ("web", "http"): 8080,
    ("database", "mysql"): 3306,
    ("cache", "redis"): 6379, ("sessions", "redis"): 6379,
}  # fmt: skip
"""Fixed, because every container has an address of its own; above 1024, because none of them runs as root."""

_POOL = IPv4Network("10.128.0.0/9")
_STEP = 1024
"""Addresses of one site: a /22, of which each zone gets a /24."""


def kind_of(instance: str) -> str:
    """`worker-mail-1` -> `worker`."""
    return instance.partition("-")[0]


def zones_of(instance: str) -> tuple[Zone, ...]:
    """The networks an instance is in; the first is the one under whose address others reach it."""
    kind = kind_of(instance)
    home = (_HOME[kind],) if kind in _HOME else ()
    return (*home, *_ALSO.get(kind, ()))


class Addresses:
    """Networks of a site and the address of each instance in them; `kept` is what to write back."""

    def __init__(self, project: str, kept: Mapping[str, str], taken: Iterable[IPv4Network] = ()) -> None:
        """`taken` are networks of others. Raises LampstandError when no part of the pool is free."""
        self.kept = dict(kept)
        if not all(zone in self.kept for zone in ZONES):
            self.kept.update(_choose(project, tuple(taken)))

    def network(self, zone: Zone) -> IPv4Network:
        """The network of a zone."""
        return IPv4Network(self.kept[zone])

    def address(self, zone: Zone, instance: str) -> str:
        """The address of an instance in a zone; a new one gets the next number, so that an address that was given
        back is not soon another's."""
        key = f"{zone}/{instance}"
        if key not in self.kept:
            self.kept[key] = self._next(zone)
        return self.kept[key]

    def _next(self, zone: Zone) -> str:
        network = self.network(zone)
        used = {v for k, v in self.kept.items() if k.startswith(f"{zone}/")}
        last = int(self.kept.get(f"{zone}.last", "1"))
        size = network.num_addresses
        for step in range(1, size):
            number = (last + step) % size
            # The first is the network itself, the second the engine's, the last the broadcast address.
            if number in (0, 1, size - 1) or str(network[number]) in used:
                continue
            self.kept[f"{zone}.last"] = str(number)
            return str(network[number])
        raise LampstandError(f"the network {network} has no address left", zone)

    def forget(self, instance: str) -> None:
        """Give the addresses of a removed instance back."""
        for zone in ZONES:
            self.kept.pop(f"{zone}/{instance}", None)


def _choose(project: str, taken: tuple[IPv4Network, ...]) -> dict[str, str]:
    """Three free networks; where the search begins depends on the project, so that two sites seldom meet."""
    slots = _POOL.num_addresses // _STEP
    first = int.from_bytes(hashlib.sha256(project.encode()).digest()[:4]) % slots
    for offset in range(slots):
        base = int(_POOL.network_address) + (first + offset) % slots * _STEP
        if not any(IPv4Network((base, 22)).overlaps(other) for other in taken):
            return {zone: str(IPv4Network((base + number * 256, 24))) for number, zone in enumerate(ZONES)}
    raise LampstandError(
        f"no network is free below {_POOL}", project, "remove networks: docker network prune"
    )


class InContainers:
    """What is the same of a `topology.Placement` wherever servers run in the images that are built here."""

    def __init__(self, url: str) -> None:
        """`url` is what visitors use, without a trailing slash."""
        self._url = url

    def bind(self, instance: str, port: str) -> tuple[str, int]:
        return "0.0.0.0", PORTS[kind_of(instance), port]

    def folder(self, instance: str, folder: Folder) -> str:
        top = {"etc": CONFIGURATION, "data": DATA, "log": LOGS, "run": SOCKETS}[folder]
        return f"{top}/{instance}"

    def release(self, release: str) -> str:
        return f"{RELEASES}/{release}"

    def uploads(self) -> str:
        return UPLOADS

    def public_url(self) -> str:
        return self._url


class DockerPlacement(InContainers):
    """Implements `topology.Placement`."""

    def __init__(self, addresses: Addresses, url: str) -> None:
        super().__init__(url)
        self._addresses = addresses

    def reach(self, instance: str, port: str) -> tuple[str, int]:
        return self._addresses.address(zones_of(instance)[0], instance), PORTS[kind_of(instance), port]
