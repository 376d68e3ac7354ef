"""The promotion protocol of the database, explored exhaustively: every order of writes, faults and recovery steps.

Three servers; a few writes, kills and freezes; a controller that may die between any two of its steps and forgets all
but its memory. What MariaDB does is reduced to what the rules of docs/failover.md are about:

- a write is in the primary's binary log first, and acknowledged when one replica has received it;
- a replica has received more than it has applied, and loses what it has not applied when it follows somebody anew;
- a killed primary comes back with everything in its binary log, or, when it is deposed, without the end of it.

`explore` visits every reachable state and returns a shortest path to one that breaks a promise, or None. Leaving out a
rule must break one: the names of `RULES` are the mutations. Run `python -m spec.promotion` for the table.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

RULES = {
    "all-voters-answer": "promote only when every server that could have acknowledged answers (rule 2)",
    "fence-or-silence": "stop receiving everywhere before choosing (rule 3)",
    "most-received": "choose by what was received, not by what was applied (rule 4)",
    "drain-first": "a restarted replica applies what it had received before its relay log is thrown away (rule 4)",
    "joined-at": "a replica counts as a voter only from the primary's position at which it joined",
    "keep-unless-deposed": "only a deposed primary drops the end of its binary log when it starts (rule 5)",
    "remember-first": "the new primary is remembered before it takes writes",
    "close-sessions": "sessions that wait on a deposed primary end before it stops waiting (rule 6)",
}
SERVERS = (0, 1, 2)
NOBODY = -1


class Server(NamedTuple):
    """One MariaDB server. `log` is its history with what it has received; `applied` counts what is committed of it."""

    log: tuple[int, ...] = ()
    applied: int = 0
    alive: bool = True
    frozen: bool = False
    writable: bool = False
    source: int = NOBODY
    """Whom it receives from; NOBODY when its receiving thread is stopped."""

    @property
    def answers(self) -> bool:
        return self.alive and not self.frozen


class Controller(NamedTuple):
    """Where a recovery is, and what it found out; all of it is lost when the controller dies."""

    step: str = "idle"
    winner: int = NOBODY


class State(NamedTuple):
    servers: tuple[Server, ...]
    primary: int
    """Remembered; as `voters` and `deposed` it survives the controller."""
    voters: tuple[tuple[int, int], ...]
    """(server, length of the primary's log when it joined)."""
    deposed: frozenset[int]
    controller: Controller
    acknowledged: frozenset[int]
    writes: int
    kills: int
    freezes: int


@dataclass(frozen=True)
class Bounds:
    """How much may happen."""

    writes: int = 2
    kills: int = 2
    freezes: int = 1


def first(bounds: Bounds) -> State:
    """A healthy group: 0 is the primary, 1 and 2 follow it."""
    replica = Server(source=0)
    return State(
        (Server(writable=True), replica, replica), 0, ((1, 0), (2, 0)), frozenset(), Controller(), frozenset(),
        bounds.writes, bounds.kills, bounds.freezes,
    )  # fmt: skip


def broken_promise(state: State) -> str:
    """What the state breaks; empty when it keeps every promise."""
    primary = state.servers[state.primary]
    if primary.answers and primary.writable and not state.acknowledged <= set(primary.log):
        return "an acknowledged write is lost"
    for number in SERVERS:
        ghost = state.servers[number]
        acknowledges = any(s.source == number and s.answers for s in state.servers)
        if number != state.primary and ghost.writable and ghost.alive and acknowledges:
            return "two servers can acknowledge writes"
    return ""


def explore(without: str = "", bounds: Bounds | None = None) -> tuple[list[str] | None, int]:
    """The steps of a shortest way to a broken promise, or None; and the number of states visited."""
    begin = first(bounds or Bounds())
    came: dict[State, tuple[State, str] | None] = {begin: None}
    queue = deque([begin])
    while queue:
        state = queue.popleft()
        broken = broken_promise(state)
        if broken:
            return _way(came, state, broken), len(came)
        for name, following in moves(state, without):
            canonical = _canonical(following)
            if canonical not in came:
                came[canonical] = (state, name)
                queue.append(canonical)
    return None, len(came)


def _way(came: dict[State, tuple[State, str] | None], state: State, broken: str) -> list[str]:
    way = [broken]
    while (before := came[state]) is not None:
        state, name = before
        way.append(name)
    return way[::-1]


def _canonical(state: State) -> State:
    """1 and 2 begin alike: of two states that differ by their names, keep one."""
    one, two = state.servers[1][:-1], state.servers[2][:-1]
    if one < two:
        return state
    other = _renamed(state)
    return other if two < one else min(state, other, key=_order)


_SWAP = {0: 0, 1: 2, 2: 1, NOBODY: NOBODY}


def _renamed(state: State) -> State:
    zero, one, two = (
        s if s.source in (0, NOBODY) else s._replace(source=_SWAP[s.source]) for s in state.servers
    )
    return State(
        (zero, two, one),
        _SWAP[state.primary],
        tuple(sorted((_SWAP[n], at) for n, at in state.voters)),
        frozenset(_SWAP[n] for n in state.deposed),
        Controller(state.controller.step, _SWAP[state.controller.winner]),
        *state[5:],
    )


def _order(state: State) -> tuple[object, ...]:
    return (*state.servers, state.primary, state.voters, sorted(state.deposed), state.controller)


# -- what may happen -------------------------------------------------------------------------------------------------
def moves(state: State, without: str) -> Iterator[tuple[str, State]]:
    """Every next state, with a name for what happens."""
    for number in SERVERS:
        yield from _server(state, number)
        yield from _fault(state, number, without)
    yield from _recovery(state, without)
    if state.controller.step != "idle":
        yield "the controller is killed", state._replace(controller=Controller())
    else:
        yield from _mending(state, without)


def _with(state: State, number: int, **changes: object) -> State:
    servers = list(state.servers)
    servers[number] = servers[number]._replace(**changes)
    return state._replace(servers=tuple(servers))


def _server(state: State, number: int) -> Iterator[tuple[str, State]]:
    server = state.servers[number]
    if not server.answers:
        return
    if server.writable and state.writes:
        write = state.writes
        yield (
            f"write {write} on {number}",
            _with(state, number, log=(*server.log, write))._replace(writes=write - 1),
        )
    if server.source != NOBODY and state.servers[server.source].answers:
        source = state.servers[server.source]
        size = len(server.log)
        if len(source.log) > size and source.log[:size] == server.log:
            entry = source.log[size]
            after = _with(state, number, log=(*server.log, entry))
            if source.writable:
                after = _with(after, server.source, applied=max(source.applied, size + 1))
                after = after._replace(acknowledged=after.acknowledged | {entry})
            yield f"{number} receives {entry} from {server.source}", after
    if not server.writable and server.applied < len(server.log):
        yield f"{number} applies", _with(state, number, applied=server.applied + 1)


def _fault(state: State, number: int, without: str) -> Iterator[tuple[str, State]]:
    server = state.servers[number]
    if server.alive and state.kills:
        yield f"{number} is killed", _killed(state, number)._replace(kills=state.kills - 1)
    if server.answers and state.freezes:
        yield f"{number} freezes", _with(state, number, frozen=True)._replace(freezes=state.freezes - 1)
    if server.frozen:
        yield f"{number} thaws", _with(state, number, frozen=False)
    if not server.alive:
        yield f"{number} starts", _started(state, number, without)


def _killed(state: State, number: int) -> State:
    return _with(state, number, alive=False, frozen=False, writable=False, source=NOBODY)


def _started(state: State, number: int, without: str) -> State:
    """A deposed primary drops what InnoDB had not committed for sure, and so acknowledged writes among it; any other
    server commits all that its binary log has. A replica keeps what it has received and not applied."""
    server = state.servers[number]
    log = server.log
    if number in state.deposed or (without == "keep-unless-deposed" and number == state.primary):
        log = log[: max(0, server.applied - 1)]
    elif without == "drain-first" and number != state.primary:
        log = log[: server.applied]
    return _with(state, number, alive=True, log=log, applied=min(server.applied, len(log)))


# -- the controller --------------------------------------------------------------------------------------------------
def _recovery(state: State, without: str) -> Iterator[tuple[str, State]]:
    """One promotion, step by step. It may begin whenever the primary does not answer, and be wrong about its death."""
    step, winner = state.controller
    old = state.primary
    voters = [n for n, _ in state.voters]
    if step == "idle" and not state.servers[old].answers:
        yield "fence succeeds", _killed(state, old)._replace(controller=Controller("fenced"))
        if state.servers[old].alive:  # its death cannot be confirmed
            yield "fence fails", state._replace(controller=Controller("fenced"))
    elif step == "fenced":
        answering = [n for n in voters if state.servers[n].answers]
        if len(answering) == len(voters) or (without == "all-voters-answer" and answering):
            silent = state
            for number in answering if without != "fence-or-silence" else ():
                silent = _with(silent, number, source=NOBODY)
            yield "silence", silent._replace(controller=Controller("silent"))
        yield "refuse", state._replace(controller=Controller())
    elif step == "silent":
        yield from _choose(state, without)
    elif step == "chosen" and state.servers[winner].answers:
        applied = _with(state, winner, applied=len(state.servers[winner].log), source=NOBODY)
        if without == "remember-first":
            yield (
                f"open {winner}",
                _with(applied, winner, writable=True)._replace(controller=Controller("open", winner)),
            )
        else:
            yield f"promote {winner}", _remembered(applied, winner)
    elif step == "open":
        yield f"remember {winner}", _remembered(state, winner)


def _choose(state: State, without: str) -> Iterator[tuple[str, State]]:
    joined = dict(state.voters)
    candidates = [n for n in joined if state.servers[n].answers]
    if without != "all-voters-answer" and len(candidates) < len(joined):
        yield "refuse", state._replace(controller=Controller())
        return
    if without != "joined-at" and any(len(state.servers[n].log) < joined[n] for n in candidates):
        yield "refuse", state._replace(controller=Controller())
        return

    def rank(number: int) -> int:
        server = state.servers[number]
        return server.applied if without == "most-received" else len(server.log)

    for number in candidates:
        if rank(number) == max(rank(n) for n in candidates):
            yield f"choose {number}", state._replace(controller=Controller("chosen", number))


def _remembered(state: State, winner: int) -> State:
    deposed = (state.deposed | {state.primary}) - {winner}
    return state._replace(primary=winner, voters=(), deposed=deposed, controller=Controller())


def _mending(state: State, without: str) -> Iterator[tuple[str, State]]:
    """What an idle controller does about what it sees."""
    primary = state.servers[state.primary]
    if primary.answers and not primary.writable and primary.applied == len(primary.log):
        yield "open the primary", _with(state, state.primary, writable=True, source=NOBODY)
    for number in SERVERS:
        server = state.servers[number]
        if number == state.primary or not server.answers:
            continue
        if server.writable:
            yield from _depose(state, number, without)
        elif primary.answers and primary.writable and server.source != state.primary:
            yield from _follow(state, number)
    for number, _ in state.voters:
        if not state.servers[number].alive and primary.answers:
            size = len(primary.log)
            voters = tuple((n, size) for n, _ in state.voters if n != number)
            yield f"forget {number}", state._replace(voters=voters)


def _depose(state: State, number: int, without: str) -> Iterator[tuple[str, State]]:
    after = _with(state, number, writable=False)
    if without == "close-sessions":  # semi-sync is switched off, and what waits is confirmed
        server = state.servers[number]
        after = after._replace(acknowledged=after.acknowledged | set(server.log[server.applied :]))
    yield f"{number} is made read-only", after


def _follow(state: State, number: int) -> Iterator[tuple[str, State]]:
    primary, server = state.servers[state.primary], state.servers[number]
    log = server.log
    if primary.log[: len(log)] != log:  # diverged: it gets a copy
        log = primary.log
    voters = tuple(sorted({**dict(state.voters), number: len(primary.log)}.items()))
    after = _with(state, number, log=log, applied=len(log), source=state.primary)
    yield f"{number} follows {state.primary}", after._replace(voters=voters, deposed=state.deposed - {number})


def main() -> None:
    """Print what every rule is for."""
    way, states = explore()
    print(f"with all rules: {'; '.join(way) if way else 'no promise is broken'} ({states} states)")
    for rule, sentence in RULES.items():
        way, states = explore(rule)
        print(
            f"\nwithout {rule}: {sentence}\n  "
            + ("; ".join(way) if way else f"nothing breaks ({states} states)")
        )


if __name__ == "__main__":
    main()
