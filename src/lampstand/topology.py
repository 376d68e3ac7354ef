"""The fully expanded, immutable site: every Instance, its Files, Processes, Endpoints and dependencies.

Everything here is pure: `expand` reads no disk and opens no socket, so that tests compare text. What differs between
targets (addresses, folders, where an engine's modules lie) comes in through a `Placement` and the `Engines`.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from signal import Signals
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from lampstand.engines import Engines
    from lampstand.site import Site

TierName = Literal["edge", "balancer", "web", "database", "cache"]
"""The five rooms, in the order in which a request meets them."""

TIERS: tuple[TierName, ...] = ("edge", "balancer", "web", "database", "cache")

Speaks = Literal["http", "https", "mysql", "redis", "tcp"]

Folder = Literal["etc", "data", "log", "run"]
"""What an instance may own on disk: configuration, data that outlives it, logs, sockets and pid files."""


@dataclass(frozen=True, slots=True)
class File:
    """One rendered file. `path` is absolute, as the process of the instance sees it."""

    path: str
    content: str
    mode: int = 0o644
    secret: bool = False
    """Holds a password: mode 0600 or 0640, never shown in a plan, a secret (not a config map) elsewhere."""
    on_change: Literal["restart", "reload"] = "restart"
    """What the instance needs when only this file changed."""


@dataclass(frozen=True, slots=True)
class Process:
    """One long-running program of an instance (a container on Docker and Kubernetes). It stays in the foreground."""

    name: str
    argv: tuple[str, ...]
    account: str
    """Debian service account it runs under when Lampstand runs as root (`www-data`, `mysql`, `redis`, `vcache`)."""
    env: tuple[tuple[str, str], ...] = ()
    cwd: str | None = None
    stop_signal: Signals = Signals.SIGTERM
    stop_seconds: float = 10.0
    """Seconds between the stop signal and SIGKILL."""
    reload: Signals | tuple[str, ...] | None = None
    """A signal to send or a command to run after a file with `on_change="reload"` changed; None: restart instead."""
    check: tuple[str, ...] | None = None
    """The engine's own checker for the rendered files; run before a start or a reload, exit 0 when they are good."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """A command that must have run once before the first start: `creates` is the path whose existence says it has."""

    creates: str
    argv: tuple[str, ...]
    account: str
    env: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one port of an instance is reached (`host`, `port`) and what it speaks."""

    instance: str
    name: str
    host: str
    port: int
    protocol: Speaks

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Probe:
    """How the controller asks an instance whether it does what visitors need. Times in seconds."""

    protocol: Literal["http", "mysql", "redis", "tcp", "process"]
    endpoint: str = ""
    """Name of the endpoint asked; empty for `process` (it is well as long as it runs)."""
    path: str = "/"
    host: str = "localhost"
    interval: float = 1.0
    timeout: float = 2.0
    rises: int = 2
    falls: int = 2
    lag_limit: float = 5.0
    """Databases: a replica on which a write is readable only after more seconds is not well."""


@dataclass(frozen=True)
class Instance:
    """One server of one tier. Its role (primary, replica) is run-time state and is not here."""

    name: str
    tier: TierName
    kind: str
    """What it is within its tier: `edge`, `visitors`, `balancer`, `gateway`, `web`, `worker`, `scheduler`, `database`,
    `cache`, `sessions`."""
    processes: tuple[Process, ...]
    files: tuple[File, ...] = ()
    live_files: tuple[File, ...] = ()
    """Written once with this content when absent; from then on the controller's (routes). Outside every hash."""
    folders: tuple[str, ...] = ()
    """Folders that must exist, owned by the processes' account, mode 0700, beyond etc/data/log/run."""
    prepare: tuple[Preparation, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    needs: tuple[str, ...] = ()
    """Names of instances it sends requests to. A dependency for reading and drawing, not an order of starting."""
    probe: Probe = field(default_factory=lambda: Probe("process"))
    release: str | None = None
    """Id of the release it runs, for web instances."""
    memory: int | None = None
    """Bytes it is meant to use at most (a limit on Docker, Kubernetes; a sum for `doctor` locally)."""
    index: int = 0
    """Position within its kind, from 1."""
    slow_start: float = 0.0
    """Seconds over which its share of the requests grows when it comes (back) beside servers that are warm."""

    @cached_property
    def restart_hash(self) -> str:
        """Changes when the instance must be restarted: its commands and the files that are read only at start."""
        return _digest(
            self.kind, self.processes, [f for f in self.files if f.on_change == "restart"], self.folders
        )

    @cached_property
    def config_hash(self) -> str:
        """Changes when anything of its command or rendered files changes."""
        return _digest(self.restart_hash, [f for f in self.files if f.on_change == "reload"])

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint called `name`. Raises KeyError."""
        for endpoint in self.endpoints:
            if endpoint.name == name:
                return endpoint
        raise KeyError(f"{self.name} has no endpoint {name!r}")

    @property
    def account(self) -> str:
        """The service account that owns its folders."""
        return self.processes[0].account


@dataclass(frozen=True)
class Topology:
    """Every instance of the site, in the order a request meets them, with stable names."""

    site: str
    instances: tuple[Instance, ...]

    @cached_property
    def by_name(self) -> Mapping[str, Instance]:
        return {i.name: i for i in self.instances}

    def of_kind(self, kind: str) -> tuple[Instance, ...]:
        """The instances of one kind, in order."""
        return tuple(i for i in self.instances if i.kind == kind)

    def of_tier(self, tier: TierName) -> tuple[Instance, ...]:
        """The instances of one tier, in order."""
        return tuple(i for i in self.instances if i.tier == tier)


class Placement(Protocol):
    """What a target decides: addresses and folders. Answers are stable for the life of a site."""

    def bind(self, instance: str, port: str) -> tuple[str, int]:
        """Address and port that the instance listens on (`127.0.0.1`, 20011; `0.0.0.0`, 3306 in a container)."""
        ...

    def reach(self, instance: str, port: str) -> tuple[str, int]:
        """Host and port by which other instances reach it."""
        ...

    def folder(self, instance: str, folder: Folder) -> str:
        """Absolute path of a folder of the instance, as its processes see it."""
        ...

    def release(self, release: str) -> str:
        """Absolute path of an unpacked release."""
        ...

    def uploads(self) -> str:
        """Absolute path of the folder that all web servers share."""
        ...

    def public_url(self) -> str:
        """The URL visitors use, without a trailing slash (`http://127.0.0.1:20000`)."""
        ...


@dataclass(frozen=True)
class Context:
    """All that a tier may look at while it expands and renders."""

    site: "Site"
    placement: Placement
    engines: "Engines"
    secrets: Mapping[str, str]
    """Generated values by name; `SECRETS` lists them. Never logged, never in a plan."""
    release: str
    """Id of the release that web instances run unless `releases` names another."""
    releases: Mapping[str, str] = field(default_factory=dict[str, str])
    """Instance name -> release id, while a roll is under way."""
    surge: int = 0
    """Web servers above `web.servers`, while a roll is under way."""
    assets: str = ""
    """Absolute path of the folder with the static files of releases that served before; empty where there is none."""

    def endpoint(
        self, instance: str, port: str, protocol: Literal["http", "https", "mysql", "redis", "tcp"]
    ) -> Endpoint:
        """The endpoint by which others reach a port of an instance."""
        host, number = self.placement.reach(instance, port)
        return Endpoint(instance, port, host, number, protocol)

    def release_of(self, instance: str) -> str:
        """The release that a web instance runs."""
        return self.releases.get(instance, self.release)


SECRETS: tuple[str, ...] = (
    "app_secret",  # APP_SECRET: the application's signing key
    "database_app",  # account of the application: its own database only
    "database_admin",  # account of the operator and of the controller's recoveries
    "database_replication",  # account the replicas connect with
    "database_check",  # account of the probes
    "cache",  # Redis `cache` requirepass
    "sessions",  # Redis `sessions` requirepass
    "cache_admin",  # account of the controller, the operator and the replicas on both kinds of Redis
    "purge",  # token that a PURGE or BAN must carry when it does not come from the controller
)
"""Names of the values that every site has; the target generates and keeps them (mode 0600)."""


Expander = Callable[[Context], Iterable[Instance]]


def expand(context: Context) -> Topology:
    """The Topology of a site: each tier expands itself.

    Time is linear in the number of instances; nothing is read or written.
    """
    from lampstand.tiers import EXPANDERS

    instances = tuple(i for tier in TIERS for i in EXPANDERS[tier](context))
    names = [i.name for i in instances]
    if len(set(names)) != len(names):
        raise ValueError(f"two instances share a name: {sorted(n for n in set(names) if names.count(n) > 1)}")
    return Topology(context.site.site, instances)


def _digest(*parts: object) -> str:
    """SHA-256 (16 hex digits) over a canonical JSON text of dataclasses, tuples and strings."""
    return hashlib.sha256(json.dumps(parts, default=_plain, sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    slots = getattr(value, "__dataclass_fields__", None)
    if slots is None:
        raise TypeError(f"cannot hash {value!r}")
    return {name: getattr(value, name) for name in slots}
