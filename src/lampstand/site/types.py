"""The kinds of text and numbers a site file holds, each with the sentence that helps whoever got one wrong.

Validators raise `ValueError("what is wrong; how to mend it")`; `load` parts the two at the first `; `. Nothing here
reads the disk.
"""

import ipaddress
import re
import shlex
import unicodedata
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    Strict,
    StringConstraints,
    WithJsonSchema,
)

from lampstand.site.base import shown


def _shape(title: str, pattern: str, **more: object) -> WithJsonSchema:
    """The JSON Schema of a kind of text; the title is also what error messages and the documents call it."""
    return WithJsonSchema({"type": "string", "title": title, "pattern": pattern, **more})


# Names

_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
NAME_LIMIT = 40
"""Characters of a name; a DNS label has 63 (RFC 1035), and `-database-12` and the like must still fit behind."""


def slug(text: str) -> str:
    """The DNS label nearest to `text`: `Müller's Shop!` -> `muller-s-shop`; empty where nothing is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).lstrip("-0123456789")[:NAME_LIMIT].strip("-")


def check_name(value: str) -> str:
    """A DNS label (RFC 1035): it becomes part of server names, folders, containers and host names."""
    if _LABEL.fullmatch(value) and len(value) <= NAME_LIMIT:
        return value
    near = slug(value)
    rule = f"use at most {NAME_LIMIT} lower-case letters, digits and hyphens, beginning with a letter"
    raise ValueError(
        f"{shown(value)} cannot be a name; " + (f"did you mean `{near}`? ({rule})" if near else rule)
    )


Name = Annotated[
    str,
    AfterValidator(check_name),
    _shape(
        "name (lower-case letters, digits, hyphens)", r"^[a-z]([a-z0-9-]*[a-z0-9])?$", maxLength=NAME_LIMIT
    ),
]
"""A DNS label of at most 40 characters."""


def check_variable(value: str) -> str:
    """The name of an environment variable, as POSIX shells accept it."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise ValueError(
            f"{shown(value)} cannot be an environment variable; use letters, digits and underscores"
        )
    return value


Variable = Annotated[
    str,
    AfterValidator(check_variable),
    _shape("name of a variable (APP_ENV)", r"^[A-Za-z_][A-Za-z0-9_]*$"),
]


def check_header(value: str) -> str:
    """A header's name is a token (RFC 9110 section 5.6.2)."""
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value):
        raise ValueError(f"{shown(value)} cannot be the name of a header; use letters, digits and hyphens")
    return value


HeaderName = Annotated[
    str, AfterValidator(check_header), _shape("name of a header (X-Frame-Options)", "^[!-9;-~]+$")
]


# Text


def check_line(value: str) -> str:
    """One line: a line break or NUL in a value would end the directive of an engine that it is written into."""
    if any(unicodedata.category(c) == "Cc" and c != "\t" for c in value):
        raise ValueError(f"{shown(value)} has a line break or a control character; write it in one line")
    return value


Line = Annotated[str, AfterValidator(check_line)]
"""Text without line breaks and control characters."""


def parse_text(value: object) -> object:
    """A number or true/false where text is meant, as the file spells it (`010` stays `010`)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return getattr(value, "text", str(value))
    return value


Text = Annotated[
    str,
    BeforeValidator(parse_text),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
"""Any text; numbers and booleans count as the text they are written with."""

TextLine = Annotated[
    Line,
    BeforeValidator(parse_text),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]


# Numbers

Flag = Annotated[bool, Strict()]
"""true or false, nothing that looks like it."""
Count = Annotated[int, Strict(), Field(ge=0, le=10_000)]
Positive = Annotated[int, Strict(), Field(ge=1, le=1_000_000)]
Port = Annotated[int, Strict(), Field(ge=1, le=65_535)]


# Paths and patterns


def check_folder(value: str) -> str:
    """A path inside the application, `/`-separated, without `..`; normalised (`./a//b/` -> `a/b`, `.` -> `.`)."""
    check_line(value)
    if value.startswith(("/", "~")) or re.match(r"[A-Za-z]:[\\/]", value):
        raise ValueError(
            f"{shown(value)} is an absolute path; write it relative to the folder of the application"
        )
    parts = [part for part in value.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError(f"{shown(value)} may lead out of the application; write a path without `..`")
    return "/".join(parts) or "."


Inside = Annotated[
    str, AfterValidator(check_folder), _shape("path in the application (storage/uploads)", "^[^/~]")
]
"""A path relative to the folder of the application, that does not lead out of it."""


def check_url_path(value: str) -> str:
    """The path of a URL, percent-encoded where it must be (RFC 3986 section 3.3), with an optional query."""
    if not re.fullmatch(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*", value):
        raise ValueError(
            f"{shown(value)} is not the path of a URL; begin with `/` and percent-encode, such as /healthz"
        )
    return value


UrlPath = Annotated[str, AfterValidator(check_url_path), _shape("path of a URL (/healthz)", "^/[!-~]*$")]


def check_pattern(value: str) -> str:
    """A pattern of URL paths: `*` stands for any characters, `/` included, `?` for one; upper and lower case differ.

    The rules are those of CloudFront's path patterns, because the same file drives both.
    """
    if not re.fullmatch(r"[/*?][A-Za-z0-9._~!$&'()*+,;=:@%/?-]*", value):
        raise ValueError(
            f"{shown(value)} is not a path pattern; begin with `/` or `*`, such as /assets/* or *.css"
        )
    return value


Pattern = Annotated[str, AfterValidator(check_pattern), _shape("path pattern (/assets/*)", r"^[/*?][!-~]*$")]


def check_network(value: str) -> str:
    """An address or a network in CIDR notation (RFC 4632); host bits must be zero."""
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        try:
            near = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise ValueError(
                f"{shown(value)} is not a network; write it as 192.0.2.0/24 or 2001:db8::/32"
            ) from None
        raise ValueError(f"{shown(value)} has bits behind its prefix; did you mean `{near}`?") from None


Network = Annotated[
    str, AfterValidator(check_network), _shape("network (192.0.2.0/24)", r"^[0-9a-fA-F:.]+(/[0-9]+)?$")
]


def check_host(value: str) -> str:
    """A host name (RFC 1123), in lower case; an international name in its `xn--` form."""
    name = value.lower().rstrip(".")
    if len(name) <= 253 and re.fullmatch(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*", name):
        return name
    raise ValueError(
        f"{shown(value)} is not a host name; write it like shop.example.com, without scheme or port"
    )


Host = Annotated[str, AfterValidator(check_host), _shape("host name (shop.example.com)", r"^[A-Za-z0-9.-]+$")]


def check_url(value: str) -> str:
    """An absolute http(s) URL, without a trailing slash."""
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
        raise ValueError(f"{shown(value)} is not a URL; write it like https://shop.example.com")
    return value.rstrip("/")


Url = Annotated[
    str, AfterValidator(check_url), _shape("URL (https://shop.example.com)", r"^https?://[^\s]+$")
]


# Commands

_SHELL_SYNTAX = re.compile(r"[|&;<>()$`\\*?\[\]#~!{}\n]|^\s*\w+=")
_SHELL = ("/bin/sh", "-c")


def parse_command(value: object) -> object:
    """The argument list of a command.

    A list is run as it is. A line means what `/bin/sh` makes of it: without shell syntax it is split into words, and
    no shell runs; with it (`a && b`, `$HOME`, `*`), it becomes `/bin/sh -c LINE`.
    """
    if not isinstance(value, str):
        return value
    if _SHELL_SYNTAX.search(value):
        return (*_SHELL, value)
    try:
        return tuple(shlex.split(value))
    except ValueError:
        raise ValueError(
            f"{shown(value)} has a quote that does not close; close it, or write a list of words"
        ) from None


def check_command(value: tuple[str, ...]) -> tuple[str, ...]:
    """At least one word, and no NUL, which no argument can carry."""
    if not value or not value[0]:
        raise ValueError("the command is empty; write a line such as `php bin/migrate.php`")
    if any("\0" in word for word in value):
        raise ValueError("the command has a NUL character; remove it")
    return value


def format_command(argv: tuple[str, ...]) -> str | list[str]:
    """The line that `parse_command` reads back to the same words; the list where no line does."""
    line = argv[2] if len(argv) == 3 and argv[:2] == _SHELL else shlex.join(argv)
    return line if parse_command(line) == argv else list(argv)


Command = Annotated[
    tuple[str, ...],
    BeforeValidator(parse_command),
    AfterValidator(check_command),
    PlainSerializer(format_command),
    WithJsonSchema(
        {
            "title": "command (a line, or a list of words)",
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ],
        }
    ),
]
"""An argument list; written as a line for `/bin/sh` or as a list of words."""


Method = Annotated[str, StringConstraints(pattern=r"^[A-Z]+$")]
Runtime = Literal["php", "python", "perl"]
