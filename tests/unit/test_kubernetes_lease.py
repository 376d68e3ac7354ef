"""Who cannot renew its lease in time stops acting, before the lease is another's."""

import asyncio
import threading
import time
from typing import Any

import pytest

from lampstand.errors import LampstandError
from lampstand.targets.kubernetes.client import ApiError
from lampstand.targets.kubernetes.controller import Lease

SECONDS = 1.6


class Server:
    """One lease, on paper; `trouble` is raised, or waited for, by every write but the first, a conflict once."""

    def __init__(self, trouble: LampstandError | threading.Event | None = None) -> None:
        self.trouble = trouble
        self.lease: dict[str, Any] | None = None
        self.writes = 0

    def get(self, path: str) -> dict[str, Any] | None:
        return self.lease

    def request(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, deadline: float
    ) -> dict[str, Any]:
        if method == "GET":
            return self.lease or {}
        self.writes += 1
        if self.writes > 1:
            if isinstance(self.trouble, ApiError):
                trouble, self.trouble = self.trouble, None
                raise trouble
            if isinstance(self.trouble, LampstandError):
                raise self.trouble
            if self.trouble is not None:
                self.trouble.wait(10.0)
        self.lease = body or {}
        return self.lease


def held(server: Server, lost: threading.Event) -> Lease:
    lease = Lease(server, "shop", "one", seconds=SECONDS, lost=lost.set)  # pyright: ignore[reportArgumentType]
    asyncio.run(lease.acquire())
    return lease


@pytest.mark.parametrize("hangs", [True, False])
def test_who_cannot_renew_ends_before_another_may_begin(hangs: bool) -> None:
    answer, lost = threading.Event(), threading.Event()
    begun = time.monotonic()
    held(Server(answer if hangs else LampstandError("no answer")), lost).keep()
    assert lost.wait(5.0)
    assert time.monotonic() - begun < SECONDS
    answer.set()


def test_who_lost_it_to_another_ends_at_once() -> None:
    server, lost = Server(), threading.Event()
    begun = time.monotonic()
    held(server, lost).keep()
    server.lease = {"spec": {"holderIdentity": "two"}}
    assert lost.wait(5.0)
    assert time.monotonic() - begun < SECONDS
    assert server.lease == {"spec": {"holderIdentity": "two"}}


def test_a_conflict_with_its_own_unanswered_renewal_is_none() -> None:
    server, lost = Server(ApiError(409, "Conflict", "it was changed", "lease")), threading.Event()
    lease = held(server, lost)
    lease.keep()
    assert not lost.wait(1.5 * SECONDS)
    assert server.trouble is None
    lease.release()


def test_a_lease_that_is_renewed_is_kept_and_given_back() -> None:
    server, lost = Server(), threading.Event()
    lease = held(server, lost)
    lease.keep()
    assert not lost.wait(1.5 * SECONDS)
    assert server.writes > 2
    lease.release()
    assert server.lease is not None
    assert server.lease["spec"]["holderIdentity"] == ""
    assert not lost.wait(SECONDS)  # nobody counts any more
