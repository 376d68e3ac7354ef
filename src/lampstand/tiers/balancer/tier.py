"""`balancer-1…` (HTTP) and `gateway-1` (TCP to the data tiers), both nginx.

Rendered files say how the site is built; which servers get traffic is in live files, which the controller rewrites
(`lampstand.controller.routes`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from signal import SIGHUP, SIGQUIT, SIGTERM, Signals

from lampstand.site import RateLimit
from lampstand.tiers.balancer import live, statics
from lampstand.tiers.balancer.quoting import address, milliseconds, patterns_regex, quoted, quoted_value
from lampstand.tiers.templates import add_filter, render
from lampstand.tiers.web.tier import trusted_networks
from lampstand.topology import Context, Endpoint, File, Instance, Probe, Process

ROOM = "balancer"
ACCOUNT = "www-data"

PHP_SCRIPTS = "php[0-9]?|phtml|phps|pht|phar"
SCRIPTS = f"{PHP_SCRIPTS}|inc|py[co]?|pl|pm|psgi|cgi|rb|sh|sql|bak|orig|sw[op]"
"""Endings of files that are never given away as they are."""

PAGES: tuple[tuple[str, int, str, str], ...] = (
    ("502", 502, "The site does not answer", "No web server could be reached. Please try again in a moment."),
    ("503_plain", 503, "Closed for maintenance", "The site is being worked on and will be back soon."),
    ("504", 504, "The site took too long", "There was no answer in time; what was asked may have been done."),
)
"""Location, status, title and text of the answers that nginx gives in the place of the application."""

LINGER = 3600
"""Seconds that connections of an old worker live on after a reload: long requests, WebSockets, database sessions."""

GATEWAY_PORTS: tuple[tuple[str, bool], ...] = (
    ("writer", False),
    ("reader", True),
    ("cache", False),
    ("sessions", False),
)
"""Ports of the gateway, and whether another server may be tried when one refuses."""

GATEWAY_CONNECTIONS = 8192

ROUTES = "live/routes.conf"
RELEASES = "live/releases.conf"
MAINTENANCE = "live/maintenance.conf"
"""Live files, relative to the folder of the configuration. Beside the last one may lie a `maintenance.html`."""


@dataclass(frozen=True, slots=True)
class _Limit:
    zone: str
    rate: str
    burst: int
    regex: str = ""


def expand(context: Context) -> Iterable[Instance]:
    """The balancers and the gateway."""
    for index in range(1, context.site.balancer.servers + 1):
        yield _balancer(context, f"balancer-{index}", index)
    yield _gateway(context)


def _balancer(context: Context, name: str, index: int) -> Instance:
    site, place = context.site, context.placement
    balancer, etc = site.balancer, place.folder(name, "etc")
    limits = _limits(balancer.rate_limit)
    buffer = max(8192, balancer.header_limit // 2)
    shared = {
        "name": name,
        "limits": limits,
        "connection_limit": balancer.rate_limit.connections,
        "brotli": context.engines.nginx_brotli.path if balancer.gzip else "",
    }
    nginx = render(
        ROOM,
        "nginx.conf.j2",
        site=site.site,
        run=place.folder(name, "run"),
        log=place.folder(name, "log"),
        data=place.folder(name, "data"),
        workers=balancer.processes or "auto",
        connections=balancer.connections,
        files_limit=2 * balancer.connections + 512,
        linger=LINGER,
        timeouts=balancer.timeouts,
        body_limit=balancer.body_limit,
        header_limit=balancer.header_limit,
        buffer=buffer,
        busy=max(balancer.header_limit, buffer),
        trusted=_trusted(context, name),
        exempt=balancer.rate_limit.exempt,
        gzip=balancer.gzip,
        **{port: address(*place.bind(name, port)) for port in ("http", "unsafe", "status")},
        **shared,
    )
    locations = render(
        ROOM,
        "site.conf.j2",
        live=f"{etc}/live",
        php=site.app.runtime == "php",
        statics=statics.files(site),
        uploads=statics.uploads(site),
        shared=place.uploads(),
        scripts=SCRIPTS,
        php_scripts=PHP_SCRIPTS,
        allow=balancer.allow,
        deny=balancer.deny,
        pages=PAGES,
        **shared,
    )
    in_use = dict.fromkeys((context.release, *context.releases.values()))
    found = [*(place.release(release) for release in in_use), *filter(None, [context.assets])]
    return Instance(
        name=name,
        tier="balancer",
        kind="balancer",
        processes=(_nginx(context, name, stop=SIGQUIT, seconds=10.0),),
        files=(
            File(f"{etc}/nginx.conf", nginx, on_change="reload"),
            File(f"{etc}/site.conf", locations, on_change="reload"),
        ),
        live_files=(
            File(f"{etc}/{ROUTES}", live.web_routes(())),
            File(f"{etc}/{RELEASES}", live.releases(found)),
            File(f"{etc}/{MAINTENANCE}", live.maintenance()),
        ),
        endpoints=tuple(context.endpoint(name, port, "http") for port in ("http", "unsafe", "status")),
        needs=tuple(f"web-{number}" for number in range(1, site.web.servers + context.surge + 1)),
        probe=Probe("http", "http", path="/.lampstand/health"),
        memory=balancer.memory,
        index=index,
    )


def _gateway(context: Context) -> Instance:
    name = "gateway-1"
    site, place = context.site, context.placement
    etc = place.folder(name, "etc")
    config = render(
        ROOM,
        "gateway.conf.j2",
        name=name,
        site=site.site,
        module=context.engines.nginx_stream.path,
        run=place.folder(name, "run"),
        log=place.folder(name, "log"),
        linger=LINGER,
        connections=GATEWAY_CONNECTIONS,
        files_limit=2 * GATEWAY_CONNECTIONS + 512,
        connect=min(1.0, site.balancer.timeouts.connect),
        ports=[(port, address(*place.bind(name, port)), retry) for port, retry in GATEWAY_PORTS],
        status=address(*place.bind(name, "status")),
    )
    groups = (
        ("database", 1 + site.database.replicas),
        ("cache", 1 + site.cache.replicas),
        ("sessions", 1 + site.sessions.replicas),
    )
    return Instance(
        name=name,
        tier="balancer",
        kind="gateway",
        # It has nothing to finish: a database session ends when its client ends it.
        processes=(_nginx(context, name, stop=SIGTERM, seconds=5.0),),
        files=(File(f"{etc}/nginx.conf", config, on_change="reload"),),
        live_files=(File(f"{etc}/{ROUTES}", live.gateway_routes([(port, ()) for port, _ in GATEWAY_PORTS])),),
        endpoints=tuple(_gateway_endpoints(context, name)),
        needs=tuple(f"{kind}-{number}" for kind, servers in groups for number in range(1, servers + 1)),
        # Not one of the ports of the data tiers: a connection that ends without a word counts there as an attack.
        probe=Probe("tcp", "status"),
        index=1,
    )


def _gateway_endpoints(context: Context, name: str) -> Iterable[Endpoint]:
    for port in ("writer", "reader"):
        yield context.endpoint(name, port, "mysql")
    for port in ("cache", "sessions"):
        yield context.endpoint(name, port, "redis")
    yield context.endpoint(name, "status", "tcp")


def _nginx(context: Context, name: str, stop: Signals, seconds: float) -> Process:
    """nginx in the foreground with nothing of the system's: prefix, configuration and first log are the instance's."""
    place, nginx = context.placement, context.engines.nginx
    config, first_log = f"{place.folder(name, 'etc')}/nginx.conf", f"{place.folder(name, 'log')}/error.log"
    argv = (nginx.path, "-p", place.folder(name, "data"), "-e", first_log, "-c", config)
    return Process(
        name="nginx",
        argv=argv,
        account=ACCOUNT,
        stop_signal=stop,
        stop_seconds=seconds,
        reload=SIGHUP,
        check=(*argv, "-t", "-q"),
    )


def _trusted(context: Context, name: str) -> tuple[str, ...]:
    """Networks whose X-Forwarded-For and -Proto are believed: the edges' and those of the site file."""
    site = context.site
    fronted = site.cdn.edges or site.cdn.visitors is not None or site.tls.enabled
    own = trusted_networks(context.placement.bind(name, "http")[0]) if fronted else ()
    return tuple(dict.fromkeys((*own, *site.balancer.trusted)))


def _limits(rate: RateLimit) -> tuple[_Limit, ...]:
    found = [
        _Limit(f"paths_{number}", _rate(path.per_client), path.burst, patterns_regex(path.match))
        for number, path in enumerate(rate.paths, 1)
    ]
    if rate.per_client is not None:
        found.append(_Limit("all", _rate(rate.per_client), rate.burst))
    return tuple(found)


def _rate(per_second: float) -> str:
    """nginx counts whole requests a second or a minute; a rate between two is the next higher one."""
    if per_second >= 1 and per_second == int(per_second):
        return f"{int(per_second)}r/s"
    return f"{max(1, -int(-per_second * 60 // 1))}r/m"


for _filter, _function in (("q", quoted), ("qv", quoted_value), ("ms", milliseconds)):
    add_filter(ROOM, _filter, _function)  # pyright: ignore[reportArgumentType]
