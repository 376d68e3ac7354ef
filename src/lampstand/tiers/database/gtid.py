"""Global transaction ids as MariaDB prints them: `domain-server-sequence`, several joined by commas. Pure.

A site uses one domain (0). Within it every server's history is a line along which sequence numbers grow (strict mode).
"""

from collections.abc import Mapping
from typing import NamedTuple


class Gtid(NamedTuple):
    """One transaction."""

    domain: int
    server: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.domain}-{self.server}-{self.sequence}"


def parse(text: str) -> tuple[Gtid, ...]:
    """Every id in a position or state. Raises ValueError for anything else."""
    ids: list[Gtid] = []
    for part in text.replace("\n", "").split(","):
        if part.strip():
            domain, server, sequence = part.strip().split("-")
            ids.append(Gtid(int(domain), int(server), int(sequence)))
    return tuple(ids)


def sequence(*positions: str) -> int:
    """The highest sequence number in domain 0 of any of these positions; 0 when they are empty."""
    return max((g.sequence for position in positions for g in parse(position) if g.domain == 0), default=0)


def newest(*positions: str) -> Gtid | None:
    """The transaction of domain 0 with the highest sequence number, None when there is none."""
    return max(
        (g for position in positions for g in parse(position) if g.domain == 0),
        key=lambda g: g.sequence,
        default=None,
    )


def by_server(state: str) -> Mapping[int, int]:
    """Server id -> highest sequence number that it wrote, from a `gtid_binlog_state`, in domain 0."""
    return {g.server: g.sequence for g in parse(state) if g.domain == 0}


def contains(state: str, position: str) -> bool:
    """Whether the history whose `gtid_binlog_state` this is goes through `position`.

    A transaction belongs to it when the server that wrote it wrote at least so far in this history: what a deposed
    primary wrote beyond the promotion has a higher number than that server has in the successor's history.
    """
    known = by_server(state)
    return all(g.sequence <= known.get(g.server, 0) for g in parse(position) if g.domain == 0)
