"""Turns what pydantic says about a tree into findings that a person can act on: place, key, and a mend."""

from collections.abc import Sequence
from difflib import get_close_matches

from pydantic_core import ErrorDetails

from lampstand.errors import Finding
from lampstand.site.base import shown
from lampstand.site.docs import Option, option_docs
from lampstand.site.tree import Node, key_path
from lampstand.site.units import format_duration, format_size

Steps = tuple[str | int, ...]


def finding(problem: ErrorDetails, tree: Node) -> Finding:
    """One error of pydantic as a Finding that points into the file."""
    steps: Steps = problem["loc"]
    is_key = steps[-1:] == ("[key]",) or problem["type"] == "extra_forbidden"
    steps = tuple(step for step in steps if step != "[key]")
    reached, node = tree.deepest(steps)
    mark = (node.key if is_key or problem["type"] == "missing" else None) or node.mark
    what, mend = _explain(problem, steps)
    # What stands for a whole section (`fra` for `{name: fra}`) is the thing to point at, not a key nobody wrote.
    shown_path = steps if problem["type"] == "missing" else reached or steps
    return Finding(what, mark.file, mark.line, mark.column, key_path(shown_path), mend)


def find_option(steps: Steps) -> Option | None:
    """The option that a path is in: `("app", "jobs", "nightly", "run")` is `app.jobs.NAME.run`."""
    path, found = _pattern(steps), None
    for option in option_docs():
        if path[: len(option.path)] == option.path:
            found = option
    return found


def _pattern(steps: Steps) -> tuple[str, ...]:
    """Steps with `[]` for positions and `NAME` for names of the user's choice."""
    known = {option.path[:end] for option in option_docs() for end in range(1, len(option.path) + 1)}
    path: tuple[str, ...] = ()
    for step in steps:
        if isinstance(step, int):
            path = (*path, "[]")
        else:
            path = (*path, step if (*path, step) in known or (*path, "NAME") not in known else "NAME")
    return path


def _explain(problem: ErrorDetails, steps: Steps) -> tuple[str, str | None]:
    kind, value = problem["type"], problem["input"]
    context = problem.get("ctx", {})
    option = find_option(steps)
    if kind == "extra_forbidden":
        return _unknown_key(steps)
    if kind == "missing":
        line = option.example.splitlines()[0] if option else f"{steps[-1]}: …"
        return f"`{steps[-1]}` is missing", f"add `{line}`"
    if kind == "value_error":
        what, _, mend = str(context["error"]).partition("; ")
        return what, mend or None
    if kind == "literal_error" and isinstance(value, str) and option:
        near = get_close_matches(value, option.kind.replace(" or ", ", ").split(", "), 1)
        mend = f"did you mean `{near[0]}`?" if near else f"write {option.kind}"
        return f"{shown(value)} is not known", mend
    if kind == "too_short":
        return "the list is empty", _mend(value, option)
    whats = {
        "string_type": "is not text",
        "int_type": "is not a whole number",
        "float_type": "is not a number",
        "bool_type": "is neither true nor false",
        "model_type": "is not a mapping",
        "mapping_type": "is not a mapping",
        "tuple_type": "is not a list",
        "greater_than_equal": "is too small",
        "less_than_equal": "is too large",
        "string_too_short": "is empty",
        "string_pattern_mismatch": "has not the right form",
        "literal_error": "is not known",
    }
    what = f"{shown(value)} {whats[kind]}" if kind in whats else f"{shown(value)}: {problem['msg']}"
    return what, _limit(context, option) or _mend(value, option)


def _unknown_key(steps: Steps) -> tuple[str, str]:
    name = str(steps[-1])
    what = f"unknown key {shown(name)}"
    section = _pattern(steps)[:-1]
    siblings = [o.path[-1] for o in option_docs() if o.path[:-1] == section]
    near = get_close_matches(name.replace("-", "_").lower(), siblings, 1)
    if near:
        return what, f"did you mean `{near[0]}`?"
    elsewhere = [o.key for o in option_docs() if o.path[-1] == name]
    if elsewhere:
        return what, "it belongs elsewhere: " + ", ".join(f"`{key}`" for key in elsewhere[:4])
    return what, "known here: " + ", ".join(siblings)


def _limit(context: dict[str, object], option: Option | None) -> str | None:
    """`at least 64MB`: limits in the unit that the option is written in."""
    for name, words in (("ge", "at least"), ("le", "at most"), ("gt", "more than"), ("lt", "less than")):
        limit = context.get(name)
        if isinstance(limit, int | float):
            written = str(limit)
            if option and option.kind.startswith("size"):
                written = format_size(int(limit))
            elif option and option.kind.startswith("duration"):
                written = format_duration(limit)
            return f"write {words} {written}"
    return None


def _mend(value: object, option: Option | None) -> str | None:
    if option is None:
        return None
    name, example = option.path[-1], option.example.splitlines()[0].partition("  #")[0]
    if option.kind == "true or false" and isinstance(value, str):
        words = {
            "yes": "true",
            "on": "true",
            "y": "true",
            "true": "true",
            "no": "false",
            "off": "false",
            "n": "false",
        }
        word = words.get(value.lower(), "false" if value.lower() == "false" else None)
        if word:
            return f"write `{name}: {word}`, without quotes; YAML 1.2 has only true and false"
    if option.kind == "whole number" and isinstance(value, str) and value.isdecimal():
        return f"write `{name}: {value}`, without quotes"
    return f"write {_article(option.kind)}, such as `{example}`"


def _article(kind: str) -> str:
    return kind if kind.startswith(("true", "text")) else f"a {kind}"


def explain_all(problems: Sequence[ErrorDetails], tree: Node) -> list[Finding]:
    """Every error of pydantic as a Finding."""
    return [finding(problem, tree) for problem in problems]
