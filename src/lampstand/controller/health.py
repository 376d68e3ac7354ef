"""From facts to health: one line about why an instance is not well, empty when it is. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lampstand.observed import CacheFacts, DatabaseFacts, Health, HttpFacts, State
from lampstand.topology import Probe

Facts = DatabaseFacts | CacheFacts | HttpFacts


def complaint(facts: Facts, *, primary: bool, lag_limit: float) -> str:
    """Why these facts are not good for a server of this role; empty when they are.

    `lag_limit` in seconds. A database is well when a write on the primary can be read back on it in time (DESIGN.md
    section 6, rule 9), not when its port is open.
    """
    match facts:
        case HttpFacts():
            return _http(facts)
        case DatabaseFacts():
            return _database(facts, primary, lag_limit)
        case CacheFacts():
            return _cache(facts, primary)


def _http(facts: HttpFacts) -> str:
    if not facts.answered:
        return facts.error or "does not answer"
    if facts.status is None or not 200 <= facts.status < 400:
        return f"answers {facts.status}" + (f": {facts.body}" if facts.body else "")
    return ""


def _database(facts: DatabaseFacts, primary: bool, lag_limit: float) -> str:
    if not facts.answered:
        return facts.error or "does not answer"
    if primary:
        return "is read-only" if facts.read_only else ""
    if not facts.source:
        return "replicates from nobody"
    if facts.io_running != "Yes":
        return f"does not receive ({facts.last_io_error or facts.io_running or 'stopped'})"
    if not facts.sql_running:
        return f"does not apply ({facts.last_sql_error or 'stopped'})"
    if facts.lag_seconds is not None and facts.lag_seconds > lag_limit:
        return f"is {facts.lag_seconds:.1f} s behind"
    return ""


def _cache(facts: CacheFacts, primary: bool) -> str:
    if not facts.answered:
        return facts.error or "does not answer"
    if facts.loading:
        return "is loading its data"
    if primary:
        return "replicates from another" if facts.role == "slave" else ""
    if facts.role != "slave":
        return "replicates from nobody"
    return "" if facts.link_up else "has lost its primary"


def silence(kind: str) -> DatabaseFacts | CacheFacts:
    """What a server of a kind with a primary says while it is down."""
    if kind == "database":
        return DatabaseFacts(False, failure="refused", error="is down")
    return CacheFacts(False, error="is down")


@dataclass(frozen=True, slots=True)
class Judgement:
    """The health of one instance and what led to it."""

    health: Health = Health.UNKNOWN
    since: float = 0.0
    text: str = ""
    streak: int = 0
    """Answers in a row that disagree with `health`."""


@dataclass
class Judge:
    """Turns single answers into health: `falls` bad ones in a row are BAD, `rises` good ones GOOD; the very first good
    answer is enough, so that a start is not slowed down."""

    judgements: dict[str, Judgement] = field(default_factory=dict[str, Judgement])

    def of(self, name: str) -> Judgement:
        """The judgement of an instance, UNKNOWN before its first answer."""
        return self.judgements.get(name, Judgement())

    def hear(self, name: str, probe: Probe, text: str, now: float) -> bool:
        """Take one answer (`text` empty: good). Returns whether the health changed."""
        before = self.of(name)
        good = not text
        if before.health in (Health.UNKNOWN, Health.STARTING):
            wanted = Health.GOOD if good else Health.STARTING
            needed = 1
        else:
            wanted = Health.GOOD if good else Health.BAD
            needed = probe.rises if good else probe.falls
        if wanted is before.health:
            self.judgements[name] = replace(before, text=text, streak=0)
            return False
        if before.streak + 1 < needed:
            self.judgements[name] = replace(before, text=text or before.text, streak=before.streak + 1)
            return False
        self.judgements[name] = Judgement(wanted, now, text)
        return True

    def gone(self, name: str, now: float) -> bool:
        """Its process ended: no further answer is needed. Returns whether the health changed."""
        before = self.of(name)
        if before.health in (Health.UNKNOWN, Health.STARTING) or (before.health, before.text) == (
            Health.BAD,
            "is down",
        ):
            return False
        since = before.since if before.health is Health.BAD else now
        self.judgements[name] = Judgement(Health.BAD, since, "is down")
        return before.health is not Health.BAD

    def started(self, name: str, now: float) -> None:
        """It was started anew: its first good answer makes it good."""
        self.judgements[name] = Judgement(Health.STARTING, now)


def overall(states: Mapping[str, tuple[State, Health]]) -> bool:
    """Whether everything runs and is well."""
    return all(state is State.RUNNING and health is Health.GOOD for state, health in states.values())
