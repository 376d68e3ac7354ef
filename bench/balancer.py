"""What the balancer costs: requests a second and time of each, against the web server asked directly, in one run.

Prints one JSON document; ends with 4 when a figure misses its aim. Everything listens on the loopback on free ports;
wrk asks for a few seconds at a time. Each nginx has one worker, so the figures are those of a worker.

`requests_per_second` is what wrk saw while three programs shared the cores; `requests_per_cpu_second` is what the
worker did in a second of processor time: what one with a core of its own can do. The aim is for the second.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from lampstand.engines import Engines, discover
from lampstand.site import Site
from lampstand.tiers.balancer import live
from lampstand.tiers.balancer.live import Server
from lampstand.tiers.balancer.reload import reload_nginx, workers
from lampstand.tiers.balancer.tier import RELEASES, ROUTES, expand
from lampstand.topology import Context, Folder, Instance

SECONDS = int(os.environ.get("LAMPSTAND_BENCH_SECONDS", "4"))
AIM_RATE = 25_000
AIM_ADDED_MICROSECONDS = 100
BETWEEN_RELOADS = 0.2
"""Seconds; nginx's master rests 100 ms after a reload before it hears of the next one."""

WEB = """daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200 "{body}"; }} }}
}}
"""


class Ground:
    """A Placement below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ports: dict[tuple[str, str], int] = {}

    def bind(self, instance: str, port: str) -> tuple[str, int]:
        return "127.0.0.1", self.ports.setdefault((instance, port), free_port())

    def reach(self, instance: str, port: str) -> tuple[str, int]:
        return self.bind(instance, port)

    def folder(self, instance: str, folder: Folder) -> str:
        return str(self.root / instance / folder)

    def release(self, release: str) -> str:
        return str(self.root / "releases" / release)

    def uploads(self) -> str:
        return str(self.root / "uploads")

    def public_url(self) -> str:
        return "http://127.0.0.1"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(argv: tuple[str, ...], url: str) -> Iterator[int]:
    """A process that answers under this URL, killed at the end; yields its pid."""
    with subprocess.Popen(argv, start_new_session=True) as process:
        try:
            deadline = time.monotonic() + 10
            while True:
                try:
                    with urllib.request.urlopen(url, timeout=1):
                        break
                except urllib.error.HTTPError:
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)
            yield process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def cpu_of(master: int) -> float:
    """Seconds of processor time that the workers of an nginx have used."""
    ticks = 0
    for pid in workers(master).serving:
        text = Path(f"/proc/{pid}/stat").read_text()
        fields = text[text.rindex(")") + 2 :].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def wrk(
    engines: Engines, master: int, url: str, connections: int, *, close: bool = False
) -> dict[str, float]:
    """Requests a second, by wrk's clock and by that of the worker asked, and the median and 99th percentile of their
    times in microseconds."""
    before = cpu_of(master)
    argv = [engines.wrk.path, "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", url]
    argv += ["-H", "Connection: close"] if close else []
    out = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=SECONDS + 30).stdout
    if "Non-2xx" in out:
        raise SystemExit(f"{url} answers with errors:\n{out}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    assert rate, out
    total = re.search(r"(\d+) requests in", out)
    assert total, out
    found: dict[str, float] = {
        "requests_per_second": round(float(rate[1])),
        "requests_per_cpu_second": round(int(total[1]) / max(0.01, cpu_of(master) - before)),
    }
    for name, percent in (("p50", "50%"), ("p99", "99%")):
        match = re.search(rf"{percent}\s+([\d.]+)(us|ms|s)", out)
        assert match, out
        found[f"{name}_microseconds"] = round(float(match[1]) * {"us": 1, "ms": 1e3, "s": 1e6}[match[2]])
    return found


def made(instance: Instance, ground: Ground) -> Instance:
    """The instance with its folders and files on disk."""
    for folder in ("etc/live", "data", "log", "run"):
        (ground.root / instance.name / folder).mkdir(parents=True)
    for file in (*instance.files, *instance.live_files):
        Path(file.path).write_text(file.content)
    return instance


def write_routes(instance: Instance, servers: list[Server]) -> None:
    """Other routes, for the next reload."""
    path = next(f.path for f in instance.live_files if f.path.endswith(ROUTES))
    Path(path).write_text(live.web_routes(servers))


def reloads(instance: Instance, pid: int, server: Server, times: int) -> dict[str, float]:
    """Milliseconds until a reload is effective."""
    took: list[float] = []
    for number in range(times):
        write_routes(instance, [replace(server, weight=1 + number % 2)])
        begun = time.monotonic()
        asyncio.run(reload_nginx(pid, deadline=10))
        took.append((time.monotonic() - begun) * 1000)
        time.sleep(BETWEEN_RELOADS)
    took.sort()
    return {"p50_milliseconds": round(took[times // 2], 1), "max_milliseconds": round(took[-1], 1)}


def memory(master: int) -> float:
    """MiB (PSS) of an nginx, master and workers."""
    total = 0
    for pid in (master, *workers(master).serving):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])  # pyright: ignore[reportOptionalSubscript]
    return round(total / 1024, 1)


def measure(root: Path) -> dict[str, object]:
    """All figures."""
    engines, ground = discover(), Ground(root)
    site = Site.model_validate({"balancer": {"processes": 1}, "app": {"root": "public"}})
    instance = next(iter(expand(Context(site, ground, engines, {}, "r1"))))
    instance = made(instance, ground)
    assert any(f.path.endswith(RELEASES) for f in instance.live_files)
    public = Path(ground.release("r1"), "public")
    public.mkdir(parents=True)
    (public / "site.css").write_text("body { color: black }\n" * 50)

    web, port = root / "web", free_port()
    web.mkdir()
    (web / "nginx.conf").write_text(WEB.format(folder=web, port=port, body="x" * 200))
    server = Server("web-1", "127.0.0.1", port)
    write_routes(instance, [server])
    direct, balancer = f"http://127.0.0.1:{port}/page", f"http://{instance.endpoint('http').address}"
    argv = (engines.nginx.path, "-p", str(web), "-e", f"{web}/error.log", "-c", f"{web}/nginx.conf")
    with running(argv, direct) as one, running(instance.processes[0].argv, f"{balancer}/page") as pid:
        found: dict[str, object] = {
            "direct": wrk(engines, one, direct, 64),
            "balancer": wrk(engines, pid, f"{balancer}/page", 64),
            "static_file": wrk(engines, pid, f"{balancer}/site.css", 64),
            "new_connections": wrk(
                engines, pid, f"http://{instance.endpoint('unsafe').address}/page", 64, close=True
            ),
            "direct_one_at_a_time": wrk(engines, one, direct, 1),
            "balancer_one_at_a_time": wrk(engines, pid, f"{balancer}/page", 1),
            "memory_mib": memory(pid),
            "reload": reloads(instance, pid, server, 20),
        }
    return found


def main() -> None:
    """Measure, print, judge."""
    with tempfile.TemporaryDirectory(prefix="lampstand-bench-") as folder:
        Path(folder).chmod(0o755)
        found = measure(Path(folder))

    def figure(name: str, key: str) -> float:
        value = found[name]
        assert isinstance(value, dict)
        return float(value[key])

    rate = figure("balancer", "requests_per_cpu_second")
    added = figure("balancer_one_at_a_time", "p50_microseconds") - figure(
        "direct_one_at_a_time", "p50_microseconds"
    )
    found |= {
        "ratio_to_direct": round(
            figure("balancer", "requests_per_second") / figure("direct", "requests_per_second"), 3
        ),
        "cpu_ratio_to_direct": round(rate / figure("direct", "requests_per_cpu_second"), 3),
        "added_p50_microseconds": added,
    }
    missed = [
        text
        for text, miss in (
            (f"fewer than {AIM_RATE} requests in a second of a worker", rate < AIM_RATE),
            (f"more than {AIM_ADDED_MICROSECONDS} µs added", added > AIM_ADDED_MICROSECONDS),
        )
        if miss
    ]
    print(json.dumps({"bench": "balancer", **found, "missed": missed}, indent=2, ensure_ascii=False))
    sys.exit(4 if missed else 0)


if __name__ == "__main__":
    main()
