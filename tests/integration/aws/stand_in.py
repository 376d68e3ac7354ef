"""Runs the command line against stand-ins: `python -m tests.integration.aws.stand_in WORDS…` with moto as AWS.

moto is one process, so the command line runs in it too, several commands with `--` between them (`!`
before a program that is not lampstand). What is not moto's own
is here and nowhere else: the types that it passes over (moto_support.py) are left out of templates, stacks are made at
once, secrets and images are there by name, an instance refresh ends at once, and three checks of the
preflight that moto answers wrongly or not at all are left out. Nothing is built or pushed.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

REGION = "eu-central-1"
os.environ |= {
    "AWS_ACCESS_KEY_ID": "stand-in",
    "AWS_SECRET_ACCESS_KEY": "stand-in",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "MOTO_ACCOUNT_ID": "123456789012",
}

from moto.autoscaling.responses import AutoScalingResponse  # noqa: E402
from moto.cloudformation.models import CloudFormationBackend  # noqa: E402
from moto.cloudformation.responses import CloudFormationResponse  # noqa: E402
from moto.core.responses import ActionResult  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

from lampstand.cli import main  # noqa: E402
from lampstand.targets.aws import changes, deployment, images, preflight, remove, roll, run, shipping  # noqa: E402
from lampstand.targets.aws.cloud import AwsError, Cloud  # noqa: E402
from lampstand.targets.aws.cost import Prices  # noqa: E402
from lampstand.targets.aws.template import Template  # noqa: E402
from tests.integration.aws.moto_support import for_moto  # noqa: E402

SECRETS = ("DatabaseSecret", "CacheSecret", "AppSecret", "SettingsSecret", "OriginSecret")
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def template_argument(template: Template, cloud: Cloud, bucket: str | None) -> dict[str, str]:
    """The template without what moto passes over."""
    return {"TemplateBody": for_moto(template)[0]}


def create_as_told() -> None:
    """A stack that a change set makes knows no exports in moto, so it is made as CreateStack makes one."""
    original = CloudFormationBackend.execute_change_set

    def execute(self: Any, change_set_name: str, stack_name: str | None = None) -> None:  # noqa: ANN401
        planned = self.change_sets[change_set_name]
        if planned.change_set_type != "CREATE":
            original(self, change_set_name, stack_name)
            return
        del self.stacks[planned.stack_id]
        self.create_stack(planned.stack_name, planned.template, planned.parameters, tags=planned.tags)

    CloudFormationBackend.execute_change_set = execute


def instance_refresh() -> None:
    """moto has none; this one sets the group's launch template and is done."""

    def start(self: Any) -> ActionResult:  # noqa: ANN401
        group = self.autoscaling_backend.autoscaling_groups[self._get_param("AutoScalingGroupName")]
        group._set_launch_configuration(None, self._get_param("DesiredConfiguration")["LaunchTemplate"], None)
        return ActionResult({"InstanceRefreshId": "refresh-1"})

    def describe(self: Any) -> ActionResult:  # noqa: ANN401
        done = {"InstanceRefreshId": "refresh-1", "Status": "Successful", "PercentageComplete": 100}
        return ActionResult({"InstanceRefreshes": [done]})

    for name, answer in (("start_instance_refresh", start), ("describe_instance_refreshes", describe)):
        setattr(AutoScalingResponse, name, answer)


def termination_protection() -> None:
    """moto has none, and nothing here is deleted."""

    def update(self: Any) -> ActionResult:  # noqa: ANN401
        return ActionResult({"StackId": self._get_param("StackName")})

    setattr(CloudFormationResponse, "update_termination_protection", update)  # noqa: B010 - an attribute that is new


def no_prices(*_: object) -> Prices:
    """moto's Pricing API knows nothing."""
    raise AwsError("moto has no prices")


class Builder:
    """Says what Docker would be asked to build."""

    def build(self, release: str, platform: str) -> Mapping[str, str]:
        return {name: f"{name}:{release}" for name in images.NAMES}


def push(cloud: Cloud, name: str, release: str, local: Mapping[str, str]) -> Mapping[str, str]:
    """Images in moto's registry, which holds manifests and no layers."""
    for image in images.NAMES:
        digest = f"sha256:{(image + release).encode().hex().ljust(64, '0')[:64]}"
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {"digest": digest}, "layers": []}
        cloud.client("ecr").put_image(
            repositoryName=name, imageManifest=json.dumps(manifest), imageTag=f"{release}-{image}"
        )
    found = images.pushed(cloud, name, release)
    assert found is not None
    return found


UNANSWERED = ("_database", "_permissions", "_quotas")
"""Checks of the preflight: moto knows no database class of RDS for MariaDB 10.11, no simulation of IAM, few quotas."""


def prepare() -> ThreadedMotoServer:
    """Start moto, and put the stand-ins in."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    create_as_told()
    instance_refresh()
    termination_protection()
    changes.template_argument = template_argument
    images.push = push
    shipping.Shipping.builder = lambda self: Builder()
    preflight.CHECKS = tuple(c for c in preflight.CHECKS if c.__name__ not in UNANSWERED)
    deployment.online = no_prices
    for module in (run, roll, remove):
        vars(module)["POLL"] = 0.05
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ["AWS_ENDPOINT_URL"] = f"http://{host}:{port}"
    cloud = Cloud(REGION)
    for name in SECRETS:
        cloud.client("secretsmanager").create_secret(Name=f"stand-in-{name}", SecretString="{}")
    return server


def commands(words: Sequence[str]) -> list[list[str]]:
    """The command lines between `--`."""
    result: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            result.append([])
        else:
            result[-1].append(word)
    return result


if __name__ == "__main__":
    server = prepare()
    code = 0
    for words in commands(sys.argv[1:]):
        if words[0] == "!":
            subprocess.run(words[1:], check=True, timeout=60)
            continue
        sys.stderr.write(f"$ lampstand {' '.join(words)}\n")
        sys.argv = ["lampstand", *words]
        code = main()
        if code:
            break
    server.stop()
    sys.exit(code)
