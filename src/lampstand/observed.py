"""One snapshot of what really runs, read before anything is decided. Immutable values; nothing here does I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class State(StrEnum):
    """What a target knows about an instance without asking the engine itself."""

    MISSING = "missing"  # never made, or removed
    STOPPED = "stopped"  # made, none of its processes runs
    PARTIAL = "partial"  # some of its processes run
    RUNNING = "running"  # all of its processes run
    FROZEN = "frozen"  # its processes exist and are stopped (SIGSTOP, docker pause)


class Health(StrEnum):
    """What the probes say of an instance."""

    UNKNOWN = "unknown"  # not probed yet
    STARTING = "starting"  # running, has never answered well
    GOOD = "good"
    BAD = "bad"


Role = Literal["primary", "replica"]


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """What one MariaDB server said about itself. `None` where it was not asked or did not answer.

    GTID sets are texts as MariaDB prints them (`0-1-42`).
    """

    answered: bool
    failure: Literal["", "refused", "hung", "full", "denied", "other"] = ""
    """How it did not answer: nobody listens, no answer in time, too many connections, wrong account, anything else."""
    read_only: bool | None = None
    server_id: int | None = None
    gtid_current_pos: str = ""
    gtid_binlog_pos: str = ""
    gtid_binlog_state: str = ""
    """The newest transaction of every server id in its binary logs: what its history contains."""
    term: int | None = None
    """The highest term in `lampstand.terms`: every promotion begins one, so a higher term is a newer history."""
    gtid_slave_pos: str = ""
    gtid_io_pos: str = ""
    """Highest transaction received into the relay log (SHOW SLAVE STATUS, Gtid_IO_Pos)."""
    io_running: Literal["Yes", "No", "Connecting", "Preparing", ""] = ""
    sql_running: bool | None = None
    source: str = ""
    """`host:port` this replica is pointed at; empty when it is no replica."""
    last_io_error: str = ""
    last_sql_error: str = ""
    lag_seconds: float | None = None
    """Seconds a heartbeat row written on the primary took to be readable here; None when unknown."""
    write_failure: Literal["", "blocked", "read-only", "disk-full", "other"] = ""
    """Why the heartbeat could not be written, on the primary: no acknowledgement or a lock in time, …"""
    write_error: str = ""
    """The same as one line."""
    write_failing_for: float = 0.0
    """Seconds since the first heartbeat that could not be written."""
    semi_sync_master: bool | None = None
    semi_sync_slave: bool | None = None
    semi_sync_clients: int | None = None
    """Rpl_semi_sync_master_clients: replicas that acknowledge."""
    semi_sync_waiting: int | None = None
    """Rpl_semi_sync_master_wait_sessions: commits that wait for an acknowledgement."""
    semi_sync_no_tx: int | None = None
    """Rpl_semi_sync_master_no_tx: transactions committed without an acknowledgement since start; must not rise."""
    connections: int | None = None
    max_connections: int | None = None
    error: str = ""
    """Why it did not answer: one line."""


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """What one Redis server said about itself (INFO replication, INFO memory)."""

    answered: bool
    role: Literal["master", "slave", ""] = ""
    source: str = ""
    """`host:port` it replicates from; empty on a primary."""
    link_up: bool | None = None
    offset: int | None = None
    """Replication offset in bytes: the most advanced server has the highest."""
    replication_id: str = ""
    loading: bool = False
    used_bytes: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class HttpFacts:
    """The last answer to an HTTP probe."""

    answered: bool
    status: int | None = None
    seconds: float | None = None
    body: str = ""
    """First 500 characters of an answer that was not good."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class ObservedProcess:
    """One process of an instance, as the target sees it."""

    name: str
    pid: int | None
    started: float | None = None
    """Unix time in seconds."""
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class ObservedInstance:
    """One instance, as it really is."""

    name: str
    kind: str
    state: State
    processes: tuple[ObservedProcess, ...] = ()
    restart_hash: str = ""
    """Of the Topology entry it was last started with."""
    config_hash: str = ""
    """Of the files that lie on disk now (last written or reloaded)."""
    release: str | None = None
    health: Health = Health.UNKNOWN
    health_since: float | None = None
    health_text: str = ""
    """One line: why it is not well."""
    role: Role | None = None
    restarts: int = 0
    """Restarts by the supervisor in a row, each soon after the one before."""
    facts: DatabaseFacts | CacheFacts | HttpFacts | None = None


@dataclass(frozen=True)
class Observed:
    """Everything at one moment. `taken` is unix time in seconds."""

    taken: float
    instances: Mapping[str, ObservedInstance] = field(default_factory=dict[str, ObservedInstance])

    def of_kind(self, kind: str) -> tuple[ObservedInstance, ...]:
        """The observed instances of one kind, sorted as they were inserted (topology order)."""
        return tuple(i for i in self.instances.values() if i.kind == kind)

    def state(self, name: str) -> State:
        """The state of an instance, MISSING when nothing is known of it."""
        found = self.instances.get(name)
        return found.state if found else State.MISSING
