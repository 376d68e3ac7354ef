"""One web server in each language, real engines: what the application is told, limits, starts, stops, reloads."""

import os
import re
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from lampstand.tiers.web.build import build
from lampstand.tiers.web.tier import expand
from lampstand.topology import Instance
from tests.integration.local.launch import Ground, Running, answers, context, ground, launch
from tests.integration.local.web_apps import APPLICATIONS, write_application
from tests.support import eventually

LANGUAGES = tuple(APPLICATIONS)
BROKEN = "this application cannot start"


@pytest.fixture(scope="module")
def builds() -> Iterator[Path]:
    """What the builds of this file share, so that each venv is made once."""
    with tempfile.TemporaryDirectory(prefix="lstbuilds") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def web_server(place: Ground, language: str, builds: Path, **env: str) -> Instance:
    """web-1 with the test application of a language, built."""
    release = place.root / "releases" / "r1"
    release.mkdir(mode=0o755)
    app = write_application(language, release)
    for folder, _, _ in os.walk(release):
        Path(folder).chmod(0o755)
    site = {
        "app": {**app, "env": env},
        "web": {"processes": 4, "drain_seconds": "6s"},
        "balancer": {"body_limit": "1MB"},
    }
    ready = context(place, site)
    build(ready.site, release, release, ready.engines, place.root / "uploads", cache=builds)
    return next(iter(expand(ready)))


@contextmanager
def serving(language: str, builds: Path, **env: str) -> Iterator[tuple[Running, httpx.Client]]:
    """The web server, answering, and a client of it."""
    with (
        ground() as place,
        launch(web_server(place, language, builds, **env), place) as running,
        httpx.Client(base_url=running.url(), timeout=20) as client,
    ):
        eventually(lambda: answers(running.url()), 20)
        yield running, client


@pytest.fixture(scope="module", params=LANGUAGES)
def server(request: pytest.FixtureRequest, builds: Path) -> Iterator[tuple[Running, httpx.Client]]:
    """One server of each language for the tests that leave it as it is."""
    with serving(request.param, builds, ODD="quote ' \" dollar $HOME ${PATH} `id` ünï\nline; #") as found:
        yield found


def test_the_application_knows_who_asks_and_how(server: tuple[Running, httpx.Client]) -> None:
    running, client = server
    headers = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "203.0.113.9",
        "X-Request-Id": "request-42",
        "Host": "shop.example.com",
        "Authorization": "Basic eDp5",
    }
    answer = client.post("/a%2Fb%20c?q=1", content=b"x" * 100_000, headers=headers).json()
    assert answer["scheme"] == "https"
    assert answer["client"] == answer["forwarded_for"] == "203.0.113.9"
    assert answer["request_id"] == "request-42"
    assert answer["method"] == "POST"
    assert answer["body"] == 100_000
    assert answer["authorization"] == "Basic eDp5"
    assert answer["uri"].startswith("/a%2Fb%20c")
    line = eventually(lambda: re.findall(r".*request-42.*", running.log("access.log")))[0]
    assert re.fullmatch(
        r'203\.0\.113\.9 - - \[.+\] "POST /a%2Fb%20c\?q=1 HTTP/1.1" 200 \d+ .* request-42 \d+', line
    )


def test_without_a_proxy_it_is_plain_http_and_gets_a_request_id(server: tuple[Running, httpx.Client]) -> None:
    _, client = server
    answer = client.get("/", headers={"X-Forwarded-Ssl": "on", "Proxy": "http://evil.example"}).json()
    assert answer["scheme"] == "http"
    assert answer["client"] == "127.0.0.1"
    assert len(answer["request_id"]) > 16
    assert "HTTP_PROXY" not in answer.get("server", {})


def test_the_environment_arrives_as_it_was_written(server: tuple[Running, httpx.Client]) -> None:
    running, client = server
    environment = client.get("/").json()["env"]
    for name, value in running.instance.processes[0].env:
        assert environment[name] == value
    assert environment["LAMPSTAND_SERVER"] == "web-1"


def test_a_huge_header_is_a_clear_refusal_and_the_next_request_is_served(
    server: tuple[Running, httpx.Client],
) -> None:
    _, client = server
    assert client.get("/", headers={"X-Big": "x" * 15_000}).status_code == 200
    assert client.get("/", headers={"X-Big": "x" * 100_000}).status_code in (400, 431)
    assert client.get("/?" + "x" * 50_000).status_code == 414
    assert client.post("/", content=b"x" * 1_000_001).status_code == 413
    assert client.get("/").status_code == 200


def test_a_huge_header_of_the_application_is_an_error_and_no_crash(
    server: tuple[Running, httpx.Client],
) -> None:
    _, client = server
    assert client.get("/header?bytes=7000").headers["X-Big"] == "x" * 7000
    assert client.get("/header?bytes=100000").status_code in (500, 502)
    assert client.get("/").status_code == 200


def test_an_exception_is_a_500_and_its_cause_is_in_a_log(server: tuple[Running, httpx.Client]) -> None:
    running, client = server
    assert client.get("/error").status_code == 500
    name = running.instance.processes[0].name
    eventually(lambda: "this page is broken" in running.output(name) + running.log("php.log"))


def test_hidden_files_and_descriptions_are_never_answered(server: tuple[Running, httpx.Client]) -> None:
    _, client = server
    hidden = (
        "/.env",
        "/.git/config",
        "/a/.htpasswd",
        "/composer.json",
        "/lampstand.yaml",
        "/lampstand.prod.yml",
    )
    for path in (*hidden, "/.lampstand/interface", "/%2eenv"):
        assert client.get(path).status_code == 404, path
    assert client.get("/.well-known/acme-challenge/x").status_code == 200
    assert client.request("TRACE", "/").status_code == 405


def test_events_arrive_when_they_are_sent(server: tuple[Running, httpx.Client]) -> None:
    _, client = server
    began = time.monotonic()
    with client.stream("GET", "/events") as answer:
        arrived = [(time.monotonic() - began, part) for part in answer.iter_text() if part]
    assert "".join(part for _, part in arrived) == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert len(arrived) == 3
    assert arrived[2][0] - arrived[0][0] > 0.7  # not all at the end


def test_the_probe_of_the_controller_leaves_no_line(server: tuple[Running, httpx.Client]) -> None:
    running, client = server
    client.get("/", headers={"User-Agent": "lampstand-probe/1", "X-Request-Id": "a-probe"})
    client.get("/", headers={"X-Request-Id": "a-visitor"})
    eventually(lambda: "a-visitor" in running.log("access.log"))
    assert "a-probe" not in running.log("access.log")


def test_the_processes_belong_to_the_service_account_and_show_no_password(
    server: tuple[Running, httpx.Client],
) -> None:
    running, _ = server
    for pid in running.pids():
        assert "-of-the-test" not in Path(f"/proc/{pid}/cmdline").read_text()
        if os.geteuid() == 0:
            assert Path(f"/proc/{pid}").stat().st_uid != 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_graceful_stop_ends_what_runs_and_accepts_nothing_new(language: str, builds: Path) -> None:
    with serving(language, builds) as (running, client):
        answers: list[httpx.Response] = []
        slow = threading.Thread(target=lambda: answers.append(httpx.get(f"{running.url()}/slow?seconds=1.5")))
        slow.start()
        eventually(lambda: _mark(running, "slow"))
        client.get("/")  # an idle connection that is kept
        stop = threading.Thread(target=running.stop)
        stop.start()
        eventually(lambda: not _accepts(running), 3)
        assert slow.is_alive()
        slow.join(10)
        assert [a.text for a in answers] == ["slow"]
        stop.join(20)
        assert not stop.is_alive()
        assert running.children["apache"].returncode == 0
        assert running.pids() == []


def _mark(running: Running, name: str) -> bool:
    home = dict(running.instance.processes[0].env)["HOME"]
    return Path(home, name).exists()


def _accepts(running: Running) -> bool:
    endpoint = running.instance.endpoint("http")
    try:
        socket.create_connection((endpoint.host, endpoint.port), 1).close()
    except ConnectionRefusedError:
        return False
    return True


# gunicorn ASGI workers may drop a connection they have just taken: such a server reloads while it is out of the routes.
@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "asgi"])
def test_a_reload_under_requests_fails_none(language: str, builds: Path) -> None:
    with serving(language, builds) as (running, _):
        over = threading.Event()
        statuses: list[int] = []

        def ask() -> None:
            while not over.is_set():
                statuses.append(httpx.get(f"{running.url()}/").status_code)

        askers = [threading.Thread(target=ask) for _ in range(2)]
        for asker in askers:
            asker.start()
        eventually(lambda: len(statuses) > 10)
        for process in running.instance.processes:
            if not isinstance(process.reload, signal.Signals):
                continue
            running.signal(process.name, process.reload)
            count = len(statuses)
            eventually(lambda count=count: len(statuses) > count + 20)
        over.set()
        for asker in askers:
            asker.join()
        assert set(statuses) == {200}


@pytest.mark.parametrize("language", ["wsgi", "psgi"])
def test_an_application_that_starts_slowly_is_waited_for(language: str, builds: Path) -> None:
    with ground() as place, launch(web_server(place, language, builds, SLOW_START="2"), place) as running:
        began = time.monotonic()
        eventually(lambda: _accepts(running))
        early = httpx.get(running.url(), timeout=10)
        assert early.status_code in (200, 503)  # Starman's socket waits; gunicorn's is not there yet
        eventually(lambda: answers(running.url()), 15)
        assert 1.5 < time.monotonic() - began < 14


@pytest.mark.parametrize("language", ["wsgi", "psgi"])
def test_an_application_that_does_not_start_ends_and_says_why(language: str, builds: Path) -> None:
    with ground() as place, launch(web_server(place, language, builds, BROKEN_START="1"), place) as running:
        name = running.instance.processes[0].name
        eventually(lambda: running.children[name].poll() is not None, 15)
        assert BROKEN in running.output(name)
        assert httpx.get(running.url()).status_code == 503


def test_websockets_pass_through(builds: Path) -> None:
    with serving("asgi", builds) as (running, _):
        endpoint = running.instance.endpoint("http")
        with socket.create_connection((endpoint.host, endpoint.port), 5) as connection:
            connection.sendall(
                b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            stream = connection.makefile("rb")
            head = b"".join(iter(stream.readline, b"\r\n"))
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head  # RFC 6455 section 1.3
            for text in (b"one", b"two"):
                mask = b"\1\2\3\4"
                masked = bytes(b ^ mask[i % 4] for i, b in enumerate(text))
                connection.sendall(bytes((0x81, 0x80 | len(text))) + mask + masked)
                answer = b"echo " + text
                assert stream.read(2 + len(answer)) == bytes((0x81, len(answer))) + answer
