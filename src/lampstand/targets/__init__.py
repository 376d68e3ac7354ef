"""Where a Topology lives: one folder per target, one line of registration here."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from lampstand.errors import UsageError

if TYPE_CHECKING:
    from lampstand.site import Site
    from lampstand.targets.base import Deployment

DEPLOYMENTS: dict[str, tuple[str, str]] = {
    "local": ("lampstand.targets.local.deployment", "LocalDeployment"),
    "docker": ("lampstand.targets.docker.deployment", "DockerDeployment"),
    "kubernetes": ("lampstand.targets.kubernetes.deployment", "KubernetesDeployment"),
    "aws": ("lampstand.targets.aws.deployment", "AwsDeployment"),
}
"""Name -> module and class; imported when it is used."""


def open_deployment(target: str, site: "Site", project: Path, environment: str | None) -> "Deployment":
    """The site on a target. Raises UsageError for a name that is no target."""
    if target not in DEPLOYMENTS:
        raise UsageError(f"there is no target {target!r}", "-t", f"choose one of {', '.join(DEPLOYMENTS)}")
    module, name = DEPLOYMENTS[target]
    return getattr(import_module(module), name)(site, project, environment)  # type: ignore[no-any-return]
