"""From what the API server says of pods to what Lampstand knows of servers. Pure."""

import zlib
from collections.abc import Container, Iterable, Mapping
from datetime import datetime
from typing import Any

from lampstand.observed import ObservedInstance, ObservedProcess, State
from lampstand.targets.kubernetes.pods import CONTAINER
from lampstand.targets.kubernetes.project import INSTANCE, KIND

Pod = Mapping[str, Any]


def observed(pods: Iterable[Pod], held: Container[str] = ()) -> dict[str, ObservedInstance]:
    """Servers with a role, by name. `held` are those whose pod runs while its programs do not."""
    found: dict[str, ObservedInstance] = {}
    for pod in pods:
        labels = pod["metadata"].get("labels", {})
        name = labels.get(INSTANCE, "")
        running = started(pod)
        state = State.RUNNING if running is not None and name not in held else State.STOPPED
        alive = state is State.RUNNING
        found[name] = ObservedInstance(
            name=name,
            kind=labels.get(KIND, ""),
            state=state,
            processes=(ObservedProcess("pod", _number(pod) if alive else None, running if alive else None),),
        )
    return found


def started(pod: Pod) -> float | None:
    """Unix time at which the server's container began; None when it does not run."""
    for status in pod.get("status", {}).get("containerStatuses", []):
        if status["name"] == CONTAINER and (running := status.get("state", {}).get("running")):
            return datetime.fromisoformat(running["startedAt"]).timestamp()
    return None


def leaving(pod: Pod) -> bool:
    """Whether it was told to go: by a drain, a new version, or somebody who deleted it."""
    return "deletionTimestamp" in pod["metadata"]


def _number(pod: Pod) -> int:
    """In the place of a process id, which no API tells: another one for each container."""
    return zlib.crc32(str(pod["status"]["containerStatuses"][0].get("containerID", "")).encode())
