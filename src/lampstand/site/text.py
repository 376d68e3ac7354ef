"""Writing YAML: scalars that read back as the same text, and whole trees."""

import re
from collections.abc import Iterator, Mapping
from typing import cast

# What stays as it is: begins and ends with a character that means nothing in YAML, and holds no `: `, ` #` or
# flow punctuation. Everything else is quoted, which is always right.
_PLAIN = re.compile(r"[A-Za-z_/.][\w ./@%+=~^-]*(?::[\w./@%+=~^-]+[\w ./@%+=~^-]*)*", re.ASCII)
# Durations, sizes, shares, rates and addresses: they begin with a digit and are no number to any reader.
_MEASURE = re.compile(
    r"(?:\d+(?:ms|[ywdhms]))+|\d+(?:[kMGT]i?)?B|\d+(?:\.\d+)?(?:%|/[smh])|\d+\.\d+\.\d+\.\d+(?:/\d+)?",
    re.ASCII,
)
_NOT_TEXT = re.compile(r"(?i:null|true|false|yes|no|on|off|y|n)|[-+]?\.?[0-9].*|\.(?i:inf|nan)|\.+|---.*|.* ")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}


def scalar(value: object) -> str:
    """One line of YAML that every reader, of YAML 1.1 too, reads back as `value` (text, number, boolean, None)."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return str(value)
    if _MEASURE.fullmatch(value) or (_PLAIN.fullmatch(value) and not _NOT_TEXT.fullmatch(value)):
        return value
    return '"' + "".join(_escape(c) for c in value) + '"'


def dump(value: object) -> str:
    """A tree of mappings, lists and scalars as YAML in block style, keys in their order."""
    if isinstance(value, Mapping | list | tuple) and value:
        return "\n".join(_lines(cast("object", value))) + "\n"
    return flow(cast("object", value)) + "\n"


def _escape(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    # Lone surrogates cannot be written in UTF-8; the byte-order mark and the line separators are not safe as they are.
    if char.isprintable() and char != "\ufeff":
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _lines(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in cast("Mapping[str, object]", value).items():
            if _is_block(item):
                yield f"{scalar(key)}:"
                yield from (f"  {line}" for line in _lines(item))
            else:
                yield f"{scalar(key)}: {flow(item)}"
    else:
        for item in cast("list[object]", value):
            if _is_block(item):
                first, *rest = _lines(item)
                yield f"- {first}"
                yield from (f"  {line}" for line in rest)
            else:
                yield f"- {flow(item)}"


def _is_block(value: object) -> bool:
    """Lists of scalars stay on their line, all else that is not empty gets lines of its own."""
    if isinstance(value, Mapping):
        return bool(cast("object", value))
    if isinstance(value, list | tuple):
        return any(isinstance(item, Mapping | list | tuple) for item in cast("list[object]", value))
    return False


def flow(value: object) -> str:
    """A tree in one line: `{edges: [fra, iad]}`."""
    if isinstance(value, Mapping):
        entries = cast("Mapping[str, object]", value).items()
        return "{" + ", ".join(f"{scalar(key)}: {flow(item)}" for key, item in entries) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item) for item in cast("list[object]", value)) + "]"
    return scalar(value)
