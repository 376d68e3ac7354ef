"""Logs of the machines, from CloudWatch."""

import time
from collections.abc import Iterator, Sequence

from lampstand.targets.aws.cloud import Cloud, explained


def tail(
    cloud: Cloud, group: str, names: Sequence[str], lines: int, follow: bool
) -> Iterator[tuple[str, str]]:
    """Pairs of a stream (`MACHINE/SERVER/FILE`) and a line: the last hour's, at most `lines`, then new ones with
    `follow`. `names` are parts of a stream: a machine, a server, a file."""
    start = int((time.time() - 3600) * 1000)
    seen: set[str] = set()
    first = True
    while True:
        with explained("reading the logs"):
            events = list(
                cloud.pages(
                    "logs",
                    "filter_log_events",
                    "events",
                    logGroupName=group,
                    startTime=start,
                )
            )
        fresh = [e for e in events if e["eventId"] not in seen]
        shown = [(str(e["logStreamName"]), str(e["message"])) for e in fresh]
        shown = [(s, m) for s, m in shown if not names or any(n in s.split("/") for n in names)]
        yield from shown[-lines:] if first else shown
        seen.update(str(e["eventId"]) for e in fresh)
        first = False
        if not follow:
            return
        # Events arrive late; those of the last minute are read again and known by their ids.
        start = max(start, int((time.time() - 60) * 1000))
        time.sleep(2.0)
