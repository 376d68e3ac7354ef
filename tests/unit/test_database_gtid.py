"""Global transaction ids: which history goes through which position."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lampstand.tiers.database.gtid import Gtid, by_server, contains, newest, parse, sequence


def test_positions_are_read_as_mariadb_prints_them() -> None:
    assert parse("0-1-50,1-2-3") == (Gtid(0, 1, 50), Gtid(1, 2, 3))
    assert parse("0-1-50,\n0-2-60\n") == (Gtid(0, 1, 50), Gtid(0, 2, 60))
    assert parse("") == ()
    with pytest.raises(ValueError):
        parse("0-1")


def test_only_domain_0_counts() -> None:
    assert sequence("0-1-50", "7-1-900", "") == 50
    assert newest("", "0-1-50", "0-2-60", "7-1-900") == Gtid(0, 2, 60)
    assert newest("") is None
    assert by_server("0-1-50,0-2-60,7-9-1") == {1: 50, 2: 60}


@pytest.mark.parametrize(
    ("state", "position", "expected"),
    [
        ("0-1-100,0-2-105", "", True),
        ("0-1-100,0-2-105", "0-1-99", True),
        ("0-1-100,0-2-105", "0-1-100", True),
        ("0-1-100,0-2-105", "0-1-101", False),  # written by the old primary, beyond the promotion
        ("0-1-100,0-2-105", "0-3-1", False),
        ("", "0-1-1", False),
    ],
)
def test_a_history_goes_through_a_position(state: str, position: str, expected: bool) -> None:
    assert contains(state, position) is expected


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=12), st.data())
def test_a_history_contains_all_of_its_own_past(runs: list[tuple[int, int]], data: st.DataObject) -> None:
    past: list[Gtid] = []
    for server, length in runs:
        begin = len(past) + 1
        past.extend(Gtid(0, server, begin + n) for n in range(length))
    state = ",".join(
        str(Gtid(0, s, max(g.sequence for g in past if g.server == s))) for s in {g.server for g in past}
    )
    assert contains(state, str(data.draw(st.sampled_from(past))))
    assert not contains(state, str(past[-1]._replace(sequence=len(past) + 1)))
