"""When the next data server of a group may be replaced, on paper."""

from typing import Any

import pytest

from lampstand.errors import TimedOutError
from lampstand.targets.kubernetes.apply import Applier, succeeds
from lampstand.targets.kubernetes.project import READS, ROLE

REPLICA = {ROLE: "replica", READS: "yes"}


def pod(labels: dict[str, str], uid: str = "new", *, ready: bool = True) -> dict[str, Any]:
    return {
        "metadata": {"name": "database-2-0", "uid": uid, "labels": labels},
        "status": {"containerStatuses": [{"ready": ready}]},
    }


@pytest.mark.parametrize(
    ("old", "new", "ready", "does"),
    [
        (REPLICA, REPLICA, True, True),
        (REPLICA, REPLICA, False, False),
        (REPLICA, {}, True, False),
        (REPLICA, {ROLE: "replica", READS: "no"}, True, False),  # it runs, and does not follow yet
        ({ROLE: "primary", READS: "no"}, {ROLE: "replica", READS: "no"}, True, True),
        ({ROLE: "replica"}, {ROLE: "replica"}, True, True),  # kinds without readers
        ({}, {}, True, True),
    ],
)
def test_a_successor_does_what_its_predecessor_did(
    old: dict[str, str], new: dict[str, str], ready: bool, does: bool
) -> None:
    assert succeeds(old, pod(new, ready=ready)) is does


class Api:
    """Keeps what was to be deleted."""

    def __init__(self, now: dict[str, Any]) -> None:
        self.now = now
        self.deleted: list[tuple[str, str | None]] = []

    def get(self, path: str) -> dict[str, Any]:
        return self.now

    def delete(self, path: str, *, uid: str | None = None) -> bool:
        self.deleted.append((path, uid))
        return True


def test_only_the_pod_that_was_looked_at_is_deleted() -> None:
    api = Api(pod(REPLICA))
    applier = Applier(api, "shop", "shop")  # pyright: ignore[reportArgumentType] - on paper
    applier.replace_pod(pod(REPLICA, "old"), 5.0, lambda _: None)
    assert api.deleted == [("/api/v1/namespaces/shop/pods/database-2-0", "old")]


def test_the_old_pod_is_no_successor() -> None:
    applier = Applier(Api(pod(REPLICA, "old")), "shop", "shop")  # pyright: ignore[reportArgumentType] - on paper
    with pytest.raises(TimedOutError, match="not ready"):
        applier.replace_pod(pod(REPLICA, "old"), 0.1, lambda _: None)
