"""What tests share: free ports and waiting for a condition, with a deadline instead of a pause."""

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(ask: Callable[[], T], seconds: float = 15.0, pause: float = 0.02) -> T:
    """The first true answer of `ask`. Connection errors and AssertionErrors count as not yet.

    AssertionError with the last answer after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        last: object
        try:
            last = answer = ask()
            if answer:
                return answer
        except (OSError, AssertionError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s; last: {last!r}")
        time.sleep(pause)
