"""What a release is for the machines: one JSON document with the files and containers of each kind of
machine.

A machine is a whole site of one server without its data tiers: the same nginx, the same web server and the
same application as on every other target, rendered by the same code. What differs is the gateway, which
leads to RDS and ElastiCache. No secret and no address is in the document: names stand for them, and the
machine puts them in.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lampstand.site import Site
from lampstand.site.cdn import glob_regex
from lampstand.targets.aws.application import BOOT_SECONDS
from lampstand.targets.aws.machine_names import SECRET, VALUE
from lampstand.targets.aws.scope import CACHE_PORT, DATABASE_PORT, HTTP_PORT, Scope
from lampstand.targets.aws.viewer import PROTO_HEADER, templates
from lampstand.targets.docker.images import engines_of
from lampstand.targets.docker.placement import RELEASES, UPLOADS
from lampstand.tiers.balancer import live
from lampstand.tiers.balancer.quoting import quoted
from lampstand.tiers.balancer.tier import ROUTES
from lampstand.tiers.edge.rules import behaviours
from lampstand.tiers.web.environment import application_environment
from lampstand.topology import SECRETS, Context, File, Folder, Instance, Process, Topology, expand

BASE = "/var/lib/lampstand"
PORTS: Mapping[tuple[str, str], int] = {
    ("balancer-1", "http"): HTTP_PORT,
    ("balancer-1", "unsafe"): 8082,
    ("balancer-1", "status"): 8083,
    ("web-1", "http"): 8081,
    ("gateway-1", "writer"): DATABASE_PORT,
    ("gateway-1", "reader"): 3307,
    ("gateway-1", "cache"): CACHE_PORT,
    ("gateway-1", "sessions"): 6380,
    ("gateway-1", "status"): 8084,
}
IMAGES: Mapping[str, str] = {"balancer": "balancer", "gateway": "balancer", "web": "web", "worker": "web",
                             "scheduler": "web"}  # fmt: skip
"""Kind of instance -> which of the two images it runs: nginx, or the application with its web server."""
ALB_IDLE = 60
SAFE_VARY = ("accept-encoding", "cookie", "authorization", "host", "content-length")
"""Headers that are part of CloudFront's key for pages."""


@dataclass(frozen=True)
class MachinePlacement:
    """Addresses and folders on a machine, the same inside and outside of its containers."""

    def bind(self, instance: str, port: str) -> tuple[str, int]:
        host = "0.0.0.0" if (instance, port) == ("balancer-1", "http") else "127.0.0.1"
        return host, PORTS.get((instance, port), 0)

    def reach(self, instance: str, port: str) -> tuple[str, int]:
        return "127.0.0.1", PORTS.get((instance, port), 0)

    def folder(self, instance: str, folder: Folder) -> str:
        return f"{BASE}/instances/{instance}/{folder}"

    def release(self, release: str) -> str:
        """Where the image has the release."""
        return f"{RELEASES}/{release}"

    def uploads(self) -> str:
        return UPLOADS

    def public_url(self) -> str:
        return VALUE % "url"


def machine_site(site: Site) -> Site:
    """The site as one machine sees it: one server of each kind; everybody who can connect is CloudFront."""
    idle = round(max(site.balancer.timeouts.read, site.balancer.timeouts.send, ALB_IDLE))
    # It must never be nginx that closes a connection on which the load balancer is just sending a POST.
    timeouts = site.balancer.timeouts.model_copy(update={"keepalive": idle + 15.0})
    balancer = site.balancer.model_copy(
        update={"servers": 1, "timeouts": timeouts, "trusted": ("0.0.0.0/0", "::/0", *site.balancer.trusted)}
    )
    web = site.web.model_copy(update={"servers": 1})
    return site.model_copy(update={"balancer": balancer, "web": web})


def machine_context(site: Site, release: str) -> Context:
    """What the tiers render a machine from."""
    secrets = {name: SECRET % name for name in SECRETS}
    secrets |= {f"env.{name}": SECRET % f"env.{name}" for name in site.app.secrets}
    return Context(
        machine_site(site), MachinePlacement(), engines_of(site.targets.docker.base), secrets, release
    )


def bundle(scope: Scope, release: str, images: Mapping[str, str]) -> str:
    """The document of a release; `images` maps `balancer` and `web` to image references with digests."""
    context = machine_context(scope.site, release)
    topology = expand(context)
    machines: dict[str, Any] = {
        "web": {
            "instances": [_instance(i, images) for i in _web_machine(scope, context, topology)],
            "health": _health(scope.site),
        }
    }
    if scope.has_workers:
        workers = [_gateway(scope, topology), *topology.of_kind("worker"), *topology.of_kind("scheduler")]
        machines["worker"] = {
            "instances": [_instance(_own_name(i), images) for i in workers],
            "health": None,
        }
    document = {
        "version": 1,
        "release": release,
        "files": {"image": images["web"], "path": f"{RELEASES}/{release}"},
        "machines": machines,
        "step": _step(context, images),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _web_machine(scope: Scope, context: Context, topology: Topology) -> Sequence[Instance]:
    web = topology.by_name["web-1"]
    balancer = topology.by_name["balancer-1"]
    host, port = context.placement.reach("web-1", "http")
    routes = live.web_routes([live.Server("web-1", host, port)])
    balancer = replace(
        balancer,
        files=tuple(_behind_cloudfront(scope, f) for f in balancer.files),
        live_files=tuple(
            replace(f, content=routes) if f.path.endswith(ROUTES) else f for f in balancer.live_files
        ),
    )
    return (_gateway(scope, topology), _own_name(web), balancer)


def _own_name(instance: Instance) -> Instance:
    """An application sees the machine's id as its server, because there are many `web-1`."""
    if instance.kind != "web":
        return instance
    server = ("LAMPSTAND_SERVER", VALUE % "server")
    processes = tuple(
        replace(p, env=tuple(server if k == "LAMPSTAND_SERVER" else (k, v) for k, v in p.env))
        for p in instance.processes
    )
    return replace(instance, processes=processes)


PROTO_BEFORE, PROTO_AFTER = (
    '"$told$http_x_forwarded_proto"',
    f'"$told$http_{PROTO_HEADER.lower().replace("-", "_")}"',
)


FIRST_SERVER = "    # Visitors and edges"
REQUEST_ID = "add_header X-Request-Id $rid always;\n"
ANSWER = (
    "# What CloudFront may do with the answer: the maps in nginx.conf.\n"
    "proxy_hide_header Cache-Control;\n"
    "add_header Cache-Control $cdn_cache_control always;\n"
    "proxy_hide_header Cache-Tag;\n"
    "add_header Cache-Tag $cdn_tags;\n"
)


def _behind_cloudfront(scope: Scope, file: File) -> File:
    """nginx's configuration as CloudFront needs it.

    The load balancer overwrites X-Forwarded-Proto with what CloudFront spoke to it, so the visitor's scheme
    comes in a header of our own; and the answers say what CloudFront may keep. Raises ValueError when the
    configuration no longer has the lines this is about.
    """
    if file.path.endswith("/nginx.conf"):
        text = _with(file, PROTO_BEFORE, PROTO_AFTER)
        return replace(
            file, content=_with(replace(file, content=text), FIRST_SERVER, origin_rules(scope) + FIRST_SERVER)
        )
    if file.path.endswith("/site.conf"):
        return replace(file, content=_with(file, REQUEST_ID, REQUEST_ID + ANSWER))
    return file


def _with(file: File, old: str, new: str) -> str:
    if old not in file.content:
        raise ValueError(f"{file.path} no longer has the line {old!r}")
    return file.content.replace(old, new, 1)


def origin_rules(scope: Scope) -> str:
    """Maps of nginx that say what CloudFront may do with an answer: `$cdn_cache_control` and `$cdn_tags`."""
    many = [b for b in behaviours(scope.site) if not b.methods or "GET" in b.methods]
    vary = {name.lower() for b in many for name in b.vary_headers}
    rules = [
        {
            "regex": quoted("~^(?:" + "|".join(glob_regex(p) for p in b.match or ("*",)) + ")$"),
            "ttl": round(b.ttl) if b.ttl is not None else '""',
            "tags": quoted(",".join(b.tags)),
        }
        for b in many
    ]
    return (
        templates()
        .get_template("origin.conf.j2")
        .render(
            vary="|".join([*SAFE_VARY, *sorted(vary - set(SAFE_VARY))]),
            rules=rules,
            ttls=any(b.ttl is not None for b in many),
            tags=any(b.tags for b in many),
        )
    )


def _gateway(scope: Scope, topology: Topology) -> Instance:
    """The gateway of the topology with another configuration: managed services instead of own servers."""
    gateway = topology.by_name["gateway-1"]
    names = {
        "writer": "database_host",
        "reader": "replica_host",
        "cache": "cache_host",
        "sessions": "sessions_host",
    }
    place = MachinePlacement()
    ports = [
        {
            "name": name,
            "listen": f"127.0.0.1:{PORTS['gateway-1', name]}",
            "host": VALUE % value,
            "port": DATABASE_PORT if name in ("writer", "reader") else CACHE_PORT,
            # MariaDB begins plain and changes over to TLS inside its own protocol, which nginx does not
            # speak.
            "tls": name in ("cache", "sessions"),
        }
        for name, value in names.items()
    ]
    config = (
        templates()
        .get_template("gateway.conf.j2")
        .render(
            site=scope.site.site,
            module=engines_of(scope.site.targets.docker.base).nginx_stream.path,
            run=place.folder("gateway-1", "run"),
            log=place.folder("gateway-1", "log"),
            ports=ports,
        )
    )
    file = next(f for f in gateway.files if f.path.endswith("/nginx.conf"))
    return replace(gateway, files=(replace(file, content=config),), live_files=())


def _instance(instance: Instance, images: Mapping[str, str]) -> dict[str, Any]:
    files = (*instance.files, *instance.live_files)
    return {
        "name": instance.name,
        "kind": instance.kind,
        "account": instance.account,
        "files": [[f.path, f.content, f.mode] for f in files],
        "folders": list(instance.folders),
        "processes": [_process(p, instance.kind, images) for p in instance.processes],
    }


def _process(process: Process, kind: str, images: Mapping[str, str]) -> dict[str, Any]:
    # nginx serves static files of the release, which only the other image has; the machine copies them out of it.
    own = (f"{BASE}/releases:{RELEASES}:ro",) if kind == "balancer" else ()
    return {
        "name": process.name,
        "image": images[IMAGES[kind]],
        "volumes": [f"{BASE}/uploads:{UPLOADS}:rslave", *own],
        "argv": list(process.argv),
        "account": process.account,
        "env": [list(pair) for pair in process.env],
        "cwd": process.cwd,
        "stop_signal": process.stop_signal.name,
        "stop_seconds": round(process.stop_seconds),
    }


def _step(context: Context, images: Mapping[str, str]) -> dict[str, Any] | None:
    """The release step: the command of `app.release`, in the environment of a web server."""
    app = context.site.app
    if app.release is None:
        return None
    process = Process(
        "release-step",
        ("/usr/bin/env", *app.release),
        "www-data",
        tuple(application_environment(context, "web-1").items()),
        context.placement.release(context.release),
    )
    return {**_process(process, "web", images), "timeout": app.release_timeout}


def _health(site: Site) -> dict[str, Any]:
    return {
        "port": HTTP_PORT,
        "path": site.app.health or "/",
        "below": 300 if site.app.health else 500,
        "checks": site.deploy.checks,
        "deadline": max(site.app.start_timeout, 30.0) + BOOT_SECONDS / 10,
    }
