"""A site in the cluster, driven by the command line as a user does it."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.integration.kubernetes.cluster import Cluster


@dataclass(frozen=True)
class KubernetesSite:
    """Its namespace has its name."""

    cluster: Cluster
    name: str
    project: Path
    state: Path

    def tried(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`lampstand -t kubernetes -y ARGUMENTS`; it may fail."""
        environment = {**self.cluster.environment, "XDG_STATE_HOME": str(self.state), "NO_COLOR": "1"}
        argv = [
            sys.executable,
            "-m",
            "lampstand",
            "-C",
            str(self.project),
            "-t",
            "kubernetes",
            "-y",
            *arguments,
        ]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=500, env=environment)

    def lampstand(self, *arguments: str) -> str:
        """The same, which must end well; its standard output."""
        done = self.tried(*arguments)
        assert done.returncode == 0, (
            f"{arguments}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get` in its namespace, as a document."""
        return self.cluster.get("-n", self.name, *arguments)

    def kubectl(self, *arguments: str) -> str:
        """`kubectl` in its namespace."""
        return self.cluster.kubectl("-n", self.name, *arguments)

    def told(self) -> dict[str, Any]:
        """What the controller says."""
        return json.loads(self.get("configmap", "status")["data"]["status.json"])

    def well(self) -> bool:
        """Whether it calls all data servers well, and all pods are ready."""
        pods = self.get("pods")["items"]
        ready = [
            any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions", []))
            for p in pods
            if p["status"]["phase"] != "Succeeded"
        ]
        told = self.told()
        return all(ready) and time.time() - told["time"] < 15 and told["sentence"].startswith("all well")

    def primary(self) -> dict[str, Any]:
        """The pod that the Service `writer` leads to."""
        chosen = "lampstand.org/kind=database,lampstand.org/role=primary"
        found = self.get("pods", "-l", chosen)["items"]
        assert len(found) == 1, [p["metadata"]["name"] for p in found]
        return found[0]

    @property
    def url(self) -> str:
        """What visitors use."""
        entry = self.get("service", "entry")["status"]["loadBalancer"]["ingress"][0]
        return f"http://{entry['ip']}"


class Visitors:
    """Requests for one page after the other, each on a connection of its own, and what was not answered well."""

    def __init__(self, url: str, threads: int = 4) -> None:
        self._url = url
        self._end = threading.Event()
        self.answers: list[str] = []
        self._threads = [threading.Thread(target=self._visit, daemon=True) for _ in range(threads)]

    def __enter__(self) -> "Visitors":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(30)

    @property
    def failed(self) -> list[str]:
        """All answers but 200."""
        return [answer for answer in self.answers if answer != "200"]

    def _visit(self) -> None:
        number = 0
        while not self._end.is_set():
            number += 1
            try:
                url = f"{self._url}/?{threading.get_ident()}-{number}"
                self.answers.append(str(httpx.get(url, timeout=20).status_code))
            except httpx.TransportError as error:
                self.answers.append(repr(error))
