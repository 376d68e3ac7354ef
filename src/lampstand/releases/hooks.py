"""Hooks: commands of the operator around a deploy, where `lampstand` runs, in the project's folder."""

import asyncio
import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lampstand.errors import LampstandError

WITHIN = 600.0
"""Seconds that a hook may take."""


async def run_hook(name: str, argv: Sequence[str] | None, project: Path, facts: Mapping[str, str]) -> None:
    """Run a hook, its output on standard error; `facts` become LAMPSTAND_… variables.

    Raises LampstandError when it fails, is missing, or needs more than `WITHIN` seconds.
    """
    if not argv:
        return
    environment = {
        **os.environ,
        "LAMPSTAND_HOOK": name,
        **{f"LAMPSTAND_{k.upper()}": v for k, v in facts.items()},
    }
    where = f"hooks.{name}"
    try:
        child = await asyncio.create_subprocess_exec(
            *argv, cwd=project, env=environment, stdin=subprocess.DEVNULL, stdout=2, start_new_session=True
        )
    except OSError as error:
        raise LampstandError(f"cannot run {shlex.join(argv)}: {error.strerror}", where) from error
    try:
        code = await asyncio.wait_for(child.wait(), WITHIN)
    except TimeoutError:
        raise LampstandError(f"did not end within {WITHIN:g} s", where) from None
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
    if code:
        raise LampstandError(f"ended with exit code {code}: {shlex.join(argv)}", where)
