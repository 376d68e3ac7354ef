"""User-data really run: cloud-init in a bare Debian root file system, until the application answers (see ec2.py)."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lampstand.targets.aws.bundle import bundle
from lampstand.targets.aws.userdata import PACKAGES, machine_config, text
from lampstand.targets.docker.images import server_packages
from tests.aws_support import scope

IMAGE = tuple(sorted({p for tier in ("balancer", "web") for p in server_packages(scope("small").site, tier)}))
"""What the site's images hold."""

INDEX = """<?php
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
$db = new PDO(sprintf('mysql:host=%s;port=%s;dbname=%s', getenv('DB_HOST'), getenv('DB_PORT'), getenv('DB_NAME')),
    getenv('DB_USER'), getenv('DB_PASSWORD'));
$redis = new Redis();
$redis->connect(getenv('REDIS_HOST'), (int) getenv('REDIS_PORT'));
$redis->auth(getenv('REDIS_PASSWORD'));
if ($path === '/healthz') { $redis->ping(); echo 'well'; exit; }
if ($path === '/upload') {
    $folder = getenv('UPLOADS_DIR') . '/public/uploads';
    if (!is_dir($folder)) mkdir($folder, 0750, true);
    file_put_contents("$folder/a.txt.part", 'hello');
    rename("$folder/a.txt.part", "$folder/a.txt");
    echo file_get_contents("$folder/a.txt"); exit;
}
if ($path === '/metadata') {
    $c = stream_context_create(['http' => ['timeout' => 3, 'method' => 'PUT',
        'header' => 'X-aws-ec2-metadata-token-ttl-seconds: 60']]);
    $token = @file_get_contents('http://169.254.169.254/latest/api/token', false, $c);
    echo $token === false ? 'refused' : $token; exit;
}
session_start();
$_SESSION['seen'] = ($_SESSION['seen'] ?? 0) + 1;
header('Cache-Control: public, max-age=60');
echo json_encode([
    'server' => getenv('LAMPSTAND_SERVER'), 'release' => getenv('APP_RELEASE'), 'url' => getenv('APP_URL'),
    'https' => $_SERVER['HTTPS'] ?? '', 'client' => $_SERVER['REMOTE_ADDR'], 'stripe' => getenv('STRIPE_KEY'),
    'steps' => (int) $db->query('SELECT COUNT(*) FROM steps')->fetchColumn(),
]);
"""
MIGRATE = """<?php
$db = new PDO(sprintf('mysql:host=%s;port=%s;dbname=%s', getenv('DB_HOST'), getenv('DB_PORT'), getenv('DB_NAME')),
    getenv('DB_USER'), getenv('DB_PASSWORD'), [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
$db->exec('CREATE TABLE steps (id INT AUTO_INCREMENT PRIMARY KEY)');
$db->exec('INSERT INTO steps VALUES ()');
"""
RELEASE = {"public/index.php": INDEX, "bin/migrate.php": MIGRATE, "public/site.css": "body{}"}
SECRETS: Mapping[str, Mapping[str, str]] = {
    "DatabaseSecret": {"username": "app", "password": "dbSecret1"},
    "CacheSecret": {"password": "cacheSecret1"},
    "AppSecret": {"password": "appSecret1"},
    "SettingsSecret": {"STRIPE_KEY": "sk $ ' \" live"},
}


def root(suite: str, packages: Sequence[str]) -> Path:
    """A bare Debian root file system with some packages; made once, in 1 to 4 minutes."""
    name = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:12]
    folder = Path.home() / ".cache" / "lampstand-tests" / f"{suite}-{name}"
    if not folder.exists():
        part = folder.with_suffix(".part")
        subprocess.run(["rm", "-rf", "--one-file-system", str(part)], check=True, timeout=120)
        part.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}", suite, str(part)],
            check=True, timeout=600, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        part.rename(folder)
    return folder


@pytest.fixture(scope="session")
def base() -> Path:
    """The disk of a machine before its first start: Debian 13 with cloud-init, and what user-data will install (there
    is no way to Debian's servers from its network)."""
    return root("trixie", [*PACKAGES, "cloud-init"])


@pytest.fixture(scope="session")
def image() -> Path:
    """What the containers run in."""
    return root("bookworm", IMAGE)


def boot(base: Path, image: Path, work: Path, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Start a machine, and return its report."""
    here = scope(
        "small",
        app={
            "root": "public", "health": "/healthz", "uploads": ["public/uploads"], "release": "php bin/migrate.php",
            "secrets": ["STRIPE_KEY"], "start_timeout": "20s",
        },
    )  # fmt: skip
    images = {"balancer": "registry/shop@sha256:aa", "web": "registry/shop@sha256:bb"}
    config = json.loads(machine_config(here)[0])
    # The one thing that is not as on EC2: AWS answers at another address.
    config |= {"endpoint": "http://127.0.0.1:5000"}
    config["s3fs"] = ["iam_role=auto", "url=http://127.0.0.1:5000", "use_path_request_style"]
    cloud_config = text(here).replace("${Config}", json.dumps(config))
    agent = cloud_config.partition("https://s3.")[2].partition('"')[0]
    spec = {
        "work": str(work),
        "base": str(base),
        "image": str(image),
        "user_data": cloud_config.replace(f"https://s3.{agent}", "http://127.0.0.1:5080/agent.deb"),
        "bundle": bundle(here, "r1", images),
        "secrets": SECRETS,
        "release": RELEASE,
        "sessions_certificate": "sessions.example",
        "ask": ["/healthz", "/", "/upload", "/metadata", "/site.css", "/uploads/a.txt"],
        **more,
    }
    (work / "spec.json").write_text(json.dumps(spec))
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", sys.executable,
               str(Path(__file__).with_name("ec2.py")), str(work / "spec.json")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


@pytest.mark.timeout(1000)
def test_a_machine_starts_its_release_and_says_that_it_is_well(
    base: Path, image: Path, tmp_path: Path
) -> None:
    report = boot(base, image, tmp_path)
    assert report["left"] == [], "every `${…}` of the template has a value"
    assert report["schema"].startswith("Valid")
    assert report["verdict"] == "lampstand: SUCCESS: release r1", report["logs"]
    assert report["cloud_init"] == []
    assert {c["Action"]: c.get("LifecycleActionResult") or c.get("Status") for c in report["calls"]} == {
        "CompleteLifecycleAction": "CONTINUE",
        "SignalResource": "SUCCESS",
    }
    assert report["agent"] == ["amazon-ssm-agent", "1"]
    assert "enable --now docker" in report["systemctl"]
    answers = report["answers"]
    assert answers["/healthz"][:2] == [200, "well"]
    page = json.loads(answers["/"][1])
    assert page == {
        "server": "i-0123456789abcdef0",
        "release": "r1",
        "url": "https://shop.example.com",
        "https": "on",
        "client": "203.0.113.9",
        "stripe": SECRETS["SettingsSecret"]["STRIPE_KEY"],
        "steps": 1,
    }
    assert answers["/"][2]["Cache-Control"] == "private", "an answer with a session's cookie is nobody else's"
    assert answers["/site.css"][:2] == [200, "body{}"]
    assert answers["/upload"][:2] == [200, "hello"]
    assert report["uploads"] == {"public/uploads/a.txt": "hello"}, (
        "in the bucket when the application goes on"
    )
    assert answers["/uploads/a.txt"][:2] == [200, "hello"]
    assert answers["/metadata"][:2] == [200, "refused"], "the application gets no credentials of the machine"
    assert any(s.startswith("i-0123456789abcdef0/web-1/") for s in report["streams"])
    for secret in ("dbSecret1", "cacheSecret1", "appSecret1", "live"):
        assert secret not in json.dumps(report["docker"]), "no secret is in an argument"


@pytest.mark.timeout(1000)
def test_a_machine_whose_release_step_fails_says_so_and_is_given_up(
    base: Path, image: Path, tmp_path: Path
) -> None:
    report = boot(
        base,
        image,
        tmp_path,
        release={**RELEASE, "bin/migrate.php": "<?php fwrite(STDERR, 'no'); exit(3);"},
        ask=[],
    )
    assert report["verdict"].startswith("lampstand: FAILURE: Failed: the release step failed"), report["logs"]
    assert {c["Action"]: c.get("LifecycleActionResult") or c.get("Status") for c in report["calls"]} == {
        "CompleteLifecycleAction": "ABANDON",
        "SignalResource": "FAILURE",
    }


@pytest.mark.timeout(1000)
def test_sessions_behind_a_wrong_certificate_are_not_believed(
    base: Path, image: Path, tmp_path: Path
) -> None:
    report = boot(base, image, tmp_path, sessions_certificate="other.example", ask=["/healthz", "/"])
    assert report["verdict"] == "lampstand: SUCCESS: release r1", report["logs"]
    assert report["answers"]["/healthz"][0] == 200
    assert "upstream SSL certificate does not match" in report["logs"]
