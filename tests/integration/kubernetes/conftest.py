"""One cluster of three nodes for all tests here. A machine that cannot have one fails them: `bin/test` asks before."""

import fcntl
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.kubernetes.cluster import BASE_IMAGE, ROOT, Cluster, run, script


@pytest.fixture(scope="session")
def prepared() -> Path:
    """The folder with the programs; building them takes minutes, once."""
    return Path(script("prepare.sh", timeout=1200).strip())


@pytest.fixture(scope="session")
def cluster(prepared: Path) -> Iterator[Cluster]:
    """Three nodes; each test leaves them ready and removes its namespace."""
    with (prepared / "cluster.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # its addresses are fixed: another run has to end first
        script("down.sh")
        try:
            script("up.sh", "3")
            yield Cluster(prepared, 3)
        finally:
            script("down.sh")


@pytest.fixture(scope="session")
def base_image(cluster: Cluster) -> str:
    """The name of an image with a shell that the nodes have."""
    run(str(ROOT / "tests/testbed/docker/engine.sh"), BASE_IMAGE, timeout=600)
    cluster.load(BASE_IMAGE)
    return BASE_IMAGE


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name)[:60].strip("-")
    cluster.kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")
