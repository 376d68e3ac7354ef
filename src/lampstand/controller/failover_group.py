"""The database group in one View: who is the primary, who may hold acknowledged writes, who lost whom. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from lampstand.controller.problems import View
from lampstand.observed import DatabaseFacts, Health, State
from lampstand.tiers.database import gtid
from lampstand.tiers.database.tier import KIND, PORT
from lampstand.topology import Endpoint, Instance

SILENT = DatabaseFacts(False)
STARTING_SECONDS = 3.0
"""A server that was started less long ago and does not answer is still starting."""

Loss = Literal["", "starting", "dead", "frozen", "lost", "only from here"]


@dataclass(frozen=True)
class Group:
    """The database servers of a View. `voters` are those whose acknowledgement may stand for a write (rule 2)."""

    view: View
    kind: str = KIND
    members: tuple[Instance, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", self.view.topology.of_kind(self.kind))

    @cached_property
    def primary(self) -> Instance | None:
        """The remembered primary, None when there was none or the site no longer has it."""
        return self.view.topology.by_name.get(self.view.memory.primaries.get(self.kind, ""))

    @property
    def term(self) -> int:
        """Number of promotions so far."""
        return self.view.memory.terms.get(self.kind, 0)

    @cached_property
    def voters(self) -> tuple[str, ...]:
        """Names of every server, other than the primary, that may hold an acknowledged write."""
        known = self.view.memory.known.get(self.kind)
        names = tuple(m.name for m in self.members) if known is None else tuple(known)
        return tuple(n for n in names if self.primary is None or n != self.primary.name)

    def joined_at(self, name: str) -> str:
        """Position of the primary when this voter joined; until it has that, it may lack acknowledged writes."""
        return self.view.memory.known.get(self.kind, {}).get(name, "")

    @property
    def others(self) -> tuple[Instance, ...]:
        """Every member but the primary."""
        return tuple(m for m in self.members if m != self.primary)

    def facts(self, name: str) -> DatabaseFacts:
        """What a server said last; that it did not answer when it has not been asked."""
        seen = self.view.observed.instances.get(name)
        return seen.facts if seen and isinstance(seen.facts, DatabaseFacts) else SILENT

    def answers(self, name: str) -> bool:
        """Whether its last probe was answered, by processes that still run."""
        return self.facts(name).answered and self.view.observed.state(name) in (State.RUNNING, State.PARTIAL)

    def down(self, name: str) -> bool:
        """Whether none of its processes runs: surely dead."""
        return self.view.observed.state(name) in (State.STOPPED, State.MISSING)

    def missing_voters(self) -> tuple[str, ...]:
        """Voters that do not answer."""
        return tuple(n for n in self.voters if not self.answers(n))

    def endpoint(self, instance: Instance) -> Endpoint:
        """Where its SQL is spoken."""
        return instance.endpoint(PORT)

    def follows(self, name: str) -> bool:
        """Whether it receives from the primary and applies."""
        facts = self.facts(name)
        return (
            self.primary is not None
            and self.answers(name)
            and facts.source == self.endpoint(self.primary).address
            and facts.io_running == "Yes"
            and facts.sql_running is True
        )

    def has_lost_primary(self, name: str) -> bool:
        """Whether it answers and receives nothing from the primary."""
        return self.answers(name) and self.facts(name).io_running != "Yes"

    def loss(self) -> Loss:
        """How the primary was lost; empty while it answers.

        Dead (no process, or nobody listens and its replicas lost it too), frozen, lost (silent for some time, to its
        replicas too); only from here, when a replica still receives: then nothing may be done.
        """
        assert self.primary is not None
        name = self.primary.name
        if self.down(name):
            return "dead"
        if self.answers(name):
            return ""
        seen = self.view.observed.instances.get(name)
        facts = self.facts(name)
        if seen is None or seen.facts is None:
            return "starting"
        if seen.state is State.FROZEN:
            return "frozen"
        if facts.failure in ("full", "denied"):
            return "only from here"
        started = max((p.started or 0.0 for p in seen.processes), default=0.0)
        starting = self.view.now - started < STARTING_SECONDS
        witnesses = [n for n in self.voters if self.answers(n)]
        if any(not self.has_lost_primary(n) for n in witnesses):
            return "only from here"
        if facts.failure == "refused" and not starting and witnesses:
            return "dead"
        if starting or (seen.health is not Health.BAD and facts.failure != "refused"):
            return "starting"
        return "lost"

    def position(self, name: str) -> str:
        """The newest transaction that the server is known to have received."""
        facts = self.facts(name)
        positions = (facts.gtid_io_pos, facts.gtid_current_pos, facts.gtid_binlog_pos, facts.gtid_slave_pos)
        return str(gtid.newest(*positions) or "")

    def primary_is_behind(self) -> bool:
        """Whether the primary answers with older data than it must have: its data folder was lost or set back."""
        assert self.primary is not None
        mine = gtid.sequence(self.position(self.primary.name))
        if (self.facts(self.primary.name).term or 0) < self.term:
            return True
        return any(gtid.sequence(self.position(n)) > mine for n in self.voters if self.answers(n))

    def diverged(self, name: str) -> bool:
        """Whether a server has transactions that are not in the primary's history.

        What the primary wrote itself is left out: its own numbers in an older answer may be behind.
        """
        if self.primary is None or not (self.answers(name) and self.answers(self.primary.name)):
            return False
        primary = self.facts(self.primary.name)
        history: Mapping[int, int] = gtid.by_server(primary.gtid_binlog_state)
        facts = self.facts(name)
        mine = (*gtid.parse(facts.gtid_binlog_state), *gtid.parse(facts.gtid_slave_pos))
        return any(g.server != primary.server_id and g.sequence > history.get(g.server, 0) for g in mine)
