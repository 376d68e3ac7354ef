"""Numbers of servers that `lampstand scale` changes, without touching the site file. Pure."""

from collections.abc import Mapping
from typing import Any

from lampstand.errors import UsageError
from lampstand.site import Site

KEYS: Mapping[str, tuple[str, str]] = {
    "web": ("web", "servers"),
    "balancer": ("balancer", "servers"),
    "database.replicas": ("database", "replicas"),
    "cache.replicas": ("cache", "replicas"),
    "sessions.replicas": ("sessions", "replicas"),
}


def scaled(site: Site, overrides: Mapping[str, str]) -> Site:
    """The site with other numbers: `web` -> `6`, `edge+` -> `tokyo,lima`, `edge-` -> `iad`, `worker.mail` -> `3`.

    Raises UsageError for a name that cannot be scaled or a number that the site refuses.
    """
    if not overrides:
        return site
    value: dict[str, Any] = site.model_dump(mode="json", exclude_unset=True)
    for name, text in overrides.items():
        if name in ("edge+", "edge-"):
            _edges(site, value, name, text.split(","))
        elif name.startswith("worker.") and name[7:] in site.app.workers:
            workers = value.setdefault("app", {}).setdefault("workers", {})
            workers[name[7:]] = {**_as_mapping(workers.get(name[7:], {})), "count": _number(name, text)}
        elif name in KEYS:
            section, key = KEYS[name]
            value.setdefault(section, {})[key] = _number(name, text)
        else:
            known = [*KEYS, *(f"worker.{w}" for w in site.app.workers), "edge+", "edge-"]
            raise UsageError(f"{name!r} cannot be scaled", mend=f"what can is {', '.join(known)}")
    try:
        return Site.model_validate(value)
    except ValueError as error:
        raise UsageError(f"the site refuses these numbers: {error}") from error


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"{text!r} is not a number of servers", name, f"for example {name}=3")
    return int(text)


def _as_mapping(value: Any) -> dict[str, Any]:  # noqa: ANN401 - the shorthand of a section, or the section
    return {"run": value} if isinstance(value, str) else dict(value)


def _edges(site: Site, value: dict[str, Any], name: str, names: list[str]) -> None:
    edges: list[Any] = value.setdefault("cdn", {}).setdefault(
        "edges", [edge.model_dump(mode="json", exclude_unset=True) for edge in site.cdn.edges]
    )
    there = {(e if isinstance(e, str) else e["name"]) for e in edges}
    if name == "edge+":
        edges += [n for n in names if n not in there]
        return
    for gone in names:
        if gone not in there:
            raise UsageError(f"no edge is called {gone!r}", mend=f"the edges are {', '.join(sorted(there))}")
    value["cdn"]["edges"] = [e for e in edges if (e if isinstance(e, str) else e["name"]) not in names]
