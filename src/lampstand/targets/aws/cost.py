"""What the site costs a month, by tier: quantities out of the site file, prices from the Pricing API or a
dated table.

An estimate: list prices without taxes, discounts and the free tier of new accounts. It counts what the
templates make; traffic is assumed as `targets.aws.traffic` says.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lampstand.errors import UsageError
from lampstand.site.aws import Traffic
from lampstand.site.units import format_size
from lampstand.targets.aws.cloud import Cloud, explained
from lampstand.targets.aws.database import storage_gb
from lampstand.targets.aws.scope import Scope
from lampstand.targets.aws.stacks import stacks
from lampstand.targets.aws.storage import SECRETS

HOURS = 730
"""Hours of a month, as AWS counts."""
GB = 10**9
PRICING_REGION = "us-east-1"
"""Where the Pricing API lives."""


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the estimate."""

    tier: str
    what: str
    quantity: float
    unit: str
    price: str
    """Key of the price: `ec2/t3.small`, dollars for each unit."""


@dataclass(frozen=True)
class Prices:
    """Prices by key, and where they are from."""

    prices: Mapping[str, float]
    region: str
    date: str
    source: str


@dataclass(frozen=True)
class Line:
    """An item with its price; `usd` is None where the price is not known."""

    item: Item
    usd: float | None


@dataclass(frozen=True)
class Estimate:
    """The whole estimate."""

    lines: tuple[Line, ...]
    prices: Prices
    region: str
    assumptions: tuple[str, ...]

    @property
    def total(self) -> float:
        """Dollars a month, without the lines whose price is not known."""
        return sum(line.usd or 0.0 for line in self.lines)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Price keys that nothing is known of."""
        return tuple(line.item.price for line in self.lines if line.usd is None)

    def by_tier(self) -> Mapping[str, float]:
        """Dollars a month and tier."""
        result: dict[str, float] = {}
        for line in self.lines:
            result[line.item.tier] = result.get(line.item.tier, 0.0) + (line.usd or 0.0)
        return result

    def __str__(self) -> str:
        rows = [
            f"{line.item.tier:10} {line.item.what:44} {_number(line.item.quantity)} {line.item.unit:16} "
            + (f"{line.usd:9.2f}" if line.usd is not None else "        ?")
            for line in self.lines
        ]
        return "\n".join([*rows, "", self.summary(), ""])

    def summary(self) -> str:
        """By tier, with the total, where the prices are from, and what is assumed."""
        tiers = [f"{tier:10} {usd:9.2f} USD a month" for tier, usd in self.by_tier().items()]
        least = "at least " if self.unknown else ""
        where = (
            "" if self.prices.region == self.region else f" (the site is in {self.region}; its prices differ)"
        )
        return "\n".join(
            [
                *tiers,
                f"{'total':10} {self.total:9.2f} USD a month, {least}before taxes",
                f"prices of {self.prices.region}{where}, {self.prices.date}: {self.prices.source}",
                *(f"no price is known for {key}" for key in self.unknown),
                *(f"assumed: {text}" for text in self.assumptions),
            ]
        )

    def document(self) -> dict[str, Any]:
        """As JSON: `aws cost --json`, and `cost` of `plan --cost --json`. Version 1."""
        return {
            "version": 1,
            "currency": "USD",
            "monthly": round(self.total, 2),
            "tiers": {tier: round(usd, 2) for tier, usd in self.by_tier().items()},
            "unknown": list(self.unknown),
            "region": self.region,
            "prices": {
                "region": self.prices.region,
                "date": self.prices.date,
                "source": self.prices.source,
            },
            "assumptions": list(self.assumptions),
            "lines": [
                {
                    "tier": line.item.tier,
                    "what": line.item.what,
                    "quantity": line.item.quantity,
                    "unit": line.item.unit,
                    "usd": line.usd,
                }
                for line in self.lines
            ],
        }


def _number(quantity: float) -> str:
    return f"{quantity:10,.0f}" if quantity == round(quantity) else f"{quantity:10,.2f}"


@cache
def bundled() -> Prices:
    """The table that comes with Lampstand."""
    table: dict[str, Any] = json.loads(Path(__file__).with_name("prices.json").read_text("utf-8"))
    return Prices(table["prices"], table["region"], table["date"], "bundled table, " + table["source"])


def assumed(traffic: Traffic, changes: Sequence[str]) -> Traffic:
    """The site's traffic with other numbers: `transfer=2TB`, `hit_rate=95%`. Raises UsageError."""
    wanted = {name: value for name, _, value in (change.partition("=") for change in changes)}
    try:
        return Traffic.model_validate({**traffic.model_dump(mode="json"), **wanted})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"{first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}",
            "--traffic",
            "for example: --traffic requests=100000000 --traffic transfer=2TB --traffic hit_rate=95%",
        ) from None


def items(scope: Scope) -> tuple[Item, ...]:
    """What is paid for. Pure."""
    return (
        *_edge(scope),
        *_balancer(scope),
        *_web(scope),
        *_database(scope),
        *_cache(scope),
        *_storage(scope),
    )


def estimate(scope: Scope, region: str, prices: Prices | None = None) -> Estimate:
    """Items times prices."""
    known = prices or bundled()
    lines = tuple(
        Line(i, i.quantity * known.prices[i.price] if i.price in known.prices else None) for i in items(scope)
    )
    traffic = scope.aws.traffic
    return Estimate(
        lines,
        known,
        region,
        (
            f"{traffic.requests:,} requests and {format_size(traffic.transfer)} to visitors a month",
            f"{traffic.hit_rate:.0%} of the requests answered by CloudFront",
            f"{format_size(traffic.uploads)} of uploads and assets, {format_size(traffic.logs)} of logs a month",
            "CloudFront's lasting free amounts are taken off: 1 TB, 10 million requests, 2 million function calls",
            "no traffic between zones, no snapshots beyond the free amount, no bursts of CPU credits",
        ),
    )


def _hours(tier: str, what: str, count: int, price: str) -> Item:
    return Item(tier, what, count * HOURS, "hours", price)


def _edge(scope: Scope) -> Sequence[Item]:
    traffic = scope.aws.traffic
    return (
        Item(
            "edge",
            "CloudFront, sent to visitors",
            max(traffic.transfer / GB - 1000, 0),
            "GB",
            "cloudfront/gb",
        ),
        Item(
            "edge",
            "CloudFront, requests",
            max(traffic.requests / 1e6 - 10, 0),
            "million",
            "cloudfront/requests",
        ),
        Item(
            "edge", "CloudFront, rules", max(traffic.requests / 1e6 - 2, 0), "million", "cloudfront/functions"
        ),
    )


def _balancer(scope: Scope) -> Sequence[Item]:
    traffic = scope.aws.traffic
    missed = 1 - traffic.hit_rate
    # A unit is 1 GB an hour, or 25 new connections a second, whichever is more; CloudFront keeps its
    # connections.
    units = max(traffic.transfer * missed / GB, traffic.requests * missed / 10 / (25 * 3600))
    return (
        _hours("balancer", "load balancer", 1, "alb/hour"),
        _hours("balancer", "public addresses", scope.aws.zones, "ec2/address"),
        Item("balancer", "load balancer, capacity", units, "LCU hours", "alb/lcu"),
    )


def _web(scope: Scope) -> Sequence[Item]:
    disk = -(-scope.aws.disk // 2**30)
    if scope.aws.compute == "kubernetes":
        eks = scope.aws.kubernetes
        return (
            _hours("web", "EKS control plane", 1, "eks/hour"),
            _hours("web", f"{eks.nodes} nodes {eks.instance_type}", eks.nodes, f"ec2/{eks.instance_type}"),
            Item("web", "disks", eks.nodes * disk, "GB months", "ec2/disk"),
            _hours("web", "public addresses", eks.nodes, "ec2/address"),
        )
    count = scope.site.web.servers + int(scope.has_workers)
    kind = f"{count} machines {scope.aws.instance_type}"
    return (
        _hours("web", kind, count, f"ec2/{scope.aws.instance_type}"),
        Item("web", "disks", count * disk, "GB months", "ec2/disk"),
        _hours("web", "public addresses", count, "ec2/address"),
    )


def _database(scope: Scope) -> Sequence[Item]:
    servers = 1 + int(scope.multi_az) + scope.read_replicas
    what = "primary" + (", standby" if scope.multi_az else "")
    what += f", {scope.read_replicas} read replica(s)" if scope.read_replicas else ""
    return (
        _hours("database", f"{what}: {scope.aws.database_class}", servers, f"rds/{scope.aws.database_class}"),
        Item("database", "storage", servers * storage_gb(scope), "GB months", "rds/storage"),
    )


def _cache(scope: Scope) -> Sequence[Item]:
    nodes = 2 + scope.site.cache.replicas + scope.site.sessions.replicas
    key = f"{scope.aws.cache_engine}/{scope.aws.cache_class}"
    return (_hours("cache", f"{nodes} nodes {scope.aws.cache_class} ({scope.aws.cache_engine})", nodes, key),)


def _storage(scope: Scope) -> Sequence[Item]:
    traffic = scope.aws.traffic
    resources = [r for s in stacks(scope) for r in s.template.resources.values()]
    alarms = sum(1 for r in resources if r.type == "AWS::CloudWatch::Alarm")
    return (
        Item("storage", "S3", traffic.uploads / GB, "GB months", "s3/storage"),
        Item("storage", "images", 2, "GB months", "ecr/storage"),
        Item("storage", "secrets", len(SECRETS), "secrets", "secrets/secret"),
        Item("logs", "logs", traffic.logs / GB, "GB", "logs/gb"),
        Item("logs", "alarms", alarms, "alarms", "alarms/alarm"),
    )


# --- the Pricing API -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Query:
    service: str
    filters: Mapping[str, str]


_ENGINE_NAMES: Mapping[str, str] = {
    "mariadb": "MariaDB",
    "mysql": "MySQL",
    "valkey": "Valkey",
    "redis": "Redis",
}


def _query(scope: Scope, key: str) -> _Query | None:
    """How the Pricing API is asked for a price; None for one that only the table has."""
    kind, _, name = key.partition("/")
    if kind == "ec2" and "." in name:
        return _Query(
            "AmazonEC2",
            {
                "instanceType": name,
                "operatingSystem": "Linux",
                "preInstalledSw": "NA",
                "tenancy": "Shared",
                "capacitystatus": "Used",
            },
        )
    if kind == "rds" and name.startswith("db."):
        engine = _ENGINE_NAMES[scope.aws.database_engine]
        return _Query(
            "AmazonRDS", {"instanceType": name, "databaseEngine": engine, "deploymentOption": "Single-AZ"}
        )
    if kind in ("valkey", "redis"):
        return _Query("AmazonElastiCache", {"instanceType": name, "cacheEngine": _ENGINE_NAMES[kind]})
    return None


def online(scope: Scope, cloud: Cloud, today: Callable[[], str]) -> Prices:
    """The table with every price that the Pricing API knows for the site's region put in its place.

    Raises AwsError when the API does not answer; `today` gives the date.
    """
    table = bundled()
    found = dict(table.prices)
    fresh: list[str] = []
    client = cloud.client("pricing", PRICING_REGION)
    for key in dict.fromkeys(i.price for i in items(scope)):
        query = _query(scope, key)
        if query is None:
            continue
        filters = [
            {"Type": "TERM_MATCH", "Field": field, "Value": value}
            for field, value in {**query.filters, "regionCode": cloud.region}.items()
        ]
        with explained("asking for prices"):
            answer = client.get_products(ServiceCode=query.service, Filters=filters, MaxResults=100)
        prices = [p for text in answer.get("PriceList") or () if (p := hourly(text)) is not None]
        if prices:
            found[key] = min(prices)
            fresh.append(key)
    rest = f"; the others of {table.region}, {table.date}" if fresh else ""
    source = f"Pricing API for {', '.join(fresh) or 'nothing'}{rest}"
    return Prices(found, cloud.region if fresh else table.region, today(), source)


def hourly(product: str) -> float | None:
    """The on-demand price for an hour in an item of GetProducts (a JSON text); None when it has none."""
    document: Mapping[str, Mapping[str, Mapping[str, Any]]] = json.loads(product)
    for term in document.get("terms", {}).get("OnDemand", {}).values():
        dimensions: Mapping[str, Mapping[str, Any]] = term["priceDimensions"]
        for dimension in dimensions.values():
            price: Mapping[str, str] = dimension["pricePerUnit"]
            usd = float(price.get("USD") or 0)
            if dimension.get("unit") in ("Hrs", "hours") and usd > 0:
                return usd
    return None
