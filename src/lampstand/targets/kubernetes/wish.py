"""What should run in a cluster, as one document: `up` writes it into the ConfigMap `site`, the controller reads it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lampstand.errors import LampstandError
from lampstand.site import Site
from lampstand.targets.docker.images import engines_of
from lampstand.targets.kubernetes.placement import KubernetesPlacement
from lampstand.targets.kubernetes.project import Project
from lampstand.topology import Context, Topology, expand


@dataclass(frozen=True)
class Wish:
    """The input of the topology and of the manifests, passwords apart."""

    site: Site
    namespace: str
    url: str
    """What visitors use, without a trailing slash."""
    release: str
    images: Mapping[str, str]
    release_images: Mapping[str, str]
    releases: Mapping[str, str] = field(default_factory=dict[str, str])
    """Server -> release, of servers that have another than the wished one."""
    surge: int = 0
    web_replicas: int | None = None
    canary: tuple[str, float] | None = None
    scaled: Mapping[str, str] = field(default_factory=dict[str, str])
    """What `scale` changed; it is in `site` already."""
    generation: int = 0
    version: int = 1

    def document(self) -> dict[str, Any]:
        """As JSON; `of` is its reverse."""
        return {
            "site": self.site.model_dump(mode="json", exclude_unset=True),
            "namespace": self.namespace,
            "url": self.url,
            "release": self.release,
            "images": dict(self.images),
            "release_images": dict(self.release_images),
            "releases": dict(self.releases),
            "surge": self.surge,
            "web_replicas": self.web_replicas,
            "canary": list(self.canary) if self.canary else None,
            "scaled": dict(self.scaled),
            "generation": self.generation,
            "version": self.version,
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Wish":
        """Raises LampstandError for a document of another version."""
        try:
            value = dict(document)
            canary = value.pop("canary")
            return cls(
                site=Site.model_validate(value.pop("site")),
                canary=(str(canary[0]), float(canary[1])) if canary else None,
                **value,
            )
        except (ValueError, TypeError, KeyError) as error:
            raise LampstandError(
                f"written by another version of Lampstand ({error})",
                "ConfigMap site",
                "run `lampstand up` again",
            ) from error

    def topology(self, secrets: Mapping[str, str]) -> Topology:
        """Expanded; `secrets` are the generated passwords and `env.NAME`."""
        context = Context(
            site=self.site,
            placement=KubernetesPlacement(self.url),
            engines=engines_of(self.site.targets.docker.base),
            secrets=secrets,
            release=self.release,
            releases=self.releases,
            surge=self.surge,
        )
        return expand(context)

    def project(self, secrets: Mapping[str, str]) -> Project:
        """For the manifests."""
        return Project(
            site=self.site,
            namespace=self.namespace,
            images=self.images,
            release=self.release,
            release_images=self.release_images,
            secrets=secrets,
            desired=self.document(),
            web_replicas=self.web_replicas,
            canary=self.canary,
        )
