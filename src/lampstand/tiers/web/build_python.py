"""Packages of a Python application: a venv from requirements.txt or pyproject.toml, with gunicorn in it."""

import re
import tomllib
from pathlib import Path
from typing import Any, cast

from lampstand.engines import Engines
from lampstand.errors import LampstandError
from lampstand.site import Site
from lampstand.tiers.web import interface
from lampstand.tiers.web.environment import TOOLS
from lampstand.tiers.web.tier import entry
from lampstand.tiers.web.workshop import Workshop

SERVER = ("gunicorn>=22,<28",)
"""What serves WSGI, unless the application's own requirements name a version."""
ASGI_SERVER = ("uvicorn-worker>=0.2,<1", "uvicorn>=0.30,<1", "websockets>=12")
"""What serves ASGI beside it, WebSocket included."""

_LOCAL = re.compile(r"^\s*(?:\.{1,2}(?:/|\s|\[|$)|file:|\S+\s*@\s*file:)", re.MULTILINE)
_EDITABLE = re.compile(r"^\s*(?:-e|--editable)[\s=]", re.MULTILINE)
_INCLUDE = re.compile(r"^\s*(?:-r|--requirement|-c|--constraint)[\s=]*(\S+)", re.MULTILINE)


def install(workshop: Workshop, engines: Engines, site: Site) -> None:
    """The venv at `.lampstand/venv`, and the note that says whether the entry is WSGI or ASGI.

    The venv itself lies in the cache under the hash of what it is made of, so that a release with the same
    requirements takes no time. Raises LampstandError when the requirements cannot be read or installed.
    """
    name = entry(site)
    tools = workshop.folder / TOOLS
    tools.mkdir(mode=0o755, exist_ok=True)
    found = interface.by_source(workshop.folder, name)
    venv = _venv(workshop, engines, asgi=found == "asgi")
    if found is None:
        found = _by_import(workshop, venv, name)
        if found == "asgi":
            venv = _venv(workshop, engines, asgi=True)
    (tools / "venv").symlink_to(venv)
    (tools / "interface").write_text(f"{found}\n")
    workshop.note(f"# {name} is {found.upper()}")


def read_requirements(folder: Path) -> str:
    """The text of requirements.txt with the files it includes, or the dependencies of pyproject.toml, one a line.

    Empty when the application has neither. Raises LampstandError for what cannot be installed from here.
    """
    source = folder / "requirements.txt"
    if source.exists():
        text = _with_includes(source.resolve(), set())
        if match := _EDITABLE.search(text):
            raise LampstandError(
                f"requirements.txt asks for an editable package ({match[0].strip()}), which would point to a folder "
                "that moves",
                str(source),
                "write `.` instead of `-e .`",
            )
        return text
    project = folder / "pyproject.toml"
    if not project.exists():
        return ""
    try:
        document = tomllib.loads(project.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LampstandError(f"cannot be read ({error})", str(project), "mend it") from error
    table = cast("dict[str, Any] | None", document.get("project"))
    if table is None and "poetry" in cast("dict[str, Any]", document.get("tool", {})):
        raise LampstandError(
            "pyproject.toml has its dependencies in Poetry's own table",
            str(project),
            "run `poetry export -o requirements.txt`, or move them to [project]",
        )
    if table is not None and "dependencies" in table.get("dynamic", ()):
        raise LampstandError(
            "the dependencies in pyproject.toml are dynamic",
            str(project),
            "write them into requirements.txt, such as with `pip-compile`",
        )
    return "".join(f"{line}\n" for line in cast("list[str]", (table or {}).get("dependencies", [])))


def _with_includes(source: Path, seen: set[Path]) -> str:
    """The file and what it includes: all of it decides whether a venv can be used again."""
    seen.add(source)
    try:
        text = source.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LampstandError(f"cannot be read ({error})", str(source), "mend it or leave it out") from error
    included = ((source.parent / name).resolve() for name in _INCLUDE.findall(text) if "://" not in name)
    return text + "".join(_with_includes(path, seen) for path in included if path not in seen)


def _venv(workshop: Workshop, engines: Engines, *, asgi: bool) -> Path:
    """A venv of the requirements and the server: an earlier one made of the same, or a new one."""
    requirements = read_requirements(workshop.folder)
    server = (*SERVER, *(ASGI_SERVER if asgi else ()))
    inputs = [engines.python3.version, requirements, *server]
    if _LOCAL.search(requirements):
        inputs.append(workshop.final.name)  # the application is itself a package in the venv
    with workshop.kept("venv", *inputs) as (venv, complete):
        if complete:
            workshop.note(f"# {venv.name}: made for a release with the same requirements")
            return venv
        workshop.run(
            (engines.python3.path, "-m", "venv", str(venv)),
            purpose="making a Python venv",
            mend="install Debian's package `python3-venv`",
        )
        source = workshop.folder / "requirements.txt"
        wanted = ("--requirement", str(source)) if source.exists() else tuple(requirements.splitlines())
        if "--hash=" in requirements:
            # With one hash pip asks for a hash of everything, so what we add goes in by itself.
            _pip(workshop, venv, *wanted, purpose="installing Python packages")
            _pip(workshop, venv, *server, purpose="installing the application server")
        else:
            _pip(workshop, venv, *wanted, *server, purpose="installing Python packages")
        return venv


def _pip(workshop: Workshop, venv: Path, *wanted: str, purpose: str) -> None:
    workshop.run(
        (
            f"{venv}/bin/python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
            *wanted,
        ),
        purpose=purpose,
        mend="mend the requirements, or the way to the package index (PIP_INDEX_URL)",
    )


def _by_import(workshop: Workshop, venv: Path, name: str) -> interface.Interface:
    """What the loaded entry is; WSGI, with a note in the log, when it cannot be loaded without its servers."""
    # Its text rather than its path: the builder may not be allowed to read where Lampstand is installed.
    program = Path(interface.__file__).read_text("utf-8")
    output, code = workshop.ask((f"{venv}/bin/python", "-c", program, name))
    last = output.strip().splitlines()[-1:] or [""]
    if code == 0 and last[0] in ("wsgi", "asgi"):
        return "asgi" if last[0] == "asgi" else "wsgi"
    workshop.note(
        f"# {name} could not be loaded to see whether it is WSGI or ASGI; WSGI is assumed:\n{output}"
    )
    return "wsgi"
