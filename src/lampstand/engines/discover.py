"""Finding the engines on this machine.

Programs are looked for in the distribution's folders first, because an ordinary user's PATH lacks /usr/sbin and a
developer's PATH puts private copies (of Python, say) in front that service accounts cannot run. Versions come from the
programs themselves; the answers are kept in the user's cache folder, keyed by each file's identity, so that looking
again costs a few `stat` calls.
"""

import glob
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import which
from typing import cast

from lampstand.engines.facts import Engine, Engines, parse_version
from lampstand.engines.needs import REQUIREMENTS

_FOLDERS = ("/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/sbin", "/bin")
_ASK_SECONDS = 10.0
_DPKG_STATUS = "/var/lib/dpkg/status"
_LIST = Path(__file__).parent / "debian.txt"


@dataclass(frozen=True, slots=True)
class Lookup:
    """How one engine is found and asked for its version."""

    program: str = ""
    """Name of the program, in the folders of `_FOLDERS`, then in PATH."""
    file: str = ""
    """Pattern of an absolute path instead: for modules and data."""
    ask: tuple[str, ...] = ()
    """Arguments that make the program print its version; none: it is not asked."""
    says: str = r"(\d+(?:\.\d+)+)"
    """The version within what it prints."""
    modules: tuple[str, ...] = ()
    """Patterns of the folder with its modules; the first that exists."""


_MARIADB = r"(\d+(?:\.\d+)+)-MariaDB"  # the client prints a protocol version before its own

LOOKUPS: Mapping[str, Lookup] = {
    "python3": Lookup("python3", ask=("--version",)),
    "logrotate": Lookup("logrotate"),
    "perl": Lookup("perl", ask=("-v",)),
    "plackup": Lookup("plackup"),
    "starman": Lookup("starman", ask=("--version",)),
    "nginx": Lookup("nginx", ask=("-v",), modules=("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules")),
    "nginx_stream": Lookup(file="/usr/lib*/nginx/modules/ngx_stream_module.so"),
    "nginx_brotli": Lookup(file="/usr/lib*/nginx/modules/ngx_http_brotli_static_module.so"),
    "apache": Lookup("apache2", ask=("-v",), modules=("/usr/lib/apache2/modules",)),
    "mime_types": Lookup(file="/etc/mime.types"),
    "mariadbd": Lookup("mariadbd", ask=("--version",), says=_MARIADB),
    "mariadb_install_db": Lookup("mariadb-install-db"),
    "mariadb": Lookup("mariadb", ask=("--version",), says=_MARIADB),
    "mariadb_dump": Lookup("mariadb-dump"),
    "mariadb_binlog": Lookup("mariadb-binlog"),
    "mariadb_backup": Lookup("mariadb-backup", ask=("--version",), says=_MARIADB),
    "mbstream": Lookup("mbstream"),
    "redis_server": Lookup("redis-server", ask=("--version",)),
    "redis_cli": Lookup("redis-cli", ask=("--version",)),
    "cc": Lookup("gcc"),
    "varnishd": Lookup(
        "varnishd", ask=("-V",), modules=("/usr/lib/*-linux-gnu*/varnish/vmods", "/usr/lib*/varnish/vmods")
    ),
    "varnishadm": Lookup("varnishadm"),
    "varnishncsa": Lookup("varnishncsa"),
    "varnishlog": Lookup("varnishlog"),
    "vmod_xkey": Lookup(file="/usr/lib/*-linux-gnu*/varnish/vmods/libvmod_xkey.so"),
    "hitch": Lookup("hitch", ask=("--version",)),
    "certbot": Lookup("certbot"),
    "wrk": Lookup("wrk"),
    "h2load": Lookup("h2load"),
}
"""All engines but PHP, whose version is part of its programs' names."""

_PHP = Lookup(ask=("-v",))


def discover(cache: Path | None = None) -> Engines:
    """The engines on this machine.

    About a millisecond when nothing changed since the last call, about half a second the first time. `cache` is the
    file that keeps the answers (default: `lampstand/engines.json` in the user's cache folder); a cache that cannot be
    read or written only costs time. A program that cannot be run or takes longer than 10 s to answer has no version.
    """
    file = cache or _cache_file()
    kept = _read_cache(file)
    paths = {name: _locate(lookup) for name, lookup in LOOKUPS.items()}
    paths["php_fpm"], paths["php"] = _locate_php()
    lookups = {name: LOOKUPS.get(name, _PHP) for name, path in paths.items() if path}

    # What there is to know, by the identity of the file that it is about.
    questions: dict[str, Callable[[], str]] = {
        _identity(paths[name]): partial(_ask, (paths[name], *lookup.ask), lookup.says)
        for name, lookup in lookups.items()
        if lookup.ask
    }
    status = _identity(_DPKG_STATUS)
    if status:
        # The list of what to ask for is part of the question: a newer Lampstand asks for more.
        status = f"{status} {_identity(str(_LIST))}"
        questions[status] = _installed
    answers = {key: kept[key] for key in questions if key in kept}
    news = {key: ask for key, ask in questions.items() if key not in kept}
    if news:
        answers |= _all_at_once(news)
        _write_cache(file, answers)

    found = {
        name: Engine(
            paths[name],
            answers[_identity(paths[name])] if lookup.ask else "",
            _first_folder(lookup.modules),
        )
        for name, lookup in lookups.items()
    }
    return Engines(packages=frozenset(answers[status].split()) if status else None).with_engines(found)


def _locate(lookup: Lookup) -> str:
    if lookup.file:
        return max(glob.glob(lookup.file), default="")
    for folder in _FOLDERS:
        path = f"{folder}/{lookup.program}"
        if os.access(path, os.X_OK):
            return path
    return which(lookup.program) or ""


def _locate_php() -> tuple[str, str]:
    """Paths of php-fpm and of the command line of the same version.

    Debian installs /usr/sbin/php-fpm8.2 and no plain name. With several versions, the one of /usr/bin/php (the
    system's alternative) is what the user's own commands run, so it is the one; otherwise the newest.
    """
    default = os.path.realpath("/usr/bin/php").rpartition("/php")[2]
    suffixes = [path.rpartition("/php-fpm")[2] for path in glob.glob("/usr/sbin/php-fpm*")]
    numbered = [suffix for suffix in suffixes if parse_version(suffix)]
    suffix = default if default in suffixes else max(numbered, key=parse_version, default="")
    fpm = _locate(Lookup(f"php-fpm{suffix}"))
    return fpm, _locate(Lookup(f"php{suffix}")) or _locate(Lookup("php"))


def _first_folder(patterns: Iterable[str]) -> str:
    return next((path for pattern in patterns for path in sorted(glob.glob(pattern))), "")


def _ask(argv: tuple[str, ...], says: str) -> str:
    """The version a program prints; empty when it cannot be run or says none."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_ASK_SECONDS,
            env={"PATH": ":".join(_FOLDERS), "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = re.search(says, done.stdout.decode("utf-8", "replace"))
    return match[1] if match else ""


def _installed() -> str:
    """The packages of `debian.txt` that are installed, with spaces between, by one question to dpkg."""
    names = sorted({requirement.package for requirement in REQUIREMENTS})
    argv = ("dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\n", *names)
    # dpkg-query ends with 1 when it does not know one of them, and prints the others.
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    rows = (line.partition(" ") for line in done.stdout.splitlines())
    return " ".join(package for state, _, package in rows if state == "installed")


def _all_at_once(questions: Mapping[str, Callable[[], str]]) -> dict[str, str]:
    """The answers; programs are started side by side, because each spends its time on loading."""
    if not questions:
        return {}
    from concurrent.futures import ThreadPoolExecutor  # costs more to import than a warm discovery takes

    with ThreadPoolExecutor(max_workers=4) as pool:
        futures = {name: pool.submit(ask) for name, ask in questions.items()}
        return {name: future.result() for name, future in futures.items()}


def _identity(path: str) -> str:
    """What changes when the file does; empty when there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return ""
    return f"{path} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns}"


def _cache_file() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home, "lampstand", "engines.json")


def _read_cache(file: Path) -> dict[str, str]:
    """The kept answers. A file of somebody else's is not believed."""
    try:
        if file.stat().st_uid != os.geteuid():
            return {}
        data = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(data, dict):
        return {}
    return {k: v for k, v in cast("dict[str, object]", data).items() if isinstance(v, str)}


def _write_cache(file: Path, kept: Mapping[str, str]) -> None:
    """Replaces the file as a whole, so that a second process never reads half of it."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(kept, indent=1), "utf-8")
        part.replace(file)
    except OSError:
        with suppress(OSError):
            part.unlink()
