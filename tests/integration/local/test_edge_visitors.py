"""The visitors' entry: TLS, and which edge a visitor gets."""

import base64
import contextlib
import http.client
import http.server
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import urllib.parse
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lampstand.site import Site
from lampstand.tiers.edge.certificates import examine, served
from tests.edge_support import Answer, Origin, Reply, RunningEdge, as_account, edges
from tests.support import eventually, free_port

FRESH = ("Cache-Control", "max-age=3600")
Running = dict[str, RunningEdge]


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    server = Origin()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def secure(origin: Origin) -> Iterator[Running]:
    site = {"site": "secure", "tls": {"mode": "local", "hsts": "1y"}, "cdn": {"edges": ["fra", "iad"]}}
    with edges(Site.model_validate(site), [origin]) as running:
        yield running


def authority(running: Running) -> str:
    return str(Path(running["visitors-1"].instance.files[0].path).parents[1] / "data" / "tls" / "ca.pem")


def https(
    running: Running, path: str, *, host: str = "localhost", method: str = "GET", body: bytes | None = None
) -> Reply:
    """One request over TLS, the certificate checked against the site's authority."""
    port = running["visitors-1"].instance.endpoint("https").port
    trusted = ssl.create_default_context(cafile=authority(running))
    connection = http.client.HTTPSConnection(host, port, timeout=20, context=trusted)
    try:
        connection.request(method, path, body=body, headers={"Host": host})
        response = connection.getresponse()
        return Reply(response.status, response.getheaders(), response.read())
    finally:
        connection.close()


def test_the_scheme_and_the_address_reach_the_application(secure: Running, origin: Origin) -> None:
    path = secure["visitors-1"].page(Answer(headers=[FRESH]))
    reply = https(secure, path)
    assert (reply.status, reply.answer) == (200, 1)
    assert reply.header("Strict-Transport-Security") == "max-age=31536000"
    seen = origin.requests[path][0]
    assert (seen.header("X-Forwarded-Proto"), seen.header("X-Forwarded-For")) == ("https", "127.0.0.1")
    assert seen.header("Forwarded") == 'for=127.0.0.1;proto=https;host="localhost"'
    assert https(secure, path).cache == "hit"


def test_plain_http_is_redirected_once(secure: Running) -> None:
    entry = secure["visitors-1"]
    reply = entry.ask("/a?b=c", host="localhost:1234")
    assert reply.status == 308
    assert reply.header("Location") == f"https://localhost:{entry.instance.endpoint('https').port}/a?b=c"
    path = entry.page(Answer(headers=[FRESH]))
    assert https(secure, path).status == 200, "no loop: the application is told https"


def test_a_visitor_cannot_lie(secure: Running, origin: Origin) -> None:
    entry = secure["visitors-1"]
    path = entry.page(Answer())
    port = entry.instance.endpoint("https").port
    connection = http.client.HTTPSConnection(
        "localhost", port, context=ssl.create_default_context(cafile=authority(secure))
    )
    connection.request(
        "GET",
        path,
        headers={"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "http", "Forwarded": "for=6.6.6.6"},
    )
    assert connection.getresponse().status == 200
    connection.close()
    seen = origin.requests[path][0]
    assert (seen.header("X-Forwarded-For"), seen.header("X-Forwarded-Proto")) == ("127.0.0.1", "https")
    assert "6.6.6.6" not in str(seen.headers)


@pytest.mark.parametrize(
    ("version", "good"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
)
def test_versions_and_http2(secure: Running, version: ssl.TLSVersion, good: bool) -> None:
    context = ssl.create_default_context(cafile=authority(secure))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # asking for the old version is the test
        context.minimum_version = version
        context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    port = secure["visitors-1"].instance.endpoint("https").port
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            assert good
            assert tls.selected_alpn_protocol() == "h2"
    except (ssl.SSLError, ConnectionError):
        assert not good


def test_http2_requests(secure: Running) -> None:
    path = secure["visitors-1"].page(Answer(headers=[FRESH]))
    port = secure["visitors-1"].instance.endpoint("https").port
    argv = [
        "curl",
        "-sS",
        "--http2",
        "--cacert",
        authority(secure),
        "-o",
        os.devnull,
        "-w",
        "%{http_version} %{http_code}",
    ]
    assert (
        subprocess.run(
            [*argv, f"https://localhost:{port}{path}"], capture_output=True, text=True, check=True
        ).stdout
        == "2 200"
    )


def test_a_renewed_certificate_needs_no_restart(secure: Running) -> None:
    entry = secure["visitors-1"]
    port = entry.instance.endpoint("https").port
    before = ssl.get_server_certificate(("127.0.0.1", port))
    made = entry.instance.prepare[0]
    subprocess.run(made.argv, check=True, capture_output=True, **as_account(entry.instance))
    entry.process.send_signal(signal.SIGHUP)
    eventually(lambda: ssl.get_server_certificate(("127.0.0.1", port)) != before)
    assert https(secure, entry.page(Answer())).status == 200


def test_doctor_knows_what_visitors_get(secure: Running) -> None:
    entry = secure["visitors-1"]
    port, ca = entry.instance.endpoint("https").port, Path(authority(secure))
    made = entry.instance.prepare[0]
    key = Path(made.creates).with_name("privkey.pem")
    found = [
        *examine(Path(made.creates), key, ["localhost"], authority=ca),
        *served(Path(made.creates), "127.0.0.1", port),
    ]
    assert [f.outcome for f in found] == ["good"] * 3, found
    subprocess.run(made.argv, check=True, capture_output=True, **as_account(entry.instance))
    (other,) = served(Path(made.creates), "127.0.0.1", port)
    assert other.outcome == "bad"
    entry.process.send_signal(signal.SIGHUP)
    eventually(lambda: next(served(Path(made.creates), "127.0.0.1", port)).outcome == "good")
    assert list(served(Path(made.creates), "127.0.0.1", free_port())) == []


# --- certificates of one's own --------------------------------------------------------------------------------------


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def own_certificate(folder: Path, responder: int) -> None:
    """A chain of three, the leaf naming an OCSP responder, and that one's index."""
    folder.mkdir(parents=True)
    for name, issuer in (("root", None), ("middle", "root"), ("leaf", "middle")):
        key, request = folder / f"{name}.key", folder / "request"
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", request)
        lines = [f"basicConstraints=critical,CA:{'FALSE' if name == 'leaf' else 'TRUE'}"]
        if name == "leaf":
            lines += [
                f"authorityInfoAccess=OCSP;URI:http://127.0.0.1:{responder}",
                "subjectAltName=DNS:localhost",
            ]
        (folder / "extensions").write_text("\n".join(lines))
        by = (
            ["-CA", folder / f"{issuer}.pem", "-CAkey", folder / f"{issuer}.key"]
            if issuer
            else ["-signkey", key]
        )
        serial = {"root": "1", "middle": "2", "leaf": "3"}[name]
        openssl("x509", "-req", "-in", request, *by, "-set_serial", serial, "-days", "9", "-extfile",
                folder / "extensions", "-out", folder / f"{name}.pem")  # fmt: skip
    (folder / "full.pem").write_text((folder / "leaf.pem").read_text() + (folder / "middle.pem").read_text())
    (folder / "index").write_text("V\t491231235959Z\t\t03\tunknown\t/CN=leaf\n")
    for path in folder.iterdir():
        path.chmod(0o644)


@contextlib.contextmanager
def responder(folder: Path, port: int) -> Iterator[None]:
    """An OCSP responder (RFC 6960) on the loopback: openssl says what the index knows."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            (folder / "asked").write_bytes(base64.b64decode(urllib.parse.unquote(self.path[1:])))
            signer = (
                "-CA",
                folder / "middle.pem",
                "-rkey",
                folder / "middle.key",
                "-rsigner",
                folder / "middle.pem",
            )
            files = ("-index", folder / "index", "-reqin", folder / "asked", "-respout", folder / "answer")
            openssl("ocsp", *files, *signer)
            answer = (folder / "answer").read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "application/ocsp-response")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_request(self, code: object = "-", size: object = "-") -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def test_own_certificates_with_ocsp(origin: Origin, tmp_path: Path) -> None:
    """The whole chain is sent, an OCSP answer with it, and the scheme reaches the application."""
    port, folder = free_port(), tmp_path / "tls"
    own_certificate(folder, port)
    tls = {"mode": "own", "certificate": "tls/full.pem", "key": "tls/leaf.key", "domains": ["localhost"]}
    site = Site.model_validate({"site": "own", "tls": tls, "cdn": {"edges": ["fra"]}})

    def copied(release: Path) -> None:
        shutil.copytree(folder, release / "tls")

    with responder(folder, port), edges(site, [origin], release=copied) as running:
        entry = running["visitors-1"]
        at = entry.instance.endpoint("https").port
        context = ssl.create_default_context(cafile=str(folder / "root.pem"))
        connection = http.client.HTTPSConnection("localhost", at, timeout=10, context=context)
        path = entry.page(Answer(headers=[FRESH]))
        connection.request("GET", path)
        assert connection.getresponse().status == 200
        connection.close()
        assert origin.requests[path][0].header("X-Forwarded-Proto") == "https"
        log = Path(entry.instance.files[0].path).parents[1] / "log" / "error.log"
        try:
            eventually(lambda: "Cert Status: good" in handshake(at), 20)
        except AssertionError as error:
            raise AssertionError(log.read_text()) from error


def handshake(port: int) -> str:
    """What openssl says of a handshake in which it asks for an OCSP answer."""
    argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost", "-status"]
    return subprocess.run(argv, input="", capture_output=True, text=True, check=False, timeout=20).stdout


def test_a_renewal_drops_no_connection(secure: Running) -> None:
    """A request under way ends well, and no other fails, while nginx takes the new certificate."""
    entry = secure["visitors-1"]
    port = entry.instance.endpoint("https").port
    gate = threading.Event()
    slow, path = entry.page(Answer(gate=gate)), entry.page(Answer(headers=[FRESH]))
    before = ssl.get_server_certificate(("127.0.0.1", port))
    failures: list[str] = []
    over = threading.Event()

    def visit() -> None:
        while not over.is_set():
            try:
                reply = https(secure, path)
                if reply.status != 200:
                    failures.append(str(reply.status))
            except OSError as error:
                failures.append(repr(error))

    with ThreadPoolExecutor(5) as pool:
        waiting = pool.submit(https, secure, slow)
        visitors = [pool.submit(visit) for _ in range(3)]
        eventually(lambda: entry.origin.count(slow) == 1)
        made = entry.instance.prepare[0]
        subprocess.run(made.argv, check=True, capture_output=True, **as_account(entry.instance))
        entry.process.send_signal(signal.SIGHUP)
        eventually(lambda: ssl.get_server_certificate(("127.0.0.1", port)) != before)
        gate.set()
        assert waiting.result(30).status == 200
        over.set()
        for visitor in visitors:
            visitor.result(30)
    assert failures == []


# --- which edge ---------------------------------------------------------------------------------------------------


def served_by(reply: Reply) -> str:
    return (reply.header("X-Cache") or "").partition(" ")[2]


def test_by_network_and_to_the_next_when_it_fails(origin: Origin) -> None:
    cdn = {"edges": ["fra", {"name": "iad", "networks": ["127.0.0.0/8"]}], "visitors": {}}
    with edges(Site.model_validate({"site": "near", "cdn": cdn}), [origin]) as running:
        entry = running["visitors-1"]
        path = entry.page(Answer(headers=[FRESH]))
        assert [served_by(entry.ask(path)) for _ in range(3)] == ["edge-iad"] * 3
        os.kill(running["edge-iad"].process.pid, signal.SIGKILL)
        running["edge-iad"].process.wait(10)
        replies = [entry.ask(path) for _ in range(5)]
        assert [(r.status, served_by(r)) for r in replies] == [(200, "edge-fra")] * 5
        posted = entry.page(Answer())
        assert entry.ask(posted, method="POST", body=b"x").status == 200
        assert origin.count(posted) == 1


def country_database(path: Path, network: tuple[int, int], country: str) -> None:
    """A MaxMind database (format 2.0, IPv4) that knows the country of one network: first octet and bits of it."""

    def text(value: str) -> bytes:
        return bytes([0x40 | len(value)]) + value.encode()

    def mapping(size: int, content: bytes) -> bytes:
        return bytes([0xE0 | size]) + content

    def number(value: int) -> bytes:
        return b"\xa2" + value.to_bytes(2, "big")

    octet, bits = network
    data = mapping(1, text("country") + mapping(1, text("iso_code") + text(country)))
    tree = b""
    for depth in range(bits):
        onward = depth + 1 if depth + 1 < bits else bits + 16
        records = [bits, onward] if octet >> (7 - depth) & 1 else [onward, bits]
        tree += b"".join(r.to_bytes(3, "big") for r in records)
    facts = {
        "binary_format_major_version": number(2),
        "binary_format_minor_version": number(0),
        "build_epoch": b"\x08\x02" + (1_700_000_000).to_bytes(8, "big"),
        "database_type": text("Country"),
        "description": mapping(0, b""),
        "ip_version": number(4),
        "languages": b"\x00\x04",
        "node_count": b"\xc4" + bits.to_bytes(4, "big"),
        "record_size": number(24),
    }
    metadata = mapping(len(facts), b"".join(text(k) + v for k, v in facts.items()))
    path.write_bytes(tree + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + metadata)
    path.chmod(0o644)


def test_by_country_and_by_map(origin: Origin) -> None:
    """The user's files lie in the release."""
    cdn = {
        "edges": ["fra", {"name": "iad", "countries": ["US"]}, "sin"],
        "visitors": {"mmdb": "geo/country.mmdb", "map": "geo/edges.map"},
    }

    def files(release: Path) -> None:
        (release / "geo").mkdir(parents=True)
        country_database(release / "geo" / "country.mmdb", (127, 8), "US")
        (release / "geo" / "edges.map").write_text("127.0.2.0/24 sin;\n127.0.3.0/24 nowhere;\n")

    with edges(Site.model_validate({"site": "geo", "cdn": cdn}), [origin], release=files) as running:
        path = running["visitors-1"].page(Answer(headers=[FRESH]))
        assert [asked_from(running, path, a) for a in ("127.0.0.1", "127.0.2.9", "127.0.3.9")] == [
            "edge-iad",
            "edge-sin",
            "edge-iad",
        ]


def asked_from(running: Running, path: str, address: str) -> str:
    """The edge that a visitor with this address gets."""
    port = running["visitors-1"].port
    connection = http.client.HTTPConnection("127.0.0.1", port, source_address=(address, 0), timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return (response.getheader("X-Cache") or "").partition(" ")[2]
    finally:
        connection.close()


def test_by_weight(origin: Origin) -> None:
    """One address, one edge; all of them when there are many addresses (127.0.0.0/8 is all ours)."""
    cdn = {"edges": [{"name": "fra", "weight": 3}, "iad"], "visitors": {}}
    with edges(Site.model_validate({"site": "spread", "cdn": cdn}), [origin]) as running:
        entry = running["visitors-1"]
        path = entry.page(Answer(headers=[FRESH]))
        found: dict[str, int] = {"edge-fra": 0, "edge-iad": 0}
        for number in range(1, 101):
            found[asked_from(running, path, f"127.0.1.{number}")] += 1
        assert found["edge-fra"] > found["edge-iad"] > 0, found


def test_websockets_and_uploads_pass(secure: Running, origin: Origin) -> None:
    path = f"/{uuid.uuid4().hex}"
    origin.script(path, Answer())
    body = os.urandom(300_000)
    assert https(secure, path, method="POST", body=body).status == 200
    assert origin.requests[path][0].body == body


def test_slow_visitors_are_let_go_and_others_notice_nothing(origin: Origin) -> None:
    site = {
        "site": "slow",
        "balancer": {"timeouts": {"client_header": "1s"}},
        "cdn": {"edges": ["fra"], "visitors": {}},
    }
    with edges(Site.model_validate(site), [origin]) as running:
        entry = running["visitors-1"]
        path = entry.page(Answer(headers=[FRESH]))
        slow = [socket.create_connection(("127.0.0.1", entry.port), 10) for _ in range(200)]
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
        assert entry.ask(path).status == 200
        for connection in slow:
            assert dropped(connection)
        assert entry.ask(path).cache == "hit"


def dropped(connection: socket.socket) -> bool:
    """Whether the other side ends the connection, with a reset or without a word, within its timeout."""
    with connection:
        try:
            return connection.recv(100) == b""
        except ConnectionResetError:
            return True
