"""Which URLs nginx answers by itself, and from which folders. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lampstand.site import Site, Static
from lampstand.site.cdn import glob_regex
from lampstand.tiers.balancer.quoting import patterns_regex


@dataclass(frozen=True, slots=True)
class Files:
    """URLs that match `regex` are files of the release."""

    regex: str
    folder: str
    """Where in the release: a path that begins with `/`, or `` for the release itself."""
    variable: str
    """What is looked up there, beginning with `/` too: the whole path of the URL, or what `(?<file>…)` matches."""


@dataclass(frozen=True, slots=True)
class Uploads:
    """URLs below `url` are files of a folder that all web servers share."""

    url: str
    folder: str
    """Relative to the shared folder; with a trailing slash."""


def files(site: Site) -> tuple[Files, ...]:
    """The static files of the release, those with a folder of their own first."""
    own = [
        f for static in site.app.static if static.folder is not None for f in _mapped(static, static.folder)
    ]
    below_root = [p for static in site.app.static if static.folder is None for p in static.match]
    if site.app.runtime != "php" and site.app.root == ".":
        # The document root of such an application is where its sources lie: no ending alone opens it.
        below_root = [p for p in below_root if _names_something(p)]
    if below_root:
        own.append(Files(patterns_regex(tuple(below_root)), _folder(site.app.root), "$uri"))
    return tuple(own)


def uploads(site: Site) -> tuple[Uploads, ...]:
    """The shared folders that visitors may fetch: those below the document root, and those that `static` names.

    None where uploads live in a bucket.
    """
    if site.storage.bucket:
        return ()
    found: dict[str, str] = {}
    for url, folder in _public(site):
        for shared in site.app.uploads:
            if (inner := _below(shared, folder)) is not None:
                found.setdefault(f"{url}{inner}".rstrip("/") + "/", f"{shared}/")
            elif (inner := _below(folder, shared)) is not None:
                found.setdefault(url.rstrip("/") + "/", f"{shared}/{inner}".rstrip("/") + "/")
    found.pop("/", None)  # a shared document root is looked up by the web servers
    return tuple(Uploads(url, folder) for url, folder in found.items())


def _public(site: Site) -> Iterable[tuple[str, str]]:
    """URL prefixes and the folders of the release that they show."""
    for static in site.app.static:
        if static.folder is not None:
            yield from ((p.partition("*")[0], static.folder) for p in static.match if p.startswith("/"))
    if site.app.runtime == "php" or site.app.root != ".":
        yield "/", site.app.root


def _mapped(static: Static, folder: str) -> Iterable[Files]:
    for pattern in static.match:
        before, star, after = pattern.partition("*")
        # Without a `*` the last part of the path is the file's name.
        folder_of_url, _, name = pattern.rpartition("/")
        lead, rest = (before, star + after) if star else (f"{folder_of_url}/", name)
        yield Files(f"^{glob_regex(lead)}(?<file>{glob_regex(rest)})$", _folder(folder), "/$file")


def _names_something(pattern: str) -> bool:
    """Whether a pattern names a folder (`/docs/*`) or one file (`/robots.txt`)."""
    before = re.split(r"[*?]", pattern, maxsplit=1)[0]
    return pattern.startswith("/") and (before == pattern or before.count("/") > 1)


def _folder(folder: str) -> str:
    return "" if folder == "." else f"/{folder}"


def _below(path: str, folder: str) -> str | None:
    """What is left of a path below a folder (`` for the folder itself), None when it is not below it."""
    if folder in (".", path):
        return "" if path == folder else path
    return path[len(folder) + 1 :] if path.startswith(f"{folder}/") else None
