"""What there is of a site: its status by tier, and whatever carries its tag with what it costs a month."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lampstand.targets.aws.cloud import Cloud, explained
from lampstand.targets.aws.cost import HOURS, bundled
from lampstand.targets.aws.scope import RELEASE_TAG, SITE_TAG, TIER_TAG, Scope

ROWS: Mapping[str, str] = {"edge": "edge", "balancer": "balancer", "web": "web", "database": "database"}


@dataclass(frozen=True, slots=True)
class Left:
    """Something that is still there."""

    arn: str
    what: str
    monthly: float | None
    """Dollars; None where it depends on how much is in it."""

    def __str__(self) -> str:
        cost = f"{self.monthly:8.2f} USD a month" if self.monthly is not None else "   by use"
        return f"{self.what:28} {cost:22} {self.arn}"


_PER_MONTH: Mapping[str, tuple[str, str, float]] = {
    # service:type -> what it is, key of its price, units a month
    "elasticloadbalancing:loadbalancer": ("load balancer", "alb/hour", HOURS),
    "secretsmanager:secret": ("secret", "secrets/secret", 1),
    "ec2:elastic-ip": ("address", "ec2/address", HOURS),
    "eks:cluster": ("EKS cluster", "eks/hour", HOURS),
    "cloudwatch:alarm": ("alarm", "alarms/alarm", 1),
}
_BY_USE: Mapping[str, str] = {
    "s3:": "bucket", "ecr:repository": "images", "logs:log-group": "logs", "rds:snapshot": "database snapshot",
    "elasticache:snapshot": "sessions snapshot", "cloudfront:distribution": "distribution",
    "rds:auto-backup": "database backups",
}  # fmt: skip
_FREE: tuple[str, ...] = (
    "ec2:vpc", "ec2:subnet", "ec2:security-group", "ec2:route-table", "ec2:internet-gateway", "ec2:vpc-endpoint",
    "ec2:launch-template", "rds:subgrp", "rds:pg", "elasticache:subnetgroup", "elasticache:parametergroup",
    "sns:", "acm:certificate", "elasticloadbalancing:targetgroup", "elasticloadbalancing:listener", "iam:role",
    "cloudformation:stack", "elasticloadbalancing:listener-rule", "autoscaling:autoScalingGroup",
)  # fmt: skip


def kind_of(arn: str) -> str:
    """`service:type` of an ARN (`rds:db`, `s3:`)."""
    parts = arn.split(":", 5)
    service, rest = parts[2], parts[5]
    if service == "s3":
        return "s3:"
    return f"{service}:{rest.replace(':', '/').partition('/')[0] if '/' in rest or ':' in rest else ''}"


def priced(arn: str, details: Mapping[str, str]) -> Left:
    """What a resource is and costs. `details` maps ARNs of databases, cache nodes, machines and disks to
    price keys."""
    kind, prices = kind_of(arn), bundled().prices
    if arn in details:
        key, _, units = details[arn].partition(" × ")
        price = prices.get(key)
        return Left(arn, key.partition("/")[2], price * float(units or HOURS) if price is not None else None)
    if kind in _PER_MONTH:
        what, key, units = _PER_MONTH[kind]
        return Left(arn, what, prices[key] * units)
    if kind in _BY_USE:
        return Left(arn, _BY_USE[kind], None)
    if kind in _FREE:
        return Left(arn, kind.partition(":")[2] or kind.rstrip(":"), 0.0)
    return Left(arn, kind, None)


def left(scope: Scope, cloud: Cloud) -> tuple[Left, ...]:
    """Everything that carries the site's tag, the dearest first. Read-only."""
    with explained("looking for what is left"):
        arns = [
            str(r["ResourceARN"])
            for r in cloud.pages(
                "resourcegroupstaggingapi",
                "get_resources",
                "ResourceTagMappingList",
                TagFilters=[{"Key": SITE_TAG, "Values": [scope.site.site]}],
            )
        ]
        details = _details(cloud, arns)
    found = [priced(arn, details) for arn in arns]
    return tuple(sorted(found, key=lambda item: (-(item.monthly or 0.0), item.arn)))


def _details(cloud: Cloud, arns: Iterable[str]) -> dict[str, str]:
    kinds = {kind_of(arn) for arn in arns}
    result: dict[str, str] = {}
    if "rds:db" in kinds:
        for db in cloud.pages("rds", "describe_db_instances", "DBInstances"):
            result[str(db["DBInstanceArn"])] = (
                f"rds/{db['DBInstanceClass']} × {HOURS * (2 if db.get('MultiAZ') else 1)}"
            )
    if "elasticache:cluster" in kinds:
        for node in cloud.pages("elasticache", "describe_cache_clusters", "CacheClusters"):
            result[str(node["ARN"])] = f"{node['Engine']}/{node['CacheNodeType']} × {HOURS}"
    if "ec2:instance" in kinds:
        for machine in _machines(cloud, []):
            arn = next((a for a in arns if a.endswith("/" + machine["InstanceId"])), "")
            if machine["State"]["Name"] != "terminated":
                result[arn] = f"ec2/{machine['InstanceType']} × {HOURS}"
    if "ec2:volume" in kinds:
        for disk in cloud.pages("ec2", "describe_volumes", "Volumes"):
            arn = next((a for a in arns if a.endswith("/" + disk["VolumeId"])), "")
            result[arn] = f"ec2/disk × {disk['Size']}"
    return result


def _machines(cloud: Cloud, filters: list[Any]) -> Iterator[Mapping[str, Any]]:
    for reservation in cloud.pages("ec2", "describe_instances", "Reservations", Filters=filters):
        yield from reservation["Instances"]


# --- status ----------------------------------------------------------------------------------------


def row(
    name: str, tier: str, kind: str, state: str, *, well: bool, text: str = "", role: str | None = None,
    release: str | None = None, endpoints: Mapping[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One server of `status --json`, with the keys of every target."""
    return {
        "name": name,
        "tier": tier,
        "kind": kind,
        "state": state,
        "health": "good" if well else "bad",
        "text": text,
        "role": role,
        "release": release,
        "restarts": 0,
        "processes": [],
        "endpoints": dict(endpoints or {}),
    }


def machines(scope: Scope, cloud: Cloud) -> list[dict[str, Any]]:
    """The site's EC2 instances that are not gone."""
    filters = [
        {"Name": f"tag:{SITE_TAG}", "Values": [scope.site.site]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    found: list[dict[str, Any]] = []
    with explained("looking at the machines"):
        for machine in _machines(cloud, filters):
            tags = {t["Key"]: t["Value"] for t in machine.get("Tags") or ()}
            found.append(
                {
                    "id": str(machine["InstanceId"]),
                    "kind": tags.get("lampstand:kind", "node"),
                    "release": tags.get(RELEASE_TAG),
                    "state": str(machine["State"]["Name"]),
                    "tier": tags.get(TIER_TAG, "web"),
                    "zone": str(machine["Placement"]["AvailabilityZone"]),
                    "address": str(machine.get("PrivateIpAddress") or ""),
                }
            )
    return sorted(found, key=lambda m: (m["kind"], m["id"]))


def status_rows(scope: Scope, cloud: Cloud, outputs: Mapping[str, str]) -> list[dict[str, Any]]:
    """The servers of the site, in the order in which a request meets them."""
    rows: list[dict[str, Any]] = []
    rows += _edge_rows(cloud, outputs)
    rows += _balancer_rows(cloud, outputs)
    rows += _web_rows(scope, cloud, outputs)
    rows += _database_rows(scope, cloud)
    rows += _cache_rows(cloud, scope)
    return rows


def _edge_rows(cloud: Cloud, outputs: Mapping[str, str]) -> list[dict[str, Any]]:
    if "Distribution" not in outputs:
        return []
    with explained("looking at the CDN"):
        found = cloud.client("cloudfront").get_distribution(Id=outputs["Distribution"])["Distribution"]
    state = str(found["Status"])
    well = bool(found["DistributionConfig"]["Enabled"])
    text = "" if state == "Deployed" else "a change is on its way to the edges"
    name = str(found["DomainName"])
    return [row("cloudfront", "edge", "edge", "running", well=well, text=text, endpoints={"https": name})]


def _balancer_rows(cloud: Cloud, outputs: Mapping[str, str]) -> list[dict[str, Any]]:
    if "Host" not in outputs:
        return []
    with explained("looking at the balancer"):
        many = cloud.pages("elbv2", "describe_load_balancers", "LoadBalancers")
        found = next((b for b in many if b["DNSName"] == outputs["Host"]), None)
    state = str(found["State"]["Code"]) if found else "missing"
    return [
        row("balancer", "balancer", "balancer", "running" if found else "missing", well=state == "active", text=state,
            endpoints={"http": outputs["Host"]})
    ]  # fmt: skip


def _web_rows(scope: Scope, cloud: Cloud, outputs: Mapping[str, str]) -> list[dict[str, Any]]:
    health: dict[str, tuple[str, str]] = {}
    if "TargetGroup" in outputs:
        with explained("looking at the machines' health"):
            answer = cloud.client("elbv2").describe_target_health(TargetGroupArn=outputs["TargetGroup"])
        for item in answer["TargetHealthDescriptions"]:
            target = item["TargetHealth"]
            health[str(item["Target"]["Id"])] = (str(target["State"]), str(target.get("Description") or ""))
    rows: list[dict[str, Any]] = []
    for machine in machines(scope, cloud):
        state, text = health.get(machine["id"], ("", ""))
        well = machine["state"] == "running" and (state == "healthy" or machine["kind"] != "web")
        said = " ".join(filter(None, [machine["zone"], state if state != "healthy" else "", text]))
        rows.append(
            row(machine["id"], "web", machine["kind"], machine["state"], well=well, text=said,
                release=machine["release"], endpoints={"http": machine["address"]})
        )  # fmt: skip
    return rows


def _database_rows(scope: Scope, cloud: Cloud) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with explained("looking at the database"):
        for db in cloud.pages("rds", "describe_db_instances", "DBInstances"):
            name = str(db["DBInstanceIdentifier"])
            if not name.startswith(f"{scope.prefix}-"):
                continue
            replica = bool(db.get("ReadReplicaSourceDBInstanceIdentifier"))
            state = str(db["DBInstanceStatus"])
            standby = (
                f", standby in {db['SecondaryAvailabilityZone']}"
                if db.get("SecondaryAvailabilityZone")
                else ""
            )
            endpoint: Mapping[str, Any] = db.get("Endpoint") or {}
            rows.append(
                row(name.removeprefix(f"{scope.prefix}-"), "database", "database", state, well=state == "available",
                    text=f"{db['DBInstanceClass']}{standby}", role="replica" if replica else "primary",
                    endpoints={"mysql": str(endpoint.get("Address") or "")})
            )  # fmt: skip
    return sorted(rows, key=lambda r: (r["role"] != "primary", r["name"]))


def _cache_rows(cloud: Cloud, scope: Scope) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with explained("looking at the cache"):
        for group in cloud.pages("elasticache", "describe_replication_groups", "ReplicationGroups"):
            description = str(group.get("Description") or "")
            prefix = f"Lampstand {scope.site.site}: "
            if not description.startswith(prefix):
                continue
            kind, state = description.removeprefix(prefix), str(group["Status"])
            shards: Iterable[Mapping[str, Any]] = group.get("NodeGroups") or ()
            rows += [
                row(str(node["CacheClusterId"]), "cache", kind, state, well=state == "available",
                    role=str(node.get("CurrentRole") or "") or None)
                for shard in shards
                for node in shard.get("NodeGroupMembers") or ()
            ]  # fmt: skip
    return rows
