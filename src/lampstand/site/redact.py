"""Takes secrets out of what is shown: by the names they go by, and by their place in a URL or on a command line."""

import re
from collections.abc import Mapping
from typing import cast

HIDDEN = "[redacted]"

_WORD = r"(?:passw(?:or)?d|passphrase|secret|token|credentials?|authorization|cookie|api_?key|access_?key|private_?key)"
_NAME = re.compile(rf"(?i).*(?:{_WORD}|(?:^|_)(?:key|pass|pwd|dsn|salt|auth)$).*")
# Keys of the site file that look like one of these and hold none.
_PUBLIC = frozenset({"key", "secrets", "allow_authorization", "vary_cookies", "pull_secret", "tls_secret"})
_USERINFO = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+(?=@)")
_ARGUMENT = re.compile(
    rf"""(?i)((?:\b[\w-]*{_WORD}[\w-]*=|(?<!\S)--[\w-]*{_WORD}[\w-]*\s+))(?:'[^']*'|"[^"]*"|[^\s'"]+)"""
)
_BEARER = re.compile(r"(?i)\b(bearer|basic) +[A-Za-z0-9._~+/=-]+")


def is_secret_name(name: str) -> bool:
    """Whether a variable, header or setting of this name most likely holds a secret."""
    return _NAME.fullmatch(name.replace("-", "_")) is not None


def redact_text(text: str) -> str:
    """Text without passwords of URLs, values of arguments such as `--password=x`, and bearer tokens."""
    text = _USERINFO.sub(rf"\1:{HIDDEN}", text)
    text = _ARGUMENT.sub(rf"\1{HIDDEN}", text)
    return _BEARER.sub(rf"\1 {HIDDEN}", text)


def redact(value: object) -> object:
    """A tree without secrets; its shape stays."""
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if _hides(key, item) else redact(item)
            for key, item in cast("Mapping[str, object]", value).items()
        }
    if isinstance(value, list | tuple):
        return [redact(item) for item in cast("list[object]", value)]
    return redact_text(value) if isinstance(value, str) else value


def _hides(key: str, item: object) -> bool:
    return isinstance(item, str) and bool(item) and key not in _PUBLIC and is_secret_name(key)
