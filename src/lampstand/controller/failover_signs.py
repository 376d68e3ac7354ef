"""How to see what is wrong with the database: the matchers of the table in `failover.py`. Pure over a View."""

from collections.abc import Callable

from lampstand.controller.failover_group import Group, Loss
from lampstand.controller.failover_reseed import DIVERGED_ERRORS, far_behind
from lampstand.controller.failover_steps import names, replicated
from lampstand.controller.problems import Finding, View
from lampstand.observed import Health, State
from lampstand.tiers.database import gtid
from lampstand.tiers.database.tier import KIND
from lampstand.topology import Instance

PATIENCE = 3.0
"""Seconds for which something that may mend itself is left alone."""
HEARD_BY_REPLICAS = 1.0
"""Seconds for which a primary that only its replicas hear is left alone before the gateways are asked."""
CRASHES = 4
"""Restarts in a row after which a replica's data are taken to be unusable."""


def _group(view: View) -> Group | None:
    """The group, None when the site has no database or nothing of it is known yet."""
    group = Group(view)
    return group if group.members else None


def _healthy_primary(view: View) -> Group | None:
    """The group when its primary answers and takes writes."""
    group = _group(view)
    if group is None or group.primary is None or not group.answers(group.primary.name):
        return None
    return None if group.facts(group.primary.name).read_only else group


def _finding(code: str, subject: Instance | str, sentence: str, **detail: str) -> Finding:
    return Finding(code, subject if isinstance(subject, str) else subject.name, sentence, detail)


def ill_for(view: View, name: str) -> float:
    """Seconds since it has been known not to be well; 0 when it is well."""
    seen = view.observed.instances.get(name)
    if seen is None or seen.health is Health.GOOD or seen.health_since is None:
        return 0.0
    return view.now - seen.health_since


def no_primary(view: View) -> list[Finding]:
    group = _group(view)
    if group is None or group.primary is not None:
        return []
    missing = group.missing_voters()
    text = f"there is no primary yet; waiting for {names(missing)}" if missing else "there is no primary yet"
    return [_finding("database-no-primary", KIND, text, missing=names(missing))]


def two_writable(view: View) -> list[Finding]:
    group = _group(view)
    if group is None or group.primary is None:
        return []
    return [
        _finding("database-two-writable", m, f"{m.name} takes writes beside the primary {group.primary.name}")
        for m in group.others
        if group.answers(m.name) and group.facts(m.name).read_only is False
    ]


def primary_lost(loss: Loss, sentence: str) -> Callable[[View], list[Finding]]:
    """A matcher for a primary that is lost in this way while every voter answers."""

    def matches(view: View) -> list[Finding]:
        group = _group(view)
        if group is None or group.primary is None or len(group.members) == 1:
            return []
        if group.loss() != loss or not group.voters or group.missing_voters():
            return []
        return [_finding(f"database-primary-{loss}", group.primary, sentence.format(group.primary.name))]

    return matches


def primary_unreachable(view: View) -> list[Finding]:
    group = _group(view)
    if group is None or group.primary is None or group.loss() != "only from here":
        return []
    facts = group.facts(group.primary.name)
    if facts.failure == "full":
        return []
    text = f"{group.primary.name} does not answer the controller ({facts.error}), but its replicas receive from it"
    return [_finding("database-primary-unreachable", group.primary, text)]


def promotion_refused(view: View) -> list[Finding]:
    group = _group(view)
    if group is None or group.primary is None or group.loss() not in ("dead", "frozen", "lost"):
        return []
    missing = group.missing_voters()
    if group.voters and not missing:
        return []
    name = group.primary.name
    why = (
        f"{names(missing)} may hold acknowledged writes and does not answer"
        if missing
        else "no replica has all of its writes"
    )
    return [
        _finding(
            "database-promotion-refused", group.primary, f"{name} is down and {why}", missing=names(missing)
        )
    ]


def primary_behind(view: View) -> list[Finding]:
    group = _group(view)
    if group is None or group.primary is None or not group.answers(group.primary.name):
        return []
    if not group.facts(group.primary.name).read_only or not group.primary_is_behind():
        return []
    text = f"{group.primary.name} came back with older data than it had"
    return [_finding("database-primary-behind", group.primary, text)]


def primary_cut_off(view: View) -> list[Finding]:
    """Its replicas cannot reach it and can be reached themselves: none of its writes completes. With one replica
    nothing is gained by a change, because that one would have nobody to acknowledge its writes either."""
    group = _healthy_primary(view)
    if group is None or group.primary is None or len(group.voters) < 2:
        return []
    connecting = [
        n
        for n in group.voters
        if group.answers(n)
        and group.facts(n).io_running in ("Connecting", "Preparing")
        and ill_for(view, n) > 2 * PATIENCE
    ]
    facts = group.facts(group.primary.name)
    # Where packets are lost the primary goes on counting replicas that are long gone; its writes tell.
    if len(connecting) < len(group.voters) or (
        facts.semi_sync_clients and facts.write_failing_for < PATIENCE
    ):
        return []
    text = f"no replica reaches {group.primary.name}; its writes wait"
    return [_finding("database-primary-cut-off", group.primary, text)]


def acknowledgements_lost(view: View) -> list[Finding]:
    """Its replicas have all that it wrote and follow, and its commits wait nevertheless: the acknowledgements were lost
    on the way, and a replica does not repeat them when it connects again."""
    group = _healthy_primary(view)
    if group is None or group.primary is None or group.missing_voters():
        return []
    facts = group.facts(group.primary.name)
    if facts.write_failure != "blocked" or not facts.semi_sync_waiting or facts.write_failing_for < PATIENCE:
        return []
    written = gtid.sequence(facts.gtid_binlog_pos)
    received = [n for n in group.voters if group.follows(n) and gtid.sequence(group.position(n)) >= written]
    if not received:
        return []
    text = (
        f"{names(received)} has all writes of {group.primary.name}, whose commits still wait to hear of that"
    )
    return [_finding("database-acknowledgements-lost", group.primary, text)]


def primary_read_only(view: View) -> list[Finding]:
    group = _group(view)
    if group is None or group.primary is None or not group.answers(group.primary.name):
        return []
    if not group.facts(group.primary.name).read_only or group.primary_is_behind():
        return []
    seen = view.observed.instances[group.primary.name]
    started = max((p.started or 0.0 for p in seen.processes), default=0.0)
    missing = group.missing_voters()
    if missing and view.now - started < PATIENCE:
        # After a power cut of everything: it has every acknowledged write, but better hear all before saying so.
        text = f"{group.primary.name} is back; waiting for {names(missing)}"
        return [_finding("database-primary-read-only", group.primary, text, waiting=names(missing))]
    return [
        _finding(
            "database-primary-read-only", group.primary, f"the primary {group.primary.name} is read-only"
        )
    ]


def semi_sync_off(view: View) -> list[Finding]:
    group = _healthy_primary(view)
    if group is None or group.primary is None or not replicated(view):
        return []
    if group.facts(group.primary.name).semi_sync_master is not False:
        return []
    return [
        _finding(
            "database-semi-sync-off", group.primary, f"{group.primary.name} does not wait for its replicas"
        )
    ]


def semi_sync_fallback(view: View) -> list[Finding]:
    group = _healthy_primary(view)
    if group is None or group.primary is None or not replicated(view):
        return []
    name = group.primary.name
    now, before = group.facts(name).semi_sync_no_tx, view.memory.baselines.get(counter(name))
    if now is None or now == before or (before is None and now == 0):
        return []
    if before is not None and now < before:
        return []  # a restart set it to zero; the next rise is one again
    text = f"{now - (before or 0)} transactions were committed on {name} without an acknowledgement"
    return [_finding("database-semi-sync-fallback", name, text, count=str(now))]


def replica_diverged(view: View) -> list[Finding]:
    group = _healthy_primary(view)
    if group is None or group.primary is None:
        return []
    found: list[Finding] = []
    for member in group.others:
        facts = group.facts(member.name)
        if facts.read_only is False:
            continue
        seen = view.observed.instances.get(member.name)
        errors = f"{facts.last_io_error} {facts.last_sql_error}"
        if group.diverged(member.name):
            text = f"{member.name} has transactions that are not in the history of {group.primary.name}"
        elif group.answers(member.name) and any(str(c) in errors for c in DIVERGED_ERRORS):
            text = f"{member.name} cannot go on from its data ({errors.strip()[:120]})"
        elif group.answers(member.name) and not facts.source and far_behind(view, member.name):
            text = f"{member.name} is new and empty"
        elif seen and not group.answers(member.name) and seen.restarts >= CRASHES:
            text = f"{member.name} does not start any more"
        else:
            continue
        found.append(_finding("database-replica-diverged", member, text))
    return found


def replica_lost(view: View) -> list[Finding]:
    group = _healthy_primary(view)
    if group is None or group.primary is None:
        return []
    ill = {f.subject for f in replica_diverged(view)}
    found: list[Finding] = []
    for member in group.others:
        name, facts = member.name, group.facts(member.name)
        if not group.answers(name) or name in ill or facts.read_only is False or group.follows(name):
            continue
        pointed = facts.source == group.endpoint(group.primary).address
        connecting = pointed and facts.sql_running and facts.io_running in ("Connecting", "Preparing")
        if connecting and ill_for(view, name) < 2 * PATIENCE:
            continue
        why = (
            facts.last_sql_error
            or facts.last_io_error
            or ("stopped" if pointed else "follows another or nobody")
        )
        found.append(
            _finding(
                "database-replica-lost", member, f"{name} does not follow {group.primary.name} ({why[:120]})"
            )
        )
    return found


def replica_down(view: View) -> list[Finding]:
    group = _group(view)
    if group is None or group.primary is None:
        return []
    return [
        _finding(
            "database-replica-down",
            m,
            f"{m.name} is down" if group.down(m.name) else f"{m.name} does not answer",
        )
        for m in group.others
        if not group.answers(m.name) and ill_for(view, m.name) > 0
    ]


def replica_lagging(view: View) -> list[Finding]:
    group = _healthy_primary(view)
    if group is None:
        return []
    return [
        _finding("database-replica-lagging", m, f"{m.name} is {group.facts(m.name).lag_seconds:.1f} s behind")
        for m in group.others
        if group.follows(m.name) and (group.facts(m.name).lag_seconds or 0.0) > m.probe.lag_limit
    ]


def too_few_acknowledge(view: View) -> list[Finding]:
    group = _healthy_primary(view)
    if group is None or group.primary is None or not replicated(view):
        return []
    facts = group.facts(group.primary.name)
    following = [m.name for m in group.others if group.follows(m.name)]
    clients = facts.semi_sync_clients
    if clients is None or facts.semi_sync_master is False or (clients > 0 and clients >= len(following)):
        return []
    if clients == 0:
        text = f"no replica acknowledges the writes of {group.primary.name}; they wait"
    else:
        text = f"{clients} of {len(following)} replicas acknowledge the writes of {group.primary.name}"
    return [_finding("database-too-few-acknowledge", group.primary, text, following=names(following))]


def writes_blocked(view: View) -> list[Finding]:
    group = _healthy_primary(view)
    if group is None or group.primary is None or too_few_acknowledge(view) or acknowledgements_lost(view):
        return []
    facts = group.facts(group.primary.name)
    if not facts.write_failure or facts.write_failure in ("read-only", "disk-full"):
        return []
    text = f"{group.primary.name} does not complete a write: {facts.write_error}"
    return [_finding("database-writes-blocked", group.primary, text)]


def disk_full(view: View) -> list[Finding]:
    group = Group(view)
    found: list[Finding] = []
    for member in group.members:
        facts = group.facts(member.name)
        texts = f"{facts.write_error} {facts.last_sql_error} {facts.last_io_error}"
        if facts.write_failure == "disk-full" or "No space left" in texts or "Errcode: 28" in texts:
            found.append(_finding("database-disk-full", member, f"the disk of {member.name} is full"))
    return found


def too_many_connections(view: View) -> list[Finding]:
    group = Group(view)
    found: list[Finding] = []
    for member in group.members:
        facts = group.facts(member.name)
        limit = facts.max_connections
        if facts.failure == "full" or (limit and (facts.connections or 0) >= limit * 0.9):
            text = f"{member.name} has {facts.connections or 'all'} of {limit or 'its'} connections in use"
            found.append(_finding("database-connections", member, text))
    return found


def stale_voter(view: View) -> list[Finding]:
    group = _healthy_primary(view)
    if group is None or group.primary is None:
        return []
    gone = [
        n
        for n in group.voters
        if (n not in view.topology.by_name and view.observed.state(n) in (State.MISSING, State.STOPPED))
        or (group.down(n) and ill_for(view, n) > PATIENCE)
    ]
    return [
        _finding("database-voter-gone", n, f"{n} is down; promotions need no longer wait for it")
        for n in gone
    ]


def everything_down(view: View) -> list[Finding]:
    group = _group(view)
    if group is None or group.primary is None or any(group.answers(m.name) for m in group.members):
        return []
    if not all(group.down(m.name) or ill_for(view, m.name) > 0 for m in group.members):
        return []
    return [_finding("database-down", KIND, "no database server answers")]


def counter(name: str) -> str:
    return f"{name}/semi_sync_no_tx"
