"""How long a plan of a large site takes, and that it grows with the number of servers: `./bin/bench plan`."""

import json
import sys
import time

from lampstand.engines import BOOKWORM
from lampstand.observed import Observed
from lampstand.plan import plan
from lampstand.site import Site
from lampstand.topology import SECRETS, Context, Folder, expand


class Paper:
    """A Placement without a machine."""

    def __init__(self) -> None:
        self.ports: dict[tuple[str, str], int] = {}

    def bind(self, instance: str, port: str) -> tuple[str, int]:
        return "127.0.0.1", self.ports.setdefault((instance, port), 10000 + len(self.ports))

    reach = bind

    def folder(self, instance: str, folder: Folder) -> str:
        return f"/s/{instance}/{folder}"

    def release(self, release: str) -> str:
        return f"/s/releases/{release}"

    def uploads(self) -> str:
        return "/s/uploads"

    def public_url(self) -> str:
        return "http://127.0.0.1:10000"


def seconds(servers: int) -> float:
    """Expand, render, hash and plan a site of about so many instances."""
    site = Site.model_validate({"site": "large", "web": {"servers": servers - 12}})
    begun = time.monotonic()
    context = Context(site, Paper(), BOOKWORM, dict.fromkeys(SECRETS, "x"), "release")
    topology = expand(context)
    steps = plan(topology, Observed(0.0))
    hashes = {i.config_hash for i in topology.instances}
    took = time.monotonic() - begun
    assert len(hashes) == len(topology.instances) == len(steps.actions)
    return took


def main() -> int:
    """Print one JSON document; 1 when the aims are missed."""
    seconds(50)  # templates are compiled once
    found = {n: min(seconds(n) for _ in range(3)) for n in (250, 500, 1000)}
    ratio = found[1000] / found[250]
    met = found[1000] <= 2.0 and ratio <= 6.0
    print(
        json.dumps(
            {
                "seconds": {n: round(s, 3) for n, s in found.items()},
                "ratio_1000_to_250": round(ratio, 2),
                "aims_met": met,
            }
        )
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
