"""`python -m lampstand.controller --state DIR`: the controller of a site on this machine, in the foreground."""

import argparse
import asyncio
import fcntl
import gc
import logging
import os
import signal
import sys
from pathlib import Path

from lampstand.controller.api import serve_api
from lampstand.controller.journal import Journal
from lampstand.controller.loop import Controller
from lampstand.controller.rotation import rotate_logs
from lampstand.errors import ExitCode, LampstandError
from lampstand.targets.local.desired import state_folder
from lampstand.targets.local.folder import StateFolder
from lampstand.targets.local.runtime import LocalRuntime


def main() -> int:
    """Run until SIGTERM or SIGINT. Exit code 6 when another controller of this site runs."""
    parser = argparse.ArgumentParser(prog="lampstand-controller", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="state folder of the site")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        folder = state_folder(arguments.state)
        with (folder.root / "controller.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("another controller of this site runs", file=sys.stderr)
                return ExitCode.LOCKED
            asyncio.run(_serve(folder))
    except LampstandError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return ExitCode.DONE


async def _serve(folder: StateFolder) -> None:
    controller = Controller(LocalRuntime(folder), Journal(folder.root))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, controller.stop)
    loop.add_signal_handler(signal.SIGHUP, controller.wake)
    api = asyncio.create_task(serve_api(controller, folder.socket))
    rotation = asyncio.create_task(rotate_logs(folder))
    gc.freeze()  # modules live as long as the controller: no collection need look at them
    try:
        await controller.serve()
    finally:
        api.cancel()
        rotation.cancel()
        await asyncio.gather(api, rotation, return_exceptions=True)


if __name__ == "__main__":
    # Whoever started it may be gone; its own files are private.
    os.umask(0o027)
    sys.exit(main())
