"""Ten deploys in a row under load, through edge and balancer: `./bin/bench deploy [-- --rate 1000 --deploys 10]`.

Four reads to one write, most on kept connections, some each on a connection of its own. Every write is a row, and one
that ran twice would be two of them: what failed, what is missing and what ran twice is counted. Prints one JSON
document; ends with 4 when a request failed, was lost or ran twice, or when a deploy took more than five seconds beyond
what the application itself needs (its build, its release step, and its starts). Times in seconds.
"""

import argparse
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lampstand.drills.load import Answer, read_log
from lampstand.engines import discover

LAMPSTAND = [sys.executable, "-I", "-m", "lampstand"]
AIM = 5.0

APPLICATION = """<?php
// release MARK
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
header('Cache-Control: no-store');
if ($path === '/write' || $path === '/rows') {
    $dsn = 'mysql:host=' . getenv('DB_HOST') . ';port=' . getenv('DB_PORT') . ';dbname=' . getenv('DB_NAME');
    $db = new PDO($dsn, getenv('DB_USER'), getenv('DB_PASSWORD'), [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
    if ($path === '/rows') {
        $sql = 'SELECT mark, COUNT(*) FROM written GROUP BY mark';
        exit(json_encode($db->query($sql)->fetchAll(PDO::FETCH_KEY_PAIR)));
    }
    $db->prepare('INSERT INTO written (mark) VALUES (?)')->execute([$_POST['mark']]);
}
echo 'MARK';
"""
MIGRATE = """<?php
$dsn = 'mysql:host=' . getenv('DB_HOST') . ';port=' . getenv('DB_PORT') . ';dbname=' . getenv('DB_NAME');
$db = new PDO($dsn, getenv('DB_USER'), getenv('DB_PASSWORD'), [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
$db->exec('CREATE TABLE IF NOT EXISTS written (id INT AUTO_INCREMENT PRIMARY KEY, mark VARCHAR(40), KEY (mark))');
"""
SITE = """site: bench
app: {health: /healthz, release: php migrate.php}
web: {servers: 2, processes: 4}
cdn: {edges: [fra]}
"""


class Newcomers:
    """Visitors each of whose requests has a connection of its own; every fifth one writes, with a mark of its own."""

    def __init__(self, url: str, rate: float, threads: int) -> None:
        self._url = urlsplit(url)
        self._pause = threads / rate
        self._end = threading.Event()
        self._lock = threading.Lock()
        self.requests = 0
        self.failures: list[str] = []
        self.written: list[str] = []
        self._threads = [threading.Thread(target=self._visit, daemon=True) for _ in range(threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(30)

    def _visit(self) -> None:
        number = 0
        while not self._end.is_set():
            begun, number = time.monotonic(), number + 1
            mark = uuid.uuid4().hex if number % 5 == 0 else ""
            connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=30)
            try:
                if mark:
                    form = {"Content-Type": "application/x-www-form-urlencoded", "Connection": "close"}
                    connection.request("POST", "/write", f"mark={mark}", form)
                else:
                    connection.request("GET", "/", headers={"Connection": "close"})
                answer = connection.getresponse()
                answer.read()
                failure = "" if answer.status == 200 else f"answered {answer.status}"
            except (OSError, http.client.HTTPException) as error:
                failure = repr(error)
            finally:
                connection.close()
            took = time.monotonic() - begun
            with self._lock:
                self.requests += 1
                if failure:
                    self.failures.append(
                        f"{'POST' if mark else 'GET'}, new connection: {failure} after {took:.3f} s"
                    )
                elif mark:
                    self.written.append(mark)
            self._end.wait(max(0.0, self._pause - took))


class Kept:
    """h2load on kept connections, at a constant rate."""

    def __init__(self, folder: Path, name: str, url: str, rate: float, clients: int, *more: str) -> None:
        self._log = folder / f"{name}.log"
        self._out = (folder / f"{name}.out").open("wb")
        program = discover()["h2load"].path
        argv = [
            program, "--h1", f"--clients={clients}", f"--rps={rate / clients:g}", "--duration=3600",
            f"--log-file={self._log}", *more, url,
        ]  # fmt: skip
        self._process = subprocess.Popen(argv, stdout=self._out, stderr=self._out, stdin=subprocess.DEVNULL)

    def stop(self) -> list[Answer]:
        self._process.terminate()
        self._process.wait(30)
        self._out.close()
        return read_log(self._log)


def percentile(values: list[float], share: float) -> float:
    """The smallest value that this share of all is not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def own_time(receipt: dict[str, Any]) -> float:
    """Seconds of a deploy that are the application's: its build, its release step, and the starts of its servers."""
    total = float(receipt["steps"].get("build", 0.0)) + float(receipt["steps"].get("release_step", 0.0))
    began: dict[str, float] = {}
    for moment in receipt["timeline"]:
        if moment["what"] in ("held", "drained"):
            began[moment["server"]] = moment["at"]
        elif moment["what"] == "let in":
            total += moment["at"] - began[moment["server"]]
    return total


def main() -> int:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second in all")
    parser.add_argument("--deploys", type=int, default=10)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lb-"))
    folder.chmod(0o711)
    project = folder / "project"
    project.mkdir()
    env = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "NO_COLOR": "1"}

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [*LAMPSTAND, "-C", str(project), *arguments], env=env, check=False, text=True, capture_output=True
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    def release(number: int) -> None:
        (project / "index.php").write_text(APPLICATION.replace("MARK", f"{number}"))

    try:
        (project / "lampstand.yaml").write_text(SITE)
        (project / "migrate.php").write_text(MIGRATE)
        (folder / "body").write_text("mark=bulk")
        release(0)
        call("up", "-y", "-q")
        url = json.loads(call("status", "--json"))["urls"]["site"]
        form = "--header=content-type: application/x-www-form-urlencoded"
        reads = Kept(folder, "reads", f"{url}/", 0.72 * options.rate, 8)
        writes = Kept(
            folder, "writes", f"{url}/write", 0.18 * options.rate, 4, f"--data={folder / 'body'}", form
        )
        newcomers = Newcomers(url, 0.1 * options.rate, 8)
        newcomers.start()
        begun = time.time()
        receipts: list[dict[str, Any]] = []
        for number in range(1, options.deploys + 1):
            release(number)
            receipts.append(json.loads(call("deploy", "-y", "-q", "--json")))
        seconds = time.time() - begun
        newcomers.stop()
        kept = {"reads": reads.stop(), "writes": writes.stop()}
        rows: dict[str, int] = json.load(urllib.request.urlopen(f"{url}/rows"))
        document = summary(kept, newcomers, receipts, rows, seconds)
        print(json.dumps(document, indent=2))
        return 0 if document["aims_met"] else 4
    finally:
        subprocess.run(
            [*LAMPSTAND, "-C", str(project), "down", "-y", "-q", "--delete-data"], env=env, check=False
        )
        shutil.rmtree(folder, ignore_errors=True)


def summary(
    kept: dict[str, list[Answer]],
    newcomers: Newcomers,
    receipts: list[dict[str, Any]],
    rows: dict[str, int],
    seconds: float,
) -> dict[str, Any]:
    """What was seen, as the document."""
    answers = [*kept["reads"], *kept["writes"]]
    failed = [a for a in answers if a.status != 200]
    bulk = sum(1 for a in kept["writes"] if a.status == 200)
    missing = sum(1 for mark in newcomers.written if mark not in rows) + max(0, bulk - rows.get("bulk", 0))
    twice = sum(n - 1 for mark, n in rows.items() if mark not in ("bulk", "probe") and n > 1)
    # A request that was under way when the load ended has a row and no answer: at most one for each connection.
    more = rows.get("bulk", 0) - bulk
    beyond = [r["duration_seconds"] - own_time(r) for r in receipts]
    total = len(answers) + newcomers.requests
    times = [a.seconds for a in answers]
    well = not failed and not newcomers.failures and not missing and not twice and more <= 4
    return {
        "deploys": len(receipts),
        "requests": total,
        "requests_per_second": round(total / seconds, 1),
        "failed_requests": len(failed) + len(newcomers.failures),
        "failures": [f"{a.status} after {a.seconds:.3f} s" for a in failed[:5]] + newcomers.failures[:5],
        "writes": bulk + len(newcomers.written),
        "missing_writes": missing,
        "writes_run_twice": twice,
        "bulk_rows_without_answer": more,
        "p50_seconds": round(percentile(times, 0.5), 4),
        "p99_seconds": round(percentile(times, 0.99), 4),
        "longest_seconds": round(max(times, default=0.0), 4),
        "deploy_seconds": [r["duration_seconds"] for r in receipts],
        "beyond_the_application_seconds": [round(b, 2) for b in beyond],
        "measured_by_the_deploys": {
            "requests": sum(r["requests"] for r in receipts),
            "failed_requests": sum(r["failed_requests"] for r in receipts),
        },
        "load_average": os.getloadavg()[0],
        "aims_met": well and percentile(beyond, 0.5) <= AIM,
    }


if __name__ == "__main__":
    sys.exit(main())
