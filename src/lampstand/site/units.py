"""Durations, sizes, shares and rates: text with a unit in the site file, plain numbers in the code.

Validators raise `ValueError("what is wrong; how to mend it")`; `load` parts the two at the first `; `.
"""

import re
from itertools import pairwise
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from lampstand.site.base import shown

# Durations: `30s`, `5m`, `1h30m`, `1y` <-> seconds

_DURATION_UNITS: dict[str, float] = {
    "y": 31_536_000, "w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1, "ms": 0.001,
}  # fmt: skip
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[ywdhms])")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_DURATION_MEND = "write a number with a unit (ms, s, m, h, d, w, y), such as 30s, 5m or 1h30m"


def parse_duration(value: object) -> float:
    """Seconds of `30s`, `1h30m`, `500ms`, `1.5h`, `1y` (365 days). Parts go from large to small, each unit once."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(
            f"{value} has no unit; write {value}s for seconds, or another unit (ms, m, h, d, w, y)"
        )
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise ValueError(f"{shown(value)} is not a duration; {_DURATION_MEND}")
    parts = [(float(number), unit) for number, unit in _DURATION_PART.findall(value)]
    sizes = [_DURATION_UNITS[unit] for _, unit in parts]
    if any(a <= b for a, b in pairwise(sizes)):
        raise ValueError(
            f"the parts of {shown(value)} are out of order; write the largest unit first, such as 1h30m"
        )
    # Whole milliseconds: 0.1 + 0.2 must not show.
    return round(sum(number * _DURATION_UNITS[unit] for number, unit in parts), 3)


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back to the same number of milliseconds: 5400 -> `1h30m`."""
    rest = round(seconds * 1000)
    text = ""
    for unit, size in _DURATION_UNITS.items():
        # A week is 7d to most readers; `1w` is read but not written.
        if unit == "w":
            continue
        count, rest = divmod(rest, round(size * 1000))
        text += f"{count}{unit}" if count else ""
    return text or "0s"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^([0-9]+(\.[0-9]+)?(ms|[ywdhms]))+$",
            "title": "duration (30s, 5m, 1h30m)",
        }
    ),
]
"""Seconds; written with a unit."""


# Sizes: `128MB`, `10GiB` <-> bytes

_SIZE_UNITS: dict[str, int] = {
    "TiB": 2**40, "TB": 10**12, "GiB": 2**30, "GB": 10**9, "MiB": 2**20, "MB": 10**6, "KiB": 2**10, "kB": 10**3, "B": 1,
}  # fmt: skip
_SIZE_BY_NAME = {unit.lower(): size for unit, size in _SIZE_UNITS.items()}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)")
_SIZE_MEND = "write a number with a unit (kB, MB, GB, TB, or KiB, MiB, GiB, TiB), such as 128MB"


def parse_size(value: object) -> int:
    """Bytes of `128MB` (a thousand thousands) or `128MiB` (1024 × 1024); upper and lower case are the same."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"{value} has no unit; {_SIZE_MEND}")
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    unit = _SIZE_BY_NAME.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{shown(value)} is not a size; {_SIZE_MEND}")
    size = float(match[1]) * unit if "." in match[1] else int(match[1]) * unit
    if size != int(size):
        raise ValueError(f"{shown(value)} is not a whole number of bytes; {_SIZE_MEND}")
    return int(size)


def format_size(size: int) -> str:
    """The text with the largest unit that divides `size`: 128000000 -> `128MB`, 1048576 -> `1MiB`."""
    for unit, factor in _SIZE_UNITS.items():
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return "0B"


Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^[0-9]+(\.[0-9]+)? ?([kKmMgGtT][iI]?)?[bB]$",
            "title": "size (128MB, 1GiB)",
        }
    ),
]
"""Bytes; written with a unit."""


# Shares and rates

_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)%")
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)/(s|m|h)")


def parse_percent(value: object) -> float:
    """`10%` -> 0.1; between 0% and 100%."""
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) > 100:
        raise ValueError(
            f"{shown(value)} is not a share; write a percentage between 0% and 100%, such as 10%"
        )
    return round(float(match[1]) / 100, 8)


def format_percent(share: float) -> str:
    """0.1 -> `10%`."""
    return f"{round(share * 100, 6):.6f}".rstrip("0").rstrip(".") + "%"


def parse_rate(value: object) -> float:
    """`20/s` -> 20.0, `30/m` -> 0.5: events a second."""
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) == 0:
        raise ValueError(f"{shown(value)} is not a rate; write a number by s, m or h, such as 20/s or 300/m")
    return float(match[1]) / _DURATION_UNITS[match[2]]


def format_rate(rate: float) -> str:
    """The first of `N/s`, `N/m`, `N/h` that has a whole N; 0.5 -> `30/m`."""
    for unit in ("s", "m", "h"):
        number = rate * _DURATION_UNITS[unit]
        if abs(number - round(number)) < 1e-9 * max(1.0, number):
            return f"{round(number)}/{unit}"
    return f"{rate * 3600:.6f}".rstrip("0").rstrip(".") + "/h"


Percent = Annotated[
    float,
    BeforeValidator(parse_percent),
    PlainSerializer(format_percent, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?%$", "title": "share (10%)"}),
]
"""A share from 0 to 1; written as a percentage."""

Rate = Annotated[
    float,
    BeforeValidator(parse_rate),
    PlainSerializer(format_rate, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?/[smh]$", "title": "rate (20/s)"}),
]
"""Events a second; written as `20/s`, `300/m`, `1000/h`."""
