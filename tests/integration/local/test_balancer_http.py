"""A real nginx with the configuration of a balancer, in front of web servers that tell what they were asked."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lampstand.tiers.balancer import live
from lampstand.tiers.balancer.live import Canary, Server
from lampstand.tiers.balancer.reload import reload_nginx
from lampstand.tiers.balancer.tier import MAINTENANCE, ROUTES, expand
from lampstand.topology import File, Instance
from tests.integration.local.balancer_backend import Answer, Backend, ask, backend
from tests.integration.local.launch import Ground, Running, context, ground, launch, make, own
from tests.support import eventually, free_port
from tests.unit.test_balancer_golden import SITES


@dataclass(frozen=True)
class Site:
    """A running balancer."""

    running: Running
    place: Ground

    def port(self, endpoint: str = "http") -> int:
        return self.running.instance.endpoint(endpoint).port

    def get(self, path: str, **headers: str) -> Answer:
        return ask(self.port(), path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def reload(self) -> None:
        asyncio.run(reload_nginx(self.running.children["nginx"].pid))

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.running.log("access.log").splitlines()]


def written(instance: Instance, **texts: str) -> Instance:
    """The instance with other first contents of its live files, by the last word of their names."""

    def content(file: File) -> File:
        name = Path(file.path).stem
        return replace(file, content=texts[name]) if name in texts else file

    return replace(instance, live_files=tuple(content(f) for f in instance.live_files))


@contextlib.contextmanager
def balanced(
    *servers: Server,
    site: Mapping[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
    **texts: str,
) -> Iterator[Site]:
    """A balancer in front of these servers, of a site whose release and uploads hold these files."""
    with ground() as place:
        for path, text in (files or {}).items():
            put(place, path, text)
        instance = next(iter(expand(context(place, {"balancer": {"processes": 1}} | dict(site or {})))))
        instance = written(instance, **({"routes": live.web_routes(servers)} | texts))
        with launch(instance, place) as running:
            made = Site(running, place)
            eventually(lambda: made.get("/.lampstand/health").status == 200)
            yield made


def put(place: Ground, path: str, text: str) -> None:
    """A file below the ground (`releases/r1/…`, `uploads/…`) that the balancer's account may read."""
    file = place.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    for folder in file.parents:
        if folder == place.root:
            break
        folder.chmod(0o755)
    file.write_text(text)
    file.chmod(0o644)
    own(file, "www-data")


@pytest.fixture(scope="module")
def web() -> Iterator[Backend]:
    with backend("web-1") as made:
        yield made


@pytest.fixture(scope="module")
def site(web: Backend) -> Iterator[Site]:
    """A site with the defaults; tests only read from it."""
    with balanced(web.server) as made:
        yield made


# -- who asks --------------------------------------------------------------------------------------------------


def test_an_edge_tells_the_visitors_address_and_scheme(site: Site) -> None:
    told = site.get("/echo", Host="shop.example", X_Forwarded_For="192.0.2.7", X_Forwarded_Proto="https").json
    headers = told["headers"]
    assert headers["x-forwarded-for"] == "192.0.2.7"
    assert headers["x-real-ip"] == "192.0.2.7"
    assert headers["x-forwarded-proto"] == "https"
    assert headers["x-forwarded-host"] == "shop.example"
    assert headers["x-forwarded-port"] == "443"
    assert headers["host"] == "shop.example"
    assert headers["forwarded"] == 'for=192.0.2.7;proto=https;host="shop.example"'


def test_a_visitor_with_ipv6_is_quoted_in_forwarded(site: Site) -> None:
    told = site.get("/echo", Host="shop.example:8080", X_Forwarded_For="2001:db8::7").json["headers"]
    assert told["x-forwarded-for"] == "2001:db8::7"
    assert told["forwarded"] == 'for="[2001:db8::7]";proto=http;host="shop.example:8080"'
    assert told["x-forwarded-port"] == "8080"


def test_through_a_shield_the_visitor_is_the_first_who_is_no_edge(site: Site) -> None:
    told = site.get("/echo", X_Forwarded_For="192.0.2.66, 192.0.2.7, 127.0.0.2").json["headers"]
    assert told["x-forwarded-for"] == "192.0.2.7"


def test_without_edges_nobody_is_believed(web: Backend) -> None:
    with balanced(web.server, site={"cdn": {"edges": []}}) as alone:
        told = alone.get(
            "/echo", X_Forwarded_For="192.0.2.7", X_Forwarded_Proto="https", Forwarded="for=x"
        ).json
        assert told["headers"]["x-forwarded-for"] == "127.0.0.1"
        assert told["headers"]["x-forwarded-proto"] == "http"
        assert told["headers"]["forwarded"].startswith("for=127.0.0.1;proto=http;")


def test_proxies_of_the_site_file_are_believed(web: Backend) -> None:
    with balanced(web.server, site={"cdn": {"edges": []}, "balancer": {"trusted": ["127.0.0.0/8"]}}) as alone:
        told = alone.get("/echo", X_Forwarded_For="192.0.2.7", X_Forwarded_Proto="https").json["headers"]
        assert (told["x-forwarded-for"], told["x-forwarded-proto"]) == ("192.0.2.7", "https")


def test_the_request_id_is_kept_made_or_replaced_and_told(site: Site) -> None:
    kept = site.get("/echo", X_Request_Id="edge-fra-12345678")
    assert kept.json["headers"]["x-request-id"] == kept.headers["x-request-id"] == "edge-fra-12345678"
    for bad in ("short", 'quo"te-and-more', "x" * 129):
        made = site.get("/echo", X_Request_Id=bad)
        assert made.headers["x-request-id"] == made.json["headers"]["x-request-id"] != bad
        assert len(made.headers["x-request-id"]) == 32


def test_the_log_has_one_json_object_a_request(site: Site) -> None:
    site.get(
        '/echo?q="quo%20te', X_Request_Id="log-test-1234", X_Forwarded_For="192.0.2.9", User_Agent='a"b\\c'
    )
    line = eventually(lambda: [x for x in site.log() if x["request_id"] == "log-test-1234"])[0]
    assert line["client"] == "192.0.2.9"
    assert line["from"] == "127.0.0.1"
    assert line["agent"] == 'a"b\\c'
    assert (line["method"], line["status"], line["upstream_status"]) == ("GET", 200, "200")
    assert float(line["upstream_seconds"]) >= 0
    assert isinstance(line["seconds"], float)


def test_a_host_that_would_break_out_of_forwarded_is_refused(site: Site) -> None:
    for host in ('x";for=1.2.3.4', "x<script>", "a b"):
        assert site.get("/echo", Host=host).status == 400
    for host in ("shop.example", "127.0.0.1:8080", "[::1]:80", "my_host"):
        assert site.get("/echo", Host=host).status == 200


@pytest.mark.parametrize("name", SITES)
def test_nginx_accepts_the_golden_sites(name: str) -> None:
    with ground() as place:
        for instance in expand(context(place, SITES[name])):
            make(instance, place)  # runs `nginx -t`


def test_httpoxy_and_http2_upgrades_do_not_pass(site: Site) -> None:
    told = site.get("/echo", Proxy="http://evil.example", Upgrade="h2c", Connection="Upgrade").json["headers"]
    assert "proxy" not in told
    assert "upgrade" not in told


# -- connections to the web servers ------------------------------------------------------------------------------


def test_gets_share_connections_and_what_changes_something_never_does(web: Backend, site: Site) -> None:
    first = len(web.asked)
    for method in ("GET", "HEAD", "GET", "OPTIONS", "GET"):
        ask(site.port(), f"/echo?{method}", method)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        ask(site.port(), f"/echo?{method}", method, body=b"x")
        ask(site.port("unsafe"), f"/echo?{method}", method, body=b"x")
    asked = web.asked[first:]
    safe = [a for a in asked if a.method in ("GET", "HEAD", "OPTIONS")]
    unsafe = [a for a in asked if a not in safe]
    assert len({a.connection for a in safe}) == 1
    assert len(unsafe) == len({a.connection for a in unsafe}) == 8
    assert all(a.nth == 1 and a.headers["connection"] == "close" for a in unsafe)


def test_the_port_for_changes_keeps_no_connection_with_the_edge(site: Site) -> None:
    answer = ask(site.port("unsafe"), "/echo", "POST", body=b"x")
    assert answer.headers["connection"] == "close"
    assert ask(site.port(), "/echo").headers["connection"] == "keep-alive"


def test_a_get_is_repeated_when_the_server_dies_of_it_and_a_post_is_not() -> None:
    with backend("web-1") as dying, backend("web-2") as other, balanced(dying.server, other.server) as site:
        assert site.get("/die").status == 502  # both die of it
        assert len(dying.paths()) == len(other.paths()) == 1
        for port in ("http", "unsafe"):
            answer = ask(site.port(port), "/die", "POST", body=b"order")
            assert answer.status == 502
            assert "does not answer" in answer.body.decode()
        assert len(dying.paths("POST")) + len(other.paths("POST")) == 2


def test_a_dead_server_costs_nothing_whatever_the_method() -> None:
    dead = Server("web-2", "127.0.0.1", free_port())
    with backend("web-1") as good, balanced(good.server, dead) as site:
        begun = time.monotonic()
        for number in range(100):
            method = "POST" if number % 2 else "GET"
            assert ask(site.port("unsafe"), "/echo", method).status == 200
        assert time.monotonic() - begun < 8.0
        assert len(good.asked) == 100


def test_a_frozen_server_costs_one_read_timeout_and_then_nothing() -> None:
    frozen = socket.create_server(("127.0.0.1", 0), backlog=100)  # takes connections and never answers
    with contextlib.closing(frozen), backend("web-1") as good:
        server = Server("web-2", "127.0.0.1", frozen.getsockname()[1])
        with balanced(
            good.server, server, site={"balancer": {"processes": 1, "timeouts": {"read": "500ms"}}}
        ) as site:
            statuses: list[int] = []
            for _ in range(20):
                begun = time.monotonic()
                statuses.append(site.get("/echo").status)
                assert time.monotonic() - begun < 1.0
            assert statuses.count(504) <= 3 + 1
            assert statuses.count(200) + statuses.count(504) == 20


def test_an_application_that_is_slow_is_waited_for_and_then_given_up(site: Site) -> None:
    assert site.get("/slow?seconds=0.3").body == b"slow"


def test_when_nobody_answers_the_page_is_plain_and_says_so() -> None:
    with balanced() as site:
        answer = site.get("/")
        assert answer.status == 502
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-request-id"] in answer.body.decode()
        assert "nginx" not in answer.body.decode()
        assert site.get("/.lampstand/health").body == b"ok\n"
        assert site.get("/.lampstand/else").status == 404


def test_errors_of_the_application_are_its_own(site: Site) -> None:
    for code in (404, 500, 502, 503):
        assert site.get(f"/status?code={code}").body == b"as you asked"


def test_websockets_pass_and_their_connection_is_their_own(web: Backend, site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.port()), 5) as client:
        client.sendall(
            b"GET /socket HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
        )
        head = client.recv(4096)
        assert head.startswith(b"HTTP/1.1 101 ")
        client.sendall(b"hello")
        assert client.recv(100) == b"HELLO"
    asked = web.asked[-1]
    assert (asked.headers["upgrade"], asked.headers["connection"], asked.nth) == ("websocket", "upgrade", 1)


def test_server_sent_events_are_not_held_back(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.port()), 5) as client:
        client.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
        received = b""
        while b"data: first" not in received:
            received += client.recv(4096)  # times out when the event waits for more


# -- limits --------------------------------------------------------------------------------------------------------


def test_headers_that_are_too_large_are_the_visitors_fault_or_the_applications(site: Site) -> None:
    assert site.get("/echo", X_Big="x" * 20_000).status == 200
    assert site.get("/echo", X_Big="x" * 40_000).status == 400
    assert site.get("/echo?" + "x" * 40_000).status == 414
    assert site.get("/header?bytes=20000").status == 200
    assert site.get("/header?bytes=50000").status == 502


def test_a_body_that_is_too_large_is_refused(web: Backend) -> None:
    with balanced(web.server, site={"balancer": {"body_limit": "100kB"}}) as site:
        assert ask(site.port("unsafe"), "/echo", "POST", body=b"x" * 100_000).json["body"] == 100_000
        assert ask(site.port("unsafe"), "/echo", "POST", body=b"x" * 100_001).status == 413


def test_rates_are_counted_for_each_visitor(web: Backend) -> None:
    limits = {
        "per_client": "1/s",
        "burst": 4,
        "exempt": ["192.0.2.0/24"],
        "paths": [{"match": "/login", "per_client": "1/m", "burst": 0}],
    }
    with balanced(web.server, site={"balancer": {"rate_limit": limits}}) as site:
        statuses = [site.get("/echo", X_Forwarded_For="198.51.100.1").status for _ in range(8)]
        assert statuses == [200] * 5 + [429] * 3
        assert site.get("/echo", X_Forwarded_For="198.51.100.2").status == 200
        assert {site.get("/echo", X_Forwarded_For="192.0.2.1").status for _ in range(8)} == {200}
        logins = [site.get("/login", X_Forwarded_For="198.51.100.3").status for _ in range(2)]
        assert logins == [200, 429]


def test_only_whom_the_site_file_lets_in(web: Backend) -> None:
    who = {"allow": ["192.0.2.0/24", "2001:db8::/32"], "deny": ["192.0.2.66/32"]}
    with balanced(web.server, site={"balancer": who}) as site:
        answers = {
            a: site.get("/echo", X_Forwarded_For=a).status
            for a in ("192.0.2.1", "192.0.2.66", "198.51.100.1")
        }
        assert answers == {"192.0.2.1": 200, "192.0.2.66": 403, "198.51.100.1": 403}
        assert site.get("/.lampstand/health").status == 200


# -- what the operator switches ----------------------------------------------------------------------------------------


def test_maintenance_has_its_page_its_retry_after_and_its_guests(web: Backend) -> None:
    with balanced(web.server, maintenance=live.maintenance(120, ["192.0.2.0/24"])) as site:
        for method in ("GET", "POST"):
            answer = ask(site.port(), "/echo", method)
            assert (answer.status, answer.headers["retry-after"]) == (503, "120")
            assert answer.headers["cache-control"] == "no-store"
            assert "maintenance" in answer.body.decode()
        assert site.get("/echo", X_Forwarded_For="192.0.2.1").status == 200
        assert site.get("/.lampstand/health").status == 200
        page = Path(site.place.folder("balancer-1", "etc"), MAINTENANCE).with_name("maintenance.html")
        page.write_text("<p>Back at noon: 5 $ off</p>")
        assert site.get("/any/page.css").body == b"<p>Back at noon: 5 $ off</p>"
        assert site.get("/").headers["retry-after"] == "120"
        post = ask(site.port(), "/echo", "POST", body=b"x")
        assert (post.status, "closed for maintenance" in post.body.decode().lower()) == (503, True)


def test_a_canary_gets_its_share_and_keeps_its_visitors() -> None:
    with backend("web-1") as old, backend("web-2") as new:
        routes = live.web_routes([old.server], Canary("r2", (new.server,), 50.0))
        with balanced(routes=routes) as site:
            first = [site.get("/echo") for _ in range(60)]
            assert {a.json["server"] for a in first} == {"web-1", "web-2"}
            for answer in first[:10]:
                cookie = answer.headers["set-cookie"].split(";")[0]
                server = answer.json["server"]
                assert cookie == ("lampstand_release=r2" if server == "web-2" else "lampstand_release=old")
                for method in ("GET", "POST"):
                    again = ask(site.port(), "/echo", method, {"Cookie": f"a=b; {cookie}"})
                    assert again.json["server"] == server
                    assert "set-cookie" not in again.headers
            retired = ask(site.port(), "/echo", headers={"Cookie": "lampstand_release=r0"})
            assert "set-cookie" in retired.headers


def test_the_status_port_tells_the_load_and_the_routes(site: Site) -> None:
    assert "Active connections" in ask(site.port("status"), "/status").body.decode()
    text = next(f.content for f in site.running.instance.live_files if f.path.endswith(ROUTES))
    assert ask(site.port("status"), "/routes").body.decode().strip() in text


def test_it_ends_in_time_and_finishes_what_it_has(web: Backend) -> None:
    with balanced(web.server) as site:
        connection = http.client.HTTPConnection("127.0.0.1", site.port(), timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", "/slow?seconds=0.5")
            eventually(lambda: "/slow?seconds=0.5" in web.paths())
            os.kill(site.running.children["nginx"].pid, signal.SIGQUIT)
            assert connection.getresponse().read() == b"slow"
        assert site.running.children["nginx"].wait(5) == 0
