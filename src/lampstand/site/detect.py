"""Recognises an application by its files. Reads them as text; runs and imports nothing."""

import ast
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from lampstand.site.types import Runtime

Interface = Literal["wsgi", "asgi"]

READ_LIMIT = 1_000_000
"""Bytes; larger files are not looked into."""


@dataclass(frozen=True, slots=True)
class Detected:
    """What an application looks like. `reasons` are sentences for people; paths are relative to the folder."""

    runtime: Runtime | None = None
    root: str = "."
    entry: str | None = None
    interface: Interface | None = None
    framework: str | None = None
    static: tuple[tuple[str, str], ...] = ()
    """Pairs of a URL pattern and the folder of its files, beside what lies below `root`."""
    uploads: tuple[str, ...] = ()
    release: str | None = None
    """Command that migrates the database, as a suggestion."""
    reasons: tuple[str, ...] = ()


def detect(folder: Path, runtime: Runtime | None = None) -> Detected:
    """What the application in `folder` is; `runtime` None in the answer where nothing is recognised.

    With `runtime`, only applications of that language are looked for.
    """
    finders: tuple[tuple[Runtime, Callable[[Path], Detected | None]], ...] = (
        ("php", _known_php),
        ("python", _django),
        ("perl", _perl),
        ("php", _plain_php),
        ("python", _python),
        ("php", _static_site),
    )
    for language, find in finders:
        found = find(folder) if runtime in (None, language) else None
        if found is not None:
            return replace(found, runtime=language)
    return Detected(runtime=runtime, reasons=_nothing_found(folder))


def interface_of(folder: Path, entry: str) -> Interface | None:
    """Whether `package.module:name` is a WSGI or an ASGI application; None where its source does not tell."""
    module, _, name = entry.partition(":")
    path = _module_file(folder, module)
    if path is None:
        return None
    found = _objects(path)
    return found.get(name.partition("(")[0].partition(".")[0], (None, None))[0]


# PHP

_PHP_ROOTS = ("public", "web", "webroot", "public_html", "htdocs", "www", "docroot", ".")


def _known_php(folder: Path) -> Detected | None:
    for root in _PHP_ROOTS:
        base = folder / root
        if (base / "wp-includes").is_dir() or (base / "wp-config-sample.php").is_file():
            uploads = _below(root, "wp-content/uploads")
            return _php(root, "wordpress", f"{_below(root, 'wp-includes')} is WordPress", (uploads,))
        if (base / "includes" / "WebStart.php").is_file() and (base / "load.php").is_file():
            return _php(
                root,
                "mediawiki",
                f"{_below(root, 'includes/WebStart.php')} is MediaWiki",
                (_below(root, "images"),),
            )
        if (base / "core" / "lib" / "Drupal.php").is_file():
            uploads = _below(root, "sites/default/files")
            return _php(root, "drupal", f"{_below(root, 'core/lib/Drupal.php')} is Drupal", (uploads,))
    if (folder / "artisan").is_file() and (folder / "public" / "index.php").is_file():
        migrate = "php artisan migrate --force"
        return _php("public", "laravel", "artisan is Laravel", ("storage/app/public",), migrate)
    required = _composer_packages(folder)
    if (folder / "public" / "index.php").is_file() and any(
        p.startswith("symfony/framework-bundle") for p in required
    ):
        doctrine = any(p.startswith("doctrine/doctrine-migrations-bundle") for p in required)
        migrate = "php bin/console doctrine:migrations:migrate --no-interaction" if doctrine else None
        return _php("public", "symfony", "composer.json requires symfony/framework-bundle", (), migrate)
    if any(p.startswith("drupal/core") for p in required):
        return _php("web", "drupal", "composer.json requires Drupal", ("web/sites/default/files",))
    return None


def _php(
    root: str, framework: str, reason: str, uploads: tuple[str, ...] = (), release: str | None = None
) -> Detected:
    return Detected(
        root=root, entry="index.php", framework=framework, uploads=uploads, release=release, reasons=(reason,)
    )


def _plain_php(folder: Path) -> Detected | None:
    for root in _PHP_ROOTS:
        if (folder / root / "index.php").is_file():
            # With composer or a folder of its own for the web, index.php is a front controller nearly always.
            front = root != "." or (folder / "composer.json").is_file()
            reason = f"{_below(root, 'index.php')} is there"
            return Detected(root=root, entry="index.php" if front else None, reasons=(reason,))
    return None


def _static_site(folder: Path) -> Detected | None:
    for root in ("public", "dist", "build", "_site", "www", "."):
        if (folder / root / "index.html").is_file():
            reason = f"{_below(root, 'index.html')} is there, and no application: static files"
            return Detected(root=root, framework="static", reasons=(reason,))
    return None


def _composer_packages(folder: Path) -> frozenset[str]:
    try:
        data: object = json.loads(_read(folder / "composer.json") or "{}")
    except (ValueError, RecursionError):
        return frozenset()
    required = cast("dict[str, object]", data).get("require") if isinstance(data, dict) else None
    return frozenset(cast("dict[str, object]", required)) if isinstance(required, dict) else frozenset()


# Perl


def _perl(folder: Path) -> Detected | None:
    candidates = [folder / "app.psgi", folder / "bin" / "app.psgi", *sorted(folder.glob("*.psgi"))]
    candidates += [*sorted((folder / "bin").glob("*.psgi")), *sorted((folder / "script").glob("*.psgi"))]
    entry = next((path for path in candidates if path.is_file()), None)
    framework = None
    if entry is None:
        scripts = [*sorted(folder.glob("*.pl")), *sorted((folder / "script").glob("*"))]
        for path in scripts:
            match = re.search(
                r"^\s*(?:use|require)\s+(Mojolicious::Lite|Mojolicious::Commands|Dancer2?)\b",
                _read(path),
                re.MULTILINE,
            )
            if match:
                entry, framework = path, match[1].split("::")[0].lower()
                break
    if entry is None or not _writable_name(entry.name):
        return None
    name = entry.relative_to(folder).as_posix()
    reason = f"{name} is a PSGI application" if framework is None else f"{name} uses {framework.capitalize()}"
    return Detected(**_public(folder), entry=name, framework=framework, reasons=(reason,))


# Python

_MODULES = ("wsgi", "asgi", "app", "main", "application", "server", "api", "web")
_OBJECTS = ("application", "app", "api", "server")
_FACTORIES = ("create_app", "make_app", "get_app", "create_application")
_ASGI_CLASSES = frozenset({"FastAPI", "Starlette", "Quart", "Litestar", "Sanic", "BlackSheep", "Esmerald"})
_ASGI_CALLS = frozenset({"get_asgi_application", "WsgiToAsgi", "ProtocolTypeRouter"})
_WSGI_CLASSES = frozenset({"Flask", "Bottle", "Pyramid", "DispatcherMiddleware", "AsgiToWsgi"})
_WSGI_CALLS = frozenset({"get_wsgi_application", "make_wsgi_app", "default_app"})


def _django(folder: Path) -> Detected | None:
    manage = folder / "manage.py"
    match = re.search(r"DJANGO_SETTINGS_MODULE['\"]\s*,\s*['\"]([\w.]+)['\"]", _read(manage))
    if match is None:
        return None
    packages = match[1].split(".")
    found = None
    # proj.settings, proj.settings.production and config.settings all have the wsgi module beside or above them.
    for depth in range(len(packages) - 1, 0, -1):
        package = ".".join(packages[:depth])
        for kind in ("wsgi", "asgi"):
            if found is None and _module_file(folder, f"{package}.{kind}") is not None:
                found = (f"{package}.{kind}:application", kind)
    if found is None:
        return None
    settings = _read(_module_file(folder, match[1]) or folder / "settings.py")
    static = _django_folder(settings, "STATIC_ROOT"), _django_url(settings, "STATIC_URL", "/static/")
    media = _django_folder(settings, "MEDIA_ROOT")
    return Detected(
        entry=found[0],
        interface=found[1],
        framework="django",
        static=((f"{static[1]}*", static[0]),) if static[0] else (),
        uploads=(media,) if media else (),
        release="python manage.py migrate --noinput",
        reasons=(f"manage.py names the settings {match[1]}: Django",),
    )


def _django_folder(settings: str, name: str) -> str | None:
    """The folder of `STATIC_ROOT = BASE_DIR / "staticfiles"` or `os.path.join(BASE_DIR, "staticfiles")`."""
    match = re.search(rf"^{name}\s*=\s*(.*BASE_DIR.*)$", settings, re.MULTILINE)
    parts = re.findall(r"['\"]([\w./-]+)['\"]", match[1]) if match else []
    folder = "/".join(part.strip("/") for part in parts)
    return folder if folder and ".." not in folder.split("/") else None


def _django_url(settings: str, name: str, default: str) -> str:
    match = re.search(rf"^{name}\s*=\s*['\"]/?([\w./-]+?)/?['\"]", settings, re.MULTILINE)
    return f"/{match[1]}/" if match else default


def _python(folder: Path) -> Detected | None:
    for path, module in _python_modules(folder):
        found = _objects(path)
        name = next((name for name in (*_OBJECTS, *_FACTORIES) if name in found), None)
        if name is None:
            continue
        interface, framework = found[name]
        entry = f"{module}:{name}()" if name in _FACTORIES else f"{module}:{name}"
        file = path.relative_to(folder).as_posix()
        # Flask and its like look for `static` beside the module.
        beside = path.parent / "static"
        static = (("/static/*", beside.relative_to(folder).as_posix()),) if beside.is_dir() else ()
        return Detected(
            **_public(folder),
            entry=entry,
            interface=interface or "wsgi",
            framework=framework,
            static=static,
            reasons=(f"{file} has `{name}`: {(interface or 'wsgi').upper()}",),
        )
    return None


def _python_modules(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files that often hold the application, the likeliest first, and their module names."""
    for name in _MODULES:
        yield folder / f"{name}.py", name
    packages = [
        path.parent
        for path in sorted(folder.glob("*/__init__.py"))
        if path.parent.name.isidentifier() and path.parent.name not in ("tests", "test", "migrations", "docs")
    ]
    for package in packages:
        for name in _MODULES:
            yield package / f"{name}.py", f"{package.name}.{name}"
        yield package / "__init__.py", package.name


def _objects(path: Path) -> dict[str, tuple[Interface | None, str | None]]:
    """Names at the top of a module that may be applications: their interface and framework where they show."""
    try:
        tree = ast.parse(_read(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    found: dict[str, tuple[Interface | None, str | None]] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    found[target.id] = _kind(statement.value, found)
        elif isinstance(statement, ast.AsyncFunctionDef):
            found[statement.name] = ("asgi", None)
        elif isinstance(statement, ast.FunctionDef):
            inside = [_kind(node, found) for node in ast.walk(statement) if isinstance(node, ast.Call)]
            found[statement.name] = next((kind for kind in inside if kind[0]), (None, None))
        elif isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                found[alias.asname or alias.name] = (None, None)
    return found


def _kind(
    value: ast.expr, known: dict[str, tuple[Interface | None, str | None]]
) -> tuple[Interface | None, str | None]:
    if isinstance(value, ast.Name):
        return known.get(value.id, (None, None))
    if not isinstance(value, ast.Call):
        return (None, None)
    called = value.func
    name = (
        called.attr
        if isinstance(called, ast.Attribute)
        else called.id
        if isinstance(called, ast.Name)
        else ""
    )
    if (
        name == "App"
        and isinstance(called, ast.Attribute)
        and isinstance(called.value, ast.Attribute | ast.Name)
    ):
        # falcon.App and falcon.asgi.App differ by the module only.
        asgi = "asgi" in ast.unparse(called)
        return ("asgi" if asgi else "wsgi", "falcon" if "falcon" in ast.unparse(called) else None)
    if name in _ASGI_CLASSES | _ASGI_CALLS:
        return ("asgi", name.lower() if name in _ASGI_CLASSES else None)
    if name in _WSGI_CLASSES | _WSGI_CALLS:
        return ("wsgi", name.lower() if name in _WSGI_CLASSES else None)
    return known.get(name, (None, None))


def _module_file(folder: Path, module: str) -> Path | None:
    if not all(part.isidentifier() for part in module.split(".")):
        return None
    base = folder.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


# Common


def _public(folder: Path) -> dict[Literal["root"], str]:
    """The document root of an application whose code must not be fetched: `public`, where there is one."""
    return {"root": "public"} if (folder / "public").is_dir() else {}


def _below(root: str, name: str) -> str:
    return name if root == "." else f"{root}/{name}"


def _writable_name(name: str) -> bool:
    """A file name that a text file can hold: one that is UTF-8."""
    return not any("\ud800" <= c <= "\udfff" for c in name)


def _read(path: Path) -> str:
    """The text of a file; empty where it cannot be read, is no file or is too large."""
    try:
        if not path.is_file() or path.stat().st_size > READ_LIMIT:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _nothing_found(folder: Path) -> tuple[str, ...]:
    looked = "index.php, composer.json, manage.py, wsgi.py, asgi.py, app.py, main.py, app.psgi or index.html"
    if (folder / "package.json").is_file():
        return (f"package.json is there, but none of {looked}: Node.js applications are not run",)
    if (folder / "cpanfile").is_file():
        return ("cpanfile is there, but no .psgi file",)
    if (folder / "requirements.txt").is_file() or (folder / "pyproject.toml").is_file():
        return ("this is Python, but no module has a WSGI or ASGI application called `application` or `app`",)
    return (f"there is none of {looked}",)
