"""The site's container images: built by the Docker target, pushed to the site's repository in ECR.

Two images a release: `balancer` (nginx) and `web` (web server and application). They go into one repository
under the tags `RELEASE-balancer` and `RELEASE-web`, which never change, and machines take them by digest.
"""

import asyncio
import base64
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from lampstand.errors import EngineMissingError, LampstandError, UnavailableError
from lampstand.site import Site
from lampstand.targets.aws.cloud import Cloud, error_code, explained
from lampstand.targets.docker.builder import build
from lampstand.targets.docker.engine import DockerCli
from lampstand.targets.docker.images import code_digest, images, pinned_requirements, read_application

NAMES = ("balancer", "web")
PUSH_SECONDS = 1800


class ImageBuilder(Protocol):
    """Builds the images of a release for a processor (`linux/amd64`)."""

    def build(self, release: str, platform: str) -> Mapping[str, str]:
        """`balancer` and `web` -> name of the image in the local engine. Raises LampstandError."""
        ...


@dataclass(frozen=True)
class DockerImages:
    """The Docker target's images: the same Dockerfiles, the same release."""

    site: Site
    project: Path

    def build(self, release: str, platform: str) -> Mapping[str, str]:
        """Build what is missing. Raises UnavailableError when this engine builds for another processor."""
        here = f"linux/{docker('version', '--format', '{{.Server.Arch}}').strip()}"
        if here != platform:
            raise UnavailableError(
                f"the machines want images for {platform}, and this Docker builds for {here}",
                mend="choose another `targets.aws.instance_type`, or deploy from a machine with that processor",
            )
        application = read_application(self.site, self.project)
        if application.release != release:
            raise LampstandError("the project's files changed while they were deployed", str(self.project))
        every = images(self.site, application, code_digest(), pinned_requirements(), ("balancer",))
        wanted = [every[name] for name in NAMES]
        with TemporaryDirectory(prefix="lampstand-") as folder, ThreadPoolExecutor(1) as pool:
            cli = DockerCli(self.site.site, Path(folder))
            # In a thread of its own, because the verbs run in a loop already.
            pool.submit(asyncio.run, build(cli, wanted, self.project, Path(folder), lambda _: None)).result()
        return {name: every[name].tag for name in NAMES}


def repository(cloud: Cloud, name: str) -> str:
    """URI of the repository. Raises AwsError when there is none."""
    with explained("looking for the image repository"):
        found = cloud.client("ecr").describe_repositories(repositoryNames=[name])["repositories"]
    return str(found[0]["repositoryUri"])


def pushed(cloud: Cloud, name: str, release: str) -> Mapping[str, str] | None:
    """The images of a release as references with digests; None when they are not all in the repository."""
    client = cloud.client("ecr")
    tags = [{"imageTag": f"{release}-{image}"} for image in NAMES]
    with explained("looking for images"):
        try:
            answer = client.describe_images(repositoryName=name, imageIds=tags)
        except client.exceptions.ClientError as error:
            if error_code(error) == "ImageNotFoundException":
                return None
            raise
    digests: dict[str, str] = {}
    for detail in answer["imageDetails"]:
        tags_of: Sequence[str] = detail["imageTags"]
        digests |= {tag: str(detail["imageDigest"]) for tag in tags_of}
    uri = repository(cloud, name)
    wanted = {image: digests.get(f"{release}-{image}") for image in NAMES}
    if None in wanted.values():
        return None
    return {image: f"{uri}@{digest}" for image, digest in wanted.items()}


def push(cloud: Cloud, name: str, release: str, local: Mapping[str, str]) -> Mapping[str, str]:
    """Push local images; returns their references with digests."""
    uri = repository(cloud, name)
    with explained("logging in to the image repository"):
        answer: Any = cloud.client("ecr").get_authorization_token()["authorizationData"][0]
    user, _, password = base64.b64decode(answer["authorizationToken"]).decode().partition(":")
    docker("login", "--username", user, "--password-stdin", uri.partition("/")[0], text=password)
    for image in NAMES:
        target = f"{uri}:{release}-{image}"
        docker("tag", local[image], target)
        docker("push", "--quiet", target)
    found = pushed(cloud, name, release)
    if found is None:
        raise LampstandError("the images were pushed and are not in the repository", uri)
    return found


def docker(*arguments: str, text: str | None = None) -> str:
    """Run the Docker client. Raises LampstandError with its last line."""
    try:
        done = subprocess.run(
            ("docker", *arguments),
            input=text,
            capture_output=True,
            text=True,
            timeout=PUSH_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise EngineMissingError(
            "docker is not installed", mend="images are built and pushed with it"
        ) from None
    except subprocess.TimeoutExpired:
        raise LampstandError(f"docker {arguments[0]} took longer than {PUSH_SECONDS} s") from None
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise LampstandError(f"docker {arguments[0]}: {last[-1]}")
    return done.stdout
