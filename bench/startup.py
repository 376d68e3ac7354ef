"""How fast the default site comes up, goes down, and what it costs: `./bin/bench startup`.

Prints one JSON document. Times in seconds, memory in MiB (sum of PSS over all processes of the site, smaps_rollup in
proc(5)). Everything happens in a state folder of its own, which is removed at the end.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAMPSTAND = [sys.executable, "-I", "-m", "lampstand"]


def call(*arguments: str, env: dict[str, str]) -> tuple[float, str]:
    """Run the command; how long it took and what it printed."""
    begun = time.monotonic()
    done = subprocess.run([*LAMPSTAND, *arguments], env=env, check=True, capture_output=True, text=True)
    return time.monotonic() - begun, done.stdout


def pss_of(pids: list[int]) -> float:
    """MiB of proportional set size of these processes and all their descendants."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                text = Path(f"/proc/{name}/stat").read_text()
                parents[int(name)] = int(text[text.rindex(")") + 2 :].split()[1])
            except OSError:
                continue
    wanted, size = set(pids), 0
    while len(wanted) != size:
        size = len(wanted)
        wanted |= {pid for pid, parent in parents.items() if parent in wanted}
    total = 0
    for pid in wanted:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def cpu_of(pid: int) -> float:
    """Seconds of processor time a process has used."""
    text = Path(f"/proc/{pid}/stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_page(url: str) -> float:
    """Seconds until a page comes through the edge."""
    begun = time.monotonic()
    with urllib.request.urlopen(url, timeout=10) as answer:
        answer.read()
    return time.monotonic() - begun


def best_of(times: int, *arguments: str, env: dict[str, str]) -> float:
    """The shortest of some runs: what the machine can do when nobody disturbs it."""
    return min(call(*arguments, env=env)[0] for _ in range(times))


def main() -> None:
    """Measure and print."""
    project = ROOT / "examples/guestbook-php"
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="lampstand-bench-") as folder:
        Path(folder).chmod(0o711)
        env = {**os.environ, "XDG_STATE_HOME": folder}
        here = ("-C", str(project))
        try:
            up, _ = call(*here, "up", "-y", "-q", env=env)
            status = json.loads(call(*here, "status", "--json", env=env)[1])
            found["first_up"] = up + first_page(status["urls"]["site"])
            pids = [p["pid"] for i in status["instances"] for p in i["processes"] if p["pid"]]
            controller = status["controller"]["pid"]
            found["down"], _ = call(*here, "down", "-q", env=env)
            up, _ = call(*here, "up", "-y", "-q", env=env)
            found["warm_up"] = up + first_page(status["urls"]["site"])
            status = json.loads(call(*here, "status", "--json", env=env)[1])
            pids = [p["pid"] for i in status["instances"] for p in i["processes"] if p["pid"]]
            controller = status["controller"]["pid"]
            found["up_when_nothing_differs"] = best_of(3, *here, "up", "-y", "-q", env=env)
            found["status"] = best_of(5, *here, "status", "--json", env=env)
            found["help"] = best_of(5, "--help", env=env)
            before, begun = cpu_of(controller), time.monotonic()
            time.sleep(20)
            found["controller_cpu_percent"] = 100 * (cpu_of(controller) - before) / (time.monotonic() - begun)
            found["pss_mib"] = pss_of([*pids, controller])
            found["pss_controller_mib"] = pss_of([controller])
            for instance in status["instances"]:
                found[f"pss_mib_{instance['name']}"] = pss_of(
                    [p["pid"] for p in instance["processes"] if p["pid"]]
                )
        finally:
            subprocess.run([*LAMPSTAND, *here, "down", "-y", "-q", "--delete-data"], env=env, check=False)
    print(json.dumps({name: round(value, 3) for name, value in found.items()}, indent=1))


if __name__ == "__main__":
    main()
