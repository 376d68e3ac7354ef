"""What is known about engines: where they are, which version, where their modules lie."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal

Release = Literal["bookworm", "trixie"]
"""Debian 12 and 13, by the names that image tags and package archives use."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One program, or one module of a program. It is there when it is true: `if engines.nginx: …`."""

    path: str = ""
    """Absolute path, empty when it is not there."""
    version: str = ""
    """As the program says it (`1.22.1`), empty when it does not say or was not asked."""
    modules: str = ""
    """Absolute path of the folder that holds its loadable modules or plug-ins, empty when it has none."""

    def __bool__(self) -> bool:
        return bool(self.path)

    @property
    def release(self) -> tuple[int, ...]:
        """The version to compare: `(1, 22, 1)`; `()` when it is unknown."""
        return parse_version(self.version)


_ABSENT = Engine()


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """Every engine, there or not. Rendering reads paths from here, so they are written nowhere else."""

    python3: Engine = _ABSENT
    """The distribution's Python, which every account can run; for the venvs of applications."""
    logrotate: Engine = _ABSENT
    perl: Engine = _ABSENT
    plackup: Engine = _ABSENT
    starman: Engine = _ABSENT
    php: Engine = _ABSENT
    """The command line of the same version as `php_fpm`."""
    php_fpm: Engine = _ABSENT
    nginx: Engine = _ABSENT
    nginx_stream: Engine = _ABSENT
    nginx_brotli: Engine = _ABSENT
    """nginx's module that serves files which are compressed already."""
    """The file for `load_module`."""
    apache: Engine = _ABSENT
    mime_types: Engine = _ABSENT
    """The file for Apache's `TypesConfig`."""
    mariadbd: Engine = _ABSENT
    mariadb_install_db: Engine = _ABSENT
    mariadb: Engine = _ABSENT
    """The command-line client."""
    mariadb_dump: Engine = _ABSENT
    mariadb_binlog: Engine = _ABSENT
    mariadb_backup: Engine = _ABSENT
    mbstream: Engine = _ABSENT
    """Unpacks the stream that `mariadb_backup` writes."""
    redis_server: Engine = _ABSENT
    redis_cli: Engine = _ABSENT
    cc: Engine = _ABSENT
    """The C compiler by which varnishd turns VCL into machine code; Debian 13's varnish only recommends it."""
    varnishd: Engine = _ABSENT
    varnishadm: Engine = _ABSENT
    varnishncsa: Engine = _ABSENT
    varnishlog: Engine = _ABSENT
    vmod_xkey: Engine = _ABSENT
    """The module's file; VCL imports it by its name, because the folder differs between processors."""
    hitch: Engine = _ABSENT
    certbot: Engine = _ABSENT
    wrk: Engine = _ABSENT
    h2load: Engine = _ABSENT
    packages: frozenset[str] | None = field(default=None, repr=False)
    """Names of the installed Debian packages among those that `debian.txt` lists; None where there is no dpkg."""

    def __getitem__(self, name: str) -> Engine:
        """The engine of that field name, as `debian.txt` writes it. Raises KeyError."""
        if name not in NAMES:
            raise KeyError(name)
        value: Engine = getattr(self, name)
        return value

    def with_engines(self, found: Mapping[str, Engine]) -> "Engines":
        """A copy with some engines replaced. Raises TypeError for a name that is none."""
        changes: dict[str, Engine] = dict(found)
        return replace(self, **changes)  # pyright: ignore[reportArgumentType]  # `packages` is not among them


NAMES: tuple[str, ...] = tuple(f.name for f in fields(Engines) if f.name != "packages")
"""The names of all engines."""


def parse_version(text: str) -> tuple[int, ...]:
    """`"10.11.19"` -> `(10, 11, 19)`; what is not a number ends it, and an empty text gives `()`."""
    numbers: list[int] = []
    for part in text.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)


_VERSIONS: Mapping[Release, Mapping[str, str]] = {
    "bookworm": {
        "python3": "3.11", "perl": "5.36", "starman": "0.4016", "php": "8.2", "nginx": "1.22", "apache": "2.4",
        "mariadb": "10.11", "redis": "7.0", "varnish": "7.1", "hitch": "1.7",
    },
    "trixie": {
        "python3": "3.13", "perl": "5.40", "starman": "0.4018", "php": "8.4", "nginx": "1.26", "apache": "2.4",
        "mariadb": "11.8", "redis": "8.0", "varnish": "7.7", "hitch": "1.8",
    },
}  # fmt: skip


def for_debian(release: Release, machine: str = "x86_64") -> Engines:
    """The engines as Debian's packages lay them out, without looking: for container images and for golden tests.

    Versions have two parts, because a release of Debian keeps them and moves the third. `machine` is what `uname -m`
    prints. tests/fresh checks these facts on bare machines.
    """
    versions = _VERSIONS[release]
    php, mariadb, varnish = versions["php"], versions["mariadb"], versions["varnish"]
    return Engines(
        python3=Engine("/usr/bin/python3", versions["python3"]),
        logrotate=Engine("/usr/sbin/logrotate"),
        perl=Engine("/usr/bin/perl", versions["perl"]),
        plackup=Engine("/usr/bin/plackup"),
        starman=Engine("/usr/bin/starman", versions["starman"]),
        php=Engine(f"/usr/bin/php{php}", php),
        php_fpm=Engine(f"/usr/sbin/php-fpm{php}", php),
        nginx=Engine("/usr/sbin/nginx", versions["nginx"], "/usr/lib/nginx/modules"),
        nginx_stream=Engine("/usr/lib/nginx/modules/ngx_stream_module.so"),
        nginx_brotli=Engine("/usr/lib/nginx/modules/ngx_http_brotli_static_module.so"),
        apache=Engine("/usr/sbin/apache2", versions["apache"], "/usr/lib/apache2/modules"),
        mime_types=Engine("/etc/mime.types"),
        mariadbd=Engine("/usr/sbin/mariadbd", mariadb),
        mariadb_install_db=Engine("/usr/bin/mariadb-install-db"),
        mariadb=Engine("/usr/bin/mariadb", mariadb),
        mariadb_dump=Engine("/usr/bin/mariadb-dump"),
        mariadb_binlog=Engine("/usr/bin/mariadb-binlog"),
        mariadb_backup=Engine("/usr/bin/mariadb-backup", mariadb),
        mbstream=Engine("/usr/bin/mbstream"),
        redis_server=Engine("/usr/bin/redis-server", versions["redis"]),
        redis_cli=Engine("/usr/bin/redis-cli", versions["redis"]),
        cc=Engine("/usr/bin/gcc"),
        varnishd=Engine("/usr/sbin/varnishd", varnish, f"/usr/lib/{machine}-linux-gnu/varnish/vmods"),
        varnishadm=Engine("/usr/bin/varnishadm"),
        varnishncsa=Engine("/usr/bin/varnishncsa"),
        varnishlog=Engine("/usr/bin/varnishlog"),
        vmod_xkey=Engine(f"/usr/lib/{machine}-linux-gnu/varnish/vmods/libvmod_xkey.so"),
        hitch=Engine("/usr/sbin/hitch", versions["hitch"]),
        certbot=Engine("/usr/bin/certbot"),
        wrk=Engine("/usr/bin/wrk"),
        h2load=Engine("/usr/bin/h2load"),
    )


BOOKWORM = for_debian("bookworm")
TRIXIE = for_debian("trixie")
