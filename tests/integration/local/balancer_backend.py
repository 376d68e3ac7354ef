"""What the tests of the balancer talk to and talk with: a web server that tells what it was asked, and a raw client."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lampstand.engines import discover
from lampstand.tiers.balancer.live import Server
from lampstand.tiers.balancer.tier import ROUTES
from lampstand.topology import Instance
from tests.support import eventually, free_port


@dataclass(frozen=True)
class Asked:
    """One request that reached a backend."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: tuple[str, int]
    """Address and port of the other side: the same for all requests of one connection."""
    nth: int
    """Which request of its connection it was, from 1."""


@dataclass
class Backend:
    """A web server whose answers the path of the request asks for:

    /echo              JSON of what was asked
    /die               the connection is closed without an answer
    /slow?seconds=N    `slow`, after N seconds
    /status?code=N     an answer with that status
    /header?bytes=N    an answer with a header of N bytes
    /events            one server-sent event, and then nothing until the client leaves
    /socket            the connection is upgraded, and bytes come back in upper case
    """

    name: str
    port: int
    asked: list[Asked] = field(default_factory=list)

    @property
    def server(self) -> Server:
        return Server(self.name, "127.0.0.1", self.port)

    def paths(self, method: str | None = None) -> list[str]:
        """The paths that were asked for, in order."""
        return [a.path for a in self.asked if method in (None, a.method)]


@contextlib.contextmanager
def backend(name: str = "web-1") -> Iterator[Backend]:
    """A running Backend on a free port."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        made = server.backend = Backend(name, server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            server.end_connections()
            thread.join(10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    backend: Backend

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: list[socket.socket] = []
        super().__init__(address, handler)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, peer = super().get_request()
        self._open.append(connection)
        return connection, peer

    def end_connections(self) -> None:
        """A server that is gone has no connection."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    nth = 0

    @property
    def backend(self) -> Backend:
        assert isinstance(self.server, _Server)
        return self.server.backend

    def _answer(self) -> None:
        self.nth += 1
        url = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(url.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {k.lower(): v for k, v in self.headers.items()}
        asked = Asked(self.command, self.path, headers, body, self.client_address, self.nth)
        self.backend.asked.append(asked)
        match url.path:
            case "/die":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            case "/slow":
                time.sleep(float(query["seconds"]))
                self._send(200, b"slow")
            case "/status":
                self._send(int(query["code"]), b"as you asked")
            case "/header":
                self._send(200, b"big", {"X-Big": "x" * int(query["bytes"])})
            case "/events":
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                self.wfile.write(b"data: first\n\n")
                self.close_connection = True
                self.rfile.read(1)
            case "/socket":
                self.send_response(101)
                self.send_header("Upgrade", "websocket")
                self.send_header("Connection", "Upgrade")
                self.end_headers()
                self.close_connection = True
                while data := self.connection.recv(1000):
                    self.connection.sendall(data.upper())
            case _:
                told = {
                    "server": self.backend.name, "method": asked.method, "path": asked.path,
                    "headers": asked.headers, "body": len(body), "nth": asked.nth,
                }  # fmt: skip
                self._send(200, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        """Quiet."""


@dataclass(frozen=True)
class Answer:
    """One answer of the balancer."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; several values are joined."""
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever the backend tells
        return json.loads(self.body)


def ask(
    port: int,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    seconds: float = 10.0,
) -> Answer:
    """One request over a connection of its own; the path is sent as it is written."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)) as connection:
        return ask_over(connection, path, method, headers, body)


def ask_over(
    connection: http.client.HTTPConnection,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    """One request over a connection that may live on."""
    connection.request(method, path, body, dict(headers or {}))
    answer = connection.getresponse()
    found: dict[str, str] = {}
    for name, value in answer.getheaders():
        found[name.lower()] = f"{found[name.lower()]}, {value}" if name.lower() in found else value
    return Answer(answer.status, found, answer.read())


def route(instance: Instance, text: str, file: str = ROUTES) -> None:
    """Replace a live file of an instance; it counts from the next reload on."""
    next(Path(f.path) for f in instance.live_files if f.path.endswith(file)).write_text(text)


FAST = """daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 2048; }}
http {{
    log_format method "$request_method";
    access_log {folder}/access.log method;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    keepalive_requests 100000;
    server {{ listen 127.0.0.1:{port}; location / {{ default_type text/plain; return 200 "{name}"; }} }}
}}
"""


@contextlib.contextmanager
def fast_backend(name: str, folder: Path) -> Iterator[Callable[[], list[str]]]:
    """An nginx that says its name, for tests under load; yields a function that tells the methods it was asked with.
    Its port is in `folder/port`."""
    folder.mkdir()
    port = free_port()
    (folder / "port").write_text(str(port))
    (folder / "nginx.conf").write_text(FAST.format(folder=folder, port=port, name=name))
    nginx = discover().nginx.path
    argv = (nginx, "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf")
    with subprocess.Popen(argv, start_new_session=True) as process:
        try:
            eventually(lambda: ask(port, "/").status == 200)
            yield lambda: (folder / "access.log").read_text().split()
        finally:
            os.killpg(process.pid, signal.SIGKILL)
