"""`targets.aws`: what the site needs to know to live in an account of Amazon Web Services."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lampstand.site.base import Model, option
from lampstand.site.types import Count, Flag, Host, Line, Network, Positive, TextLine
from lampstand.site.units import Percent, Size


class Traffic(Model):
    """What `plan --cost` assumes about a month; nothing else depends on it."""

    requests: Annotated[int, Field(ge=0)] = option(
        5_000_000, "Requests of visitors in a month.", "requests: 100000000"
    )
    transfer: Size = option(100 * 10**9, "Bytes sent to visitors in a month.", "transfer: 2TB")
    hit_rate: Percent = option(
        0.8, "Share of the requests that CloudFront answers by itself.", "hit_rate: 95%"
    )
    uploads: Size = option(10 * 10**9, "Bytes of uploads and assets that are kept.", "uploads: 500GB")
    logs: Size = option(5 * 10**9, "Bytes of logs in a month.", "logs: 50GB")


class Eks(Model):
    """The cluster, with `compute: kubernetes`."""

    version: Annotated[str, Field(pattern=r"^1\.[0-9]{2}$")] = option(
        "1.34", "Version of Kubernetes.", 'version: "1.35"'
    )
    instance_type: Line = option("t3.medium", "Type of the nodes.", "instance_type: m7i.large")
    nodes: Positive = option(2, "Nodes.", "nodes: 3")
    max_nodes: Positive = option(4, "At most so many.", "max_nodes: 10")
    admins: tuple[Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/.+$")], ...] = (
        option(
            (),
            "Roles and users that administer the cluster, beside whoever makes it.",
            "admins: [arn:aws:iam::123456789012:role/ops]",
        )
    )
    networks: tuple[Network, ...] = option(
        (),
        "Networks that may reach the API of the cluster (it always asks for credentials); by default all.",
        "networks: [192.0.2.0/24]",
    )


def check_vpc(value: str) -> str:
    """A VPC has at most a /16 of IPv4 addresses, and its subnets need room for a few machines."""
    address, _, prefix = value.partition("/")
    if ":" in address or not 16 <= int(prefix or 32) <= 22:
        raise ValueError(f"`{value}` cannot be a VPC's network; write an IPv4 network of /16 to /22")
    return value


class Aws(Model):
    """An account of Amazon Web Services."""

    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$")] | None = option(
        None, "Region; by default the one of the AWS configuration.", "region: eu-central-1"
    )
    profile: Line | None = option(None, "Profile of the AWS configuration.", "profile: shop")
    account: Annotated[str, Field(pattern=r"^[0-9]{12}$")] | None = option(
        None, "Number of the account; with any other nothing is changed.", 'account: "123456789012"'
    )
    domain: Host | None = option(
        None,
        "Host name of the site, in a Route 53 zone; by default CloudFront's name.",
        "domain: shop.example.com",
    )
    zone: Annotated[str, Field(pattern=r"^Z[A-Z0-9]{1,31}$")] | None = option(
        None, "Id of the Route 53 zone; by default found by the domain.", "zone: Z0123456789ABCDEFGHIJ"
    )
    certificate: (
        Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:acm:us-east-1:[0-9]{12}:certificate/.+$")] | None
    ) = option(
        None,
        "ARN of a certificate for the domain in us-east-1; by default one is made.",
        "certificate: arn:aws:acm:us-east-1:123456789012:certificate/11111111-2222-3333-4444-555555555555",
    )
    compute: Literal["ec2", "kubernetes"] = option(
        "ec2", "What runs the application: EC2 instances, or EKS.", "compute: kubernetes"
    )
    instance_type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$")] = option(
        "t3.small",
        "Type of the EC2 instances; with an Arm type (t4g, m7g) the image must be built for linux/arm64.",
        "instance_type: m7i.large",
    )
    disk: Size = option(20 * 2**30, "Disk of each EC2 instance.", "disk: 50GiB")
    database_engine: Literal["mariadb", "mysql"] = option(
        "mariadb", "Engine of the database; the other targets run MariaDB.", "database_engine: mysql"
    )
    database_class: Annotated[str, Field(pattern=r"^db\.[a-z0-9-]+\.[a-z0-9-]+$")] = option(
        "db.t4g.small", "Class of the RDS instances.", "database_class: db.m7g.large"
    )
    cache_engine: Literal["valkey", "redis"] = option(
        "valkey", "Engine of cache and sessions; both speak the protocol of Redis.", "cache_engine: redis"
    )
    cache_class: Annotated[str, Field(pattern=r"^cache\.[a-z0-9-]+\.[a-z0-9-]+$")] = option(
        "cache.t4g.micro", "Type of the ElastiCache nodes.", "cache_class: cache.m7g.large"
    )
    zones: Annotated[Positive, Field(ge=2, le=4)] = option(2, "Availability zones.", "zones: 3")
    network: Annotated[Network, AfterValidator(check_vpc)] = option(
        "10.0.0.0/16", "Addresses of the VPC.", "network: 10.42.0.0/16"
    )
    price_class: Literal["100", "200", "all"] = option(
        "100", "CloudFront's locations: Europe and North America; most; all.", 'price_class: "200"'
    )
    log_days: Literal[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096] = option(
        30, "How long logs are kept; CloudWatch has these choices.", "log_days: 90"
    )
    backup_days: Annotated[Count, Field(ge=1, le=35)] = option(
        7, "How long the database's backups are kept.", "backup_days: 35"
    )
    protect_data: Flag = option(
        True, "Stacks and databases that hold data cannot be deleted by mistake.", "protect_data: false"
    )
    alarm_email: Annotated[Line, Field(pattern=r"^[^@\s]+@[^@\s]+$")] | None = option(
        None, "Address that alarms are sent to, once it has confirmed.", "alarm_email: ops@example.com"
    )
    kubernetes: Eks = option(
        Eks, "The cluster, with `compute: kubernetes`.", 'kubernetes: {version: "1.34", nodes: 3}'
    )
    traffic: Traffic = option(
        Traffic, "What `plan --cost` assumes.", "traffic: {requests: 100000000, transfer: 2TB}"
    )
    tags: Mapping[Line, TextLine] = option(dict, "Tags on everything.", "tags: {team: shop}")

    @property
    def arm(self) -> bool:
        """Whether the EC2 instances are Arm: a `g` behind the number of their family (t4g, m7gd)."""
        family = self.instance_type.partition(".")[0]
        return "g" in family.lstrip("abcdefghijklmnopqrstuvwxyz").lstrip("0123456789").split("-")[0]
