"""Sessions on machines: a program in a container, the database's client, redis-cli; all through Session
Manager."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lampstand.errors import EngineMissingError, UsageError
from lampstand.targets.aws import inventory, tunnel
from lampstand.targets.aws.bundle import PORTS
from lampstand.targets.aws.cloud import Cloud, explained
from lampstand.targets.aws.scope import Scope
from lampstand.targets.base import Shell
from lampstand.tiers.database.accounts import APP

APPLICATIONS: Mapping[str, str] = {"php": "php-fpm", "python": "gunicorn", "perl": "starman"}
"""Runtime -> the process of a web server that is the application."""


@dataclass(frozen=True)
class Shells:
    """What `exec`, `db` and `redis` become."""

    cloud: Cloud
    scope: Scope
    outputs: Callable[[], dict[str, str]]

    def machine(self, name: str = "web") -> str:
        """Id of a machine by its id or kind."""
        found = inventory.machines(self.scope, self.cloud)
        for machine in found:
            if name in (machine["id"], machine["kind"]) and machine["state"] == "running":
                return str(machine["id"])
        known = ", ".join(f"{m['id']} ({m['kind']})" for m in found) or "none"
        raise UsageError(f"no machine {name!r} runs", mend=f"there are: {known}")

    def _plugin(self) -> None:
        if shutil.which(tunnel.PLUGIN) is None:
            raise EngineMissingError(
                f"{tunnel.PLUGIN} is not installed", mend="see docs/aws.md, section Session Manager"
            )

    def shell(self, instance: str, argv: Sequence[str]) -> Shell:
        """A program in the application's container on a machine, through Session Manager."""
        self._plugin()
        container = f"web-1.{APPLICATIONS[self.scope.site.app.runtime]}"
        command = shlex.join(["sudo", "docker", "exec", "--interactive", "--tty", container, *argv])
        machine = self.machine(instance)
        return Shell(
            tuple(
                tunnel.plugin_command(
                    self.cloud, machine, "AWS-StartInteractiveCommand", {"command": [command]}
                )
            ),
            dict(os.environ),
        )

    def _through(self, port: str, client: Callable[[int], list[str]], extra: Mapping[str, str]) -> Shell:
        """A client on this machine, through a tunnel to the gateway of a machine."""
        self._plugin()
        local = tunnel.free_port()
        plugin = tunnel.plugin_command(
            self.cloud,
            self.machine(),
            "AWS-StartPortForwardingSession",
            {"portNumber": [str(PORTS["gateway-1", port])], "localPortNumber": [str(local)]},
        )
        specification = json.dumps({"plugin": plugin, "port": local, "client": client(local)})
        argv = (sys.executable, "-m", "lampstand.targets.aws.tunnel", specification)
        return Shell(argv, {**os.environ, **extra})

    def _secret(self, name: str) -> str:
        with explained(f"reading {name}"):
            answer = self.cloud.client("secretsmanager").get_secret_value(SecretId=self.outputs()[name])
        return str(json.loads(answer["SecretString"])["password"])

    def database_shell(self, replica: bool, arguments: Sequence[str]) -> Shell:
        """The MariaDB client, as the application's account (RDS's master user)."""
        database = self.scope.site.database.name

        def client(port: int) -> list[str]:
            return [
                "mariadb", "--no-defaults", "--protocol=tcp", "-h", "127.0.0.1", "-P", str(port), "-u", APP,
                *arguments, database,
            ]  # fmt: skip

        return self._through(
            "reader" if replica else "writer", client, {"MYSQL_PWD": self._secret("DatabaseSecret")}
        )

    def redis_shell(self, sessions: bool, arguments: Sequence[str]) -> Shell:
        """redis-cli on the cache, or on the session store."""

        def client(port: int) -> list[str]:
            return ["redis-cli", "-h", "127.0.0.1", "-p", str(port), *arguments]

        return self._through(
            "sessions" if sessions else "cache", client, {"REDISCLI_AUTH": self._secret("CacheSecret")}
        )
