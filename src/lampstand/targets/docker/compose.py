"""The Compose project as text. Pure: everything it depends on comes in as values."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from lampstand.site import Site
from lampstand.site.text import dump
from lampstand.targets.docker.placement import (
    CONFIGURATION,
    CONTROL,
    DATA,
    LOGS,
    PUBLISHED,
    RELEASES,
    SOCKETS,
    UPLOADS,
    ZONES,
    Addresses,
    zones_of,
)
from lampstand.tiers.web.tier import command_line
from lampstand.topology import Instance, TierName, Topology

LABEL = "org.lampstand"
GROUPED = ("database", "cache", "sessions")
"""Kinds that have a primary; each has one volume, so that a server can be filled from its neighbour's data."""
RELEASE = "release"
"""The service that runs `app.release`."""
HEADROOM = 96 * 2**20
"""Bytes above what a server is meant to use: a limit that is met in normal work would kill it."""
SITE = "/site"
"""Where the controller sees the project's folder."""
ENGINE_SOCKET = "/run/engine/engine.sock"
"""What the controller may ask of Docker: a few requests about the servers of its own site (engine.conf)."""
PER_NETWORK_SETTINGS = 27
"""The first Engine that takes settings of one network interface with the network, and refuses them elsewhere."""
GRACE = 5.0
"""Seconds that the first process of a container has beyond its programs' own time to stop."""


@dataclass(frozen=True)
class Project:
    """What the text depends on besides the topology."""

    name: str
    site: Site
    tags: Mapping[str, str]
    """Image name (tier, `controller`) -> tag."""
    release_tags: Mapping[str, str]
    """Release -> tag of the web image that holds it."""
    release: str
    """The release that is wished: what `app.release` runs in."""
    addresses: Addresses
    ports: Mapping[str, int]
    """`instance/port` -> port published on the host."""
    engine: int = 20
    """Major version of the Docker Engine."""
    owner: str = "0:0"
    """Who owns the project's folder, `UID:GID`: the controller writes there."""


def container_name(project: str, instance: str) -> str:
    """The name of a server's container: `shop-web-1`."""
    return f"{project}-{instance}"


def compose_text(topology: Topology, project: Project) -> str:
    """`compose.yaml`: works with `docker compose up -d --wait` alone."""
    head = (
        f"# The site {project.site.site}, written by Lampstand: changes are lost.\n"
        "# `docker compose up -d --wait` brings it up, images included; the controller is one of its containers.\n"
    )
    return head + dump(compose(topology, project))


def compose(topology: Topology, project: Project) -> dict[str, Any]:
    """The document of the Compose Specification (https://compose-spec.io)."""
    services = {i.name: _server(i, project) for i in topology.instances}
    entries = _entries(topology)
    if project.site.app.release:
        services["release"] = _release(topology, project)
        for name in entries:
            services[name]["depends_on"] = {"release": {"condition": "service_completed_successfully"}}
    databases = {i.name: {"condition": "service_started"} for i in topology.of_kind("database")}
    for gateway in topology.of_kind("gateway"):
        # Compose stops in the opposite order: a commit that waits for replicas that are gone keeps its server from
        # stopping, so nobody writes any more when the databases stop.
        services[gateway.name]["depends_on"] = databases
    services["engine"] = _engine(topology, project)
    services["controller"] = _controller([n for n in topology.by_name if n not in entries], project)
    return {
        "name": project.name,
        "services": services,
        "networks": {zone: _network(zone, project.addresses) for zone in ZONES},
        "volumes": {
            v: {} for v in (*(k for k in GROUPED if topology.of_kind(k)), "uploads", "releases", "engine")
        },
    }


def digest(value: Mapping[str, Any] | str) -> str:
    """A short name of a value, for a label."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def image_of(instance: Instance, project: Project) -> str:
    """The tag of the image that a server runs."""
    if instance.release:
        return project.release_tags[instance.release]
    return project.tags[instance.tier]


def _network(zone: str, addresses: Addresses) -> dict[str, Any]:
    found: dict[str, Any] = {"ipam": {"config": [{"subnet": addresses.kept[zone]}]}}
    # The data are reached through the gateway and from nowhere else, and cannot send anything out.
    return {**found, "internal": True} if zone == "data" else found


def _connected(instance: str, project: Project) -> dict[str, Any]:
    """The networks of a container, and how soon it sees that an address is nobody's any more."""
    zones = zones_of(instance)
    networks = {z: {"ipv4_address": project.addresses.address(z, instance)} for z in zones}
    if project.engine < PER_NETWORK_SETTINGS:
        interfaces = [f"eth{number}" for number in range(len(zones))]
        return {
            "networks": networks,
            "sysctls": {n: v for i in interfaces for n, v in _neighbours(i).items()},
        }
    option = ",".join(f"{name}={value}" for name, value in _neighbours("IFNAME").items())
    options = {"driver_opts": {"com.docker.network.endpoint.sysctls": option}}
    return {"networks": {zone: {**network, **options} for zone, network in networks.items()}}


def _neighbours(interface: str) -> dict[str, int]:
    """A container that dies takes its address with it, so nobody refuses a connection, and whoever connects waits for
    three seconds and more: Linux believes in a neighbour for half a minute, and asks three times, a second apart,
    before it gives up (arp(7)). On one machine an answer takes microseconds, so it may doubt and ask much sooner."""
    prefix = f"net.ipv4.neigh.{interface}."
    return {
        f"{prefix}base_reachable_time_ms": 50,
        f"{prefix}delay_first_probe_time": 0,
        f"{prefix}retrans_time_ms": 50,
    }


_HARDENED: Mapping[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}},
}


def _server(instance: Instance, project: Project) -> dict[str, Any]:
    name = instance.name
    keeps = instance.kind in GROUPED
    context: TierName | str = instance.tier
    service: dict[str, Any] = {
        "image": image_of(instance, project),
        "build": {"context": f"images/{context}"},
        "container_name": container_name(project.name, name),
        "hostname": name,
        "command": [name],
        "restart": _restart(instance, project),
        "stop_grace_period": f"{ceil(sum(p.stop_seconds for p in instance.processes) + GRACE)}s",
        **_HARDENED,
        "tmpfs": [
            *(f"{path}:mode=1777" for path in ("/tmp", LOGS, *(() if keeps else (DATA,)))),
            f"{SOCKETS}:mode=1777,exec",  # Varnish loads what it compiles there
        ],
        "volumes": _volumes(instance),
        **_connected(name, project),
    }
    if instance.memory is not None:
        service["mem_limit"] = instance.memory + HEADROOM
    published = [
        f"{project.site.targets.docker.bind}:{project.ports[key]}:{e.port}"
        for e in instance.endpoints
        if (key := f"{name}/{e.name}") in project.ports
    ]
    if published:
        service["ports"] = published
    service["labels"] = {
        f"{LABEL}.site": project.site.site,
        f"{LABEL}.instance": name,
        f"{LABEL}.kind": instance.kind,
        f"{LABEL}.tier": instance.tier,
        f"{LABEL}.release": instance.release or "",
        f"{LABEL}.restart-hash": instance.restart_hash,
        f"{LABEL}.service-hash": digest(service),
    }
    return service


def _restart(instance: Instance, project: Project) -> str:
    """Docker restarts what crashed, but for servers with a role: what becomes of a dead primary is the controller's to
    decide, and it starts the others of the group itself."""
    groups = {
        "database": project.site.database.replicas,
        "cache": project.site.cache.replicas,
        "sessions": project.site.sessions.replicas,
    }
    return "no" if groups.get(instance.kind) else "unless-stopped"


def _volumes(instance: Instance) -> list[str]:
    name = instance.name
    found = [f"./etc/{name}:{CONFIGURATION}/{name}:ro", f"./control/{name}:{CONTROL}"]
    if instance.kind in GROUPED:
        found.append(f"{instance.kind}:{DATA}")
    if instance.tier == "web":
        found += [f"uploads:{UPLOADS}", *([f"releases:{PUBLISHED}"] if instance.kind == "web" else [])]
    if instance.kind == "balancer":
        found += [f"uploads:{UPLOADS}:ro", f"releases:{RELEASES}:ro"]
    return found


def _entries(topology: Topology) -> list[str]:
    """The servers that visitors reach first."""
    for kind in ("visitors", "edge", "balancer"):
        if found := topology.of_kind(kind):
            return [i.name for i in found]
    return []


def _release(topology: Topology, project: Project) -> dict[str, Any]:
    """`app.release` in the environment of a web server. The visitors' entries start when it is done, so that nobody
    meets an application without its tables; it is tried again until there is a primary to write to."""
    return {
        "image": project.release_tags[project.release],
        "build": {"context": "images/web"},
        "entrypoint": ["/usr/local/bin/lampstand-init", "exec", RELEASE],
        "command": [_plain(argument) for argument in command_line(project.site.app.release or ())],
        "restart": "on-failure",
        **_HARDENED,
        "healthcheck": {"disable": True},
        "tmpfs": ["/tmp:mode=1777", f"{DATA}:mode=1777", f"{LOGS}:mode=1777"],
        "volumes": [f"./etc/{RELEASE}:{CONFIGURATION}/{RELEASE}:ro", f"uploads:{UPLOADS}"],
        **_connected(RELEASE, project),
        "depends_on": {i.name: {"condition": "service_started"} for i in topology.of_kind("gateway")},
        "labels": {f"{LABEL}.site": project.site.site},
    }


def _plain(argument: str) -> str:
    """Compose puts the values of variables in the place of `$NAME`; `$$` is a dollar sign."""
    return argument.replace("$", "$$")


def _controller(servers: Sequence[str], project: Project) -> dict[str, Any]:
    return {
        "image": project.tags["controller"],
        "build": {"context": "images/controller"},
        "container_name": container_name(project.name, "controller"),
        "hostname": "controller",
        "command": ["--project", project.name],
        "user": f"${{LAMPSTAND_OWNER:-{project.owner}}}",
        "restart": "unless-stopped",
        "stop_grace_period": "15s",
        **_HARDENED,
        "tmpfs": ["/tmp:mode=1777"],
        "volumes": [f".:{SITE}", f"./etc:{CONFIGURATION}", f"./control:{CONTROL}", "engine:/run/engine:ro"],
        **_connected("controller", project),
        # Last to start and first to stop, so that it never starts again what Compose is stopping.
        "depends_on": {n: {"condition": "service_started"} for n in ("engine", *servers)},
        "healthcheck": {"interval": "3s", "timeout": "3s", "retries": 40, "start_period": "120s"},
        "labels": {f"{LABEL}.site": project.site.site, f"{LABEL}.instance": "controller"},
    }


def _engine(topology: Topology, project: Project) -> dict[str, Any]:
    """nginx in front of Docker's socket; it alone sees it."""
    return {
        "image": project.tags["balancer"],
        "build": {"context": "images/balancer"},
        "container_name": container_name(project.name, "engine"),
        "hostname": "engine",
        "user": "0:0",
        # A socket that a killed nginx left behind keeps the next one from listening.
        "entrypoint": ["/bin/sh", "-c", f'rm -f {ENGINE_SOCKET} && exec "$$@"', "sh"],
        "command": ["/usr/sbin/nginx", "-e", "stderr", "-c", f"{CONFIGURATION}/engine/nginx.conf"],
        "restart": "unless-stopped",
        **_HARDENED,
        "network_mode": "none",
        "healthcheck": {"test": ["CMD", "test", "-S", ENGINE_SOCKET], "interval": "10s"},
        "tmpfs": ["/tmp:mode=1777"],
        "volumes": [
            f"./etc/engine:{CONFIGURATION}/engine:ro",
            "engine:/run/engine",
            "${DOCKER_SOCKET:-/var/run/docker.sock}:/var/run/docker.sock",
        ],
        "labels": {
            f"{LABEL}.site": project.site.site,
            f"{LABEL}.instance": "engine",
            # Made anew when it changes: a signal by `docker kill` would end Docker's watch over the container.
            f"{LABEL}.configuration": digest(engine_configuration(project.name, [*topology.by_name])),
        },
    }


def engine_configuration(project: str, names: Sequence[str]) -> str:
    """nginx.conf of the container `engine`: the requests that the controller may make, and no others.

    Docker's API knows only everything or nothing; whoever reaches the socket is root on the host. So the names of the
    containers are a closed list, the filters are written here, and there is no request that makes a container, runs a
    program in one, or reads one of another project.
    """
    filters = json.dumps({"label": [f"com.docker.compose.project={project}"]}, separators=(",", ":"))
    query = "".join(c if c.isalnum() else f"%{ord(c):02X}" for c in filters)
    servers = "|".join(sorted(container_name(project, name) for name in names))
    return f"""# What the controller may ask of Docker. Written by Lampstand.
daemon off;
# One process: it has nobody to give its rights to, and needs none but to reach the socket.
master_process off;
user root;
pid /tmp/nginx.pid;
error_log stderr warn;

events {{
    worker_connections 64;
}}

http {{
    access_log off;
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/answers;
    fastcgi_temp_path /tmp/unused;
    uwsgi_temp_path /tmp/unused;
    scgi_temp_path /tmp/unused;
    upstream docker {{
        server unix:/var/run/docker.sock;
    }}
    proxy_http_version 1.1;
    proxy_set_header Host docker;
    proxy_set_header Connection "";
    proxy_buffering off;

    server {{
        listen unix:{ENGINE_SOCKET};
        # The containers of this site, and what happens to them.
        location = /containers {{
            limit_except GET {{ deny all; }}
            proxy_pass http://docker/containers/json?all=1&filters={query};
        }}
        location = /events {{
            limit_except GET {{ deny all; }}
            proxy_read_timeout 1d;
            proxy_pass http://docker/events?filters={query};
        }}
        location ~ ^/containers/({servers})/json$ {{
            limit_except GET {{ deny all; }}
            proxy_pass http://docker;
        }}
        # Fencing, and starting again.
        location ~ ^/containers/({servers})/(kill|start)$ {{
            limit_except POST {{ deny all; }}
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_pass http://docker;
        }}
        location / {{
            return 403;
        }}
    }}
}}
"""
