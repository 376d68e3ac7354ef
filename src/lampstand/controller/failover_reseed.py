"""Replaces the data of a replica whose history is not the primary's, or whose server does not start any more."""

import time
from dataclasses import dataclass, field

from lampstand.controller.failover_group import Group
from lampstand.controller.failover_steps import follow, forget_voter, names, on
from lampstand.controller.problems import Hands, Step, View
from lampstand.errors import LampstandError
from lampstand.tiers.database import replication
from lampstand.tiers.database.connection import Link
from lampstand.tiers.database.gtid import by_server, contains, newest, parse, sequence
from lampstand.tiers.database.tier import PORT, data_path, role_file, seed_command, unacknowledged_command
from lampstand.topology import Instance

COPY_SECONDS = 6 * 3600.0
"""Limit for copying a whole server; the copy is cancelled after it and begun anew."""
DIVERGED_ERRORS = (1032, 1062, 1236, 1950)
"""Row to change not there, row to add there already, position not in the primary's logs, sequence out of order."""


@dataclass
class Reseed:
    """One replica gets the data of another server; the fields are filled step by step."""

    replica: Instance
    donor: Instance | None = None
    extra: list[str] = field(default_factory=list[str])
    kept: str = ""

    def steps(self) -> tuple[Step, ...]:
        """Confirm, keep what only it has, fence, clear, copy, start. Following the primary is another recovery's."""
        return (
            Step("confirm that its data cannot be used", 10.0, self.confirm),
            Step("keep what was never acknowledged", 300.0, self.keep),
            Step("stop it", 10.0, self.stop),
            Step("move its data aside", 10.0, self.clear),
            Step("copy a healthy server", COPY_SECONDS, self.copy),
            Step("start it", 30.0, self.start),
        )

    async def confirm(self, hands: Hands) -> None:
        """Look again, in the right order: first the replica, then the primary."""
        group = Group(hands.view)
        if group.primary is None or not group.answers(group.primary.name):
            raise LampstandError("there is no primary to compare with", self.replica.name)
        if not group.answers(self.replica.name):
            return
        status = await on(hands, self.replica, replication.replica_status)
        mine = await on(hands, self.replica, replication.history)
        history = await on(hands, group.primary, replication.history)
        errors = {status.get("Last_SQL_Errno"), status.get("Last_IO_Errno")} & set(DIVERGED_ERRORS)
        if contains(history, mine) and not errors and not far_behind(hands.view, self.replica.name):
            # Its data are good after all: following is enough.
            await follow(hands, self.replica, 3.0)
            raise LampstandError("its history is the primary's after all", self.replica.name)

    async def keep(self, hands: Hands) -> None:
        """Write the transactions that the primary's history lacks into a file in its data folder."""
        group = Group(hands.view)
        if group.primary is None or not group.answers(self.replica.name):
            return
        history = by_server(await on(hands, group.primary, replication.history))
        mine = parse(await on(hands, self.replica, replication.history))
        more = [g for g in mine if g.domain == 0 and g.sequence > history.get(g.server, 0)]
        if not more:
            return
        # From the last transaction that both have: of the same server, or the last one that it received.
        received = sequence(str(await on(hands, self.replica, _received) or ""))
        begin = max(received, *(history.get(g.server, 0) for g in more))
        logs = await on(hands, self.replica, replication.binary_logs)
        after = str(more[0]._replace(sequence=begin))
        await hands.run(self.replica, unacknowledged_command(self.replica, after, logs), deadline=250.0)
        self.extra = [f"{begin + 1} to {g}" for g in more]

    async def stop(self, hands: Hands) -> None:
        """Dead, and no longer one of those whose acknowledgement may stand for a write."""
        await hands.fence(self.replica)
        await forget_voter(hands, self.replica.name)

    async def clear(self, hands: Hands) -> None:
        """Its data are moved, never deleted before their copy is complete."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self.kept = await hands.clear_data(self.replica, f"data.diverged-{stamp}")
        if self.extra:
            hands.event(
                "database-unacknowledged", self.replica.name, "keep", "done", kept=self.kept, ids=self.extra
            )

    async def copy(self, hands: Hands) -> None:
        """From a replica; from the primary only where no replica is well."""
        group = Group(hands.view)
        well = [m for m in group.others if m != self.replica and group.follows(m.name)]
        donor = (well or [m for m in (group.primary,) if m and group.answers(m.name)] or [None])[0]
        if donor is None:
            raise LampstandError(
                "there is no server to copy from", self.replica.name, f"start {names(group.members)}"
            )
        state = await on(hands, donor, replication.history)
        hands.event("database-reseed", self.replica.name, "copy", "begin", donor=donor.name)
        # From the primary only while no replica acknowledges: its commits wait, for this copy in the end.
        command = seed_command(
            self.replica, donor.endpoint(PORT), data_path(donor), state, lock=donor != group.primary
        )
        await hands.run(self.replica, command, deadline=COPY_SECONDS)

    async def start(self, hands: Hands) -> None:
        """It comes up as a replica of nobody."""
        hands.write_live(self.replica, role_file(self.replica, deposed=False))
        await hands.start(self.replica)


def far_behind(view: View, name: str) -> bool:
    """Whether an empty server had better be copied than replay the whole history of the primary."""
    group = Group(view)
    if group.primary is None or not group.answers(name) or group.position(name):
        return False
    mine = newest(group.position(group.primary.name))
    return mine is not None and mine.sequence > REPLAY_LIMIT


REPLAY_LIMIT = 3000
"""Transactions that an empty server replays at most, about two seconds of work."""


def reseed_steps(view: View, name: str) -> tuple[Step, ...]:
    """The steps for one replica."""
    return Reseed(view.topology.by_name[name]).steps()


def _received(link: Link) -> object:
    return replication.value(link, "SELECT @@gtid_slave_pos")
