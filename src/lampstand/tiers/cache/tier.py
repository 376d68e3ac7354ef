"""`cache-1…` and `sessions-1…`: Redis servers, each group with one primary and replicas.

No role is rendered. Every server starts as a replica of nobody (`NOBODY`): read-only, refusing replicas of its own, its
data untouched. Only the controller makes one of them the primary (`roles.py`), so a server that was restarted by
whatever restarts servers never comes up as a second writable one, and an empty primary never empties its replicas.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from lampstand.tiers.templates import add_filter, render
from lampstand.topology import Context, File, Instance, Probe, Process

Kind = Literal["cache", "sessions"]

ENDPOINT = "redis"
"""Name of the only endpoint of each server."""

ADMIN = "lampstand"
"""Redis account of the controller, the operator and the replicas; its password is the secret `cache_admin`."""

NOBODY = ("127.0.0.1", 1)
"""Where a server replicates from until the controller says otherwise: a port on which nothing listens."""

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class _Group:
    kind: Kind
    memory: int
    """Bytes of values (`maxmemory`)."""
    servers: int

    @property
    def limit(self) -> int:
        """Bytes a server may use at most: the values, the buffers of clients and replicas, and the pages that a fork
        copies while it writes a file (half of them, or all where every write is kept)."""
        return (self.memory * 2 if self.kind == "sessions" else self.memory * 3 // 2) + 32 * MEBIBYTE


def expand(context: Context) -> Iterable[Instance]:
    """The servers of both groups: one and its replicas, each."""
    site = context.site
    groups = (
        _Group("cache", site.cache.memory, 1 + site.cache.replicas),
        _Group("sessions", site.sessions.memory, 1 + site.sessions.replicas),
    )
    for group in groups:
        for index in range(1, group.servers + 1):
            yield _server(context, group, index)


def _server(context: Context, group: _Group, index: int) -> Instance:
    name = f"{group.kind}-{index}"
    place, redis = context.placement, context.engines.redis_server
    host, port = place.bind(name, ENDPOINT)
    config = f"{place.folder(name, 'etc')}/redis.conf"
    text = render(
        "cache",
        "redis.conf.j2",
        name=name,
        kind=group.kind,
        host=host,
        port=port,
        data=place.folder(name, "data"),
        log=f"{place.folder(name, 'log')}/redis.log",
        memory=group.memory,
        nobody=NOBODY,
        admin=ADMIN,
        admin_password=context.secrets["cache_admin"],
        app_password=context.secrets[group.kind],
        modern=not redis.release or redis.release >= (7,),
    )
    return Instance(
        name=name,
        tier="cache",
        kind=group.kind,
        # Redis writes what it was given into its title; it takes no password on its command line.
        processes=(Process("redis", (redis.path, config), account="redis", stop_seconds=5.0),),
        files=(File(config, text, mode=0o600, secret=True),),
        endpoints=(context.endpoint(name, ENDPOINT, "redis"),),
        needs=tuple(f"{group.kind}-{other}" for other in range(1, group.servers + 1) if other != index),
        probe=Probe("redis", ENDPOINT, interval=0.5, timeout=0.5, rises=1, falls=2),
        memory=group.limit,
        index=index,
    )


def _quoted(text: str) -> str:
    """A word of redis.conf (sdssplitargs: backslash escapes within double quotes)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _sha256(text: str) -> str:
    """How an ACL names a password without telling it (`#` and 64 hex digits)."""
    return hashlib.sha256(text.encode()).hexdigest()


add_filter("cache", "q", _quoted)
add_filter("cache", "sha256", _sha256)
