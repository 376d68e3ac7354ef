"""What a release needs before machines can run it: its id, images, assets, document, and the application's secrets."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lampstand.errors import LampstandError
from lampstand.releases.package import read_sources
from lampstand.targets.aws import images
from lampstand.targets.aws.behaviours import paths
from lampstand.targets.aws.bundle import bundle
from lampstand.targets.aws.cloud import Cloud, explained
from lampstand.targets.aws.images import DockerImages, ImageBuilder
from lampstand.targets.aws.roll import Group, Roller
from lampstand.targets.aws.scope import Scope
from lampstand.targets.aws.userdata import GROUPS
from lampstand.targets.base import Progress
from lampstand.targets.docker.images import read_application


def project_release(scope: Scope, project: Path) -> str:
    """Id of the release that the project's files make. Raises LampstandError for a file that cannot be read."""
    return read_application(scope.site, project).release


@dataclass
class Shipping:
    """The releases of one site."""

    cloud: Cloud
    scope: Scope
    project: Path
    environment: str | None
    outputs: Callable[[], dict[str, str]]
    """Outputs of the stacks that exist."""

    @cached_property
    def roller(self) -> Roller:
        return Roller(self.cloud, self.scope)

    @property
    def repository(self) -> str:
        """Name of the image repository."""
        return f"lampstand/{self.scope.site.site}"

    @property
    def platform(self) -> str:
        """The processor that images are built for."""
        return "linux/arm64" if self.scope.aws.arm else "linux/amd64"

    def builder(self) -> ImageBuilder:
        """The Docker target's builder of images."""
        return DockerImages(self.scope.site, self.project)

    def release(self) -> str:
        """Id of the release that the project's files make."""
        return project_release(self.scope, self.project)

    def running_release(self) -> str | None:
        """The release that web machines are meant to run; None before the first."""
        name = self.outputs().get(GROUPS["web"])
        return self.roller.group(name, "web").release if name else None

    def groups(self) -> list[Group]:
        """The Auto Scaling groups. Raises LampstandError when the application was never brought up."""
        found = self.outputs()
        if GROUPS["web"] not in found:
            raise LampstandError("the application is not there", mend="run `lampstand up -t aws` first")
        return [self.roller.group(found[name], kind) for kind, name in GROUPS.items() if name in found]

    def ship(self, release: str, progress: Progress) -> None:
        """Build and push the images of a release, upload its assets and its document; what is there
        already stays."""
        outputs = self.outputs()
        references = images.pushed(self.cloud, self.repository, release)
        if references is None:
            progress.say(f"Building the images of release {release}")
            local = self.builder().build(release, self.platform)
            progress.say("Pushing the images")
            references = images.push(self.cloud, self.repository, release, local)
        self.roller.upload_assets(outputs["AssetsBucket"], self.document_root, self.assets())
        self.roller.ship(outputs["ReleasesBucket"], release, bundle(self.scope, release, references))

    @property
    def document_root(self) -> Path:
        return self.project / self.scope.site.app.root

    def assets(self) -> list[str]:
        """Files below the document root that CloudFront fetches from the bucket: those of `immutable`
        rules."""
        chosen, _ = paths(self.scope)
        patterns = [p.behaviour for p in chosen if p.source == "assets"]
        root = self.scope.site.app.root
        prefix = "" if root == "." else f"{root}/"
        names = [
            s.path.removeprefix(prefix)
            for s in read_sources(self.project, self.scope.site.app.uploads)
            if s.path.startswith(prefix) and s.link is None
        ]
        return [n for n in names if any(b.matches(f"/{n}") for b in patterns)]

    def keep_secrets(self, values: Mapping[str, str]) -> None:
        """Put the values of `app.secrets` where machines read them, when they changed."""
        arn = self.outputs()["SettingsSecret"]
        client = self.cloud.client("secretsmanager")
        with explained("keeping the application's secrets"):
            old = json.loads(client.get_secret_value(SecretId=arn)["SecretString"])
            if old != dict(values):
                client.put_secret_value(SecretId=arn, SecretString=json.dumps(dict(values)))
