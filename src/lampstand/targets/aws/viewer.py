"""The function that CloudFront runs before its cache: rules, query strings, cookies, redirects.

CloudFront's own behaviours know only path patterns; what the other targets' edges do beyond them (first
match with methods, parameters that are dropped, cookies that mean a session, redirects) is this function's,
out of the same `Behaviour` values.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lampstand.site.cdn import Query, glob_regex
from lampstand.tiers.edge.rules import Behaviour

CODE_LIMIT = 10_240
"""Bytes that a function may have (CloudFront quotas)."""
PASS_HEADER = "X-Lampstand-Pass"
PROTO_HEADER = "X-Lampstand-Proto"


@cache
def templates() -> Environment:
    """The `.j2` files of this folder; an unknown variable is an error."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def viewer_function(behaviours: Sequence[Behaviour]) -> str:
    """The code of the function. Raises ValueError when the rules do not fit into it."""
    rules = "[\n" + ",\n".join("  " + json.dumps(_rule(b), separators=(",", ":")) for b in behaviours) + "\n]"
    code = templates().get_template("viewer.js.j2").render(rules=rules)
    if len(code.encode()) > CODE_LIMIT:
        raise ValueError(
            f"the rules need {len(code.encode())} bytes; a CloudFront function has at most {CODE_LIMIT}"
        )
    return code


def _rule(behaviour: Behaviour) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    if behaviour.match:
        rule["match"] = _any(behaviour.match)
    if behaviour.methods:
        rule["methods"] = behaviour.methods
    if behaviour.redirect is not None:
        rule["redirect"] = behaviour.redirect.replace("\\1", "*")
        rule["status"] = behaviour.redirect_status
        rule["captures"] = [f"^{_capture(p)}$" for p in behaviour.match or ("*",)]
        return rule
    rule["query"], rule["keep"] = _query(behaviour.query)
    if behaviour.bypass_cookies:
        rule["pass"] = _any(behaviour.bypass_cookies)
    if behaviour.ignored_cookies:
        rule["ignored"] = _any(behaviour.ignored_cookies)
    if not behaviour.cookies_reach_the_application:
        rule["cookies"] = behaviour.vary_cookies
    return rule


def _query(query: Query) -> tuple[str, bool]:
    """A regular expression of parameter names, and whether those that match are kept (or dropped)."""
    names = query.keep if query.keep is not None else query.drop or ()
    return _any(names) if names else "^(?!)", query.keep is not None


def _any(globs: Sequence[str]) -> str:
    return "^(?:" + "|".join(glob_regex(g) for g in globs) + ")$"


def _capture(glob: str) -> str:
    """As `glob_regex`, with what the first `*` matches in a group; `.*` is greedy there and here."""
    before, star, after = glob.partition("*")
    return glob_regex(before) + ("(.*)" if star else "") + glob_regex(after)
