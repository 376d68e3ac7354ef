"""Asks the first process of a server's container, over its socket (images/lampstand-init tells the protocol)."""

import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path

from lampstand.errors import LampstandError, TimedOutError
from lampstand.targets.docker.description import encoded

_MARKED = re.compile(r"\[(?:ERROR|emerg|crit|alert)\]")
"""How MariaDB and nginx mark what ended them."""


async def ask(folder: Path, verb: str, arguments: Sequence[str] = (), deadline: float = 5.0) -> str:
    """What was printed. `folder` holds the socket; `deadline` in seconds.

    Raises LampstandError with the last lines when it failed or nobody listens, TimedOutError after the deadline.
    """
    name = folder.name
    try:
        async with asyncio.timeout(deadline + 1.0):
            reader, writer = await _connect(folder)
            try:
                lines = [f"{verb} {deadline:g}", *(encoded(a) for a in arguments)]
                writer.write("".join(f"{line}\n" for line in lines).encode())
                writer.write_eof()
                answer = (await reader.read()).decode(errors="replace")
            finally:
                writer.close()
    except TimeoutError:
        raise TimedOutError(f"`{verb}` was not done within {deadline:g} s", name) from None
    except OSError as error:
        raise LampstandError(f"does not listen ({error.strerror or error})", name) from error
    output, _, code = answer.rpartition("\nexit ")
    if code.strip() != "0":
        raise LampstandError(_complaint(output) or f"`{verb}` failed", name)
    return output


def _complaint(output: str) -> str:
    """What matters of a program's output: the lines that engines mark as errors, else the last ones."""
    lines = output.strip().splitlines()
    marked = [line for line in lines if _MARKED.search(line)]
    return "\n".join((marked or lines)[-5:])


async def _connect(folder: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Through a descriptor of the folder, because the name of a socket may have only 107 bytes (unix(7))."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return await asyncio.open_unix_connection(f"/proc/self/fd/{handle}/init", limit=2**22)
    finally:
        os.close(handle)


async def until_listening(folder: Path, deadline: float) -> None:
    """Wait until the first process answers. Raises TimedOutError."""
    end = asyncio.get_running_loop().time() + deadline
    while True:
        try:
            await ask(folder, "state", deadline=1.0)
        except LampstandError:
            if asyncio.get_running_loop().time() > end:
                raise TimedOutError(
                    f"its container does not answer within {deadline:g} s", folder.name
                ) from None
            await asyncio.sleep(0.02)
        else:
            return
