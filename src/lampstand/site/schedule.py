"""Times of scheduled jobs: five fields of cron, in UTC."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lampstand.site.base import shown

_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("weekday", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)
_PART = re.compile(r"(?:(\*)|(\w+)(?:-(\w+))?)(?:/(\d{1,4}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The minutes at which a job runs, as crontab(5) defines them."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    """Day and weekday are both restricted: either one is enough (crontab(5))."""

    def matches(self, moment: datetime) -> bool:
        """Whether the job runs in the minute of `moment` (an aware datetime)."""
        moment = moment.astimezone(UTC)
        return (
            moment.minute in self.minutes
            and moment.hour in self.hours
            and self._matches_date(moment)
        )  # fmt: skip

    def after(self, moment: datetime) -> datetime:
        """The first minute later than `moment` (aware), in UTC. Raises ValueError where there is none in 8 years."""
        moment = moment.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        # 8 years: 29 February can be that far apart (1896 to 1904; 2096 to 2104).
        limit = moment + timedelta(days=8 * 366)
        while moment < limit:
            if not self._matches_date(moment):
                moment = moment.replace(hour=0, minute=0) + timedelta(days=1)
            elif moment.hour not in self.hours:
                moment = moment.replace(minute=0) + timedelta(hours=1)
            elif moment.minute not in self.minutes:
                moment += timedelta(minutes=1)
            else:
                return moment
        raise ValueError("the schedule never comes; check its day and month")

    def _matches_date(self, moment: datetime) -> bool:
        if moment.month not in self.months:
            return False
        day, weekday = moment.day in self.days, moment.isoweekday() % 7 in self.weekdays
        return day or weekday if self.either_day else day and weekday


def parse_schedule(text: str) -> Schedule:
    """The Schedule of `0 3 * * *`, `*/5 8-18 * * mon-fri` or `@daily`. Raises ValueError with a mend."""
    fields = _MACROS.get(text.strip().lower(), text).split()
    if len(fields) != len(_FIELDS):
        raise ValueError(
            f"{shown(text)} is not a schedule; write five fields (minute hour day month weekday), such as "
            '"0 3 * * *" for 03:00 every day, or @hourly, @daily, @weekly, @monthly'
        )
    sets = [
        _field(text, name, low, high, words)
        for text, (name, low, high, words) in zip(fields, _FIELDS, strict=True)
    ]
    weekdays = frozenset(day % 7 for day in sets[4])
    # As cron does: a field that begins with a star counts as not restricted.
    either = not fields[2].startswith("*") and not fields[4].startswith("*")
    schedule = Schedule(sets[0], sets[1], sets[2], sets[3], weekdays, either)
    schedule.after(datetime(2024, 1, 1, tzinfo=UTC))
    return schedule


def check_schedule(text: str) -> str:
    """The text, when it is a schedule."""
    parse_schedule(text)
    return text.strip()


def _field(text: str, name: str, low: int, high: int, words: dict[str, int]) -> frozenset[int]:
    chosen: set[int] = set()
    for part in text.lower().split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{shown(part)} is not a {name}; write a number, a range such as 1-5, * or */10")
        star, first, last, step = match.groups()
        start = low if star else _number(first, name, low, high, words)
        # `5/10` means from 5 on, every 10; without a step a single number is itself.
        end = high if star or (step and not last) else _number(last or first, name, low, high, words)
        if start > end or (step and not int(step)):
            raise ValueError(f"{shown(part)} is an empty range of {name}s; write the smaller number first")
        chosen.update(range(start, end + 1, int(step or 1)))
    return frozenset(chosen)


def _number(text: str, name: str, low: int, high: int, words: dict[str, int]) -> int:
    number = words.get(text, int(text) if text.isdecimal() and len(text) < 5 else -1)
    if not low <= number <= high:
        raise ValueError(f"{shown(text)} is not a {name}; it goes from {low} to {high}")
    return number
