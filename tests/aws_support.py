"""What the tests of the AWS target share: sites, golden templates, and CloudFormation on paper."""

import base64
import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.stub import Stubber

from lampstand.site import Site
from lampstand.targets.aws.cloud import Cloud
from lampstand.targets.aws.scope import Scope
from lampstand.targets.aws.stacks import Stack, stacks

ACCOUNT = "123456789012"

SITES: Mapping[str, dict[str, Any]] = {
    "small": {"site": "shop"},
    "full": {
        "site": "shop",
        "app": {
            "root": "public",
            "health": "/healthz",
            "uploads": ["public/uploads", "storage/private"],
            "release": "php bin/migrate.php",
            "secrets": ["STRIPE_KEY"],
            "workers": {"mail": "php bin/worker.php"},
            "jobs": {"nightly": {"schedule": "0 3 * * *", "run": "php bin/nightly.php"}},
        },
        "cdn": {
            "shield": "fra",
            "rules": [
                {"match": "/assets/*", "ttl": "1y", "immutable": True},
                {"match": "/api/*", "bypass": True},
                {"match": "/old/*", "redirect": "/new/*"},
                {
                    "match": ["/shop/*", "/list/*"],
                    "ttl": "10m",
                    "browser_ttl": "1m",
                    "vary_cookies": ["currency"],
                    "vary_headers": ["Accept-Language"],
                    "query": {"keep": ["page", "q"]},
                    "headers": {"X-Frame-Options": "DENY"},
                    "tags": ["catalogue"],
                },
            ],
        },
        "web": {"servers": 2, "max_servers": 6},
        "tls": {"hsts": "1y", "domains": ["shop.example.com", "www.shop.example.com"]},
        "targets": {
            "aws": {
                "region": "eu-central-1",
                "domain": "shop.example.com",
                "alarm_email": "ops@example.com",
                "zones": 3,
                "tags": {"team": "shop"},
            }
        },
    },
    "single": {
        "site": "shop",
        "cdn": {"preset": "wordpress"},
        "web": {"servers": 1},
        "database": {"replicas": 0},
        "cache": {"replicas": 0},
        "sessions": {"replicas": 0},
        "targets": {
            "aws": {"instance_type": "t4g.small", "database_engine": "mysql", "cache_engine": "redis"}
        },
    },
    "kubernetes": {
        "site": "shop",
        "targets": {
            "aws": {
                "compute": "kubernetes",
                "kubernetes": {"admins": [f"arn:aws:iam::{ACCOUNT}:role/ops"], "networks": ["192.0.2.0/24"]},
            }
        },
    },
}


def scope(name: str = "small", **more: Any) -> Scope:  # noqa: ANN401 - keys of a site file
    """One of `SITES`, with other keys on top."""
    return Scope(Site.model_validate({**SITES[name], **more}))


def every_stack() -> Iterator[tuple[str, Stack]]:
    """Every stack of every site, with a name for it."""
    for name in SITES:
        for stack in stacks(scope(name)):
            yield f"{name}-{stack.key}", stack


def readable(template: str) -> str:
    """A template with the machine's program, which is compressed in it, as a note of its size's order only.

    What the compressor makes differs between its versions; the program has its own tests.
    """
    return re.sub(r"content: H4sI[A-Za-z0-9+/=]+", "content: (the program of the machine)", template)


def unpacked_program(template: str) -> str:
    """The program that a template's user-data carries."""
    found = re.search(r"content: (H4sI[A-Za-z0-9+/=]+)", template)
    assert found
    return gzip.decompress(base64.b64decode(found[1])).decode()


def resources(stack: Stack, type_: str) -> dict[str, Any]:
    """The resources of a type, as in the template."""
    document = json.loads(stack.template.as_json())
    return {k: v for k, v in document["Resources"].items() if v["Type"] == type_}


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Paper:
    """botocore clients with canned answers, which are checked against the API's own shapes."""

    def __init__(self) -> None:
        self.stubs: dict[str, Stubber] = {}
        self.cloud = Cloud("eu-central-1", make=self._make)

    def _make(self, service: str, region: str) -> Any:  # noqa: ANN401 - boto3 has no types
        client = boto3.client(service, region_name=region, aws_access_key_id="x", aws_secret_access_key="y")
        stub = Stubber(client)
        stub.activate()
        self.stubs[service] = stub
        return client

    def stub(self, service: str) -> Stubber:
        """The stubber of a service."""
        self.cloud.client(service)
        return self.stubs[service]

    def done(self) -> None:
        """Every canned answer was asked for."""
        for stub in self.stubs.values():
            stub.assert_no_pending_responses()


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def fixed_now() -> datetime:
    """A moment."""
    return NOW


Answer = Callable[[], Mapping[str, Any]]
