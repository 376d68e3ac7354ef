"""Gives Redis servers their roles. The controller's recoveries are the only callers; every function may be repeated."""

import asyncio

from redis.exceptions import RedisError

from lampstand.errors import LampstandError, TimedOutError
from lampstand.tiers.cache.probe import Secret, close, command, connect
from lampstand.tiers.cache.tier import ENDPOINT, NOBODY
from lampstand.topology import Instance


async def promote(instance: Instance, secret: Secret, *, deadline: float = 1.0) -> None:
    """Make the server a primary: writable, and willing to have replicas. Its data and replication history stay, so
    that replicas of the old primary go on where they are (PSYNC 2)."""
    await _tell(instance, secret, ("REPLICAOF", "NO", "ONE"), deadline)


async def follow(instance: Instance, primary: Instance, secret: Secret, *, deadline: float = 1.0) -> None:
    """Make the server a replica of another: read-only from now on; it gives up whatever the primary does not have."""
    endpoint = primary.endpoint(ENDPOINT)
    await _tell(instance, secret, ("REPLICAOF", endpoint.host, endpoint.port), deadline)


async def depose(instance: Instance, secret: Secret, *, deadline: float = 1.0) -> None:
    """Make the server a replica of nobody: read-only, its data untouched, and its clients sent away, so that none
    goes on writing to it or reading from it."""
    await _tell(instance, secret, ("REPLICAOF", NOBODY[0], NOBODY[1]), deadline)
    await _tell(instance, secret, ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"), deadline)


async def _tell(instance: Instance, secret: Secret, words: tuple[str | int, ...], deadline: float) -> None:
    """Raises LampstandError when the server refuses, TimedOutError after `deadline` seconds."""
    connection = connect(instance, secret)
    try:
        async with asyncio.timeout(deadline):
            await connection.connect()
            await command(connection, *words)
    except TimeoutError as error:
        raise TimedOutError(f"does not take {words[0]} within {deadline:g} s", instance.name) from error
    except (OSError, RedisError) as error:
        raise LampstandError(f"does not take {words[0]}: {error}", instance.name) from error
    finally:
        await close(connection)
