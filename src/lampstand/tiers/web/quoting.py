"""Writes any text as one value of the languages that the templates of this tier are in.

Control characters cannot be written in most of them and stand in no sensible path, so they are refused.
"""

import re
import unicodedata

from lampstand.errors import LampstandError

_DOLLAR = "${lampstand_dollar}"
"""`Define lampstand_dollar $` is the first line of every Apache file: the only way to write a `$` that stays one."""


def apache(text: str) -> str:
    """One argument of an Apache directive.

    In double quotes a backslash escapes itself and the quote. `${NAME}` is replaced by a Define or an environment
    variable before anything else is read and has no escape, so its dollar comes from a Define itself; what a Define
    brought in is not looked at again (server/core.c, ap_resolve_env).
    """
    escaped = _one_line(text).replace("\\", "\\\\").replace('"', '\\"').replace("${", _DOLLAR + "{")
    return f'"{escaped}"'


def apache_folder(path: str) -> str:
    """The argument of `<Directory>`: a shell pattern that matches exactly this path.

    Brackets rather than backslashes: a pattern in which every special character has a backslash counts as a plain
    path, backslashes included (apr_fnmatch_test).
    """
    return apache(re.sub(r"[*?\[\\]", lambda match: "[\\\\]" if match[0] == "\\" else f"[{match[0]}]", path))


def ini(text: str) -> str:
    """A value of php.ini or php-fpm.conf. Single quotes keep everything as it is but cannot hold one themselves."""
    if "'" not in _one_line(text):
        return f"'{text}'"
    return '"' + re.sub(r'([\\"$])', r"\\\1", text) + '"'


_CONSTANTS = re.compile(r"[A-Z0-9_ &|~^()]*E_[A-Z0-9_ &|~^()]*")


def ini_setting(value: str) -> str:
    """A setting that the user wrote as in php.ini: an expression of constants (`E_ALL & ~E_NOTICE`) stays one."""
    return value if _CONSTANTS.fullmatch(value) else ini(value)


def perl(text: str) -> str:
    """A string of Perl, in single quotes."""
    return "'" + _one_line(text).replace("\\", "\\\\").replace("'", "\\'") + "'"


def python(text: str) -> str:
    """A string of Python."""
    return repr(_one_line(text))


def _one_line(text: str) -> str:
    if any(unicodedata.category(c) == "Cc" and c != "\t" for c in text):
        raise LampstandError(
            f"{text!r} has a line break or a control character and cannot be written into a configuration file",
            mend="rename the folder or write the value in one line",
        )
    return text
