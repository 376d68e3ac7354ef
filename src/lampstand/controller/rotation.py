"""Log rotation: Debian's logrotate(8), started by the controller with a configuration of its own for each site."""

import asyncio
import logging

from lampstand.engines import discover
from lampstand.errors import LampstandError
from lampstand.files import write_text
from lampstand.targets.local.folder import StateFolder
from lampstand.targets.local.processes import run_once

EVERY = 600.0
"""Seconds between two looks."""

log = logging.getLogger("lampstand.controller")


def configuration(folder: StateFolder) -> str:
    """logrotate.conf(5) for every log of the site.

    `copytruncate`, because all programs append (O_APPEND) and none then needs a signal; `su` is not needed, since the
    logs' folders belong to the account that writes them and to nobody else.
    """
    root = str(folder.root).replace('"', r"\"")
    return (
        f'"{root}/instances/*/*.log" "{root}/instances/*/log/*.log" "{root}/controller.log" {{\n'
        "    size 10M\n    rotate 5\n    missingok\n    notifempty\n    compress\n    delaycompress\n"
        "    copytruncate\n    nomail\n}\n"
    )


async def rotate_logs(folder: StateFolder) -> None:
    """Run logrotate now and then, until cancelled. Without the program, say so once and do nothing."""
    program = discover().logrotate.path
    if not program:
        log.warning("logrotate is not installed: logs are not rotated (`lampstand doctor --fix`)")
        return
    conf = folder.root / "logrotate.conf"
    while True:
        await asyncio.sleep(EVERY)
        try:
            write_text(conf, configuration(folder), mode=0o600)
            await run_once([program, "--state", str(folder.root / "logrotate.state"), str(conf)])
        except LampstandError as error:
            log.warning("logrotate: %s", error)
