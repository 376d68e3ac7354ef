"""A whole site for tests: a project folder, a state folder of its own, and the real command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import eventually

ROOT = Path(__file__).resolve().parents[3]
LAMPSTAND = [sys.executable, "-I", "-m", "lampstand"]

APPLICATION = """<?php
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
header('Cache-Control: no-store');
header('X-Served-By: ' . getenv('LAMPSTAND_SERVER'));
$place = 'mysql:host=' . getenv('DB_HOST') . ';port=' . getenv('DB_PORT') . ';dbname=' . getenv('DB_NAME');
$pdo = fn() => new PDO($place, getenv('DB_USER'), getenv('DB_PASSWORD'), [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
if ($path === '/healthz') {
    if (file_exists(__DIR__ . '/broken')) { http_response_code(500); exit('broken on purpose'); }
    $pdo()->query('SELECT 1');
    exit('ok');
}
if ($path === '/write') {
    $db = $pdo();
    $db->exec('CREATE TABLE IF NOT EXISTS notes (id INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(200) UNIQUE)');
    $db->prepare('INSERT INTO notes (text) VALUES (?)')->execute([$_POST['text'] ?? uniqid('', true)]);
    exit('written');
}
if ($path === '/count') { exit((string) $pdo()->query('SELECT COUNT(*) FROM notes')->fetchColumn()); }
if ($path === '/session') {
    session_start();
    $_SESSION['n'] = ($_SESSION['n'] ?? 0) + 1;
    exit((string) $_SESSION['n']);
}
if ($path === '/env') { exit((string) getenv($_GET['name'])); }
if ($path === '/huge') { header('X-Huge: ' . str_repeat('a', 100000)); exit('huge'); }
if ($path === '/slow') { usleep((int) (1e6 * min(10, (float) ($_GET['seconds'] ?? 1)))); exit('slow'); }
echo 'hello from ' . getenv('APP_RELEASE');
"""

SITE = """site: {name}
app: {{health: /healthz}}
web: {{processes: 2, drain_seconds: 5s}}
database: {{memory: 64MB}}
cdn: {{edges: [fra, iad], memory: 16MB}}
{more}"""


class WholeSite:
    """One site. Use `whole_site`, which removes it at the end."""

    def __init__(self, folder: Path, name: str, more: str) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.project.mkdir()
        self.write("index.php", APPLICATION)
        self.write("style.css", "body { color: red }")
        self.write("lampstand.yaml", SITE.format(name=name, more=more))
        self.env = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "NO_COLOR": "1"}

    def write(self, path: str, text: str) -> Path:
        """A file of the project."""
        target = self.project / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def call(
        self, *arguments: str, code: int | None = 0, timeout: float = 240.0
    ) -> subprocess.CompletedProcess[str]:
        """`lampstand -C project …`; asserts the exit code unless it is None."""
        done = subprocess.run(
            [*LAMPSTAND, "-C", str(self.project), *arguments],
            env=self.env, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if code is not None:
            assert done.returncode == code, (
                f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
            )
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command in the background."""
        return subprocess.Popen(
            [*LAMPSTAND, "-C", str(self.project), *arguments], env=self.env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def up(self, *arguments: str) -> dict[str, Any]:
        """`up -y`, and the status after it."""
        self.call("up", "-y", "-q", *arguments)
        return self.status()

    def status(self) -> dict[str, Any]:
        """`status --json`."""
        value: dict[str, Any] = json.loads(self.call("status", "--json").stdout)
        return value

    def plan(self) -> str:
        """The text of `plan`."""
        return self.call("plan").stdout

    @property
    def state(self) -> Path:
        """The state folder."""
        (found,) = [p for p in (self.folder / "state/lampstand").iterdir() if p.is_dir()]
        return found

    @property
    def url(self) -> str:
        """The URL of the site."""
        url: str = self.status()["urls"]["site"]
        return url

    def pids(self, *names: str) -> dict[str, list[int]]:
        """Server -> pids of its first processes; all servers when none is named."""
        return {
            i["name"]: [p["pid"] for p in i["processes"] if p["pid"]]
            for i in self.status()["instances"]
            if not names or i["name"] in names
        }

    def primary(self, kind: str = "database") -> str:
        """Name of the primary of a kind."""
        (found,) = [
            i["name"] for i in self.status()["instances"] if i["kind"] == kind and i["role"] == "primary"
        ]
        name: str = found
        return name

    def wait_well(self, seconds: float = 60.0) -> dict[str, Any]:
        """Wait until status says that all is well."""

        def well() -> dict[str, Any] | None:
            found = self.status()
            assert found["well"], found["sentence"]
            return found

        found = eventually(well, seconds, 0.2)
        assert found is not None
        return found


def kill(pids: list[int]) -> None:
    """SIGKILL processes of a site of ours."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@contextmanager
def whole_site(name: str = "shop", more: str = "") -> Iterator[WholeSite]:
    """A site that is stopped and deleted at the end. The folder's name is short, for sockets have short names."""
    folder = Path(tempfile.mkdtemp(prefix="ls-"))
    folder.chmod(0o711)
    site = WholeSite(folder, name, more)
    try:
        yield site
    finally:
        site.call("down", "-y", "-q", "--delete-data", "--yes-really", code=None)
        shutil.rmtree(folder, ignore_errors=True)
