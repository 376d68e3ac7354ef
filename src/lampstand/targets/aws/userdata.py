"""What an EC2 instance is told at its first start: packages, the program that runs it, and its
configuration."""

import base64
import gzip
import json
from collections.abc import Mapping
from pathlib import Path

from lampstand.targets.aws.scope import Scope
from lampstand.targets.aws.template import Base64, Ref, Sub, Value
from lampstand.targets.aws.viewer import templates

LIMIT = 16_384
"""Bytes of user-data before they are encoded (EC2 user guide, "Run commands when you launch")."""
PACKAGES: tuple[str, ...] = (
    "ca-certificates",
    "curl",
    "docker-cli",
    "docker.io",
    "iptables",
    "python3-boto3",
    "s3fs",
)
AGENT = "https://s3.${{AWS::Region}}.amazonaws.com/amazon-ssm-${{AWS::Region}}/latest/debian_{processor}/amazon-ssm-agent.deb"
SECRETS: Mapping[str, str] = {
    "database_app": "DatabaseSecret",
    "cache": "CacheSecret",
    "sessions": "CacheSecret",
    "app_secret": "AppSecret",
    "settings": "SettingsSecret",
}
"""Names of `Context.secrets` and the secrets they lie in; `settings` holds the values of `app.secrets`."""


def program() -> bytes:
    """The program that runs a machine."""
    return Path(__file__).with_name("machine.py").read_bytes()


def text(scope: Scope) -> str:
    """The cloud-config, with `${Config}` where the machine's configuration goes."""
    processor = "arm64" if scope.aws.arm else "amd64"
    return (
        templates()
        .get_template("userdata.j2")
        .render(
            site=scope.site.site,
            packages=PACKAGES,
            program=base64.b64encode(gzip.compress(program(), mtime=0)).decode(),
            # Debian's images have no agent of Systems Manager; AWS publishes it in a bucket of each region.
            agent=AGENT.format(processor=processor),
        )
    )


def user_data(scope: Scope) -> Value:
    """`UserData` of a launch template."""
    config, values = machine_config(scope)
    return Base64(Sub(text(scope).replace("${Config}", config), tuple(values.items())))


def machine_config(scope: Scope) -> tuple[str, Mapping[str, Value]]:
    """The machine's configuration as JSON with `${…}` for what only CloudFormation knows, and those
    values."""
    values: dict[str, Value] = {
        "ReleasesBucket": scope.imported("storage", "ReleasesBucket"),
        "UploadsBucket": scope.imported("storage", "UploadsBucket"),
        "Images": scope.imported("storage", "Images"),
        "DatabaseHost": scope.imported("database", "PrimaryHost"),
        "ReplicaHost": scope.imported("database", "ReplicaHost"),
        "CacheHost": scope.imported("cache", "CacheHost"),
        "SessionsHost": scope.imported("cache", "SessionsHost"),
        "Url": scope.imported("cdn", "Url"),
        "Logs": Ref("Logs"),
        **{name: scope.imported("storage", name) for name in dict.fromkeys(SECRETS.values())},
    }
    config = {
        "region": "${AWS::Region}",
        "stack": "${AWS::StackName}",
        "kinds": {kind: {"group": group, "hook": HOOK} for kind, group in GROUPS.items()},
        "releases_bucket": "${ReleasesBucket}",
        "uploads_bucket": "${UploadsBucket}",
        "registry": "${Images}",
        "log_group": "${Logs}",
        "parameters": parameters(scope),
        "secrets": {name: f"${{{secret}}}" for name, secret in SECRETS.items()},
        "values": {
            "database_host": "${DatabaseHost}",
            "replica_host": "${ReplicaHost}",
            "cache_host": "${CacheHost}",
            "sessions_host": "${SessionsHost}",
            "url": "${Url}",
        },
        "s3fs": ["iam_role=auto", "endpoint=${AWS::Region}", "url=https://s3.${AWS::Region}.amazonaws.com"],
    }
    return json.dumps(config), values


HOOK = "well"
"""Name of the lifecycle hook that holds a new machine back until it is well."""
GROUPS: Mapping[str, str] = {"web": "WebServers", "worker": "Workers"}
"""Kind of machine -> logical id of its Auto Scaling group."""


def parameters(scope: Scope) -> str:
    """Where the site's parameters lie in Systems Manager."""
    return f"/lampstand/{scope.site.site}"
