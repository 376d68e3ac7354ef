"""The scheduler's decisions: when a job is due, what a sleep or a moved clock means. Pure, with given times."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lampstand.site.schedule import parse_schedule
from lampstand.tiers.web.scheduler import MISSED, Job, Scheduler, minutes_between, missed_or_due
from lampstand.tiers.web.tier import expand
from tests.web_support import paper_context

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LINES = [
    "* * * * *",
    "0 3 * * *",
    "*/5 8-18 * * mon-fri",
    "0 0 13 * 5",
    "30 4 1,15 * 5",
    "@weekly",
    "0 0 29 2 *",
]


def jobs(**schedules: str) -> dict[str, Job]:
    """Jobs as the scheduler reads them from the file that the tier renders."""
    app = {name: {"schedule": text, "run": "true"} for name, text in schedules.items()}
    instances = list(expand(paper_context({"app": {"jobs": app}})))
    text = next(f.content for f in instances[-1].files if f.path.endswith("jobs.json"))
    return {name: Job.read(name, value) for name, value in json.loads(text).items()}


@given(
    line=st.sampled_from(LINES),
    moment=st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_a_job_is_due_when_the_site_file_says_so(line: str, moment: datetime) -> None:
    assert jobs(job=line)["job"].due(moment) == parse_schedule(line).matches(moment)


def test_each_minute_is_looked_at_once() -> None:
    assert list(minutes_between(NOON, NOON + timedelta(seconds=59))) == []
    assert list(minutes_between(NOON, NOON + timedelta(seconds=60))) == [NOON + timedelta(minutes=1)]


def test_what_a_sleep_missed_runs_once_and_only_if_recent() -> None:
    every = jobs(often="*/10 * * * *", nightly="0 3 * * *")
    assert missed_or_due(every, NOON, NOON + timedelta(hours=2)) == [every["often"]]
    assert missed_or_due(every, NOON - timedelta(hours=10), NOON) == [every["often"]]  # 03:00 is too long ago
    morning = NOON.replace(hour=4)
    assert missed_or_due(every, morning - timedelta(hours=2), morning) == [every["often"], every["nightly"]]
    assert len(list(minutes_between(NOON - timedelta(days=900), NOON))) == MISSED // timedelta(minutes=1) + 1


def test_a_clock_that_goes_back_runs_nothing_twice(tmp_path: Path) -> None:
    scheduler = Scheduler(str(tmp_path / "none.json"))
    scheduler.last = NOON
    scheduler.cycle(set(), NOON - timedelta(minutes=30))
    assert scheduler.last == NOON
    scheduler.cycle(set(), NOON - timedelta(hours=30))
    assert scheduler.last == NOON - timedelta(hours=30)


def test_a_file_that_cannot_be_read_leaves_the_known_jobs(tmp_path: Path) -> None:
    path = tmp_path / "jobs.json"
    scheduler = Scheduler(str(path))
    scheduler.jobs = jobs(a="* * * * *")
    for broken in ("", "[1]", '{"b": {}}', '{"b": 3}'):
        path.write_text(broken)
        scheduler.load()
        assert list(scheduler.jobs) == ["a"]


def test_it_sleeps_to_the_next_minute() -> None:
    assert Scheduler("x").pause(59.5) == 0.5
    assert Scheduler("x").pause(60.0) == 60.0
