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


def merged(site: Site, before: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """The overrides after more changes: numbers replace numbers, `edge+` and `edge-` change the list of edges.

    Raises UsageError for an edge that is not there, a name that cannot be scaled, or a number that the site refuses.
    """
    now = {**before, **{k: v for k, v in changes.items() if k not in ("edge+", "edge-")}}
    if "edge+" in changes or "edge-" in changes:
        names = [edge.name for edge in scaled(site, before).cdn.edges]
        for gone in filter(None, changes.get("edge-", "").split(",")):
            if gone not in names:
                raise UsageError(f"no edge is called {gone!r}", mend=f"the edges are {', '.join(names)}")
            names.remove(gone)
        names += [n for n in changes.get("edge+", "").split(",") if n and n not in names]
        now["edges"] = ",".join(names)
    scaled(site, now)
    return now


def scaled(site: Site, overrides: Mapping[str, str]) -> Site:
    """The site with other numbers: `web` -> `6`, `edges` -> `fra,tokyo`, `worker.mail` -> `3`.

    Raises UsageError for a name that cannot be scaled or a number that the site refuses.
    """
    if not overrides:
        return site
    value: dict[str, Any] = site.model_dump(mode="json", exclude_unset=True)
    for name, text in overrides.items():
        if name == "edges":
            known = {edge.name: edge.model_dump(mode="json", exclude_unset=True) for edge in site.cdn.edges}
            value.setdefault("cdn", {})["edges"] = [known.get(n, n) for n in text.split(",") if n]
        elif name.startswith("worker.") and name[7:] in site.app.workers:
            worker = site.app.workers[name[7:]].model_dump(mode="json", exclude_unset=True)
            value["app"]["workers"][name[7:]] = {**worker, "count": _number(name, text)}
        elif name in KEYS:
            section, key = KEYS[name]
            value.setdefault(section, {})[key] = _number(name, text)
        else:
            can = [*KEYS, *(f"worker.{w}" for w in site.app.workers), "edge+", "edge-"]
            raise UsageError(f"{name!r} cannot be scaled", mend=f"what can is {', '.join(can)}")
    try:
        return Site.model_validate(value)
    except ValueError as error:
        raise UsageError(f"the site refuses these numbers: {error}") from error


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"{text!r} is not a number of servers", name, f"for example {name}=3")
    return int(text)
