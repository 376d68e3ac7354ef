"""Whether the controller lives and calls every server well: the health check of its container. Starts quickly."""

import json
import sys
import time
from typing import cast

STALE = 15.0
"""Seconds; a living controller writes its status at least every five."""


def well(status: dict[str, object], now: float) -> bool:
    """Whether this status is recent, and of a site whose servers all run and are well."""
    if now - float(str(status.get("time", 0))) > STALE or status.get("recoveries"):
        return False
    instances = cast("dict[str, dict[str, object]]", status.get("instances") or {})
    return bool(instances) and all(
        i["state"] == "running" and i["health"] == "good" for i in instances.values()
    )


if __name__ == "__main__":
    try:
        with open("/site/status.json", encoding="utf-8") as handle:
            sys.exit(0 if well(json.load(handle), time.time()) else 1)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
