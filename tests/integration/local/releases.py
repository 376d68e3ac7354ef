"""What the tests of releases share: an application whose behaviour a release chooses, and visitors who count."""

import http.client
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.integration.local.site import WholeSite, whole_site

APPLICATION = """<?php
// release: MARK
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
header('Cache-Control: no-store');
header('X-Release: MARK');
header('X-Served-By: ' . getenv('LAMPSTAND_SERVER'));
$dsn = 'mysql:host=' . getenv('DB_HOST') . ';port=' . getenv('DB_PORT') . ';dbname=' . getenv('DB_NAME');
$pdo = fn() => new PDO($dsn, getenv('DB_USER'), getenv('DB_PASSWORD'), [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
BROKEN
switch ($path) {
    case '/healthz': exit('ok');
    case '/write':
        // Not idempotent on purpose: what runs twice is two rows.
        $pdo()->prepare('INSERT INTO written (mark) VALUES (?)')->execute([$_POST['mark']]);
        exit('written');
    case '/rows':
        $rows = $pdo()->query('SELECT mark, COUNT(*) FROM written GROUP BY mark')->fetchAll(PDO::FETCH_KEY_PAIR);
        exit(json_encode($rows));
    case '/upload': exit((string) strlen(file_get_contents('php://input')));
    case '/slow': sleep((int) $_GET['seconds']); exit('MARK');
    case '/events':
        header('Content-Type: text/event-stream');
        while (ob_get_level()) { ob_end_flush(); }
        for ($n = 0; $n < (int) $_GET['count']; $n++) { echo "data: MARK $n\\n\\n"; flush(); usleep(200000); }
        exit;
    case '/page': header('Cache-Control: public, max-age=60'); exit('page of MARK');
}
echo 'hello from MARK';
"""

MIGRATE = """<?php
$pdo = new PDO('mysql:host=' . getenv('DB_HOST') . ';port=' . getenv('DB_PORT') . ';dbname=' . getenv('DB_NAME'),
    getenv('DB_USER'), getenv('DB_PASSWORD'), [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
$pdo->exec('CREATE TABLE IF NOT EXISTS written (id INT AUTO_INCREMENT PRIMARY KEY, mark VARCHAR(64), KEY (mark))');
$pdo->exec('CREATE TABLE IF NOT EXISTS steps (id INT AUTO_INCREMENT PRIMARY KEY, mark VARCHAR(64))');
$pdo->prepare('INSERT INTO steps (mark) VALUES (?)')->execute(['MARK']);
STEP
"""


@contextmanager
def released_site(name: str = "shop", more: str = "") -> Iterator[WholeSite]:
    """A site with the first release up."""
    with whole_site(name) as site:
        text = (site.project / "lampstand.yaml").read_text()
        app = "app: {health: /healthz, release: php migrate.php, release_timeout: 8s, start_timeout: 6s}"
        text = text.replace("app: {health: /healthz}", app).replace("edges: [fra, iad]", "edges: [fra]")
        requests = "deploy: {requests: [GET /healthz, GET /, POST /write mark=probe]}\n"
        site.write("lampstand.yaml", text + (requests if "deploy:" not in more else "") + more)
        release(site, "one")
        site.up()
        yield site


def release(site: WholeSite, mark: str, broken: str = "", step: str = "") -> None:
    """Make the project's files the release with this mark; `broken` is PHP that runs in every request, `step` PHP at
    the end of the release step."""
    site.write("index.php", APPLICATION.replace("MARK", mark).replace("BROKEN", broken))
    site.write("migrate.php", MIGRATE.replace("MARK", mark).replace("STEP", step))


def receipt(site: WholeSite, name: str | None = None) -> dict[str, Any]:
    """The receipt of a deploy; the newest without a name."""
    value: dict[str, Any] = json.loads(
        site.call("releases", "show", *([name] if name else []), "--json").stdout
    )
    return value


def get(site: WholeSite, path: str = "/", headers: dict[str, str] | None = None) -> httpx.Response:
    """One GET through the edge."""
    return httpx.get(site.url + path, timeout=15, headers=headers)


def marks(site: WholeSite, count: int = 12) -> set[str]:
    """The releases that answer now."""
    url = site.url
    return {httpx.get(url, timeout=15).headers["x-release"] for _ in range(count)}


@dataclass
class Seen:
    """What visitors saw."""

    requests: int = 0
    failures: list[str] = field(default_factory=list[str])
    written: list[str] = field(default_factory=list[str])
    releases: set[str] = field(default_factory=set[str])


class Visitors:
    """Visitors in threads: readers with kept and with new connections, and writers each of whose POSTs has a mark of
    its own."""

    def __init__(
        self, url: str, readers: int = 2, newcomers: int = 1, writers: int = 2, rate: float = 50.0
    ) -> None:
        """`rate` is that of each visitor, in requests a second."""
        self._url = urlsplit(url)
        self._pause = 1 / rate
        self._end = threading.Event()
        self._lock = threading.Lock()
        self.seen = Seen()
        kinds = ["kept"] * readers + ["new"] * newcomers + ["write"] * writers
        self._threads = [threading.Thread(target=self._visit, args=(kind,), daemon=True) for kind in kinds]

    def __enter__(self) -> "Visitors":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(30)

    def _visit(self, kind: str) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._end.is_set():
            begun = time.monotonic()
            if connection is None or kind == "new":
                connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=20)
            mark = uuid.uuid4().hex
            try:
                if kind == "write":
                    form = {"Content-Type": "application/x-www-form-urlencoded"}
                    connection.request("POST", "/write", f"mark={mark}", form)
                else:
                    connection.request("GET", "/", headers={"Connection": "close"} if kind == "new" else {})
                answer = connection.getresponse()
                body = answer.read()
                failure = "" if answer.status == 200 else f"{kind}: {answer.status} {body[:80]!r}"
                mine = answer.headers.get("X-Release", "")
            except (OSError, http.client.HTTPException) as error:
                failure, mine = f"{kind}: {error!r}", ""
                connection.close()
                connection = None
            with self._lock:
                self.seen.requests += 1
                self.seen.releases.add(mine)
                if failure:
                    self.seen.failures.append(failure)
                elif kind == "write":
                    self.seen.written.append(mark)
            self._end.wait(max(0.0, self._pause - (time.monotonic() - begun)))
        if connection:
            connection.close()


def executed(site: WholeSite, seen: Seen) -> tuple[int, int]:
    """How many acknowledged POSTs are missing, and how many ran twice."""
    rows: dict[str, int] = get(site, "/rows").json()
    missing = sum(1 for mark in seen.written if mark not in rows)
    twice = sum(count - 1 for mark, count in rows.items() if mark != "probe" and count > 1)
    return missing, twice
