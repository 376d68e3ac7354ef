"""The tiers behind the edges: balancer, web servers, database, cache, sessions."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from lampstand.site.base import Model, OneOrMore, option
from lampstand.site.types import Count, Flag, Network, Pattern, Positive, TextLine
from lampstand.site.units import Duration, Rate, Size


class Timeouts(Model):
    """How long the balancer waits."""

    connect: Duration = option(
        2.0, "For a connection to a web server; then the next one is tried.", "connect: 1s"
    )
    read: Duration = option(
        60.0, "For the next bytes of an answer.", "read: 5m  # an application with slow pages"
    )
    send: Duration = option(60.0, "For a web server to take the next bytes of a request.", "send: 5m")
    client_header: Duration = option(15.0, "For the visitor's request line and headers.", "client_header: 5s")
    client_body: Duration = option(
        30.0, "For the next bytes of the visitor's request body.", "client_body: 2m"
    )
    keepalive: Duration = option(65.0, "For the next request on an open connection.", "keepalive: 20s")


class PathLimit(Model):
    """A limit of its own for some paths."""

    match: Annotated[tuple[Pattern, ...], OneOrMore(), Field(min_length=1)] = option(
        ..., "Path patterns.", "match: [/login, /wp-login.php]"
    )
    per_client: Rate = option(..., "Requests of one address.", "per_client: 10/m")
    burst: Count = option(10, "How many may come at once.", "burst: 5")


class RateLimit(Model):
    """How many requests one visitor may make; more are answered 429."""

    shorthand = "per_client"

    per_client: Rate | None = option(
        None, "Requests of one address; by default any number.", "per_client: 50/s"
    )
    burst: Count = option(100, "How many may come at once.", "burst: 200")
    connections: Positive | None = option(None, "Open connections of one address.", "connections: 50")
    paths: tuple[PathLimit, ...] = option(
        (), "Limits of their own for some paths.", "paths: [{match: /login, per_client: 10/m, burst: 5}]"
    )
    exempt: Annotated[tuple[Network, ...], OneOrMore()] = option(
        (), "Networks without a limit.", "exempt: [10.0.0.0/8]"
    )


class Balancer(Model):
    """The balancer (nginx): spreads requests over the web servers and serves static files."""

    servers: Positive = option(1, "How many balancers.", "servers: 2")
    processes: Positive | None = option(
        None, "nginx workers of each; by default one for each core.", "processes: 4"
    )
    connections: Positive = option(4096, "Connections of each nginx worker.", "connections: 16384")
    body_limit: Size = option(
        64 * 2**20, "Largest request body; larger ones are answered 413.", "body_limit: 1GiB"
    )
    header_limit: Size = option(
        32 * 2**10, "Largest header of a request, and of an answer of the application.", "header_limit: 64KiB"
    )
    timeouts: Timeouts = option(Timeouts, "How long the balancer waits.", "timeouts: {read: 5m}")
    rate_limit: RateLimit = option(
        RateLimit,
        "How many requests one visitor may make; by default any number.",
        "rate_limit: {per_client: 50/s, burst: 200}",
    )
    gzip: Flag = option(True, "Text is compressed for those who accept it.", "gzip: false")
    trusted: Annotated[tuple[Network, ...], OneOrMore()] = option(
        (),
        "Networks of proxies in front of the site whose X-Forwarded-For and -Proto are believed. The edges always are.",
        "trusted: [198.51.100.0/24]",
    )
    allow: Annotated[tuple[Network, ...], OneOrMore()] = option(
        (), "Only visitors from these networks; by default all.", "allow: [192.0.2.0/24]"
    )
    deny: Annotated[tuple[Network, ...], OneOrMore()] = option(
        (), "No visitors from these networks.", "deny: [203.0.113.0/24]"
    )
    memory: Size | None = option(None, "Memory limit of each, where the target has one.", "memory: 128MB")


class Health(Model):
    """How the controller asks a web server whether it is well."""

    interval: Duration = option(1.0, "Time between two probes.", "interval: 5s")
    timeout: Duration = option(2.0, "An answer that takes longer is a bad one.", "timeout: 500ms")
    rises: Positive = option(2, "Good probes in a row before a server gets requests again.", "rises: 3")
    falls: Positive = option(2, "Bad probes in a row before it gets none.", "falls: 3")


class Web(Model):
    """The web servers (Apache, with the application behind or inside it)."""

    servers: Positive = option(2, "How many web servers.", "servers: 4")
    max_servers: Positive | None = option(
        None, "Where the target scales by load: at most so many.", "max_servers: 10"
    )
    processes: Positive = option(
        4, "Processes of the application in each: requests that run at once.", "processes: 8"
    )
    threads: Positive = option(1, "Threads of each process (Python only).", "threads: 4")
    memory: Size | None = option(
        None, "Memory limit of each web server, where the target has one.", "memory: 512MB"
    )
    max_requests: Count = option(
        1000, "Requests after which a process is replaced, against leaks; 0 is never.", "max_requests: 0"
    )
    drain_seconds: Duration = option(
        30.0, "Time that running requests get when a server is taken away.", "drain_seconds: 2m"
    )
    max_unavailable: Count = option(
        0, "Web servers that may be missing while a release rolls out.", "max_unavailable: 1"
    )
    surge: Count = option(1, "Web servers above the number while a release rolls out.", "surge: 2")
    slow_start: Duration = option(
        5.0, "Time over which a new or returning server's share of the requests grows.", "slow_start: 30s"
    )
    health: Health = option(
        Health, "How a server is asked whether it is well.", "health: {interval: 5s, falls: 3}"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "Web":
        if self.max_unavailable == 0 and self.surge == 0:
            raise ValueError(
                "no server could be replaced with max_unavailable 0 and surge 0; set one of them to 1 or more"
            )
        if self.max_servers is not None and self.max_servers < self.servers:
            raise ValueError("max_servers is less than servers; raise it, or lower `servers`")
        return self


class Database(Model):
    """The database (MariaDB): one primary, and replicas that hold every acknowledged write."""

    replicas: Count = option(2, "Servers that follow the primary.", "replicas: 0  # a plain single server")
    memory: Annotated[Size, Field(ge=64_000_000)] = option(
        128_000_000, "Memory of each server; about half is its buffer pool.", "memory: 2GiB"
    )
    max_connections: Annotated[Positive, Field(ge=10)] = option(
        200, "Client connections of each server.", "max_connections: 500"
    )
    lag_limit: Duration = option(
        5.0, "A replica that lags more gets no reads; with none left, the primary reads.", "lag_limit: 1s"
    )
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")] = option(
        "app", "Name of the application's database.", "name: shop"
    )
    storage: Size = option(10 * 2**30, "Size of each volume, where the target makes one.", "storage: 100GiB")
    settings: Mapping[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")], TextLine] = option(
        dict,
        "Settings of my.cnf, but those that keep acknowledged writes safe.",
        "settings: {innodb_ft_min_token_size: 2}",
    )


class Cache(Model):
    """The cache (Redis without persistence; the least used is evicted when memory is full)."""

    memory: Annotated[Size, Field(ge=2**20)] = option(64_000_000, "Memory for values.", "memory: 512MB")
    replicas: Count = option(1, "Servers that follow the primary.", "replicas: 0")


class Sessions(Model):
    """The session store (Redis with an append-only file; nothing is ever evicted)."""

    memory: Annotated[Size, Field(ge=2**20)] = option(32_000_000, "Memory for sessions.", "memory: 256MB")
    replicas: Count = option(1, "Servers that follow the primary.", "replicas: 0")
    lifetime: Duration = option(
        86_400.0, "A session that is not used for so long ends (PHP).", "lifetime: 30d"
    )
    storage: Size = option(2 * 2**30, "Size of each volume, where the target makes one.", "storage: 1GiB")
