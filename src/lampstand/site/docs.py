"""The options of a site file as documents: the JSON Schema that editors complete from, and a page for people.

Everything comes from the models (`option` in `base`), so that there is no second place to keep right.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from ruamel.yaml import YAML

from lampstand.site.base import Model
from lampstand.site.model import Site
from lampstand.site.text import flow

Schema = dict[str, Any]
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Option:
    """One key of the site file."""

    path: Path
    """`NAME` stands for a name of the user's choice, `[]` for an entry of a list: `app`, `jobs`, `NAME`, `run`."""
    description: str
    kind: str
    """What may stand there, in words: `duration (30s, 5m, 1h30m)`, `whole number`, `php, python or perl`."""
    default: str
    """As it would be written; empty for sections, and where there is none."""
    example: str
    """YAML as it stands below the keys of `path` but the last."""
    beside: tuple[str, ...]
    """Examples of the other keys that its section cannot do without."""
    section: bool
    """It has options of its own."""

    @property
    def key(self) -> str:
        """`app.jobs.NAME.run`, `cdn.rules[].ttl`."""
        return ".".join(self.path).replace(".[]", "[]")

    @property
    def whole_example(self) -> str:
        """The example as a complete site file."""
        return _nested(self.path[:-1], "\n".join((*self.beside, self.example)))


@cache
def option_docs() -> tuple[Option, ...]:
    """Every option, in the order of the models, sections before what is in them."""
    schema = _schema()
    return tuple(_walk(schema, schema, ()))


def json_schema() -> Schema:
    """The published JSON Schema (draft 2020-12) of a site file and of its overlays.

    Wider than the models in two ways that the loader mends: `x-` keys, and null for a key that is not written.
    """
    schema = json.loads(json.dumps(_schema()))
    for section in (schema, *schema["$defs"].values()):
        section["patternProperties"] = {"^x-": {}}
        section.pop("title", None)
        for name, prop in section["properties"].items():
            prop["examples"] = [_value(prop.pop("example"))[name]]
            if "(" not in prop.get("title", ""):
                prop.pop("title", None)
            if "patternProperties" in prop:
                prop["additionalProperties"] = False
            section["properties"][name] = _or_null(prop)
    for name, model in _models().items():
        if model.shorthand and name in schema["$defs"]:
            section = schema["$defs"][name]
            schema["$defs"][name] = {"anyOf": [{"type": "string", "minLength": 1}, section]}
    words = {"type": "string", "enum": ["all", "none"]}
    schema["$defs"]["Query"] = {"anyOf": [words, schema["$defs"]["Query"]]}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Lampstand site file"}
    return {**head, **schema, "type": ["object", "null"]}


def json_schema_text() -> str:
    """The JSON Schema as it is published."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def markdown() -> str:
    """The page `docs/site-file.md`."""
    parts = [_HEAD]
    for option in option_docs():
        if len(option.path) == 1 and option.section:
            parts.append(f"## {option.key}\n\n{option.description}")
        elif len(option.path) == 1:
            parts.append(f"## {option.key}\n\n{_body(option)}")
        else:
            parts.append(f"### {option.key}\n\n{_body(option)}")
    return "\n\n".join(parts) + "\n"


_HEAD = """# The site file

`lampstand.yaml` describes a site. Every key has a default: an empty file beside an `index.php` is a complete site.
`lampstand.ENVIRONMENT.yaml` beside it is laid over it with `-e ENVIRONMENT`: mappings merge key by key, everything
else replaces, and `null` takes a key away. The file is YAML 1.2 (`yes` and `on` are text, `true` is true). Durations
and sizes always have a unit; `MB` is a million bytes, `MiB` is 1024 × 1024. Unknown keys are errors; keys that begin
with `x-` are yours. A command is a line as for `/bin/sh`, or a list of words; a shell runs only where the line needs
one.

Editors complete and check the file with `schema/lampstand.schema.json`; `lampstand config` prints what applies, with
defaults and what was found by itself; `lampstand config --docs` prints this page.

In the names below `NAME` is a name of your choice and `[]` an entry of a list. This page is generated from the
models."""


def _body(option: Option) -> str:
    default = f"; default `{option.default}`" if option.default and len(option.default) < 80 else ""
    facts = option.kind + default
    return f"{option.description}\n\nTakes: {facts}\n\n```yaml\n{option.whole_example}```"


def _nested(path: Path, text: str) -> str:
    """YAML `text` below the keys of `path`; `NAME` becomes `example`, `[]` an entry of a list."""
    for step in reversed(path):
        lines = text.splitlines()
        if step == "[]":
            text = "\n".join([f"- {lines[0]}", *(f"  {line}" for line in lines[1:])])
        else:
            text = "\n".join([f"{'example' if step == 'NAME' else step}:", *(f"  {line}" for line in lines)])
    return text + "\n"


@cache
def _schema() -> Schema:
    """pydantic's schema, with defaults as a user would write them."""
    schema = Site.model_json_schema()
    for name, section in (("Site", schema), *schema["$defs"].items()):
        model = _models()[name].model_construct()
        defaults = model.model_dump(mode="json", exclude_none=True)
        for key, prop in section["properties"].items():
            prop.pop("default", None)
            if "description" not in prop:  # pydantic leaves it out where the section says the same
                prop["description"] = schema["$defs"][_title(prop)]["description"]
            if key in defaults and "$ref" not in prop:
                prop["default"] = _short(getattr(model, key), defaults[key])
    return schema


def _short(value: object, written: object) -> object:
    """A default as a user would write it: entries of a list without what is default in them."""
    if not (isinstance(value, tuple) and value and isinstance(value[0], Model)):
        return written
    short: list[object] = []
    for entry in cast("tuple[Model, ...]", value):
        keys = entry.model_dump(mode="json", exclude_defaults=True)
        short.append(keys[entry.shorthand] if entry.shorthand and set(keys) == {entry.shorthand} else keys)
    return short


def _title(node: Schema) -> str:
    return str(node["$ref"]).rpartition("/")[2]


def _models() -> dict[str, type[Model]]:
    return {model.__name__: model for model in Model.__subclasses__()}


def _walk(schema: Schema, section: Schema, path: Path) -> Iterator[Option]:
    for name, prop in cast("dict[str, Schema]", section["properties"]).items():
        here = (*path, name)
        inner = dict(_sections(prop))
        beside = (section["properties"][key]["example"] for key in section.get("required", ()) if key != name)
        default = flow(prop["default"]) if prop.get("default") not in (None, [], {}) else ""
        yield Option(
            here,
            prop["description"],
            _kind(schema, prop),
            default,
            prop["example"],
            tuple(beside),
            bool(inner),
        )
        for title, step in inner.items():
            yield from _walk(schema, schema["$defs"][title], (*here, *step))


def _sections(node: Schema, step: Path = ()) -> Iterator[tuple[str, Path]]:
    """Titles of the sections in a property and the way to them; the longest way of each comes last."""
    if "$ref" in node:
        yield _title(node), step
    for branch in node.get("anyOf", ()):
        yield from _sections(branch, step)
    if "items" in node:
        yield from _sections(node["items"], (*step, "[]"))
    for pattern, value in node.get("patternProperties", {}).items():
        if pattern != "^x-":
            yield from _sections(value, (*step, "NAME"))


def _kind(schema: Schema, node: Schema) -> str:
    """What may stand there, in words."""
    if "$ref" in node:
        title = _title(node)
        return "text or mapping" if _models()[title].shorthand or title == "Query" else "mapping"
    if "(" in str(node.get("title", "")):
        return str(node["title"])
    if "anyOf" in node:
        branches = (branch for branch in node["anyOf"] if branch.get("type") != "null")
        first, *others = dict.fromkeys(_kind(schema, branch) for branch in branches)
        return first + "".join(
            ", or a list" if kind == f"list of: {first}" else f", or {kind}" for kind in others
        )
    if "enum" in node:
        *most, last = (str(choice) for choice in node["enum"])
        return f"{', '.join(most)} or {last}" if most else last
    kind = node["type"]
    if kind == "array":
        return f"list of: {_kind(schema, node['items'])}"
    if kind == "object":
        return "mapping"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    return words[kind] if isinstance(kind, str) else "text"


def _or_null(prop: Schema) -> Schema:
    """The property, or null: `key:` with nothing behind it, and an overlay that takes a key away."""
    about = {key: prop.pop(key) for key in ("title", "description", "default", "examples") if key in prop}
    branches = prop.pop("anyOf", None) or [prop]
    if {"type": "null"} not in branches:
        branches = [*branches, {"type": "null"}]
    return {**about, "anyOf": branches}


def _value(example: str) -> dict[str, Any]:
    yaml: Any = YAML(typ="safe", pure=True)
    return yaml.load(example)
