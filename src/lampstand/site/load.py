"""Reads the site file and its overlay from disk: `load` gives a Site, or every error at once with file and line."""

import errno
import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Literal, cast

from pydantic import ValidationError

from lampstand.errors import Finding, SiteFileError
from lampstand.site.app import STATIC_PATTERNS
from lampstand.site.base import shown
from lampstand.site.detect import Detected, detect, interface_of
from lampstand.site.model import Site
from lampstand.site.tree import Node, key_path, merge, parse
from lampstand.site.types import check_name, slug

FILE_NAME = "lampstand.yaml"
SIZE_LIMIT = 1_000_000
"""Bytes of a site file."""

Tree = Mapping[str, object]


def load(project: Path, file: Path | None = None, environment: str | None = None) -> Site:
    """The Site of the application in `project`, described by `file` (default: `lampstand.yaml` in it).

    With `environment`, `lampstand.ENVIRONMENT.yaml` beside the file is laid over it. What the file leaves open and
    the application's files tell (language, document root, entry, …) is filled in. Raises SiteFileError with
    everything that is wrong.
    """
    file = project / FILE_NAME if file is None else file
    node, findings = _read(file, "write one with `lampstand init`")
    if environment is not None:
        over, more = _read(_overlay(file, environment))
        node, findings = merge(node, over), [*findings, *more]
    written: object = {} if node.value is None else node.plain()
    if not isinstance(written, dict):
        what = f"a site file is a mapping of keys, not {shown(written)}"
        raise SiteFileError([_at(node, (), what, "write keys, such as `site: shop`")])
    filled, unknown = _with_detected(cast("Tree", written), project.absolute())
    findings += [
        _at(node, (), what, "write `app: {runtime: …}` if it is one nevertheless") for what in unknown
    ]
    try:
        site = Site.model_validate(filled)
    except ValidationError as error:
        # Explaining needs every option's description; a good file does not pay for it.
        from lampstand.site.explain import finding

        findings += [finding(problem, node) for problem in error.errors(include_url=False)]
    else:
        findings += _path_findings(site, node, project)
        if not findings:
            return site
    raise SiteFileError(sorted(set(findings), key=lambda f: (f.file, f.line or 0, f.column or 0, f.key)))


def _at(node: Node, path: tuple[str | int, ...], what: str, mend: str) -> Finding:
    mark = node.deepest(path)[1].mark
    return Finding(what, mark.file, mark.line, mark.column, key_path(path), mend)


# Reading


def _read(file: Path, mend: str | None = None) -> tuple[Node, list[Finding]]:
    name = str(file)
    try:
        if file.stat().st_size > SIZE_LIMIT:
            raise SiteFileError([Finding(f"the file is larger than {SIZE_LIMIT} bytes", name)])
        data = file.read_bytes()
    except OSError as error:
        raise SiteFileError([_unreadable(error, name, mend)]) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        what = f"the file is not UTF-8: byte 0x{data[error.start]:02x}"
        raise SiteFileError([Finding(what, name, line, column, "", "save it as UTF-8")]) from None
    return parse(text, name)


def _unreadable(error: OSError, name: str, mend: str | None) -> Finding:
    known = {
        errno.ENOENT: ("there is no site file here", mend),
        errno.EACCES: ("the site file may not be read", "change its owner or its mode"),
        errno.EISDIR: ("the site file is a folder", "name a file with -f"),
        errno.ENOTDIR: ("there is no site file here", mend),
        errno.ELOOP: ("the site file is a symbolic link that leads to itself", "replace the link"),
    }
    what, mend = known.get(error.errno or 0, (f"the site file cannot be read: {error.strerror}", None))
    return Finding(what, name, mend=mend)


def _overlay(file: Path, environment: str) -> Path:
    """`lampstand.prod.yaml` beside `lampstand.yaml`."""
    try:
        check_name(environment)
    except ValueError as error:
        what, _, mend = str(error).partition("; ")
        raise SiteFileError([Finding(f"the environment {what}", str(file), mend=mend)]) from None
    path = file.with_name(f"{file.stem}.{environment}{file.suffix}")
    if os.path.lexists(path):
        return path
    siblings = [p.name for p in file.parent.glob("*") if p.suffix == file.suffix and p.name != file.name]
    known = sorted(
        n.removeprefix(f"{file.stem}.").removesuffix(file.suffix)
        for n in siblings
        if n.startswith(f"{file.stem}.")
    )
    near = get_close_matches(environment, known, 1)
    mend = f"write {path.name}, or leave -e out"
    if near:
        mend = f"did you mean `-e {near[0]}`?"
    elif known:
        mend = f"choose one of {', '.join(known)}, or write {path.name}"
    raise SiteFileError(
        [Finding(f"there is no file for the environment `{environment}`", str(path), mend=mend)]
    )


# What the application's files tell

_PRESETS = ("wordpress", "mediawiki", "drupal", "django")


def _with_detected(tree: Tree, project: Path) -> tuple[Tree, tuple[str, ...]]:
    """The tree with what it leaves open filled in, and why the application is not recognised where it must be."""
    app, cdn = tree.get("app", {}), tree.get("cdn", {})
    if not isinstance(app, dict) or not isinstance(cdn, dict):
        return tree, ()  # wrong anyway, as the models will say
    app, cdn = cast("Tree", app), cast("Tree", cdn)
    runtime = app.get("runtime")
    found = detect(project, runtime if runtime in ("php", "python", "perl") else None)
    unknown = found.reasons if found.runtime is None else ()
    preset = {"preset": found.framework} if found.framework in _PRESETS else {}
    filled = {**_app_defaults(found, app, project), **app}
    name = slug(project.name) or "site"
    return {"site": name, **tree, "app": filled, "cdn": {**preset, **cdn}}, tuple(
        f"no application is recognised: {reason}" for reason in unknown
    )


def _app_defaults(found: Detected, app: Tree, project: Path) -> Tree:
    """Values of `app` that the user left open. What depends on the document root follows from the user's own."""
    defaults: dict[str, object] = {"runtime": found.runtime} if found.runtime else {}
    entry = app.get("entry")
    same_root = app.get("root", found.root) == found.root
    interface = found.interface
    if isinstance(entry, str):
        interface = interface_of(project, entry) if found.runtime == "python" else None
    elif found.entry is not None and (found.runtime != "php" or same_root):
        defaults["entry"] = found.entry
    if interface is not None:
        defaults["interface"] = interface
    if same_root:
        defaults["root"] = found.root
        defaults["uploads"] = found.uploads
        if found.static:
            own = [{"match": match, "folder": folder} for match, folder in found.static]
            defaults["static"] = own if found.root == "." else [*own, {"match": STATIC_PATTERNS}]
    return defaults


# Paths

_Wanted = tuple[tuple[str | int, ...], str, Literal["file", "folder"], bool]
"""Where it is written, the path, what it must be, and whether it must be there."""


def _path_findings(site: Site, node: Node, project: Path) -> Iterator[Finding]:
    """Paths that lead out of the application or to nothing."""
    app, built = site.app, site.app.build is not None
    wanted: list[_Wanted] = [(("app", "root"), app.root, "folder", not built)]
    if app.runtime == "perl" and app.entry is not None:
        wanted.append((("app", "entry"), app.entry, "file", not built))
    if app.runtime == "php" and app.entry is not None:
        wanted.append((("app", "entry"), str(PurePosixPath(app.root, app.entry)), "file", not built))
    for i, folder in enumerate(app.uploads):
        wanted.append((("app", "uploads", i), folder, "folder", False))
    for i, static in enumerate(app.static):
        if static.folder is not None:
            wanted.append((("app", "static", i, "folder"), static.folder, "folder", False))
    if site.cdn.visitors is not None:
        for key, file in (("mmdb", site.cdn.visitors.mmdb), ("map", site.cdn.visitors.map)):
            if file is not None:
                wanted.append((("cdn", "visitors", key), file, "file", True))
    for path, value, kind, must_exist in wanted:
        wrong = _wrong_path(project, value, kind, must_exist)
        if wrong is not None:
            yield _at(node, path, *wrong)


def _wrong_path(project: Path, value: str, kind: str, must_exist: bool) -> tuple[str, str] | None:
    try:
        real = Path(os.path.realpath(project / value, strict=True))
    except OSError as error:
        if error.errno == errno.ELOOP:
            return f"{shown(value)} is a symbolic link that leads to itself", "replace the link"
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            mend = f"make it, or name another {kind} of the application"
            return (f"there is no {kind} {shown(value)}", mend) if must_exist else None
        return f"{shown(value)} cannot be read: {error.strerror}", "change its owner or its mode"
    if not real.is_relative_to(os.path.realpath(project)):
        return f"{shown(value)} leads out of the application, to {real}", f"name a {kind} inside it"
    if real.is_dir() != (kind == "folder"):
        return f"{shown(value)} is not a {kind}", f"name a {kind}"
    return None
