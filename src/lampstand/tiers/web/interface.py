"""Finds out whether `MODULE:NAME` is a WSGI or an ASGI application.

`by_source` reads the module's source and runs nothing. As a program (`python interface.py MODULE:NAME`, in the
application's folder and venv) it loads the module and prints `wsgi` or `asgi`. Needs only Python's own library.
"""

import ast
import importlib
import inspect
import sys
from pathlib import Path
from typing import Literal

Interface = Literal["wsgi", "asgi"]

_ASGI = frozenset((
    "fastapi", "starlette", "quart", "litestar", "blacksheep", "sanic", "channels", "falcon.asgi", "django.core.asgi",
))  # fmt: skip
_WSGI = frozenset(("flask", "django.core.wsgi", "bottle", "pyramid", "falcon", "webob", "cherrypy"))


def by_source(folder: Path, entry: str) -> Interface | None:
    """What the source says; None when only running it could tell.

    Told by the module's usual name (`asgi`, `wsgi`), or by where the class or function that makes NAME comes from.
    """
    module, _, name = entry.partition(":")
    last = module.rpartition(".")[2]
    if last in ("asgi", "wsgi"):
        return "asgi" if last == "asgi" else "wsgi"
    source = _source_of(folder, module)
    if source is None:
        return None
    try:
        tree = ast.parse(source.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return None
    return _judge(tree, name or "application")


def _source_of(folder: Path, module: str) -> Path | None:
    parts = module.split(".")
    for root in (folder, folder / "src"):
        for path in (root.joinpath(*parts).with_suffix(".py"), root.joinpath(*parts, "__init__.py")):
            if path.is_file():
                return path
    return None


def _judge(tree: ast.Module, name: str) -> Interface | None:
    origins = _imports(tree)
    for node in tree.body:
        match node:
            case ast.AsyncFunctionDef() if node.name == name:
                return "asgi"
            case ast.FunctionDef() if (
                node.name == name and len(node.args.args) == 2 and not node.decorator_list
            ):
                return "wsgi"
            case ast.Assign(targets=[ast.Name(id=target)], value=ast.Call(func=function)) if target == name:
                return _kind(_origin(function, origins))
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.Call(func=function)) if target == name:
                return _kind(_origin(function, origins))
            case _:
                pass
    return None


def _imports(tree: ast.Module) -> dict[str, str]:
    """Name in the module -> dotted name of where it comes from."""
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _origin(function: ast.expr, origins: dict[str, str]) -> str:
    if isinstance(function, ast.Attribute):
        return f"{_origin(function.value, origins)}.{function.attr}"
    return origins.get(function.id, "") if isinstance(function, ast.Name) else ""


def _kind(origin: str) -> Interface | None:
    prefixes = [
        "".join(origin[:end]) for end in range(len(origin), 0, -1) if end == len(origin) or origin[end] == "."
    ]
    for prefix in prefixes:  # the longest first: falcon.asgi before falcon
        if prefix in _ASGI:
            return "asgi"
        if prefix in _WSGI:
            return "wsgi"
    return None


def of(application: object) -> Interface:
    """What a loaded application is: ASGI is called with three arguments and awaited (ASGI 3.0), WSGI with two."""
    call = (
        application
        if inspect.isroutine(application) or inspect.isclass(application)
        else type(application).__call__
    )
    if inspect.iscoroutinefunction(call):
        return "asgi"
    try:
        parameters = inspect.signature(application).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "wsgi"
    needed = [
        p
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return "asgi" if len(needed) == 3 else "wsgi"


def main(entry: str) -> None:
    """Load the application as gunicorn does and print what it is. Its errors are its own."""
    sys.path[:0] = [str(Path.cwd()), str(Path.cwd() / "src")]
    module, _, name = entry.partition(":")
    value: object = importlib.import_module(module)
    for part in (name or "application").removesuffix("()").split("."):
        value = getattr(value, part)
    print(of(value() if name.endswith("()") and callable(value) else value))


if __name__ == "__main__":
    main(sys.argv[1])
