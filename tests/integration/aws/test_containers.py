"""A machine's containers in a real Docker: the Docker target's images under the flags that `machine.py` gives.

What is not as on EC2: the containers share the network of an idle one instead of the machine's (its ports are fixed,
and this machine has others to serve), the folders lie below a temporary one, and the bucket is a plain folder.
"""

import asyncio
import importlib.util
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lampstand.targets.aws.bundle import bundle
from lampstand.targets.aws.images import DockerImages, docker
from lampstand.targets.aws.scope import Scope
from lampstand.targets.aws.shipping import project_release
from tests.aws_support import scope
from tests.support import eventually

ROOT = Path(__file__).parents[3]
INDEX = """<?php
if ($_SERVER['REQUEST_URI'] === '/healthz') { echo 'well'; exit; }
file_put_contents(getenv('UPLOADS_DIR') . '/public/uploads/a.txt', 'hello');
echo json_encode([getenv('APP_RELEASE'), getenv('LAMPSTAND_SERVER'), posix_getuid(), @file_put_contents('/x', '1')]);
"""


@pytest.fixture(scope="module")
def engine() -> str:
    """A Docker Engine; a machine without one gets one."""
    command = [str(ROOT / "tests/testbed/docker/engine.sh")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An application."""
    folder = tmp_path / "project"
    for name, text in {"public/index.php": INDEX, "public/site.css": "body{}"}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def program(tmp_path: Path, base: Path) -> ModuleType:
    """The machine's program with its folders below `base`; what mounts does nothing."""
    config = tmp_path / "machine.json"
    config.write_text(json.dumps({"region": "eu-central-1", "values": {}, "secrets": {}}))
    spec = importlib.util.spec_from_file_location("machine", ROOT / "src/lampstand/targets/aws/machine.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    before, sys.argv = sys.argv, ["machine.py", str(config)]
    try:
        spec.loader.exec_module(module)
    finally:
        sys.argv = before
    real = module.run
    module.BASE = base  # type: ignore[attr-defined]
    module.run = lambda *argv, **more: "" if argv[0] == "mount" else real(*argv, **more)  # type: ignore[attr-defined]
    return module


@pytest.fixture
def names() -> Iterator[str]:
    """A prefix for containers, which go away whatever happens."""
    prefix = f"test-{uuid.uuid4().hex[:8]}"
    try:
        yield prefix
    finally:
        found = docker("ps", "--all", "--quiet", "--filter", f"name=^{prefix}").split()
        if found:
            docker("rm", "--force", *found)


@pytest.mark.timeout(600)
def test_a_machines_containers_serve_in_a_real_docker(
    engine: str, project: Path, tmp_path: Path, names: str
) -> None:
    assert engine
    site = f"t{uuid.uuid4().hex[:8]}"
    here = scope(
        "small", site=site, app={"root": "public", "health": "/healthz", "uploads": ["public/uploads"]}
    )
    release = project_release(here, project)
    architecture = docker("version", "--format", "{{.Server.Arch}}").strip()
    local = DockerImages(here.site, project).build(release, f"linux/{architecture}")
    try:
        _serves(here, tmp_path, names, release, dict(local))
    finally:
        docker("rmi", "--force", local["web"])


def _serves(here: Scope, tmp_path: Path, names: str, release: str, local: dict[str, str]) -> None:
    base = tmp_path / "machine"
    machine = program(tmp_path, base)
    document: dict[str, Any] = json.loads(bundle(here, release, local))
    # Paths of the host; those inside of the containers stay.
    moved = json.loads(json.dumps(document).replace(":rslave", ""))
    (base / "uploads/public/uploads").mkdir(parents=True)
    docker(
        "run",
        "--detach",
        "--network",
        "none",
        "--name",
        f"{names}-net",
        "--entrypoint",
        "sleep",
        local["web"],
        "600",
    )
    values = {machine.VALUE % n: f"{n}.example".replace("_", "-") for n in
              ("database_host", "replica_host", "cache_host", "sessions_host")}  # fmt: skip
    values |= {machine.VALUE % "server": "i-1", machine.VALUE % "url": "https://u"}
    values |= {machine.SECRET % n: "x" for n in ("database_app", "cache", "sessions", "app_secret")}
    machine.copy_release(moved["files"])
    assert (base / "releases" / release / "public/site.css").read_text() == "body{}"
    for path in (base / "uploads").rglob("*"):
        path.chmod(0o777)
    for instance in moved["machines"]["web"]["instances"]:
        instance["files"] = [
            [str(base) + p.removeprefix("/var/lib/lampstand"), c, m] for p, c, m in instance["files"]
        ]
        machine.prepare(instance, values)
        for process in instance["processes"]:
            command, environment = machine.container(
                f"{names}-{instance['name']}.{process['name']}", process, values, instance["name"], "--detach"
            )
            command[command.index("host")] = f"container:{names}-net"
            command = [
                c.replace("/var/lib/lampstand/", f"{base}/", 1) if c.startswith("/var/lib/lampstand/") and ":" in c else
                f"{base}/instances/{instance['name']}:/var/lib/lampstand/instances/{instance['name']}"
                if c.startswith(f"{base}/instances") else c
                for c in command
            ]  # fmt: skip
            machine.docker_run(command, environment, 60)

    def ask(path: str) -> str:
        code = f"echo @file_get_contents('http://127.0.0.1:8080{path}');"
        return docker("exec", f"{names}-net", "php", "-r", code)

    try:
        eventually(lambda: ask("/healthz") == "well", 60, pause=0.5)
    except AssertionError:
        logs = [p.read_text() for p in base.glob("instances/*/log/*.log")]
        states = docker("ps", "--all", "--filter", f"name=^{names}", "--format", "{{.Names}} {{.Status}}")
        raise AssertionError("\n".join([states, *logs])) from None
    # Uid 33 is www-data, and the root file system is read-only.
    assert json.loads(ask("/")) == [release, "i-1", 33, False]
    assert ask("/site.css") == "body{}"
    assert ask("/uploads/a.txt") == "hello"
    assert (base / "uploads/public/uploads/a.txt").read_text() == "hello"
    flags = docker("inspect", "--format", "{{.HostConfig.CapDrop}} {{.HostConfig.ReadonlyRootfs}} {{.Config.User}}",
                   f"{names}-web-1.apache").strip()  # fmt: skip
    assert flags == "[ALL] true www-data"


def test_building_works_inside_of_a_running_loop(engine: str, project: Path) -> None:
    """The verbs run in a loop; the builder needs one too."""
    assert engine
    here = scope("small", app={"root": "public"})

    async def verb() -> None:
        with pytest.raises(Exception, match="the machines want images for linux/none"):
            DockerImages(here.site, project).build("r1", "linux/none")

    asyncio.run(verb())
