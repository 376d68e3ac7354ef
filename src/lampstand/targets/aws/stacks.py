"""The site as stacks: what is in each, which of the six steps it belongs to, what it waits for, how long it
may take.

A stack is as long-lived as its shortest-lived resource lets it be; data are never in a stack that is
replaced at will.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lampstand.targets.aws import (
    application,
    balancer,
    cache,
    cdn,
    certificate,
    cluster,
    database,
    network,
    storage,
)
from lampstand.targets.aws.scope import STEPS, Scope
from lampstand.targets.aws.template import Template

STATEFUL: Mapping[str, str] = {
    "AWS::RDS::DBInstance": "database",
    "AWS::RDS::DBCluster": "database",
    "AWS::ElastiCache::ReplicationGroup": "cache or sessions",
    "AWS::S3::Bucket": "bucket",
    "AWS::SecretsManager::Secret": "secret",
    "AWS::ECR::Repository": "image repository",
    "AWS::EFS::FileSystem": "file system",
    "AWS::DynamoDB::Table": "table",
    "AWS::Logs::LogGroup": "logs",
    "AWS::KMS::Key": "key",
    "AWS::EC2::Volume": "disk",
}
"""Resource types whose removal or replacement loses something that cannot be made again."""


@dataclass(frozen=True)
class Stack:
    """One stack of the site."""

    key: str
    step: int
    """1 to 6: see `STEPS`."""
    template: Template
    needs: tuple[str, ...] = ()
    """Keys of the stacks that must be complete before this one begins."""
    deadline: float = 1800.0
    """Seconds."""
    life: Literal["site", "data", "application"] = "site"
    region: str | None = None
    """None is the site's."""

    @property
    def step_name(self) -> str:
        return STEPS[self.step - 1]


def stacks(scope: Scope) -> tuple[Stack, ...]:
    """All stacks of a site, in an order in which each comes after what it needs."""
    ec2 = scope.aws.compute == "ec2"
    result = [
        Stack("network", 1, network.template(scope), deadline=900),
        Stack("storage", 1, storage.template(scope), deadline=900, life="data"),
        Stack("balancer", 2, balancer.template(scope), ("network", "storage"), 1800, "application"),
        Stack(
            "database", 4, database.template(scope), ("network", "storage"), _database_deadline(scope), "data"
        ),
        Stack("cache", 5, cache.template(scope), ("network", "storage"), 3600, "data"),
    ]
    proof = certificate.template(scope)
    if proof is not None:
        result.append(Stack("certificate", 6, proof, deadline=3600, region=certificate.REGION))
    waits = ("storage", "balancer", *(("certificate",) if proof is not None else ()))
    result.append(Stack("cdn", 6, cdn.template(scope), waits, 3600))
    needs = ("balancer", "database", "cache", "cdn")
    if ec2:
        deadline = 2 * application.boot_seconds(scope) + 900.0
        result.append(Stack("application", 3, application.template(scope), needs, deadline, "application"))
    else:
        result.append(Stack("cluster", 3, cluster.template(scope), needs, 3600, "application"))
    return tuple(result)


def _database_deadline(scope: Scope) -> float:
    # A Multi-AZ instance takes about 20 minutes, each read replica about 15 more after it.
    return 3600.0 + 1200.0 * scope.read_replicas


def parameters(stack: Stack, known: Mapping[str, str]) -> dict[str, str]:
    """The parameters that a stack takes out of all that are known; those with a default may be missing.

    Raises KeyError with the name of a parameter that is neither known nor has a default.
    """
    result: dict[str, str] = {}
    for name, parameter in stack.template.parameters.items():
        if name in known:
            result[name] = known[name]
        elif parameter.default is None:
            raise KeyError(name)
    return result
