"""What runs inside pods: `controller`."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from lampstand.errors import LampstandError

FOLDER = Path("/site")


def main() -> int:
    """The exit code of an error that ends it."""
    parser = argparse.ArgumentParser(prog="lampstand-kubernetes", description=__doc__)
    parser.add_argument("verb", choices=["controller"])
    parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        asyncio.run(_serve())
    except LampstandError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


async def _serve() -> None:
    """Until SIGTERM."""
    from lampstand.controller.api import serve_api
    from lampstand.targets.kubernetes.client import Client
    from lampstand.targets.kubernetes.controller import ClusterJournal, Health, KubernetesController, Lease
    from lampstand.targets.kubernetes.runtime import KubernetesRuntime

    site, namespace = os.environ["LAMPSTAND_SITE"], os.environ["LAMPSTAND_NAMESPACE"]
    client = Client.in_cluster()
    health = Health()
    health.start()
    lease = Lease(client, namespace, os.environ["POD_NAME"])
    await lease.acquire()
    lease.keep()
    runtime = KubernetesRuntime(client, namespace, site)
    journal = ClusterJournal(FOLDER, client, runtime.path("configmaps"), site)
    controller = KubernetesController(runtime, journal)
    health.controller = controller
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, controller.stop)
    serving = asyncio.create_task(serve_api(controller, FOLDER / "controller.sock"))
    try:
        await controller.serve()
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        lease.release()


if __name__ == "__main__":
    sys.exit(main())
