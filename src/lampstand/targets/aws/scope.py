"""One site as the builders of templates see it: its names, its tags, and the six steps."""

from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network

from lampstand.site import Aws, Site
from lampstand.targets.aws.template import Import, Output, Value

SITE_TAG = "lampstand:site"
TIER_TAG = "lampstand:tier"
RELEASE_TAG = "lampstand:release"

HTTP_PORT = 8080
"""Port of the nginx on every machine (and of the node port that leads to it with EKS: `NODE_PORT`)."""
NODE_PORT = 30080
DATABASE_PORT = 3306
CACHE_PORT = 6379

STEPS: tuple[str, ...] = ("EC2, S3 and the network", "balancer", "application", "database", "cache", "CDN")
"""The six steps of the deployment, as they are numbered from 1."""


@dataclass(frozen=True)
class Scope:
    """A site on AWS. Pure: region, account and looked-up ids are parameters of the templates."""

    site: Site

    @cached_property
    def aws(self) -> Aws:
        return self.site.targets.aws

    @property
    def prefix(self) -> str:
        """What every name begins with."""
        return f"lampstand-{self.site.site}"

    def stack(self, name: str) -> str:
        """The name of a stack."""
        return f"{self.prefix}-{name}"

    def tags(self, tier: str) -> dict[str, str]:
        """The tags of a resource; by these it is found again, whatever made it."""
        return {**self.aws.tags, SITE_TAG: self.site.site, TIER_TAG: tier}

    def export(self, stack: str, name: str, value: Value, description: str) -> Output:
        """An output that the other stacks import."""
        return Output(value, description, f"{self.stack(stack)}-{name}")

    def imported(self, stack: str, name: str) -> Import:
        """What `export` of the same names gave."""
        return Import(f"{self.stack(stack)}-{name}")

    @property
    def zones(self) -> range:
        return range(self.aws.zones)

    @cached_property
    def subnets(self) -> tuple[str, ...]:
        """Sixteen equal parts of the VPC: the first eight for public subnets, the others for isolated
        ones."""
        return tuple(str(n) for n in IPv4Network(self.aws.network).subnets(prefixlen_diff=4))

    def imported_subnets(self, kind: str) -> tuple[Import, ...]:
        """The subnets of a kind (`Public`, `Isolated`), one in each zone."""
        return tuple(self.imported("network", f"{kind}Subnet{z + 1}") for z in self.zones)

    @property
    def has_workers(self) -> bool:
        """Whether a machine for workers and jobs is needed."""
        return bool(self.site.app.workers or self.site.app.jobs)

    @property
    def domains(self) -> tuple[str, ...]:
        """The host names of the site: the domain, and those of `tls.domains`; none without a domain."""
        return tuple(dict.fromkeys((self.aws.domain, *self.site.tls.domains))) if self.aws.domain else ()

    @property
    def origin_domain(self) -> str | None:
        """The name by which CloudFront reaches the balancer over TLS; None without a domain."""
        return f"origin.{self.aws.domain}" if self.aws.domain else None

    @property
    def web_maximum(self) -> int:
        """Machines that the Auto Scaling group may have."""
        return max(self.site.web.max_servers or 0, self.site.web.servers + self.site.web.surge)

    @property
    def read_replicas(self) -> int:
        """RDS read replicas: the first of `database.replicas` is the standby of the Multi-AZ instance."""
        return max(self.site.database.replicas - 1, 0)

    @property
    def multi_az(self) -> bool:
        """Whether the database has a standby in another zone."""
        return self.site.database.replicas > 0
