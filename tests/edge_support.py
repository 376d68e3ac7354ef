"""What the tests of the edges share: a scriptable origin, edges started from the real tier, and a plain client."""

import asyncio
import contextlib
import http.client
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import TypedDict

from lampstand.engines import discover
from lampstand.site import Site
from lampstand.tiers.edge.tier import expand
from lampstand.topology import Context, Folder, Instance
from tests.support import eventually, free_port

TOKEN = "purge-token-of-the-tests"
Headers = Sequence[tuple[str, str]]


def http_date(offset: float = 0.0) -> str:
    """An HTTP date, `offset` seconds from now."""
    return formatdate(time.time() + offset, usegmt=True)


@dataclass
class Request:
    """What the origin was asked."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int

    def header(self, name: str) -> str | None:
        """All lines of a header, joined."""
        return joined(self.headers, name)


@dataclass
class Answer:
    """What the origin says. `close` says nothing at all and closes the connection."""

    status: int = 200
    headers: Headers = ()
    body: bytes | None = None
    reason: str = "Whatever"
    close: bool = False
    date: bool = True
    gate: threading.Event | None = None
    """Answered only when it is set."""


Script = Callable[[Request], Answer]


def joined(headers: Sequence[tuple[str, str]], name: str) -> str | None:
    """All lines of a header as one list, None when there is none."""
    values = [v for n, v in headers if n.lower() == name.lower()]
    return ", ".join(values) if values else None


class Origin:
    """A server that answers each path by its script and remembers what it was asked. It runs in a thread."""

    def __init__(self) -> None:
        self.port = 0
        self.healthy = True
        self.requests: defaultdict[str, list[Request]] = defaultdict(list)
        self._scripts: dict[str, Script] = {}
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._connections = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def script(self, path: str, *answers: Answer | Script) -> None:
        """The n-th request for a path gets the n-th answer; the last one is repeated."""
        turn = iter(range(1_000_000))

        def play(request: Request) -> Answer:
            answer = answers[min(next(turn), len(answers) - 1)]
            return answer(request) if callable(answer) else answer

        self._scripts[path] = play

    def count(self, path: str) -> int:
        """How many requests a path has seen."""
        return len(self.requests[path])

    def forget(self, path: str) -> None:
        """No script and no memory of a path any more."""
        self._scripts.pop(path, None)
        self.requests.pop(path, None)

    def stop(self) -> None:
        """Ends the server."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=2048)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for writer in self._open:
            writer.transport.abort()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        self._open.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while request := await self._read(reader, number):
                if not await self._answer(request, writer):
                    break
        self._open.discard(writer)
        writer.close()

    async def _read(self, reader: asyncio.StreamReader, number: int) -> Request | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = [(n.strip(), v.strip()) for n, _, v in (line.partition(":") for line in lines)]
        body = b""
        if length := joined(headers, "Content-Length"):
            body = await reader.readexactly(int(length))
        elif "chunked" in (joined(headers, "Transfer-Encoding") or ""):
            while size := int((await reader.readline()).strip() or b"0", 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        return Request(method, target, headers, body, number)

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        path = request.target.partition("?")[0]
        if path == "/.lampstand/health":
            status = b"200 OK" if self.healthy else b"404 Not Found"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")
            await writer.drain()
            return False
        self.requests[path].append(request)
        number = len(self.requests[path])
        answer = self._scripts.get(path, lambda _: Answer(404, [("Cache-Control", "no-store")]))(request)
        if answer.gate is not None:
            await asyncio.to_thread(answer.gate.wait, 30)
        if answer.close:
            return False
        body = answer.body if answer.body is not None else f"answer {number} to {path}\n".encode()
        headers = [*answer.headers, ("X-Answer", str(number))]
        names = {n.lower() for n, _ in headers}
        if answer.date and "date" not in names:
            headers.append(("Date", http_date()))
        bodiless = answer.status in (204, 304) or request.method == "HEAD"
        if answer.status not in (204, 304) and not names & {"content-length", "transfer-encoding"}:
            headers.append(("Content-Length", str(len(body))))
        lines = "".join(f"{n}: {v}\r\n" for n, v in headers)
        writer.write(f"HTTP/1.1 {answer.status} {answer.reason}\r\n{lines}\r\n".encode("latin-1"))
        writer.write(b"" if bodiless else body)
        await writer.drain()
        return "close" not in (request.header("Connection") or "")


@dataclass
class Reply:
    """What a visitor got."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """All lines of a header, joined."""
        return joined(self.headers, name)

    @property
    def answer(self) -> int:
        """Number of the origin's answer that this is, 0 when it is none."""
        return int(self.header("X-Answer") or 0)

    @property
    def cache(self) -> str:
        """`hit`, `stale`, `miss` or `pass`."""
        return (self.header("X-Cache") or "").partition(" ")[0]


@dataclass
class TestPlacement:
    """Addresses of free ports; folders below one root. Balancers are the origin."""

    __test__ = False
    root: Path
    balancers: Mapping[str, int]
    ports: dict[tuple[str, str], int] = field(default_factory=dict)

    def bind(self, instance: str, port: str) -> tuple[str, int]:
        """A free port, the same at each call."""
        if instance in self.balancers:
            return "127.0.0.1", self.balancers[instance]
        return "127.0.0.1", self.ports.setdefault((instance, port), free_port())

    reach = bind

    def folder(self, instance: str, folder: Folder) -> str:
        """A folder below the root."""
        return str(self.root / instance / folder)

    def release(self, release: str) -> str:
        """Not used by edges."""
        return str(self.root / "releases" / release)

    def uploads(self) -> str:
        """Not used by edges."""
        return str(self.root / "uploads")

    def public_url(self) -> str:
        """Not used by edges."""
        return f"https://localhost:{self.bind('visitors-1', 'https')[1]}"


@dataclass
class RunningEdge:
    """One Varnish, started as the local target would."""

    instance: Instance = field(repr=False)
    process: subprocess.Popen[bytes] = field(repr=False)
    origin: Origin = field(repr=False)
    others: Sequence[subprocess.Popen[bytes]] = field(default=(), repr=False)

    def __repr__(self) -> str:
        return self.instance.name

    @property
    def port(self) -> int:
        """Where visitors reach it."""
        return self.instance.endpoint("http").port

    @property
    def workdir(self) -> str:
        """Varnish's own folder (-n)."""
        argv = self.instance.processes[0].argv
        return argv[argv.index("-n") + 1]

    def ask(
        self,
        path: str,
        headers: Headers = (),
        *,
        method: str = "GET",
        body: bytes | None = None,
        host: str = "site.test",
    ) -> Reply:
        """One request over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", host)
            for name, value in headers:
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Reply(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def purge(
        self, path: str = "/", headers: Headers = (), *, method: str = "PURGE", host: str = "site.test"
    ) -> Reply:
        """A purge with the token."""
        return self.ask(path, [("X-Purge-Token", TOKEN), *headers], method=method, host=host)

    def until_old(self, path: str, headers: Headers = (), seconds: float = 10.0) -> None:
        """Waits until what is kept of a path, just stored, is too old: its time to live is a second or two."""
        stored = time.monotonic()
        left = int((self.ask(path, headers).header("Cache-Status") or "").partition("ttl=")[2] or 0) + 1.05
        assert left <= seconds, f"{path} would be fresh for {left} s"
        eventually(lambda: time.monotonic() - stored > left, seconds)

    def page(self, *answers: Answer | Script, suffix: str = "") -> str:
        """A path of its own with a script."""
        path = f"/{uuid.uuid4().hex}{suffix}"
        self.origin.script(path, *answers)
        return path

    def counter(self, name: str) -> int:
        """A counter of varnishstat."""
        text = subprocess.run(
            ["varnishstat", "-n", self.workdir, "-1", "-f", name], capture_output=True, text=True, check=True
        ).stdout
        return int(text.split()[1])

    def stop(self) -> None:
        """Ends the process."""
        for process in (self.process, *self.others):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
            process.wait(20)


def context(
    site: Site, root: Path, balancers: Mapping[str, int], ports: Mapping[tuple[str, str], int] | None = None
) -> Context:
    """What the tier needs to expand, with this machine's engines."""
    return Context(
        site=site,
        placement=TestPlacement(root, balancers, dict(ports or {})),
        engines=discover(),
        secrets=defaultdict(lambda: "unused", purge=TOKEN),
        release="r1",
    )


def write_files(instance: Instance) -> None:
    """Writes the files and folders of an instance, for its account."""
    for file in instance.files:
        path = Path(file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.content)
        path.chmod(file.mode)
        _own(path, instance.account)
    home = Path(instance.files[0].path).parents[1]
    for folder in (*(home / name for name in ("data", "log", "run")), *map(Path, instance.folders)):
        folder.mkdir(parents=True, exist_ok=True)
        _own(folder, instance.account)


def _own(path: Path, account: str) -> None:
    if os.geteuid() == 0:
        user = pwd.getpwnam(account)
        os.chown(path, user.pw_uid, user.pw_gid)


class Account(TypedDict, total=False):
    """Arguments of `subprocess`."""

    user: int
    group: int
    extra_groups: list[str | int]


def as_account(instance: Instance) -> Account:
    """Arguments of `subprocess` to run something as the instance does."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(instance.account)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def start(instance: Instance, origin: Origin) -> RunningEdge:
    """Writes and starts one instance and waits until it answers."""
    write_files(instance)
    account = as_account(instance)
    log = Path(instance.files[0].path).parent / "output.log"
    with log.open("wb") as output:
        for preparation in instance.prepare:
            if not Path(preparation.creates).exists():
                done = subprocess.run(preparation.argv, stdout=output, stderr=output, check=False, **account)
                assert done.returncode == 0, log.read_text()
        running = [
            subprocess.Popen(p.argv, stdout=output, stderr=output, **account) for p in instance.processes
        ]
    edge = RunningEdge(instance, running[0], origin, running[1:])
    try:
        eventually(lambda: running[0].poll() is not None or edge.ask(instance.probe.path).status == 200, 30)
    except AssertionError:
        edge.stop()
        raise
    assert running[0].poll() is None, log.read_text()
    return edge


def panic(edge: RunningEdge) -> str:
    """What varnishd remembers of its worker's last moments."""
    return subprocess.run(
        ["varnishadm", "-n", edge.workdir, "panic.show"], capture_output=True, text=True, check=False
    ).stdout


@contextlib.contextmanager
def edges(
    site: Site,
    origins: Sequence[Origin],
    *,
    release: Callable[[Path], None] | None = None,
    ports: Mapping[tuple[str, str], int] | None = None,
) -> Iterator[dict[str, RunningEdge]]:
    """All edges of a site, by name, in front of the origins; they and their folder are gone afterwards.

    `release` fills the folder of the release, `ports` are fixed ports by instance and name.
    """
    root = Path(tempfile.mkdtemp(prefix="edge-", dir="/tmp"))
    root.chmod(0o755)
    running: dict[str, RunningEdge] = {}
    try:
        if release:
            (root / "releases" / "r1").mkdir(parents=True)
            release(root / "releases" / "r1")
        balancers = {f"balancer-{i}": o.port for i, o in enumerate(origins, 1)}
        # The visitors' entry last: nobody asks it before there are edges.
        for instance in sorted(
            expand(context(site, root, balancers, ports)), key=lambda i: i.kind == "visitors"
        ):
            running[instance.name] = start(instance, origins[0])
        yield running
        for edge in running.values():
            if edge.instance.kind == "edge" and edge.process.poll() is None:
                # Varnish starts its worker anew after an assertion failed, and would hide it.
                assert edge.counter("MGT.child_panic") == 0, panic(edge)
    finally:
        for edge in running.values():
            edge.stop()
        shutil.rmtree(root, ignore_errors=True)
