"""What the tests of the Docker target share without an engine: a site on paper and its project."""

from collections.abc import Mapping
from dataclasses import dataclass

from lampstand.engines import BOOKWORM
from lampstand.site import Site
from lampstand.targets.docker.compose import Project
from lampstand.targets.docker.placement import Addresses, DockerPlacement
from lampstand.topology import SECRETS, Context, Topology, expand

RELEASE = "0123456789ab"
NETWORKS = {"edge": "10.128.0.0/24", "web": "10.128.1.0/24", "data": "10.128.2.0/24"}


@dataclass(frozen=True)
class Paper:
    """A site, expanded for Docker, and the project it becomes."""

    topology: Topology
    project: Project


def paper(
    site: Mapping[str, object],
    ports: Mapping[str, int] | None = None,
    addresses: Addresses | None = None,
) -> Paper:
    """The site as containers; nothing is read, written or asked. `addresses` are those of an earlier one."""
    model = Site.model_validate({"site": "shop", **site})
    addresses = addresses or Addresses("shop", NETWORKS)
    context = Context(
        model,
        DockerPlacement(addresses, "http://127.0.0.1:8000"),
        BOOKWORM,
        {name: f"<{name}>" for name in SECRETS},
        RELEASE,
    )
    topology = expand(context)
    tags = {n: f"lampstand/{n}:1" for n in ("edge", "balancer", "database", "cache", "controller", "web")}
    return Paper(
        topology,
        Project(
            "shop",
            model,
            tags,
            {RELEASE: "lampstand/shop-web:1"},
            RELEASE,
            addresses,
            ports or {},
            owner="1000:1000",
        ),
    )
