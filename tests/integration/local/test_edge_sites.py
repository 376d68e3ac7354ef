"""Edges of whole sites: rules, forwarded headers, failing origins, a shield, reload."""

import asyncio
import gzip
import http.client
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lampstand.engines import discover
from lampstand.site import Site
from lampstand.tiers.edge.probe import Figures, figures_command, look, parse_figures
from lampstand.topology import Endpoint
from tests.edge_support import Answer, Origin, Request, RunningEdge, edges, write_files
from tests.support import eventually, free_port

FRESH = ("Cache-Control", "max-age=3600")

RULES = [
    {"match": "/assets/*", "ttl": "1y", "immutable": True},
    {"match": "/api/*", "bypass": True},
    {"match": "/old/*", "redirect": {"to": "/new/*", "status": 308}},
    {"match": "/gone", "redirect": "https://elsewhere.test/"},
    {
        "match": "/shop/*",
        "ttl": "1h",
        "vary_cookies": ["currency"],
        "vary_headers": ["X-Device"],
        "browser_ttl": "1m",
    },
    {
        "match": "/search",
        "ttl": "1h",
        "query": {"keep": ["q", "page*"]},
        "headers": {"X-Frame-Options": 'DE"NY', "X-Two": "2"},
    },
    {"match": "/plain/*", "query": "none"},
    {"match": "/form", "methods": "POST", "headers": {"X-Form": "posted"}},
    {"match": "/swr/*", "stale_while_revalidate": "1h"},
    {"match": "/public-api/*", "ttl": "1m", "allow_authorization": True},
    {"match": "/nozip/*", "compress": False},
]


@pytest.fixture(scope="module")
def origins() -> Iterator[list[Origin]]:
    servers = [Origin(), Origin()]
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def edge(origins: list[Origin]) -> Iterator[RunningEdge]:
    site = {"site": "shop", "cdn": {"edges": ["fra"], "rules": RULES}}
    with edges(Site.model_validate(site), origins[:1]) as running:
        yield running["edge-fra"]


def page(edge: RunningEdge, folder: str, *answers: Answer) -> str:
    path = f"/{folder}/{uuid.uuid4().hex}"
    edge.origin.script(path, *answers)
    return path


# --- rules --------------------------------------------------------------------------------------------------


def test_a_ttl_of_the_operator(edge: RunningEdge) -> None:
    path = page(edge, "assets", Answer())
    assert [edge.ask(path).answer, edge.ask(path).answer] == [1, 1]
    assert edge.ask(path).header("Cache-Control") == "public, max-age=31536000, immutable"
    path = page(edge, "assets", Answer(headers=[("Cache-Control", "max-age=60")]))
    assert edge.ask(path).header("Cache-Control") == "max-age=60, immutable"


@pytest.mark.parametrize(
    "headers",
    [
        [("Cache-Control", "no-store")],
        [("Cache-Control", "private")],
        [("Set-Cookie", "a=b")],
        [("Vary", "*")],
    ],
)
def test_a_ttl_is_no_permission(edge: RunningEdge, headers: list[tuple[str, str]]) -> None:
    path = page(edge, "assets", Answer(headers=headers))
    assert [edge.ask(path).answer, edge.ask(path).answer] == [1, 2]


def test_a_ttl_is_not_for_failures(edge: RunningEdge) -> None:
    path = page(edge, "assets", Answer(500))
    assert [edge.ask(path).answer, edge.ask(path).answer] == [1, 2]


def test_with_a_ttl_cookies_stay_here(edge: RunningEdge) -> None:
    path = page(edge, "assets", Answer())
    assert [edge.ask(path, [("Cookie", "session=1")]).answer, edge.ask(path).answer] == [1, 1]
    assert edge.origin.requests[path][0].header("Cookie") is None


def test_bypass(edge: RunningEdge) -> None:
    path = page(edge, "api", Answer(headers=[FRESH]))
    replies = [edge.ask(path), edge.ask(path)]
    assert [(r.answer, r.cache) for r in replies] == [(1, "pass"), (2, "pass")]
    assert replies[0].header("Cache-Status") == "edge-fra; fwd=bypass; fwd-status=200"


def test_redirects(edge: RunningEdge) -> None:
    reply = edge.ask("/old/a/b?c=1")
    assert (reply.status, reply.header("Location")) == (308, "/new/a/b")
    assert edge.ask("/gone").header("Location") == "https://elsewhere.test/"


def test_vary_cookies_and_headers(edge: RunningEdge) -> None:
    path = page(edge, "shop", Answer())
    ask = [
        [("Cookie", "currency=EUR; session=1")],
        [("Cookie", "session=2; currency=EUR")],
        [("Cookie", "currency=USD")],
        [("X-Device", "phone")],
        [],
        [("Cookie", "other=1")],
    ]
    replies = [edge.ask(path, headers) for headers in ask]
    assert [r.answer for r in replies] == [1, 1, 2, 3, 4, 4]
    assert edge.origin.requests[path][0].header("Cookie") == "currency=EUR"
    assert replies[0].header("Vary") == "X-Device, Cookie"
    assert re.fullmatch(r"max-age=6[0-9]", replies[0].header("Cache-Control") or "")


def test_query_keep_and_headers(edge: RunningEdge) -> None:
    edge.origin.script("/search", Answer())
    replies = [
        edge.ask(f"/search?{q}") for q in ("q=a&x=1", "y=2&q=a", "q=b", "page2=1&q=b&pag=3", "q=b&page2=1")
    ]
    assert [r.answer for r in replies] == [1, 1, 2, 3, 3]
    assert edge.origin.requests["/search"][0].target == "/search?q=a"
    assert (replies[0].header("X-Frame-Options"), replies[0].header("X-Two")) == ('DE"NY', "2")


def test_query_none(edge: RunningEdge) -> None:
    path = page(edge, "plain", Answer(headers=[FRESH]))
    assert [edge.ask(f"{path}{q}").answer for q in ("?a=1", "", "?b")] == [1, 1, 1]
    assert edge.origin.requests[path][0].target == path


def test_methods(edge: RunningEdge) -> None:
    edge.origin.script("/form", Answer())
    assert edge.ask("/form", method="POST", body=b"x").header("X-Form") == "posted"
    assert edge.ask("/form").header("X-Form") is None


def test_stale_while_revalidate_of_the_operator(edge: RunningEdge) -> None:
    path = page(edge, "swr", Answer(headers=[("Cache-Control", "max-age=1")]))
    edge.ask(path)
    edge.until_old(path)
    assert edge.ask(path).cache == "stale"
    eventually(lambda: edge.ask(path).answer > 1)


def test_allow_authorization(edge: RunningEdge) -> None:
    path = page(edge, "public-api", Answer())
    assert [edge.ask(path, [("Authorization", "Bearer key")]).answer, edge.ask(path).answer] == [1, 1]


def test_compression(edge: RunningEdge) -> None:
    text = Answer(headers=[FRESH, ("Content-Type", "text/css")], body=b"a { color: red }\n" * 100)
    for folder, encoding in (("zip", "gzip"), ("nozip", None)):
        path = page(edge, folder, text)
        reply = edge.ask(path, [("Accept-Encoding", "gzip")])
        assert reply.header("Content-Encoding") == encoding
        assert edge.ask(path).body == text.body
    image = page(edge, "zip", Answer(headers=[FRESH, ("Content-Type", "image/png")], body=b"x" * 2000))
    assert edge.ask(image, [("Accept-Encoding", "gzip")]).header("Content-Encoding") is None


# --- what the application sees ------------------------------------------------------------------------------


def test_forwarded_headers_and_request_id(edge: RunningEdge) -> None:
    path = page(edge, "seen", Answer())
    reply = edge.ask(
        path, [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Proto", "https"), ("Forwarded", "for=6.6.6.6")]
    )
    seen = edge.origin.requests[path][0]
    assert seen.header("X-Forwarded-For") == "127.0.0.1"
    assert seen.header("X-Forwarded-Proto") == "http"
    assert seen.header("X-Forwarded-Host") == "site.test"
    assert seen.header("Forwarded") == 'for=127.0.0.1;proto=http;host="site.test"'
    assert seen.header("Host") == "site.test"
    assert re.fullmatch(r"edge-fra-[0-9]+-[0-9]+", seen.header("X-Request-Id") or "")
    assert reply.header("X-Request-Id") == seen.header("X-Request-Id")


def test_a_request_id_is_passed_on(edge: RunningEdge) -> None:
    path = page(edge, "seen", Answer())
    assert (
        edge.ask(path, [("X-Request-Id", "abcdef-0123456789")]).header("X-Request-Id") == "abcdef-0123456789"
    )
    edge.ask(path, [("X-Request-Id", "bad id")])
    assert edge.origin.requests[path][0].header("X-Request-Id") == "abcdef-0123456789"
    assert "bad" not in (edge.origin.requests[path][1].header("X-Request-Id") or "bad")


def test_own_paths(edge: RunningEdge) -> None:
    assert edge.ask("/.lampstand/edge").body == b"ok edge-fra\n"
    assert edge.ask("/.lampstand/health").status == 404
    assert edge.ask("/.lampstand/other").status == 404
    assert edge.origin.count("/.lampstand/other") == 0


def test_websockets_pass_through(edge: RunningEdge) -> None:
    path = page(
        edge,
        "ws",
        Answer(101, headers=[("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Content-Length", "0")]),
    )
    reply = edge.ask(path, [("Upgrade", "websocket"), ("Connection", "Upgrade")])
    assert reply.status == 101
    assert edge.origin.requests[path][0].header("Upgrade") == "websocket"


# --- failing origins ----------------------------------------------------------------------------------------


def test_another_balancer_is_asked(origins: list[Origin]) -> None:
    site = Site.model_validate({"site": "two", "balancer": {"servers": 2}, "cdn": {"edges": ["fra"]}})
    with edges(site, origins) as running:
        edge = running["edge-fra"]
        for failing in (Answer(close=True), Answer(502), Answer(503)):
            path = f"/{uuid.uuid4().hex}"
            origins[0].script(path, failing)
            origins[1].script(path, Answer(headers=[("Cache-Control", "no-store")]))
            assert [edge.ask(path).status for _ in range(4)] == [200] * 4
        lost = f"/{uuid.uuid4().hex}"
        for origin in origins:
            origin.script(lost, Answer(close=True))
        edge.ask(lost, method="POST", body=b"x")
        assert sum(o.count(lost) for o in origins) == 1, "a POST is never sent twice"


def test_the_whole_origin_down() -> None:
    origin = Origin()
    with edges(Site.model_validate({"site": "down", "cdn": {"edges": ["fra"]}}), [origin]) as running:
        edge = running["edge-fra"]
        fresh = edge.page(Answer(headers=[FRESH]))
        old = edge.page(Answer(headers=[("Cache-Control", "max-age=1")]))
        edge.ask(fresh)
        edge.ask(old)
        edge.until_old(old)
        origin.stop()
        assert edge.ask(fresh).cache == "hit"
        began = time.monotonic()
        assert [edge.ask(old).cache for _ in range(5)] == ["stale"] * 5
        assert time.monotonic() - began < 3
        assert edge.ask("/never-seen").status == 502


def test_an_origin_that_hangs(edge: RunningEdge) -> None:
    """With an old answer at hand nobody waits for the whole read timeout."""
    gate = threading.Event()
    path = page(edge, "hangs", Answer(headers=[("Cache-Control", "max-age=1")]), Answer(gate=gate))
    edge.ask(path)
    edge.until_old(path)
    began = time.monotonic()
    assert edge.ask(path).cache == "stale"
    assert time.monotonic() - began < 10
    gate.set()


def test_a_probe_that_fails_is_not_the_last_word(origins: list[Origin]) -> None:
    """An origin that does not know the health path is still asked."""
    site = Site.model_validate({"site": "probe", "cdn": {"edges": ["fra"]}})
    with edges(site, origins[:1]) as running:
        edge = running["edge-fra"]
        origins[0].healthy = False
        try:
            eventually(lambda: "sick" in admin(edge, "backend.list"), 10)
            path = page(edge, "probe", Answer())
            assert edge.ask(path).status == 200
            assert edge.ask(path, method="POST", body=b"x").status == 200
        finally:
            origins[0].healthy = True


def admin(edge: RunningEdge, *words: str) -> str:
    """What varnishadm says."""
    return subprocess.run(
        ["varnishadm", "-n", edge.workdir, *words], capture_output=True, text=True, check=True
    ).stdout


# --- brotli -------------------------------------------------------------------------------------------------


def test_brotli_is_kept_apart_and_given_to_those_who_take_it(edge: RunningEdge) -> None:
    """RFC 9110 section 12.5.3. The origin has a file compressed beforehand; others get gzip or plain text as ever."""
    plain = b"body { color: red }\n" * 100

    def answer(request: Request) -> Answer:
        headers = [FRESH, ("Content-Type", "text/css"), ("Vary", "Accept-Encoding")]
        if "br" in (request.header("Accept-Encoding") or ""):
            return Answer(headers=[*headers, ("Content-Encoding", "br")], body=b"brotli")
        return Answer(headers=headers, body=plain)

    path = edge.page(answer, answer, suffix=".css")
    for _ in range(2):
        told = edge.ask(path, [("Accept-Encoding", "gzip, deflate, br")])
        assert (told.header("Content-Encoding"), told.body) == ("br", b"brotli")
        assert edge.ask(path).body == plain
        packed = edge.ask(path, [("Accept-Encoding", "gzip, br;q=0")])
        assert (packed.header("Content-Encoding"), gzip.decompress(packed.body)) == ("gzip", plain)
    assert edge.origin.count(path) == 2
    assert [r.header("Accept-Encoding") for r in edge.origin.requests[path]] == ["br, gzip", "gzip"]
    assert edge.purge(path, [("X-Purge-Mode", "hard")]).status == 200
    assert edge.ask(path, [("Accept-Encoding", "br")]).cache == "miss"


def test_pages_are_asked_for_without_brotli(edge: RunningEdge) -> None:
    path = edge.page(Answer(headers=[FRESH]))
    edge.ask(path, [("Accept-Encoding", "gzip, br")])
    assert edge.origin.requests[path][0].header("Accept-Encoding") == "gzip"


# --- misses at once -----------------------------------------------------------------------------------------


def misses(running: dict[str, RunningEdge], path: str, number: int, gate: threading.Event) -> set[int]:
    """Numbers of the origin's answers to `number` requests at once, spread over the edges."""
    ports = [e.port for e in running.values()]
    connections = [
        http.client.HTTPConnection("127.0.0.1", ports[n % len(ports)], timeout=60) for n in range(number)
    ]
    for connection in connections:
        connection.request("GET", path, headers={"Host": "site.test"})
    gate.set()
    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(lambda c: int(c.getresponse().getheader("X-Answer") or 0), connections))
    for connection in connections:
        connection.close()
    return answers


@pytest.mark.parametrize(("shield", "fetches"), [(None, 2), ("fra", 1)])
def test_a_thousand_misses_at_once(origins: list[Origin], shield: str | None, fetches: int) -> None:
    site = Site.model_validate({"site": "many", "cdn": {"edges": ["fra", "iad"], "shield": shield}})
    with edges(site, origins[:1]) as running:
        gate = threading.Event()
        path = page(running["edge-fra"], "many", Answer(headers=[FRESH], gate=gate))
        assert 0 not in misses(running, path, 1000, gate)
        assert origins[0].count(path) == fetches


# --- shield -------------------------------------------------------------------------------------------------


def test_a_shield(origins: list[Origin]) -> None:
    site = Site.model_validate({"site": "shielded", "cdn": {"edges": ["fra", "iad"], "shield": "fra"}})
    with edges(site, origins[:1]) as running:
        fra, iad = running["edge-fra"], running["edge-iad"]
        path = page(iad, "shield", Answer(headers=[FRESH, ("Surrogate-Key", "tagged")]))
        reply = iad.ask(path, [("X-Request-Id", "from-the-visitor")])
        assert (reply.answer, reply.header("Surrogate-Key")) == (1, None)
        status = reply.header("Cache-Status") or ""
        assert (
            status == "edge-fra; fwd=miss; fwd-status=200; stored, edge-iad; fwd=miss; fwd-status=200; stored"
        )
        seen = iad.origin.requests[path][0]
        assert (seen.header("X-Forwarded-For"), seen.header("X-Request-Id")) == (
            "127.0.0.1",
            "from-the-visitor",
        )
        assert (fra.ask(path).cache, iad.ask(path).cache) == ("hit", "hit")
        assert fra.ask(path).answer == 1
        # Soft purges of both: an edge never gets an old answer from the shield as if it were new.
        for edge in (fra, iad):
            edge.purge("/", [("Surrogate-Key", "tagged"), ("X-Purge-Mode", "soft")])
        assert iad.ask(path).cache == "stale"
        eventually(lambda: iad.ask(path).answer == 2)
        # Without its shield an edge asks the balancers.
        os.kill(fra.process.pid, signal.SIGKILL)
        fra.process.wait(10)
        other = page(iad, "shield", Answer(headers=[FRESH]))
        eventually(lambda: iad.ask(other).status == 200, 10)


# --- large files --------------------------------------------------------------------------------------------


class Files:
    """nginx with one sparse file of 10 GiB, as a balancer would serve it."""

    SIZE = 10 * 2**30

    def __init__(self, root: Path) -> None:
        self.port = free_port()
        with (root / "large.bin").open("wb") as file:
            file.truncate(self.SIZE)
            file.seek(self.SIZE - 4)
            file.write(b"last")
        (root / "nginx.conf").write_text(
            f"daemon off; pid {root}/pid; error_log stderr; events {{ worker_connections 64; }}"
            f"http {{ access_log off; sendfile on; client_body_temp_path {root}/t; proxy_temp_path {root}/t;"
            f"fastcgi_temp_path {root}/t; uwsgi_temp_path {root}/t; scgi_temp_path {root}/t;"
            f"server {{ listen 127.0.0.1:{self.port}; root {root};"
            f"location = /.lampstand/health {{ return 200 ok; }} }} }}"
        )
        root.chmod(0o755)
        argv = [
            discover().nginx.path,
            "-c",
            str(root / "nginx.conf"),
            *(["-g", "user root;"] if os.geteuid() == 0 else []),
        ]
        self.process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        eventually(lambda: socket.create_connection(("127.0.0.1", self.port)).close() is None)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def test_a_file_of_10_gib_does_not_fill_memory() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        files = Files(Path(folder))
        try:
            with edges(Site.model_validate({"site": "large", "cdn": {"edges": ["fra"]}}), [files]) as running:  # type: ignore[list-item]
                edge = running["edge-fra"]
                tail = edge.ask("/large.bin", [("Range", "bytes=-4")])
                assert (tail.status, tail.body) == (206, b"last")
                assert tail.header("Content-Range") == f"bytes {files.SIZE - 4}-{files.SIZE - 1}/{files.SIZE}"
                connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=20)
                connection.request("GET", "/large.bin")
                response = connection.getresponse()
                assert response.getheader("Content-Length") == str(files.SIZE)
                for _ in range(100):
                    assert len(response.read(2**20)) == 2**20
                assert memory(edge) < 80_000
                connection.close()
                assert edge.ask("/large.bin", [("Range", "bytes=-4")]).body == b"last"
        finally:
            files.stop()


# --- reload -------------------------------------------------------------------------------------------------


def test_a_reload_keeps_what_is_kept(edge: RunningEdge) -> None:
    path = page(edge, "seen", Answer(headers=[FRESH]))
    edge.ask(path)
    reload = edge.instance.processes[0].reload
    assert isinstance(reload, tuple)
    for _ in range(3):
        subprocess.run(reload, check=True, capture_output=True)
    assert edge.ask(path).cache == "hit"
    assert len(re.findall(r"(?m)^(?:active|available)", admin(edge, "vcl.list"))) <= 2


def test_a_reload_of_a_broken_file_changes_nothing(edge: RunningEdge) -> None:
    vcl = Path(edge.instance.files[0].path)
    reload = edge.instance.processes[0].reload
    assert isinstance(reload, tuple)
    vcl.write_text("vcl 4.1; nonsense")
    try:
        result = subprocess.run(reload, check=False, capture_output=True, text=True)
        assert result.returncode != 0
        assert "nonsense" in result.stderr + result.stdout
        assert edge.ask("/.lampstand/edge").status == 200
    finally:
        write_files(edge.instance)


def memory(edge: RunningEdge) -> int:
    """PSS of manager and worker in kB."""
    worker = Path(f"/proc/{edge.process.pid}/task/{edge.process.pid}/children").read_text().split()
    rollups = (Path(f"/proc/{p}/smaps_rollup").read_text() for p in (edge.process.pid, *worker))
    return sum(int(re.findall(r"(?m)^Pss: +([0-9]+)", text)[0]) for text in rollups)


def test_memory_of_an_edge(edge: RunningEdge) -> None:
    """With a few hundred answers kept."""
    path = page(edge, "memory", Answer(headers=[FRESH], body=b"x" * 1000))
    for number in range(300):
        edge.ask(f"{path}?n={number}")
    assert memory(edge) < 80_000


@pytest.mark.parametrize("golden", ["rules-edge-iad-edge", "tls-edge-one-edge"])
def test_the_golden_texts_compile(golden: str) -> None:
    path = Path(__file__).parents[2] / "golden" / "edge" / f"{golden}.vcl"
    result = subprocess.run(
        [discover().varnishd.path, "-C", "-f", str(path)], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]


# --- seeing it -------------------------------------------------------------------------------------------------


def test_what_an_edge_keeps_of_a_url(edge: RunningEdge) -> None:
    endpoint = edge.instance.endpoint("http")
    path = page(edge, "seen", Answer(headers=[("Cache-Control", "max-age=60")]))
    before, *_ = asyncio.run(look([endpoint], path, host="site.test"))
    assert (before.state, edge.origin.count(path)) == ("absent", 0)
    edge.ask(path)
    after, *_ = asyncio.run(look([endpoint], f"http://site.test{path}"))
    assert (after.edge, after.state, after.status) == ("edge-fra", "hit", 200)
    assert 55 <= after.ttl <= 60
    gone, *_ = asyncio.run(look([Endpoint("edge-gone", "http", "127.0.0.1", free_port(), "http")], path))
    assert gone.state == "unreachable"


def test_figures_of_a_running_edge(edge: RunningEdge) -> None:
    path = page(edge, "seen", Answer(headers=[FRESH]))
    for _ in range(5):
        edge.ask(path)

    def figures() -> Figures:
        argv = figures_command(edge.instance, "varnishstat")
        return parse_figures(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)

    eventually(lambda: figures().hits >= 4)
    seen = figures()
    assert seen.requests >= 5
    assert seen.fetches >= 1
    assert seen.kept >= 1
    assert seen.bytes_used > 0
