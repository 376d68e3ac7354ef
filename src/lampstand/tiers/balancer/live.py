"""The texts of the live files: what the controller rewrites while nginx runs. Pure and deterministic.

A live file is outside every hash: it says which servers get traffic now, not how the site is built.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lampstand.tiers.balancer.quoting import address, quoted, quoted_value

FULL_WEIGHT = 10
"""Weight of a server that gets its whole share; a cold one has less."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server behind an upstream."""

    name: str
    host: str
    port: int
    weight: int = FULL_WEIGHT
    max_fails: int = 3
    """Failures within a second after which nginx leaves it out for a second; 0 is never."""


@dataclass(frozen=True, slots=True)
class Canary:
    """A share of the visitors who get the new release."""

    release: str
    servers: tuple[Server, ...]
    percent: float
    """0 to 100, of the visitors without the cookie."""


MAINTENANCE_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Closed for maintenance</title>
<h1>Closed for maintenance</h1>
<p>The site is being worked on and will be back soon.</p>
</html>
"""
"""What visitors see while the site is closed, unless it has a page of its own."""

COOKIE = "lampstand_release"
"""Cookie that keeps a visitor with the release he first got, while there are two."""


def web_routes(servers: Sequence[Server], canary: Canary | None = None) -> str:
    """`live/routes.conf` of a balancer: the upstreams of the web servers and `$pool`, the one for this request."""
    parts = [_web("web", servers)]
    if canary is None or not canary.servers:
        # `$once` says that the request must not ride a connection which is just being closed.
        parts.append('map $once $pool {\n    "" web;\n    default web_once;\n}\n')
        parts.append('map "" $pool_cookie {\n    default "";\n}\n')
    else:
        parts += [_web("canary", canary.servers), _split(canary)]
    return _with_generation("Which web servers get requests.", "\n".join(parts))


def gateway_routes(upstreams: Sequence[tuple[str, Sequence[Server]]]) -> str:
    """`live/routes.conf` of a gateway: one upstream for each of its ports.

    An upstream without a server closes every connection at once (nginx: `no live upstreams`).
    """
    return _with_generation(
        "Which database and Redis servers have which role.",
        "\n".join(_upstream(name, servers, ("least_conn;",)) for name, servers in upstreams),
    )


def releases(paths: Sequence[str]) -> str:
    """`live/releases.conf`: the releases whose static files are served, the newest first, then the web servers.

    `paths` are absolute; more than one, so that an old page finds its style sheet while two releases live.
    """
    root = os.path.commonpath([os.path.dirname(path) for path in paths])
    tries = [quoted_value(f"/{os.path.relpath(path, root)}", "$asset") for path in paths]
    return f"""# Static files of the releases. Written by Lampstand.
root {quoted_value(root)};
try_files {" ".join(tries)} @web;
"""


def maintenance(retry_after: int | None = None, allow: Iterable[str] = ()) -> str:
    """`live/maintenance.conf`: off with None, else the seconds after which visitors are asked to come again.

    `allow` are the networks of those for whom the site is open nevertheless.
    """
    value = '""' if retry_after is None else str(max(1, retry_after))
    lines = [f"    default {value};", *(f'    {network} "";' for network in allow if retry_after is not None)]
    return "# Maintenance. Written by Lampstand.\ngeo $maintenance {\n" + "\n".join(lines) + "\n}\n"


def _web(name: str, servers: Sequence[Server]) -> str:
    """The servers twice: with kept connections for requests that may be repeated, without for those that may not."""
    once = f"{name}_once"
    kept = ("least_conn;", f"zone {name} 256k;", "keepalive 64;", "keepalive_requests 100000;")
    return _upstream(name, servers, kept) + "\n" + _upstream(once, servers, (kept[0], f"zone {once} 256k;"))


def _upstream(name: str, servers: Sequence[Server], directives: tuple[str, ...]) -> str:
    lines = [
        f"    server {address(server.host, server.port)} weight={server.weight} max_fails={server.max_fails}"
        f" fail_timeout=1s;  # {server.name}"
        for server in servers
    ] or ["    server 127.0.0.1:1 down;  # nobody"]
    # A balancing method comes before `keepalive` and after nothing.
    return f"upstream {name} {{\n" + "\n".join([*(f"    {d}" for d in directives), *lines]) + "\n}\n"


def _split(canary: Canary) -> str:
    """Who gets the canary: by cookie, without one by chance, which a cookie then keeps.

    Answers that caches may share get no cookie: one with Set-Cookie would not be cached.
    """
    new = quoted(canary.release)
    return f"""split_clients "$request_id" $drawn {{
    {canary.percent:.2f}% {new};
    * old;
}}
map $cookie_{COOKIE} $side {{
    {new} {new};
    old old;
    default $drawn;
}}
map "$once $side" $pool {{
    " old" web;
    "1 old" web_once;
    "~^ " canary;
    default canary_once;
}}
map "$cookie_{COOKIE} $side" $fresh_cookie {{
    "~^(?<kept>.+) \\k<kept>$" "";
    default "{COOKIE}=$side; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax";
}}
map $upstream_http_cache_control $pool_cookie {{
    "~*(?:public|s-maxage|max-age=0*[1-9])" "";
    default $fresh_cookie;
}}
"""


def _with_generation(title: str, text: str) -> str:
    """With `$routes`, a name for this text, which the status port tells: so it is known from outside who follows it."""
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f'# {title} Written by the controller.\n{text}\nmap "" $routes {{\n    default {name};\n}}\n'
