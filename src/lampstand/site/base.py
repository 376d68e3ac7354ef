"""What every section of a site file is made with: the model, the option, the shorthands."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, core_schema


class Model(BaseModel):
    """A section of the site file: immutable, unknown keys refused, keys that begin with `x-` left to the user."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shorthand: ClassVar[str | None] = None
    """The key that a plain text in place of the section stands for: `fra` for `{name: fra}`."""

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, data: Any) -> Any:  # noqa: ANN401 - whatever the file holds
        if cls.shorthand and isinstance(data, str):
            return {cls.shorthand: data}
        return without_extensions(data)


def without_extensions(data: object) -> object:
    """A mapping without its `x-` keys; anything else as it is."""
    if isinstance(data, Mapping):
        mapping = cast("Mapping[object, object]", data)
        return {k: v for k, v in mapping.items() if not (isinstance(k, str) and k.startswith("x-"))}
    return data


def option(default: Any, text: str, example: str, **constraints: Any) -> Any:  # noqa: ANN401 - as pydantic.Field
    """A key of a section: its default (or the class that makes it), what it is for, and one commented example.

    The example is YAML as it stands below the section's key. It is documentation, JSON Schema and test at once.
    """
    extra = {"example": example}
    if callable(default):
        return Field(
            default_factory=default, description=text, json_schema_extra=cast("Any", extra), **constraints
        )
    return Field(default=default, description=text, json_schema_extra=cast("Any", extra), **constraints)


@dataclass(frozen=True)
class OneOrMore:
    """Metadata of a tuple field: a single value may stand where the list is meant."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401
        return core_schema.no_info_before_validator_function(self._as_list, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        many = handler(schema)
        return {"anyOf": [many["items"], many]}

    @staticmethod
    def _as_list(value: object) -> object:
        return (cast("object", value),) if isinstance(value, str | Mapping) else value


@dataclass(frozen=True)
class Named:
    """Metadata of a mapping from names to sections: `x-` keys are left to the user here too."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401
        return core_schema.no_info_before_validator_function(without_extensions, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        many = handler(schema)
        own = {
            f"^(?!x-){pattern.removeprefix('^')}": value
            for pattern, value in many["patternProperties"].items()
        }
        return {**many, "patternProperties": {"^x-": {}, **own}}


def shown(value: object) -> str:
    """A value as an error message shows it: quoted, short, with control characters made visible."""
    if value is True or value is False:
        return str(value).lower()
    if isinstance(value, str):
        text = "".join(repr(c)[1:-1] if unicodedata.category(c)[0] in "CZ" and c != " " else c for c in value)
        return f"`{text[:57]}…`" if len(text) > 60 else f"`{text}`"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return str(value)
