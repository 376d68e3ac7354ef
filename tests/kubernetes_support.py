"""What the tests of the Kubernetes target share without a cluster: a site on paper and its project."""

from collections.abc import Mapping
from dataclasses import dataclass

from lampstand.engines import BOOKWORM
from lampstand.site import Site
from lampstand.targets.kubernetes.placement import KubernetesPlacement
from lampstand.targets.kubernetes.project import Project
from lampstand.topology import SECRETS, Context, Topology, expand

RELEASE = "0123456789ab"

SITES: dict[str, dict[str, object]] = {
    "smallest": {
        "database": {"replicas": 0}, "cache": {"replicas": 0}, "sessions": {"replicas": 0}, "cdn": {"edges": []},
        "web": {"servers": 1},
    },
    "full": {
        "app": {
            "root": "public",
            "health": "/healthz",
            "release": "php bin/migrate.php $latest",
            "uploads": ["public/pictures"],
            "jobs": {"nightly": {"schedule": "0 3 * * *", "run": "php bin/nightly.php"}},
            "workers": {"mail": {"run": "php bin/worker.php", "count": 2}},
        },
        "cdn": {"edges": ["fra", "iad"], "shield": "fra"},
        "web": {"servers": 3, "max_servers": 6, "memory": "256MB"},
        "balancer": {"servers": 2},
        "targets": {
            "kubernetes": {
                "uploads_class": "nfs",
                "storage_class": "fast",
                "entry": "ingress",
                "host": "shop.example.com",
                "ingress_class": "traefik",
                "tls_secret": "shop-tls",
                "pull_secret": "registry",
                "node_selector": {"disktype": "ssd"},
                "cpu": {"web": "500m"},
                "edge_servers": 2,
            }
        },
    },
}  # fmt: skip


@dataclass(frozen=True)
class Paper:
    """A site, expanded for Kubernetes, and the project it becomes."""

    topology: Topology
    project: Project


def paper(
    site: Mapping[str, object],
    *,
    releases: tuple[str, ...] = (RELEASE,),
    running: Mapping[str, str] | None = None,
    surge: int = 0,
    **project: object,
) -> Paper:
    """The site as pods; nothing is read, written or asked. The last of `releases` is the wished one; `running` are
    servers that have another."""
    model = Site.model_validate({"site": "shop", **site})
    secrets = {name: f"<{name}>" for name in SECRETS}
    context = Context(
        model,
        KubernetesPlacement("http://shop.example.com"),
        BOOKWORM,
        secrets,
        releases[-1],
        running or {},
        surge,
    )
    tags = {n: f"lampstand/{n}:1" for n in ("edge", "balancer", "database", "cache", "controller")}
    wished = Project(
        model,
        "shop",
        tags,
        releases[-1],
        {r: f"lampstand/shop-web:{r}" for r in releases},
        secrets,
        {"site": {"site": "shop"}},
        **project,  # pyright: ignore[reportArgumentType]
    )
    return Paper(expand(context), wished)
