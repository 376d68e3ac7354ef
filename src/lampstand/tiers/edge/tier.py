"""Expands a site into its edges: one Varnish each, in front of the balancers."""

from collections.abc import Iterable

from lampstand.site import Edge
from lampstand.tiers.edge.vcl import OWN_PATH, Backend, edge_vcl
from lampstand.tiers.edge.visitors import visitors, wanted
from lampstand.topology import Context, Endpoint, File, Instance, Probe, Process

ACCOUNT = "vcache"
"""Debian's account for Varnish's worker. The whole process runs under it: ports above 1024 need nothing more."""

LEAVING = "leaving"
"""A file of this name in the run folder says that the edge is about to stop: Varnish does not finish the requests it is
at, so whoever keeps a connection is told to open another one elsewhere first."""

_OVERHEAD = 48 * 2**20
"""Bytes an edge uses besides what it keeps: threads, workspaces, the log in shared memory."""

_PARAMETERS: tuple[tuple[str, str], ...] = (
    ("default_ttl", "0"),  # nothing is fresh that does not say so; rules.py decides on guesses
    ("default_grace", "0"),
    ("shortlived", "0"),  # short-lived answers belong to the bounded storage too
    ("thread_pools", "1"),
    ("thread_pool_min", "10"),
    ("thread_pool_max", "1000"),
    ("thread_queue_limit", "1000"),  # a wave of misses waits instead of being dropped
    ("listen_depth", "4096"),
    ("vsl_space", "8M"),  # the log in shared memory; 80 MB by default
    ("http_req_hdr_len", "16k"),
    ("http_req_size", "48k"),
    ("http_resp_hdr_len", "32k"),  # an application that sends many tags or a long policy
    ("http_resp_size", "64k"),
    ("http_max_hdr", "128"),
    ("workspace_client", "160k"),
    ("workspace_backend", "192k"),
    ("timeout_idle", "15"),
    (
        "backend_idle_timeout",
        "20",
    ),  # less than the balancer keeps a connection, so that it is never the one to close
    ("ban_lurker_age", "1"),
)
"""What differs from Varnish's own defaults; the README says why."""


def edge_name(edge: Edge) -> str:
    """`fra` -> `edge-fra`."""
    return f"edge-{edge.name}"


def expand(context: Context) -> Iterable[Instance]:
    """The visitors' entry where there is one, then one instance for each edge of `cdn.edges`, in that order."""
    if wanted(context.site):
        yield visitors(context)
    for index, edge in enumerate(context.site.cdn.edges, 1):
        yield _instance(context, edge, index)


def _instance(context: Context, edge: Edge, index: int) -> Instance:
    site, placement, engines = context.site, context.placement, context.engines
    name = edge_name(edge)
    etc, workdir = placement.folder(name, "etc"), f"{placement.folder(name, 'run')}/varnish"
    vcl, token, reload = f"{etc}/edge.vcl", f"{etc}/purge-token", f"{etc}/reload"
    memory = edge.memory or site.cdn.memory
    shield = site.cdn.shield == edge.name
    # Sockets by what is believed of a request: nothing, another edge, the visitors' entry.
    ports = ["http", *(["shield"] if shield else []), *(["proxy"] if wanted(site) else [])]
    argv = [engines.varnishd.path, "-F", "-n", workdir, "-i", name, "-f", vcl, "-s", f"malloc,{memory}"]
    for port in ports:
        host, number = placement.bind(name, port)
        argv += ["-a", f"{port}={host}:{number},HTTP"]
    host, number = placement.bind(name, "admin")
    argv += ["-T", f"{host}:{number}"]
    # VCL is compiled at each start. It spends its time in the library of regular expressions, so -O1 loses nothing.
    argv += ["-p", f"cc_command=exec {engines.cc.path or 'cc'} -O1 -fpic -shared -pthread -o %o %s"]
    for parameter, value in _PARAMETERS:
        argv += ["-p", f"{parameter}={value}"]
    process = Process(
        name="varnish",
        argv=tuple(argv),
        account=ACCOUNT,
        stop_seconds=5.0,
        reload=("/bin/sh", reload, engines.varnishadm.path, workdir, vcl),
    )
    backends = tuple(_backends(context, edge))
    text = edge_vcl(
        site,
        name,
        backends,
        token_file=token,
        leaving_file=f"{placement.folder(name, 'run')}/{LEAVING}",
        purgers=site.cdn.purge.allow,
    )
    return Instance(
        name=name,
        tier="edge",
        kind="edge",
        processes=(process, _access_log(context, name, workdir)) if site.cdn.access_log else (process,),
        files=(
            File(vcl, text, on_change="reload"),
            File(token, context.secrets["purge"], mode=0o600, secret=True),
            File(reload, _RELOAD, on_change="reload"),
        ),
        folders=(workdir,),
        endpoints=tuple(_endpoints(context, name, (*ports, "admin"))),
        needs=tuple(dict.fromkeys(b.instance for b in backends)),
        probe=Probe("http", "http", OWN_PATH),
        memory=memory + _OVERHEAD,
        index=index,
    )


_LOG_FORMAT = (
    '{"time":"%{%Y-%m-%dT%H:%M:%S+00:00}t","request_id":"%{X-Request-Id}i","server":"SERVER","client":"%{x-edge-client}i",'
    '"method":"%m","host":"%{Host}i","uri":"%U%q","protocol":"%H","status":"%s","bytes":%O,"microseconds":%D,'
    '"cache":"%{X-Cache}o","referer":"%{Referer}i","agent":"%{User-Agent}i"}'
)
"""One JSON object a line, like the balancers' log (varnishncsa(1); `-j` escapes)."""


def _access_log(context: Context, name: str, workdir: str) -> Process:
    """Writes what the edge answers: most of it never reaches a balancer, whose log would not know."""
    return Process(
        name="log",
        argv=(
            context.engines.varnishncsa.path or "varnishncsa",
            *(
                "-n",
                workdir,
                "-t",
                "off",
                "-j",
                "-a",
                "-w",
                f"{context.placement.folder(name, 'log')}/access.log",
            ),
            *("-q", r'not ReqURL ~ "^/\.lampstand/"', "-F", _LOG_FORMAT.replace("SERVER", name)),
        ),
        account=ACCOUNT,
        # In a container of its own the process that varnishd's shared memory names is another one.
        env=(("VSM_NOPID", "1"),),
        stop_seconds=2.0,
    )


def _endpoints(context: Context, name: str, ports: Iterable[str]) -> Iterable[Endpoint]:
    for port in ports:
        yield context.endpoint(name, port, "tcp" if port == "admin" else "http")


def _backends(context: Context, edge: Edge) -> Iterable[Backend]:
    cdn, placement = context.site.cdn, context.placement
    if cdn.shield is not None and cdn.shield != edge.name:
        yield Backend(
            "shield", f"edge-{cdn.shield}", *placement.reach(f"edge-{cdn.shield}", "shield"), "shield"
        )
    for number in range(1, context.site.balancer.servers + 1):
        balancer = f"balancer-{number}"
        yield Backend(f"balancer_{number}", balancer, *placement.reach(balancer, "http"), "origin")
        yield Backend(f"balancer_{number}_anyway", balancer, *placement.reach(balancer, "unsafe"), "anyway")
        yield Backend(f"balancer_{number}_unsafe", balancer, *placement.reach(balancer, "unsafe"), "unsafe")


_RELOAD = """\
#!/bin/sh
# reload VARNISHADM WORKDIR FILE: load the file under a new name, use it, forget the one before. Written by Lampstand.
set -eu
new="v$(date +%s%N)"
old=$("$1" -n "$2" vcl.list | awk '$1 == "active" { print $NF }')
"$1" -n "$2" vcl.load "$new" "$3"
"$1" -n "$2" vcl.use "$new"
"$1" -n "$2" vcl.discard "$old" || true
"""
