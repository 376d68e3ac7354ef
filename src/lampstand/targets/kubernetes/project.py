"""What the manifests depend on besides the topology, and what the cluster understands. Pure values."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lampstand.errors import LampstandError
from lampstand.site import Site

Manifest = dict[str, Any]

DOMAIN = "lampstand.org"
SITE = f"{DOMAIN}/site"
KIND = f"{DOMAIN}/kind"
INSTANCE = f"{DOMAIN}/instance"
"""Name of the server; of the Deployment, where its pods are alike."""
ROLE = f"{DOMAIN}/role"
"""`primary` or `replica`; the controller's."""
READS = f"{DOMAIN}/reads"
"""`yes` on databases that take reads; the controller's."""
SERVES = f"{DOMAIN}/serves"
"""`yes` on pods of balancers, web servers and edges that take requests. The template says yes, the controller may say
no, so that a pod which does not answer gets no requests long before its node is given up."""
RENDERED = f"{DOMAIN}/rendered"
"""`yes` on ConfigMaps and Secrets whose names end with a hash of what they hold: old ones are pruned."""
RELEASE = f"{DOMAIN}/release"
MANAGER = "lampstand"
"""Field owner of everything that is applied."""

SECRETS = "secrets"
"""The Secret of all generated passwords and of the values of `app.secrets` (`env.NAME`)."""
SITE_MAP = "site"
"""The ConfigMap whose `desired.json` the controller expands."""


@dataclass(frozen=True)
class Served:
    """The API versions of a cluster, as `apps/v1`."""

    versions: frozenset[str] | None = None
    """None: the newest of everything that is asked for, Gateway API included."""

    @classmethod
    def newest(cls) -> "Served":
        """For text that is written without a cluster."""
        return cls()

    def pick(self, *versions: str) -> str:
        """The first of the given versions, newest first, that the cluster serves. Raises LampstandError."""
        for version in versions:
            if self.versions is None or version in self.versions:
                return version
        raise LampstandError(
            f"the cluster serves none of {', '.join(versions)}",
            mend="use a cluster that has them, or another `entry`",
        )


@dataclass(frozen=True)
class Project:
    """What the manifests depend on besides the topology."""

    site: Site
    namespace: str
    images: Mapping[str, str]
    """Tier, or `controller` -> tag of the image. `web` is not asked for: releases have images of their own."""
    release: str
    """The release that is wished."""
    release_images: Mapping[str, str]
    """Release -> tag of the web image that holds it. The balancers serve the static files of all of them, those of the
    wished one first, then the last in the mapping."""
    secrets: Mapping[str, str]
    """Generated passwords and `env.NAME`."""
    desired: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the controller finds in the ConfigMap `site`."""
    web_replicas: int | None = None
    """Web servers now, where they are not `web.servers`."""
    canary: tuple[str, float] | None = None
    """Release that some visitors get, and their share in per cent."""
    controller: bool = True
    """False leaves the controller's pod out: for a cluster whose controller runs elsewhere, as in tests."""

    @property
    def labels(self) -> dict[str, str]:
        """On everything of the site."""
        return {
            "app.kubernetes.io/managed-by": "lampstand",
            "app.kubernetes.io/part-of": self.site.site,
            SITE: self.site.site,
        }

    def selector(self, **labels: str) -> dict[str, str]:
        """Labels that pods of this site are found by: `kind`, `instance`, `role`, `reads`, `serves`."""
        return {SITE: self.site.site, **{f"{DOMAIN}/{name}": value for name, value in labels.items()}}

    def metadata(self, name: str, **labels: str) -> dict[str, Any]:
        """Of an object in the site's namespace."""
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": {**self.labels, **{f"{DOMAIN}/{label}": value for label, value in labels.items()}},
        }

    def releases(self) -> list[str]:
        """Releases whose static files are served, the wished one first."""
        others = [r for r in reversed(list(self.release_images)) if r != self.release]
        return [self.release, *others]


def digest(value: object) -> str:
    """Ten hex digits that change when a JSON-like value does."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]


def quantity(size: int) -> str:
    """Bytes, rounded up to MiB, as the API server would write them: an unlike way to write the same is a change."""
    mebibytes = -(-size // 2**20)
    return f"{mebibytes}Mi" if mebibytes % 1024 else f"{mebibytes // 1024}Gi"


def limited(name: str, length: int = 63) -> str:
    """A name that fits into a label, told apart by a hash where it was too long (RFC 1123)."""
    return name if len(name) <= length else f"{name[: length - 11]}-{digest(name)}"


def documents(manifests: Iterable[Manifest]) -> dict[str, Manifest]:
    """Manifests by `Kind/name`."""
    return {f"{m['kind']}/{m['metadata']['name']}": m for m in manifests}


def docker_site(site: Site) -> Site:
    """The site as targets/docker/images.py builds its images from it: with this target's registry."""
    docker = site.targets.docker.model_copy(update={"registry": site.targets.kubernetes.registry})
    return site.model_copy(update={"targets": site.targets.model_copy(update={"docker": docker})})
