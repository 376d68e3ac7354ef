"""Asks Redis servers how they are. One connection per server is kept; every question has a hard time limit."""

import asyncio
from collections.abc import Callable, Mapping
from typing import cast

from redis.asyncio import Connection
from redis.exceptions import RedisError

from lampstand.observed import CacheFacts
from lampstand.tiers.cache.tier import ADMIN, ENDPOINT, NOBODY
from lampstand.topology import Instance

Secret = Callable[[str], str]


class CacheProber:
    """Keeps the connections between probes. Belongs to one event loop."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret
        self._connections: dict[tuple[str, int], Connection] = {}

    async def ask(self, instance: Instance) -> CacheFacts:
        """What the server says of itself within `probe.timeout` seconds. Never raises for a server that is unwell."""
        endpoint = instance.endpoint(ENDPOINT)
        key = (endpoint.host, endpoint.port)
        connection = self._connections.pop(key, None)
        try:
            async with asyncio.timeout(instance.probe.timeout):
                if connection is None:
                    connection = connect(instance, self._secret)
                    await connection.connect()
                # INFO answers while a server loads its data, too; three small sections cost a tenth of all
                # (several in one question: since Redis 7.0).
                text = await _info(connection, "replication", "memory", "persistence")
        except (OSError, RedisError, TimeoutError) as error:
            await close(connection)
            return CacheFacts(False, error=_reason(error, instance.probe.timeout))
        except asyncio.CancelledError:
            await close(connection)
            raise
        self._connections[key] = connection
        return parse(text)

    async def close(self) -> None:
        """Close all connections."""
        kept, self._connections = self._connections, {}
        for connection in kept.values():
            await close(connection)


async def probe(instance: Instance, secrets: Mapping[str, str]) -> CacheFacts:
    """One question over a connection of its own. Where questions repeat, keep a `CacheProber`."""
    prober = CacheProber(secrets.__getitem__)
    try:
        return await prober.ask(instance)
    finally:
        await prober.close()


def connect(instance: Instance, secret: Secret) -> Connection:
    """A connection to the server as the administrator, not yet opened. The caller bounds the time of what it asks."""
    endpoint = instance.endpoint(ENDPOINT)
    return Connection(
        host=endpoint.host,
        port=endpoint.port,
        username=ADMIN,
        password=secret("cache_admin"),
        socket_connect_timeout=instance.probe.timeout,
    )


async def command(connection: Connection, *words: str | int) -> object:
    """One command and its answer. Raises RedisError and OSError."""
    await connection.send_command(*words)
    return cast("object", await connection.read_response())


async def close(connection: Connection | None) -> None:
    """Close at once, without a word to a server that may be frozen."""
    if connection is not None:
        await connection.disconnect(nowait=True)


async def _info(connection: Connection, *sections: str) -> str:
    answer = await command(connection, "INFO", *sections)
    return answer.decode("ascii", "replace") if isinstance(answer, bytes) else str(answer)


def parse(text: str) -> CacheFacts:
    """The facts in an answer to INFO (https://redis.io/docs/latest/commands/info/)."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields[name] = value
    replica = fields.get("role") == "slave"
    source = f"{fields.get('master_host', '')}:{fields.get('master_port', '')}" if replica else ""
    if source == f"{NOBODY[0]}:{NOBODY[1]}":
        source = ""
    offset = fields.get("slave_repl_offset" if replica else "master_repl_offset", "")
    used = fields.get("used_memory", "")
    return CacheFacts(
        answered=True,
        role="slave" if replica else "master",
        source=source,
        link_up=fields.get("master_link_status") == "up" if replica else None,
        offset=int(offset) if offset.lstrip("-").isdecimal() else None,
        replication_id=fields.get("master_replid", ""),
        loading=fields.get("loading") == "1" or fields.get("async_loading") == "1",
        used_bytes=int(used) if used.isdecimal() else None,
    )


def _reason(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"does not answer within {timeout:g} s"
    text = " ".join(str(error).split())
    return "refuses connections" if "111" in text else text or type(error).__name__
