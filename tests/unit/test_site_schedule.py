from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lampstand.site.schedule import parse_schedule

START = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)  # a Wednesday


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("* * * * *", "2026-03-04 05:07"),
        ("0 3 * * *", "2026-03-05 03:00"),
        ("*/15 * * * *", "2026-03-04 05:15"),
        ("5/20 * * * *", "2026-03-04 05:25"),
        ("0 8-18/2 * * mon-fri", "2026-03-04 08:00"),
        ("0 0 1 jan *", "2027-01-01 00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00"),
        ("0 0 * * sun", "2026-03-08 00:00"),
        ("0 0 * * 7", "2026-03-08 00:00"),
        ("0 0 13 * 5", "2026-03-06 00:00"),  # day and weekday restricted: either
        ("0 0 */2 * 5", "2026-03-13 00:00"),  # a star: both
        ("@hourly", "2026-03-04 06:00"),
        ("@daily", "2026-03-05 00:00"),
        ("@weekly", "2026-03-08 00:00"),
        ("@monthly", "2026-04-01 00:00"),
        ("@yearly", "2027-01-01 00:00"),
    ],
)
def test_the_next_time(text: str, first: str) -> None:
    schedule = parse_schedule(text)
    moment = schedule.after(START)
    assert moment.strftime("%Y-%m-%d %H:%M") == first
    assert schedule.matches(moment)
    assert moment.tzinfo is UTC


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds it
    st.sampled_from(["*/7 3,15 * * *", "30 */5 1-15 * *", "0 0 * * 1", "59 23 31 12 *"]),
)
def test_no_time_is_left_out(moment: datetime, text: str) -> None:
    schedule = parse_schedule(text)
    following = schedule.after(moment)
    assert following > moment
    probe = moment.replace(second=0, microsecond=0)
    for _ in range(200):
        probe += timedelta(minutes=1)
        assert schedule.matches(probe) == (probe == following) or probe > following


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is not a schedule"),
        ("0 3 * *", "is not a schedule"),
        ("@reboot", "is not a schedule"),
        ("60 * * * *", "`60` is not a minute; it goes from 0 to 59"),
        ("* 24 * * *", "`24` is not a hour"),
        ("* * 0 * *", "`0` is not a day"),
        ("* * * foo *", "`foo` is not a month"),
        ("* * * * 8", "`8` is not a weekday"),
        ("5-1 * * * *", "is an empty range"),
        ("*/0 * * * *", "is an empty range"),
        ("a,,b * * * *", "is not a minute"),
        ("0 0 31 2 *", "never comes"),
        ("; rm -rf / x", "is not a minute"),
    ],
)
def test_what_is_no_schedule(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse_schedule(text)
