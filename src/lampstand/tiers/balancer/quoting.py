"""Writes any text as one word of nginx's configuration language, and lists of patterns as one expression."""

import re
from urllib.parse import unquote

from lampstand.site.cdn import glob_regex

DOLLAR = "${lampstand_dollar}"
"""A `$` where variables are read: nginx has no escape for it, so a variable holds one (`geo` reads no variables)."""


def quoted(text: str) -> str:
    """A word of a directive that reads no variables, or a regular expression.

    Within double quotes a backslash counts only before a quote, a backslash, t, r and n (ngx_conf_file.c,
    ngx_conf_read_token); anywhere else it is left alone, so that expressions stay readable.
    """
    return '"' + re.sub(r"""\\(?=[\\"'trn]|$)|(?=")""", lambda m: m[0] + "\\", text) + '"'


def quoted_value(text: str, variables: str = "") -> str:
    """A word of a directive that reads variables: `text` with every `$` meant as it is, then the variables."""
    return quoted(text.replace("$", DOLLAR) + variables)


def milliseconds(seconds: float) -> str:
    """A time as nginx writes it."""
    return f"{round(seconds * 1000)}ms"


def patterns_regex(patterns: tuple[str, ...]) -> str:
    """The regular expression of path patterns (`*` is any characters, `?` is one), over the decoded path of a URL.

    Endings (`*.css`) are put into one group, because every request is compared with it.
    """
    endings = [p[2:] for p in patterns if re.fullmatch(r"\*\.[A-Za-z0-9]+", p)]
    others = [f"^{glob_regex(unquote(p))}$" for p in patterns if not re.fullmatch(r"\*\.[A-Za-z0-9]+", p)]
    return "|".join(([rf"\.(?:{'|'.join(endings)})$"] if endings else []) + others)


def address(host: str, port: int) -> str:
    """`host:port`, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
