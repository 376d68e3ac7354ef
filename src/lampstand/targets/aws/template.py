"""The typed pieces of a CloudFormation template, and how they become its JSON.

Pure values. The names of resource types and properties are CloudFormation's own (its template reference), so
that a reader can look each one up; what is checked here is that every reference leads somewhere.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

Policy = Literal["Delete", "Retain", "Snapshot"]

BODY_LIMIT = 51_200
"""Bytes of a template that may travel in a request; larger ones must lie in S3 (CloudFormation quotas)."""
S3_LIMIT = 1_048_576
"""Bytes of a template in S3."""


@dataclass(frozen=True, slots=True)
class Ref:
    """`Ref`: a parameter, a pseudo parameter (`AWS::Region`), or the id of a resource."""

    name: str


@dataclass(frozen=True, slots=True)
class Att:
    """`Fn::GetAtt`: an attribute of a resource."""

    resource: str
    attribute: str


@dataclass(frozen=True, slots=True)
class Sub:
    """`Fn::Sub`: text with `${Name}` and `${Resource.Attribute}`; `values` adds names of its own."""

    text: str
    values: tuple[tuple[str, "Value"], ...] = ()


@dataclass(frozen=True, slots=True)
class Import:
    """`Fn::ImportValue`: an output that another stack of the site exports."""

    name: str


@dataclass(frozen=True, slots=True)
class Base64:
    """`Fn::Base64`."""

    of: "Value"


@dataclass(frozen=True, slots=True)
class Zone:
    """The n-th availability zone of the region (`Fn::Select` of `Fn::GetAZs`), counted from 0."""

    index: int


Intrinsic = Ref | Att | Sub | Import | Base64 | Zone
Value = None | bool | int | float | str | Intrinsic | Sequence["Value"] | Mapping[str, "Value"]
Properties = Mapping[str, Value]

REGION = Ref("AWS::Region")
ACCOUNT = Ref("AWS::AccountId")
STACK_NAME = Ref("AWS::StackName")


@dataclass(frozen=True)
class Resource:
    """One resource of a template."""

    type: str
    properties: Properties = field(default_factory=dict[str, Value])
    depends_on: tuple[str, ...] = ()
    keep: Policy | None = None
    """What becomes of it when it is removed or replaced: DeletionPolicy and UpdateReplacePolicy. None is
    CloudFormation's default: Delete for most types, but Snapshot for a database instance."""
    creation_policy: Properties | None = None
    update_policy: Properties | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Parameter:
    """A value that is given when the template is applied."""

    description: str
    default: str | None = None
    pattern: str | None = None
    type: str = "String"


@dataclass(frozen=True)
class Output:
    """A value of a stack that others read; exported under `export` when that is not empty."""

    value: Value
    description: str
    export: str = ""


@dataclass(frozen=True)
class Template:
    """One stack's worth of resources."""

    description: str
    resources: Mapping[str, Resource]
    parameters: Mapping[str, Parameter] = field(default_factory=dict[str, Parameter])
    outputs: Mapping[str, Output] = field(default_factory=dict[str, Output])

    def __post_init__(self) -> None:
        known = {*self.resources, *self.parameters}
        for name in self.references():
            if not name.startswith("AWS::") and name not in known:
                raise ValueError(f"{self.description}: nothing is called {name!r}")

    def references(self) -> Iterator[str]:
        """Every name that a resource or an output refers to."""
        for resource in self.resources.values():
            yield from resource.depends_on
            yield from _names(resource.properties)
            yield from _names(resource.creation_policy)
        for output in self.outputs.values():
            yield from _names(output.value)

    def imports(self) -> frozenset[str]:
        """The exports of other stacks that it needs."""
        found = (_imports(r.properties) for r in self.resources.values())
        return frozenset(name for names in found for name in names)

    def exports(self) -> frozenset[str]:
        """What it exports."""
        return frozenset(o.export for o in self.outputs.values() if o.export)

    def as_json(self) -> str:
        """The template as CloudFormation reads it; the same value gives the same bytes."""
        document: dict[str, Any] = {"AWSTemplateFormatVersion": "2010-09-09", "Description": self.description}
        if self.parameters:
            document["Parameters"] = {name: _parameter(p) for name, p in self.parameters.items()}
        document["Resources"] = {name: _resource(r) for name, r in self.resources.items()}
        if self.outputs:
            document["Outputs"] = {name: _output(o) for name, o in self.outputs.items()}
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def plain(value: Value) -> Any:  # noqa: ANN401 - JSON
    """The JSON of a value; keys whose value is None are left out."""
    match value:
        case Ref(name):
            return {"Ref": name}
        case Att(resource, attribute):
            return {"Fn::GetAtt": [resource, attribute]}
        case Sub(text, values):
            return {"Fn::Sub": [text, {k: plain(v) for k, v in values}] if values else text}
        case Import(name):
            return {"Fn::ImportValue": name}
        case Base64(of):
            return {"Fn::Base64": plain(of)}
        case Zone(index):
            return {"Fn::Select": [index, {"Fn::GetAZs": ""}]}
        case None | bool() | int() | float() | str():
            return value
        case _ if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items() if v is not None}
        case _:
            return [plain(v) for v in cast("Sequence[Value]", value)]


def tags(pairs: Mapping[str, str], **more: Value) -> tuple[Value, ...]:
    """`Tags` as most resource types take them."""
    return tuple({"Key": k, "Value": v} for k, v in {**pairs, **more}.items())


def merge(*parts: Mapping[str, Resource]) -> dict[str, Resource]:
    """Resources of several parts; the same name twice is an error."""
    result: dict[str, Resource] = {}
    for part in parts:
        for name, resource in part.items():
            if name in result:
                raise ValueError(f"two resources are called {name!r}")
            result[name] = resource
    return result


def _parameter(parameter: Parameter) -> dict[str, Any]:
    document: dict[str, Any] = {"Type": parameter.type, "Description": parameter.description}
    if parameter.default is not None:
        document["Default"] = parameter.default
    if parameter.pattern is not None:
        document["AllowedPattern"] = parameter.pattern
    return document


def _resource(resource: Resource) -> dict[str, Any]:
    document: dict[str, Any] = {"Type": resource.type}
    if resource.metadata:
        document["Metadata"] = dict(resource.metadata)
    if resource.depends_on:
        document["DependsOn"] = list(resource.depends_on)
    if resource.keep is not None:
        document["DeletionPolicy"] = resource.keep
        document["UpdateReplacePolicy"] = resource.keep
    if resource.creation_policy is not None:
        document["CreationPolicy"] = plain(resource.creation_policy)
    if resource.update_policy is not None:
        document["UpdatePolicy"] = plain(resource.update_policy)
    if resource.properties:
        document["Properties"] = plain(resource.properties)
    return document


def _output(output: Output) -> dict[str, Any]:
    document: dict[str, Any] = {"Description": output.description, "Value": plain(output.value)}
    if output.export:
        document["Export"] = {"Name": output.export}
    return document


def _walk(value: Value) -> Iterator[Value]:
    yield value
    children: Iterable[Value] = ()
    match value:
        case Sub(_, values):
            children = tuple(v for _, v in values)
        case Base64(of):
            children = (of,)
        case None | bool() | int() | float() | str() | Ref() | Att() | Import() | Zone():
            children = ()
        case _ if isinstance(value, Mapping):
            children = tuple(value.values())
        case _:
            children = cast("Sequence[Value]", value)
    for child in children:
        yield from _walk(child)


def _names(value: Value) -> Iterator[str]:
    for part in _walk(value):
        match part:
            case Ref(name):
                yield name
            case Att(resource, _):
                yield resource
            case Sub(text, values):
                own = {k for k, _ in values}
                yield from (n for n in _placeholders(text) if n not in own)
            case _:
                pass


def _imports(value: Value) -> Iterator[str]:
    yield from (part.name for part in _walk(value) if isinstance(part, Import))


def _placeholders(text: str) -> Iterator[str]:
    """Names in `${Name}` and `${Resource.Attribute}`; `${!Literal}` is none."""
    for piece in text.split("${")[1:]:
        name = piece.partition("}")[0]
        if not name.startswith("!"):
            yield name.partition(".")[0]
