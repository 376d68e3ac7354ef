"""A cluster of the test bed, and what tests do with it."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
TESTBED = ROOT / "tests/testbed/kubernetes"
BASE_IMAGE = "debian:bookworm-slim"


def run(*argv: str, timeout: float = 120.0, given: str | None = None) -> str:
    """Standard output of a command that must end well."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=timeout, input=given)
    assert done.returncode == 0, (
        f"{' '.join(argv)}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    )
    return done.stdout


def script(name: str, *arguments: str, timeout: float = 120.0) -> str:
    """A script of the test bed, which must end well."""
    return run(str(TESTBED / name), *arguments, timeout=timeout)


@dataclass(frozen=True)
class Cluster:
    """Nodes in namespaces of this machine; `home` is what `prepare.sh` printed."""

    home: Path
    nodes: int

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.home / "admin.kubeconfig"

    @property
    def environment(self) -> Mapping[str, str]:
        """What a program needs to find this cluster."""
        path = f"{self.home / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def tried(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """`kubectl ARGUMENTS`; it may fail."""
        return subprocess.run(
            [str(self.home / "bin/kubectl"), *arguments],
            capture_output=True, text=True, check=False, timeout=120, input=given, env=self.environment,
        )  # fmt: skip

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """The same, which must end well; its standard output."""
        done = self.tried(*arguments, given=given)
        assert done.returncode == 0, (
            f"kubectl {arguments}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get ARGUMENTS` as a document."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Server-side apply of objects, under a name that is not Lampstand's."""
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.kubectl(
            "apply", "--server-side", "--field-manager", "tests", "-f", "-", given=json.dumps(listed)
        )

    def load(self, *images: str) -> None:
        """Copies images from the Docker engine into all nodes that run."""
        script("load.sh", *images, timeout=240)

    def node(self, action: str, name: str) -> None:
        """`start`, `kill`, `cut` or `mend` a node."""
        script("node.sh", action, name)

    def ready(self, name: str) -> bool:
        """Whether the control plane takes the node for ready."""
        conditions = self.get("node", name)["status"]["conditions"]
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def all_ready(self) -> bool:
        """Whether it takes all of them for ready."""
        return all(self.ready(f"node{number}") for number in range(1, self.nodes + 1))
