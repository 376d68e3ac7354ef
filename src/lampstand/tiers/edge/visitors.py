"""`visitors-1`: the entry that picks an edge for each visitor and speaks TLS. nginx, in front of the edges."""

import hashlib
import ipaddress
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from signal import SIGHUP, SIGQUIT

from lampstand.errors import LampstandError
from lampstand.site import Edge, Site
from lampstand.tiers.balancer.quoting import address, milliseconds, quoted
from lampstand.tiers.templates import add_filter, render
from lampstand.topology import Context, File, Instance, Preparation, Probe, Process

NAME = "visitors-1"
OWN_PATH = "/.lampstand/visitors"
"""What the entry answers itself."""

_ACCOUNT = "www-data"
_ACME_AGAIN = 300
"""Seconds between attempts while there is no certificate."""


@dataclass(frozen=True, slots=True)
class _Upstream:
    name: str
    servers: tuple[str, ...]
    """Its own address first, then those of the others."""


def wanted(site: Site) -> bool:
    """Whether the site has an entry: for TLS, or to pick edges where no DNS does."""
    return bool(site.cdn.edges) and (site.tls.enabled or site.cdn.visitors is not None)


def visitors(context: Context) -> Instance:
    """The entry of a site for which one is wanted."""
    site, place = context.site, context.placement
    folders = {f: place.folder(NAME, f) for f in ("etc", "data", "log", "run")}
    conf, tls = f"{folders['etc']}/visitors.conf", site.tls
    ports = ("http", "https") if tls.enabled else ("http",)
    certificate, key, prepare, scripts = _certificates(context, folders) if tls.enabled else ("", "", (), ())
    text = render(
        "edge",
        "visitors.conf.j2",
        name=NAME,
        site=site.site,
        **{f: folders[f] for f in ("run", "log", "data")},
        connections=site.balancer.connections,
        timeouts=site.balancer.timeouts,
        read_timeout=site.balancer.timeouts.read + 10.0,
        body_limit=site.balancer.body_limit,
        connection_limit=site.balancer.rate_limit.connections,
        exempt=site.balancer.rate_limit.exempt,
        networks=[(n, e.name) for e in site.cdn.edges for n in e.networks],
        countries=[(c, e.name) for e in site.cdn.edges for c in e.countries],
        **_places(context),
        shares=_shares(site.cdn.edges),
        edges=_upstreams(context),
        own_path=OWN_PATH,
        tls=tls.enabled,
        redirect=tls.redirect,
        https_url=_https_url(context),
        hsts=int(tls.hsts or 0),
        certificate=certificate,
        key=key,
        # Only a certificate of the user's may have an authority that answers (OCSP); without one nginx ignores it.
        stapling=tls.mode == "own",
        acme_root=f"{folders['data']}/challenges" if tls.mode == "acme" else "",
        **{port: address(*place.bind(NAME, port)) for port in ports},
    )
    return Instance(
        name=NAME,
        tier="edge",
        kind="visitors",
        processes=tuple(_processes(context, conf, scripts)),
        files=(File(conf, text, on_change="reload"), *scripts),
        folders=(f"{folders['data']}/challenges",) if tls.mode == "acme" else (),
        prepare=prepare,
        endpoints=tuple(context.endpoint(NAME, p, "https" if p == "https" else "http") for p in ports),
        needs=tuple(f"edge-{e.name}" for e in site.cdn.edges),
        probe=Probe("http", "http", OWN_PATH),
        index=1,
    )


def _processes(context: Context, conf: str, scripts: Iterable[File]) -> Iterable[Process]:
    nginx = context.engines.nginx.path
    yield Process(
        name="nginx",
        argv=(nginx, "-c", conf),
        account=_ACCOUNT,
        stop_signal=SIGQUIT,
        stop_seconds=10.0,
        reload=SIGHUP,
        check=(nginx, "-t", "-q", "-c", conf),
    )
    for script in scripts:
        if script.path.endswith("/acme"):
            yield Process(name="acme", argv=("/bin/sh", script.path), account=_ACCOUNT)


def _certificates(
    context: Context, folders: dict[str, str]
) -> tuple[str, str, tuple[Preparation, ...], tuple[File, ...]]:
    """Paths of certificate and key, and what makes them."""
    tls = context.site.tls
    if tls.mode == "own":
        release = context.placement.release(context.release)
        paths = [p if p.startswith("/") else f"{release}/{p}" for p in (tls.certificate or "", tls.key or "")]
        return paths[0], paths[1], (), ()
    names = tls.domains or ("localhost",)
    alternatives = [*map(_alternative, names), *(["IP:127.0.0.1", "IP:::1"] if not tls.domains else [])]
    folder = f"{folders['data']}/tls"
    # A folder for each set of names: when they change a new certificate is made, by the same authority.
    target = f"{folder}/{hashlib.sha256(' '.join(alternatives).encode()).hexdigest()[:12]}"
    script = f"{folders['etc']}/certificate"
    text = render(
        "edge",
        "certificates.sh.j2",
        site=context.site.site,
        names=names,
        alternatives=alternatives,
        folder=folder,
        target=target,
        authority=tls.mode == "local",
    )
    files = [File(script, text, on_change="reload")]
    if tls.mode == "acme":
        acme = render(
            "edge",
            "acme.sh.j2",
            names=names,
            root=f"{folders['data']}/challenges",
            directory=tls.acme_directory,
            email=tls.email,
            folder=folder,
            target=target,
            log=folders["log"],
            pid=f"{folders['run']}/nginx.pid",
            again=_ACME_AGAIN,
        )
        files.append(File(f"{folders['etc']}/acme", acme))
    made = Preparation(f"{target}/fullchain.pem", ("/bin/sh", script), _ACCOUNT)
    return f"{target}/fullchain.pem", f"{target}/privkey.pem", (made,), tuple(files)


def _alternative(name: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"


def _places(context: Context) -> dict[str, str]:
    """The user's map and database of places. They lie in the release."""
    entry, release = context.site.cdn.visitors, context.placement.release(context.release)
    mmdb = f"{release}/{entry.mmdb}" if entry and entry.mmdb else ""
    module = context.engines.nginx.modules
    if mmdb and not module:
        raise LampstandError(
            "nginx's folder of modules is not known, and `cdn.visitors.mmdb` needs its GeoIP2 module",
            mend="install libnginx-mod-http-geoip2",
        )
    return {
        "map_file": f"{release}/{entry.map}" if entry and entry.map else "",
        "mmdb": mmdb,
        "geoip": f"{module}/ngx_http_geoip2_module.so" if mmdb else "",
    }


def _https_url(context: Context) -> str:
    """`https://` and the host that was asked, with the port that visitors use unless it is 443."""
    port = context.placement.public_url().rpartition(":")[2]
    return f"https://$host:{port}" if port.isdigit() and port != "443" else "https://$host"


def _shares(edges: Iterable[Edge]) -> list[tuple[str, str]]:
    """Percentages by weight; the last edge gets the rest, because they must not exceed 100."""
    many = list(edges)
    total = sum(e.weight for e in many)
    return [
        *((f"{int(10000 * e.weight / total) / 100:.2f}%", e.name) for e in many[:-1]),
        ("*", many[-1].name),
    ]


def _upstreams(context: Context) -> list[_Upstream]:
    edges = context.site.cdn.edges
    found = {e.name: address(*context.placement.reach(f"edge-{e.name}", "proxy")) for e in edges}
    return [_Upstream(e.name, (found[e.name], *(a for n, a in found.items() if n != e.name))) for e in edges]


add_filter("edge", "q", quoted)
add_filter("edge", "ms", lambda seconds: milliseconds(float(seconds)))
add_filter("edge", "sh", shlex.quote)
