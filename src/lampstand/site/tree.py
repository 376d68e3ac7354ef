"""YAML 1.2 as a tree whose every key and value knows its file, line and column.

Only the core schema of YAML 1.2 (section 10.3.2) is understood: `yes`, `010` and `12:30` are text, ten and text, and
nothing in a file can make an object. Aliases and merge keys work.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from lampstand.errors import Finding, SiteFileError

Path = tuple[str | int, ...]
"""Keys and list positions from the top of the file."""

NODE_LIMIT = 100_000
"""Values in one file, aliases expanded; a file that reaches it was made to hurt."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file; `line` and `column` count from 1."""

    file: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Node:
    """A value, where it stands, and where its key stands. Mappings and lists hold Nodes."""

    value: "dict[str, Node] | list[Node] | str | int | float | bool | None"
    mark: Mark
    key: Mark | None = None

    def plain(self) -> object:
        """The value as Python's own types, without the keys whose value is null: they count as not written."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items() if node.value is not None}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def deepest(self, path: Sequence[str | int]) -> "tuple[Path, Node]":
        """The last Node on the way to `path`, and how far that way goes."""
        node: Node = self
        done = 0
        for step in path:
            value = node.value
            if isinstance(value, dict) and isinstance(step, str) and step in value:  # noqa: SIM114 - other types
                node = value[step]
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                node = value[step]
            else:
                break
            done += 1
        return tuple(path[:done]), node


class WrittenInt(int):
    """A whole number that remembers how it was written (`010`), for where text is meant."""

    text: str


class WrittenFloat(float):
    """A number that remembers how it was written (`1.10`), for where text is meant."""

    text: str


def merge(base: Node, over: Node) -> Node:
    """`base` with what `over` says: mappings merge key by key, all else is replaced; null takes a key away."""
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    merged = dict(base.value)
    for key, node in over.value.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    return replace(base, value=merged)


def parse(text: str, file: str) -> tuple[Node, list[Finding]]:
    """The tree of one document, and what is wrong with it short of its syntax (keys written twice, unknown tags).

    An empty file is an empty mapping. Raises SiteFileError where the syntax is wrong.
    """
    yaml: Any = YAML(typ="safe", pure=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an anchor used twice: the later one counts, as YAML says
            top = yaml.compose(text)
    except MarkedYAMLError as error:
        raise SiteFileError([_syntax_finding(error, file)]) from None
    except (YAMLError, ValueError) as error:
        raise SiteFileError([_character_finding(error, text, file)]) from None
    except RecursionError:
        raise SiteFileError([Finding("the file is nested too deeply", file)]) from None
    if top is None:
        return Node({}, Mark(file, 1, 1)), []
    reader = _Reader(file)
    return reader.node(top), reader.findings


class _Reader:
    """Turns ruamel's nodes into ours."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.findings: list[Finding] = []
        self.open: set[int] = set()
        self.count = 0

    def node(self, raw: Any, path: Path = (), key: Mark | None = None) -> Node:  # noqa: ANN401 - ruamel has no types
        mark = self.mark(raw)
        self.count += 1
        if self.count > NODE_LIMIT:
            raise SiteFileError([self.finding(f"the file has more than {NODE_LIMIT} values", mark, path)])
        if id(raw) in self.open:
            raise SiteFileError([self.finding("the alias contains itself", mark, path)])
        if not str(raw.tag).startswith("tag:yaml.org,2002:"):
            self.findings.append(
                self.finding(
                    f"the tag `{raw.tag}` means nothing here", mark, path, "remove it, or quote the value"
                )
            )
        self.open.add(id(raw))
        try:
            if raw.id == "mapping":
                return Node(dict(self.entries(raw, path)), mark, key)
            if raw.id == "sequence":
                return Node([self.node(item, (*path, i)) for i, item in enumerate(raw.value)], mark, key)
            return Node(_scalar(raw), mark, key)
        finally:
            self.open.discard(id(raw))

    def entries(self, raw: Any, path: Path) -> Iterator[tuple[str, Node]]:  # noqa: ANN401
        """Keys and Nodes of a mapping; what is merged in with `<<` comes first, so that own keys win."""
        seen: dict[str, Mark] = {}
        for key, value in raw.value:
            if str(key.tag).endswith(":merge"):
                yield from self.merged(value, path)
        for key, value in raw.value:
            if str(key.tag).endswith(":merge"):
                continue
            mark = self.mark(key)
            if key.id != "scalar" or not key.value:
                self.findings.append(
                    self.finding("a key is no text", mark, path, "write a name before the colon")
                )
                continue
            name = str(key.value)
            if name in seen:
                what = f"the key is written twice; the first time in line {seen[name].line}"
                self.findings.append(self.finding(what, mark, (*path, name), "keep one of them"))
            seen.setdefault(name, mark)
            yield name, self.node(value, (*path, name), mark)

    def merged(self, value: Any, path: Path) -> Iterator[tuple[str, Node]]:  # noqa: ANN401
        if value.id == "sequence":
            # The first of a list of mappings wins.
            for item in reversed(value.value):
                yield from self.merged(item, path)
            return
        node = self.node(value, path)
        if isinstance(node.value, dict):
            yield from node.value.items()
        else:
            self.findings.append(self.finding("`<<` merges mappings only", node.mark, path))

    def mark(self, raw: Any) -> Mark:  # noqa: ANN401
        return Mark(self.file, raw.start_mark.line + 1, raw.start_mark.column + 1)

    def finding(self, what: str, mark: Mark, path: Path, mend: str | None = None) -> Finding:
        return Finding(what, mark.file, mark.line, mark.column, key_path(path), mend)


_INT = re.compile(r"[-+]?[0-9]{1,18}|0o[0-7]{1,18}|0x[0-9a-fA-F]{1,15}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?")
_WORDS: Mapping[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


def _scalar(raw: Any) -> str | int | float | bool | None:  # noqa: ANN401
    """The value of a scalar by the core schema; a quoted or tagged one is text."""
    text = str(raw.value)
    if raw.style or str(raw.tag).endswith(":str"):
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        whole = WrittenInt(text, 0 if text[:2] in ("0o", "0x") else 10)
        whole.text = text
        return int(whole) if str(int(whole)) == text else whole
    if _FLOAT.fullmatch(text):
        number = WrittenFloat(text)
        number.text = text
        return number
    return text


def key_path(path: Sequence[str | int]) -> str:
    """`cdn.rules[0].ttl`: how a path is written in messages; a key that is no plain word is quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[\w-]+", step):
            text += f".{step}" if text else step
        else:
            text += f"[{step!r}]"
    return text


_SYNTAX_MENDS: tuple[tuple[str, str], ...] = (
    ("'\\t'", "indent with spaces"),
    ("undefined alias", 'quote a value that begins with `*`: match: "*.css"'),
    (
        "expected alphabetic or numeric character",
        'quote a value that begins with `*` or `&`: schedule: "* * * * *"',
    ),
    ("cannot start any token", "quote the value"),
    ("mapping values are not allowed", "check the indentation, and quote a value that contains `: `"),
    ("unexpected end of stream", "close the quote"),
    ("expected ',' or ']'", "close the list with `]`"),
    ("expected ',' or '}'", "close the mapping with `}`"),
    ("another document", "keep one document; remove the line `---`"),
    ("could not find expected ':'", "write a colon and a space behind the key"),
    ("expected <block end>", "check the indentation"),
)


def _syntax_finding(error: Any, file: str) -> Finding:  # noqa: ANN401 - ruamel has no types
    problem = str(error.problem or error.context or "malformed").removeprefix("but ")
    mark: Any = error.problem_mark or error.context_mark
    if "end of stream" in problem or "<stream end>" in problem:
        mark = error.context_mark or mark  # where it was opened, not the end of the file
    mend = next((mend for sign, mend in _SYNTAX_MENDS if sign in problem), None)
    what = f"this is not YAML: {problem}" if "alias" not in problem else f"this is not a value: {problem}"
    return Finding(what, file, mark.line + 1, mark.column + 1, "", mend) if mark else Finding(what, file)


def _character_finding(error: Exception, text: str, file: str) -> Finding:
    """ruamel gives a position only; find the line of the first character that YAML does not allow."""
    for line, content in enumerate(text.split("\n"), 1):
        match = re.search("[^\t\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", content)
        if match:
            what = f"the character U+{ord(match[0]):04X} is not allowed"
            return Finding(
                what, file, line, match.start() + 1, "", "remove it, or write it as an escape in quotes"
            )
    return Finding(f"this is not YAML: {str(error).splitlines()[0]}", file)
