"""Renders the configuration templates that lie beside each tier's code."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined


@cache
def environment(room: str) -> Environment:
    """A Jinja environment over the `.j2` files of one tier's folder; an unknown variable is an error."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / room),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # configuration files, not HTML; quoting is by the filters each room adds
    )


def render(room: str, template: str, **variables: object) -> str:
    """The text of `template` of the tier `room`. Raises jinja2.UndefinedError for a missing variable."""
    return environment(room).get_template(template).render(**variables)


def add_filter(room: str, name: str, function: Callable[[str], str]) -> None:
    """Registers a quoting filter for the templates of one room."""
    # Jinja leaves the values of its table of filters open.
    filters = cast("dict[str, Callable[[str], str]]", environment(room).filters)  # pyright: ignore[reportUnknownMemberType]
    filters[name] = function
