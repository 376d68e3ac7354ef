"""The images of a site for a cluster: Docker's own (targets/docker/images.py), brought to where the nodes find them."""

import asyncio
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lampstand.errors import LampstandError
from lampstand.releases.package import commit_of
from lampstand.site import Site
from lampstand.targets.base import Progress
from lampstand.targets.docker import builder
from lampstand.targets.docker.engine import DockerCli
from lampstand.targets.docker.images import (
    Application,
    Image,
    code_digest,
    images,
    pinned_requirements,
    read_application,
)
from lampstand.targets.kubernetes.project import docker_site
from lampstand.topology import TierName

LOAD_SECONDS = 900.0


class Images:
    """Of one project's folder."""

    def __init__(self, site: Site, project: Path) -> None:
        self.site = docker_site(site)
        self.project = project
        self._cli = DockerCli(site.site, project)

    def application(self) -> Application:
        """The project's files as a release."""
        return read_application(self.site, self.project, commit_of(self.project))

    def wanted(self, application: Application) -> dict[str, Image]:
        """The images of the site with that application, by tier; `controller` is one of them."""
        tiers: list[TierName] = ["balancer", "database", "cache"]
        if self.site.cdn.edges:
            tiers.append("edge")
        return images(self.site, application, code_digest(), pinned_requirements("kubernetes"), tiers)

    async def bring(self, wanted: Mapping[str, Image], there: set[str], progress: Progress) -> None:
        """Build what is missing, and push it, or load it into the nodes. `there` are tags that the cluster runs.

        Raises LampstandError where neither `registry` nor `load` says how images come to the nodes.
        """
        missing = {name: image for name, image in wanted.items() if image.tag not in there}
        kubernetes = self.site.targets.kubernetes
        if not missing:
            return
        if not kubernetes.registry and not kubernetes.load:
            raise LampstandError(
                "nothing says how images come to the nodes",
                "targets.kubernetes.registry",
                "name a registry, or a command for `load`: kind load docker-image, minikube image load …",
            )
        self._cli.require()
        folder = Path(tempfile.mkdtemp(prefix="lampstand-images-"))
        try:
            await builder.build(self._cli, missing.values(), self.project, folder, progress.say)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if kubernetes.registry:
            await builder.push(self._cli, missing.values(), progress.say)
        if kubernetes.load:
            progress.say(f"Loading {len(missing)} images: {shlex.join(kubernetes.load)}")
            tags = [image.tag for image in missing.values()]
            await self._cli.run([*kubernetes.load, *tags], deadline=LOAD_SECONDS)
