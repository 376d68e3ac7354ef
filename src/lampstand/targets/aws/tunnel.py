"""A client program through a tunnel of Session Manager: `python -m lampstand.targets.aws.tunnel
SPECIFICATION`.

The specification is JSON: `plugin` (the command that holds the tunnel), `port` (the local port), `client`
(the program to run while it is there). What the client ends with is what this ends with.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lampstand.targets.aws.cloud import Cloud, explained

OPENS_WITHIN = 30.0
PLUGIN = "session-manager-plugin"


def plugin_command(
    cloud: Cloud, machine: str, document: str, parameters: Mapping[str, Sequence[str]]
) -> list[str]:
    """Start a session and return the command that speaks it (the plugin's own arguments, as the AWS CLI
    gives them).

    Raises AwsError when the machine cannot be reached.
    """
    request: dict[str, Any] = {"Target": machine, "DocumentName": document, "Parameters": dict(parameters)}
    client = cloud.client("ssm")
    with explained(f"opening a session to {machine}"):
        answer: dict[str, Any] = client.start_session(**request)
    session = {k: v for k, v in answer.items() if k in ("SessionId", "TokenValue", "StreamUrl")}
    endpoint = f"https://ssm.{cloud.region}.amazonaws.com"
    return [
        PLUGIN,
        json.dumps(session),
        cloud.region,
        "StartSession",
        cloud.profile or "",
        json.dumps(request),
        endpoint,
    ]


def free_port() -> int:
    """A port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def through(plugin: Sequence[str], port: int, client: Sequence[str]) -> int:
    """Hold the tunnel while the client runs."""
    tunnel = subprocess.Popen(plugin, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + OPENS_WITHIN
        while not _open(port):
            if tunnel.poll() is not None or time.monotonic() > end:
                sys.stderr.write("lampstand: the tunnel did not open\n")
                return 1
            time.sleep(0.1)
        return subprocess.run(client, check=False).returncode
    finally:
        tunnel.terminate()
        tunnel.wait(timeout=10)


def _open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    specification: dict[str, Any] = json.loads(sys.argv[1])
    sys.exit(through(specification["plugin"], specification["port"], specification["client"]))
