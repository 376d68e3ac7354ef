"""What is looked at before anything is made: credentials, quotas, names, types, and the ids that templates
ask for."""

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lampstand.errors import LampstandError
from lampstand.targets.aws import policy
from lampstand.targets.aws.certificate import REGION as CERTIFICATE_REGION
from lampstand.targets.aws.cloud import Cloud, error_code, explained
from lampstand.targets.aws.cluster import ADDONS
from lampstand.targets.aws.database import ENGINES as DATABASE_ENGINES
from lampstand.targets.aws.scope import SITE_TAG, Scope

PREFIX_LIST = "com.amazonaws.global.cloudfront.origin-facing"
QUOTAS: Sequence[tuple[str, str, str]] = (
    ("vpc", "L-F678F1CE", "VPCs"),
    ("ec2", "L-1216C47A", "vCPUs of running standard instances"),
    ("elasticloadbalancing", "L-53DA6B97", "application load balancers"),
    ("rds", "L-7B6409FD", "database instances"),
    ("autoscaling", "L-CDE20ADC", "Auto Scaling groups"),
)
"""Service, code and name of the quotas that a new site uses up."""


@dataclass(frozen=True, slots=True)
class Result:
    """One thing that was looked at."""

    state: Literal["good", "warning", "bad"]
    what: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.state:8} {self.what}" + (f"\n         {self.mend}" if self.mend else "")


def good(what: str) -> Result:
    return Result("good", what)


def bad(what: str, mend: str = "") -> Result:
    return Result("bad", what, mend)


def warning(what: str, mend: str = "") -> Result:
    return Result("warning", what, mend)


Check = Callable[[Scope, Cloud], Iterator[Result]]


def preflight(scope: Scope, cloud: Cloud) -> tuple[Result, ...]:
    """All checks, whatever any of them finds. Reads only. A check that may not look says so and counts as
    a warning."""
    results: list[Result] = []
    for check in CHECKS:
        try:
            results += check(scope, cloud)
        except LampstandError as error:
            results.append(warning(f"not looked at: {error.what}", error.mend or ""))
    return tuple(results)


def require(results: Sequence[Result]) -> None:
    """Raises LampstandError with everything that is bad."""
    found = [r for r in results if r.state == "bad"]
    if found:
        raise LampstandError(
            "; ".join(r.what for r in found), "preflight", "; ".join(r.mend for r in found if r.mend) or None
        )


# --- what the templates ask for --------------------------------------------------------------------


def prefix_list(cloud: Cloud) -> str:
    """Id of the list of CloudFront's addresses in the region. Raises LampstandError where there is none."""
    with explained("looking for CloudFront's addresses"):
        answer = cloud.client("ec2").describe_managed_prefix_lists(
            Filters=[{"Name": "prefix-list-name", "Values": [PREFIX_LIST]}]
        )
    lists: list[Any] = answer["PrefixLists"]
    if not lists:
        raise LampstandError(
            f"the region {cloud.region} has no prefix list {PREFIX_LIST}", "targets.aws.region"
        )
    return str(lists[0]["PrefixListId"])


def hosted_zone(scope: Scope, cloud: Cloud) -> str:
    """Id of the public Route 53 zone that the domain is in: the longest that fits. Raises LampstandError."""
    if scope.aws.zone:
        return scope.aws.zone
    domain = scope.aws.domain or ""
    labels = domain.split(".")
    with explained("looking for the Route 53 zone"):
        for start in range(len(labels) - 1):
            name = ".".join(labels[start:]) + "."
            answer = cloud.client("route53").list_hosted_zones_by_name(DNSName=name, MaxItems="10")
            for zone in answer["HostedZones"]:
                if zone["Name"] == name and not zone["Config"]["PrivateZone"]:
                    return str(zone["Id"]).removeprefix("/hostedzone/")
    raise LampstandError(
        f"no public Route 53 zone of this account holds {domain}",
        "targets.aws.domain",
        "make one and let the domain's registrar point to its name servers, or name it with `zone`",
    )


def looked_up(scope: Scope, cloud: Cloud) -> dict[str, str]:
    """The parameters of the templates that are found in the account."""
    found = {"CloudFrontPrefixList": prefix_list(cloud)}
    if scope.aws.domain:
        found["HostedZone"] = hosted_zone(scope, cloud)
    if scope.aws.certificate:
        found["Certificate"] = scope.aws.certificate
    return found


# --- checks ----------------------------------------------------------------------------------------


def _credentials(scope: Scope, cloud: Cloud) -> Iterator[Result]:
    account = cloud.account
    if scope.aws.account and scope.aws.account != account:
        yield bad(
            f"these credentials belong to account {account}, not {scope.aws.account}",
            "choose other credentials",
        )
    else:
        yield good(f"account {account}, region {cloud.region}")


def _lookups(scope: Scope, cloud: Cloud) -> Iterator[Result]:
    for look, text in ((lambda: prefix_list(cloud), "CloudFront's addresses"),):
        yield good(f"{text}: {look()}")
    if scope.aws.domain:
        try:
            yield good(f"Route 53 zone of {scope.aws.domain}: {hosted_zone(scope, cloud)}")
        except LampstandError as error:
            yield bad(error.what, error.mend or "")


def _certificate(scope: Scope, cloud: Cloud) -> Iterator[Result]:
    arn = scope.aws.certificate
    if arn is None:
        return
    with explained("looking at the certificate"):
        found = cloud.client("acm", CERTIFICATE_REGION).describe_certificate(CertificateArn=arn)[
            "Certificate"
        ]
    if found["Status"] != "ISSUED":
        yield bad(f"the certificate is {found['Status']}", "validate it by its DNS records first")
        return
    names = {found["DomainName"], *(found.get("SubjectAlternativeNames") or ())}
    missing = [d for d in scope.domains if d not in names and f"*.{d.partition('.')[2]}" not in names]
    if missing:
        yield bad(
            f"the certificate is not for {', '.join(missing)}", "leave `certificate` out, and one is made"
        )
    else:
        yield good("the certificate is issued, for every name of the site")


def _network(scope: Scope, cloud: Cloud) -> Iterator[Result]:
    mine = ipaddress.ip_network(scope.aws.network)
    with explained("looking at the networks"):
        vpcs = list(cloud.pages("ec2", "describe_vpcs", "Vpcs"))
    for vpc in vpcs:
        tags = {t["Key"]: t["Value"] for t in vpc.get("Tags") or ()}
        if tags.get(SITE_TAG) == scope.site.site:
            continue
        for block in vpc.get("CidrBlockAssociationSet") or ():
            if mine.overlaps(ipaddress.ip_network(block["CidrBlock"])):
                yield warning(
                    f"{scope.aws.network} overlaps {vpc['VpcId']} ({block['CidrBlock']}): the two can never be peered",
                    "choose another network with `targets.aws.network`",
                )
    yield good(f"network {scope.aws.network}, {len(vpcs)} other VPC(s) seen")


def _zones(scope: Scope, cloud: Cloud) -> Iterator[Result]:
    with explained("looking at the zones"):
        answer = cloud.client("ec2").describe_availability_zones(
            Filters=[{"Name": "zone-type", "Values": ["availability-zone"]}]
        )
    # GetAZs gives them in this order.
    names = sorted(z["ZoneName"] for z in answer["AvailabilityZones"])[: scope.aws.zones]
    if len(names) < scope.aws.zones:
        yield bad(f"the region has {len(names)} zones, not {scope.aws.zones}", "lower `targets.aws.zones`")
        return
    wanted = (
        scope.aws.kubernetes.instance_type if scope.aws.compute == "kubernetes" else scope.aws.instance_type
    )
    with explained("looking at the instance types"):
        offers = {
            o["Location"]
            for o in cloud.pages(
                "ec2",
                "describe_instance_type_offerings",
                "InstanceTypeOfferings",
                LocationType="availability-zone",
                Filters=[{"Name": "instance-type", "Values": [wanted]}],
            )
        }
    missing = [n for n in names if n not in offers]
    if missing:
        yield bad(f"{wanted} does not exist in {', '.join(missing)}", "choose another instance type")
    else:
        yield good(f"{wanted} exists in {', '.join(names)}")


def _database(scope: Scope, cloud: Cloud) -> Iterator[Result]:
    engine, class_ = scope.aws.database_engine, scope.aws.database_class
    version = DATABASE_ENGINES[engine][0]
    with explained("looking at the database classes"):
        offers = list(
            cloud.pages(
                "rds",
                "describe_orderable_db_instance_options",
                "OrderableDBInstanceOptions",
                Engine=engine,
                DBInstanceClass=class_,
            )
        )
    fitting = [o for o in offers if str(o["EngineVersion"]).startswith(version)]
    if not fitting:
        yield bad(f"{class_} does not exist for {engine} {version}", "choose another `database_class`")
    elif scope.multi_az and not any(o.get("MultiAZCapable") for o in fitting):
        yield bad(f"{class_} has no Multi-AZ", "choose another class, or `database.replicas: 0`")
    else:
        yield good(f"{class_} exists for {engine} {version}")


def _quotas(scope: Scope, cloud: Cloud) -> Iterator[Result]:
    client = cloud.client("service-quotas")
    for service, code, name in QUOTAS:
        try:
            quota = client.get_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]["Value"]
        except client.exceptions.ClientError as error:
            yield warning(f"quota of {name} not known ({error_code(error)})")
            continue
        used = _used(cloud, code)
        if used is not None and used >= quota:
            yield bad(f"{used} {name} of {quota:.0f} are in use", "raise the quota in Service Quotas")
        else:
            yield good(f"quota of {name}: {quota:.0f}" + (f", {used} in use" if used is not None else ""))


def _used(cloud: Cloud, code: str) -> int | None:
    """How much of a quota is in use, where one request tells."""
    match code:
        case "L-F678F1CE":
            return len(list(cloud.pages("ec2", "describe_vpcs", "Vpcs")))
        case "L-53DA6B97":
            return len(list(cloud.pages("elbv2", "describe_load_balancers", "LoadBalancers")))
        case "L-7B6409FD":
            return len(list(cloud.pages("rds", "describe_db_instances", "DBInstances")))
        case _:
            return None


def _kubernetes(scope: Scope, cloud: Cloud) -> Iterator[Result]:
    if scope.aws.compute != "kubernetes":
        return
    version = scope.aws.kubernetes.version
    for name, pinned in ADDONS.get(version, {}).items():
        with explained("looking at the add-ons"):
            answer = cloud.client("eks").describe_addon_versions(addonName=name, kubernetesVersion=version)
        offered = [v["addonVersion"] for a in answer["addons"] for v in a["addonVersions"]]
        if pinned in offered:
            yield good(f"add-on {name} {pinned}")
        else:
            newest = offered[0] if offered else "none"
            yield bad(
                f"add-on {name} {pinned} does not exist here; the newest is {newest}", "update Lampstand"
            )
    if version not in ADDONS:
        yield warning(f"Kubernetes {version} is not known: EKS chooses the versions of its add-ons")


def _permissions(scope: Scope, cloud: Cloud) -> Iterator[Result]:
    """Ask IAM whether the deployer may do what it will have to."""
    with explained("asking who this is"):
        arn = str(cloud.client("sts").get_caller_identity()["Arn"])
    account = arn.split(":")[4]
    if ":assumed-role/" in arn:
        partition, _, rest = arn.partition(":sts:")
        role = rest.partition(":assumed-role/")[2].partition("/")[0]
        arn = f"{partition}:iam::{account}:role/{role}"
    if arn.endswith(":root"):
        yield warning(
            "these are the account's root credentials",
            "make a role with the policy of `lampstand aws policy`",
        )
        return
    wanted = sorted(policy.actions(policy.statements(scope, cloud.region, account)))
    client = cloud.client("iam")
    denied: list[str] = []
    with explained("asking IAM for the deployer's rights"):
        for first in range(0, len(wanted), 100):
            answer = client.simulate_principal_policy(
                PolicySourceArn=arn, ActionNames=wanted[first : first + 100]
            )
            denied += [
                r["EvalActionName"]
                for r in answer["EvaluationResults"]
                if r["EvalDecision"] == "explicitDeny"
            ]
    if denied:
        yield bad(
            f"the deployer may not {', '.join(denied[:5])}", "give it the policy of `lampstand aws policy`"
        )
    else:
        yield good(f"{arn}: nothing that is needed is forbidden outright")


CHECKS: Sequence[Check] = (
    _credentials,
    _lookups,
    _certificate,
    _network,
    _zones,
    _database,
    _quotas,
    _kubernetes,
    _permissions,
)
