"""What the API server says of pods, as the controller takes it."""

from typing import Any

from lampstand.observed import State
from lampstand.targets.kubernetes.observing import leaving, observed, started
from lampstand.targets.kubernetes.project import INSTANCE, KIND
from lampstand.targets.kubernetes.runtime import labels


def pod(*, running: bool = True, container: str = "containerd://1", **meta: str) -> dict[str, Any]:
    state = {"running": {"startedAt": "2026-01-02T03:04:05Z"}} if running else {"waiting": {"reason": "x"}}
    status = {"name": "server", "containerID": container, "state": state}
    return {
        "metadata": {"name": "database-1-0", "labels": {INSTANCE: "database-1", KIND: "database"}, **meta},
        "status": {"containerStatuses": [status]},
    }


def test_a_server_runs_when_its_container_does() -> None:
    assert observed([pod()])["database-1"].state is State.RUNNING
    assert observed([pod(running=False)])["database-1"].state is State.STOPPED
    assert observed([{**pod(), "status": {}}])["database-1"].state is State.STOPPED
    assert observed([]) == {}


def test_a_server_that_is_held_does_not_run_though_its_pod_does() -> None:
    assert observed([pod()], {"database-1"})["database-1"].state is State.STOPPED


def test_another_container_is_another_process() -> None:
    first, second = (observed([pod(container=c)])["database-1"].processes[0] for c in ("a://1", "a://2"))
    assert first.pid != second.pid
    assert first.started == second.started == 1767323045


def test_a_pod_that_was_told_to_go_still_runs() -> None:
    going = pod(deletionTimestamp="2026-01-02T03:05:00Z")
    assert leaving(going)
    assert started(going) is not None
    assert not leaving(pod())


def test_roles_are_labels() -> None:
    assert labels(primary=True, reads=False) == {"lampstand.org/role": "primary", "lampstand.org/reads": "no"}
    assert labels(primary=False, reads=True) == {
        "lampstand.org/role": "replica",
        "lampstand.org/reads": "yes",
    }
    assert labels(primary=False, reads=None) == {"lampstand.org/role": "replica"}
