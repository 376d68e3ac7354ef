"""What an edge can do: hits against nginx serving the same file, misses, and purges by tag, in one run.

Prints one JSON document; ends with 4 when a figure misses its aim. Everything listens on the loopback on free ports and
is ended by its process id.

Both servers may use every core, as wrk does, so `requests_per_cpu_second` (requests in a second of the server's own
processor time) is what to compare. A purge is timed on all edges and then seen by reading: the next answer of every
edge is not from its cache.
"""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lampstand.engines import discover
from lampstand.site import Site
from lampstand.tiers.edge.purge import Purge, purge
from tests.edge_support import TOKEN, Answer, Origin, RunningEdge, edges
from tests.support import eventually, free_port

SECONDS = int(os.environ.get("LAMPSTAND_BENCH_SECONDS", "4"))
BODY = b"x" * 10_000
OBJECTS = int(os.environ.get("LAMPSTAND_BENCH_OBJECTS", "100000"))
PURGES = 100
ROUNDS = int(os.environ.get("LAMPSTAND_BENCH_ROUNDS", "6"))
AIM_P50, AIM_P99 = 20.0, 100.0
TICK = os.sysconf("SC_CLK_TCK")

NGINX = """daemon off; pid {root}/pid; error_log {root}/error.log; worker_processes {cores};
{user}events {{ worker_connections 4096; }}
http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; open_file_cache max=100;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
  uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  server {{ listen 127.0.0.1:{port} backlog=1024; root {root}; }} }}
"""


def processor_seconds(pids: Sequence[int]) -> float:
    """Processor time of processes so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def children(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def wrk(url: str, pids: Sequence[int]) -> dict[str, float]:
    """Requests a second as wrk sees them, and in a second of the server's processor time."""
    before = processor_seconds(pids)
    text = subprocess.run(
        [discover().wrk.path, "-t1", "-c32", f"-d{SECONDS}s", "--latency", "-H", "Host: site.test", url],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    used = processor_seconds(pids) - before
    rate = float(re.findall(r"Requests/sec: +([0-9.]+)", text)[0])
    total = int(re.findall(r"([0-9]+) requests in", text)[0])
    return {"requests_per_second": round(rate), "requests_per_cpu_second": round(total / max(used, 0.01))}


def hits(edge: RunningEdge) -> dict[str, dict[str, float]]:
    """The same 10 kB from an edge's cache and from nginx."""
    path = edge.page(
        Answer(headers=[("Cache-Control", "max-age=3600"), ("Content-Type", "image/png")], body=BODY)
    )
    edge.ask(path)
    figures = {"edge": wrk(f"http://127.0.0.1:{edge.port}{path}", children(edge.process.pid))}
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        root, port = Path(folder), free_port()
        root.chmod(0o755)
        (root / "file.png").write_bytes(BODY)
        user = "user root; " if os.geteuid() == 0 else ""
        (root / "nginx.conf").write_text(NGINX.format(root=root, port=port, cores=os.cpu_count(), user=user))
        server = subprocess.Popen(
            [discover().nginx.path, "-c", str(root / "nginx.conf")], stderr=subprocess.DEVNULL
        )
        try:
            eventually(lambda: len(children(server.pid)) > (os.cpu_count() or 1))
            figures["nginx"] = wrk(f"http://127.0.0.1:{port}/file.png", children(server.pid))
        finally:
            server.terminate()
            server.wait(10)
    return figures


def misses(edge: RunningEdge) -> dict[str, float]:
    """Milliseconds that a miss takes, one after another; the origin is the tests' own, in Python."""
    times: list[float] = []
    for _ in range(300):
        path = edge.page(Answer(headers=[("Cache-Control", "max-age=3600")]))
        began = time.perf_counter()
        edge.ask(path)
        times.append((time.perf_counter() - began) * 1000)
        edge.origin.forget(path)
    return percentiles(times)


def percentiles(times: Sequence[float]) -> dict[str, float]:
    """Milliseconds of the middle and of the slowest hundredth."""
    ordered = sorted(times)
    return {
        "p50_ms": round(ordered[len(ordered) // 2], 2),
        "p99_ms": round(ordered[-1 - len(ordered) // 100], 2),
    }


def purges(running: dict[str, RunningEdge]) -> dict[str, float]:
    """A tag on one page, purged on all edges, then read on all edges."""
    endpoints = [e.instance.endpoint("http") for e in running.values()]
    times: list[float] = []
    for _ in range(PURGES):
        tag, path = uuid.uuid4().hex, f"/{uuid.uuid4().hex}"
        for edge in running.values():
            edge.origin.script(
                path, Answer(headers=[("Cache-Control", "max-age=3600"), ("Surrogate-Key", tag)])
            )
            edge.ask(path)
            assert edge.ask(path).cache == "hit"
        report = asyncio.run(purge(endpoints, TOKEN, Purge(tags=(tag,), soft=False)))
        assert not report.failed, report
        times.append(report.ms)
        assert [e.ask(path).cache for e in running.values()] == ["miss"] * len(running), (
            "purged, but still given"
        )
    return percentiles(times)


MANY = """daemon off; pid {root}/pid; error_log {root}/error.log; worker_processes 1;
{user}events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
  uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  server {{ listen 127.0.0.1:{port} backlog=1024;
    add_header Cache-Control max-age=3600; add_header Surrogate-Key "many-$arg_round";
    location / {{ return 200 x; }} }} }}
"""
CLIENTS = 8


def fill(edge: RunningEdge, number: int, turn: int, root: Path) -> None:
    """That many answers with the tag of this turn in an edge's cache. h2load asks each of its list once."""
    running: list[subprocess.Popen[bytes]] = []
    for client in range(CLIENTS):
        urls = [
            f"http://127.0.0.1:{edge.port}/many?round={turn}&n={n}" for n in range(client, number, CLIENTS)
        ]
        names = root / f"urls{client}"
        names.write_text("\n".join(urls))
        argv = [discover().h2load.path, "--h1", "-c1", f"-n{len(urls)}", f"-i{names}"]
        running.append(subprocess.Popen(argv, stdout=subprocess.DEVNULL))
    for process in running:
        assert process.wait() == 0


def large_tag() -> dict[str, float | dict[str, float]]:
    """One tag on a great many answers of two edges, purged a few times, alternately soft and hard."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        root, origin = Path(folder), Origin()
        root.chmod(0o755)
        origin.port = free_port()
        user = "user root; " if os.geteuid() == 0 else ""
        (root / "nginx.conf").write_text(MANY.format(root=root, port=origin.port, user=user))
        server = subprocess.Popen(
            [discover().nginx.path, "-c", str(root / "nginx.conf")], stderr=subprocess.DEVNULL
        )
        try:
            cdn = {"edges": ["fra", "iad"], "memory": "400MB", "access_log": False}
            with edges(Site.model_validate({"site": "many", "cdn": cdn}), [origin]) as running:
                return purges_of_many(running, root)
        finally:
            server.terminate()
            server.wait(10)
            origin.stop()


def purges_of_many(running: dict[str, RunningEdge], root: Path) -> dict[str, float | dict[str, float]]:
    """Milliseconds until the last edge has done it; the last two beside visitors of both edges."""
    endpoints = [e.instance.endpoint("http") for e in running.values()]
    times: dict[bool, list[float]] = {True: [], False: []}
    beside: list[float] = []
    purged: list[int] = []
    for turn in range(ROUNDS + 2):
        for edge in running.values():
            fill(edge, OBJECTS, turn, root)
        what = Purge(tags=(f"many-{turn}",), soft=turn % 2 == 0)
        with visitors(running) if turn >= ROUNDS else contextlib.nullcontext():
            report = asyncio.run(purge(endpoints, TOKEN, what, timeout=30))
        assert not report.failed, report
        (beside if turn >= ROUNDS else times[what.soft]).append(report.ms)
        purged.append(min(e.purged for e in report.edges))
        assert all(
            e.ask(f"/many?round={turn}&n=0", host=f"127.0.0.1:{e.port}").cache != "hit"
            for e in running.values()
        )
        # What is left of it makes room for the next.
        asyncio.run(purge(endpoints, TOKEN, Purge(everything=True, soft=False), timeout=30))
    return {
        "objects": min(purged),
        "soft": percentiles(times[True]),
        "hard": percentiles(times[False]),
        "beside_visitors": percentiles(beside),
    }


@contextlib.contextmanager
def visitors(running: dict[str, RunningEdge]) -> Iterator[None]:
    """A thousand hits a second on each edge meanwhile."""
    loads: list[subprocess.Popen[bytes]] = []
    for edge in running.values():
        path = f"http://127.0.0.1:{edge.port}/many?round=visitors&n=1"
        argv = [discover().h2load.path, "--h1", "-c4", "--rps=250", "--duration=60", path]
        loads.append(subprocess.Popen(argv, stdout=subprocess.DEVNULL))
    try:
        # Varnish counts the requests of a connection when it ends, so the clock is all there is to wait for.
        until = time.monotonic() + 1.0
        eventually(lambda: time.monotonic() > until)
        assert all(load.poll() is None for load in loads)
        yield
    finally:
        for load in loads:
            load.terminate()
            load.wait(10)


def main() -> int:
    """Runs all of it."""
    origin = Origin()
    try:
        # Without a log of its own, like the nginx that it is compared with.
        site = {"site": "bench", "cdn": {"edges": ["fra", "iad"], "memory": "256MB", "access_log": False}}
        with edges(Site.model_validate(site), [origin]) as running:
            first = running["edge-fra"]
            figures: dict[str, object] = {"hits": hits(first), "misses": misses(first)}
            small = purges(running)
    finally:
        origin.stop()
    large = large_tag()
    figures |= {"purge_of_a_tag_on_two_edges": small, "purge_of_a_large_tag": large}
    slowest = max(small["p99_ms"], *(f["p99_ms"] for f in large.values() if isinstance(f, dict)))
    good = small["p50_ms"] <= AIM_P50 and slowest <= AIM_P99
    print(json.dumps({**figures, "aims_met": good}, indent=2))
    return 0 if good else 4


if __name__ == "__main__":
    sys.exit(main())
