"""Cost, the generated policy, the preflight's lookups."""

import json
from typing import Any

import parliament
import pytest

from lampstand.errors import LampstandError
from lampstand.targets.aws import cost, policy, preflight
from lampstand.targets.aws.scope import Scope
from lampstand.targets.aws.stacks import stacks
from tests.aws_support import ACCOUNT, SITES, Paper, scope

EXCEPTIONS = {
    # Actions of EC2 and others that IAM cannot bind to a name before the thing exists; the region binds them.
    "RESOURCE_STAR",
}

# -- cost -----------------------------------------------------------------------------------------------------------


def test_the_default_site_costs_what_its_parts_cost() -> None:
    found = cost.estimate(scope("small"), "us-east-1")
    assert not found.unknown
    assert found.total == pytest.approx(sum(found.by_tier().values()))
    assert 150 < found.total < 220
    assert list(found.by_tier()) == ["edge", "balancer", "web", "database", "cache", "storage", "logs"]


@pytest.mark.parametrize("name", SITES)
def test_every_default_has_a_price(name: str) -> None:
    assert not cost.estimate(scope(name), "us-east-1").unknown


def test_the_estimate_says_where_its_prices_are_from() -> None:
    text = str(cost.estimate(scope("small"), "eu-central-1"))
    assert "prices of us-east-1 (the site is in eu-central-1; its prices differ)" in text
    assert cost.bundled().date in text
    assert "not" in cost.bundled().source or "only some" in cost.bundled().source
    assert "assumed: 5,000,000 requests and 100GB to visitors a month" in text


def test_an_unknown_type_is_said_to_be_unknown() -> None:
    found = cost.estimate(scope(targets={"aws": {"instance_type": "x9z.huge"}}), "us-east-1")
    assert found.unknown == ("ec2/x9z.huge",)
    assert "at least" in str(found)


def test_more_costs_more() -> None:
    def total(**more: Any) -> float:  # noqa: ANN401
        return cost.estimate(scope(**more), "us-east-1").total

    assert total(web={"servers": 4}) > total()
    assert total(database={"replicas": 0}) < total(database={"replicas": 1}) < total()
    assert total(targets={"aws": {"traffic": {"transfer": "20TB"}}}) > total() + 1000
    assert cost.estimate(scope("kubernetes"), "us-east-1").by_tier()["web"] > 73


def test_prices_of_the_pricing_api_take_the_tables_place() -> None:
    paper = Paper()

    def product(usd: str) -> str:
        dimension = {"unit": "Hrs", "pricePerUnit": {"USD": usd}}
        return json.dumps({"terms": {"OnDemand": {"t": {"priceDimensions": {"d": dimension}}}}})

    stub = paper.stub("pricing")
    paper.cloud._clients["pricing", "us-east-1"] = paper.cloud._clients["pricing", "eu-central-1"]
    for usd in ("0.024", "0.036", "0.0152"):
        stub.add_response("get_products", {"PriceList": [product("0.0"), product(usd)]})
    found = cost.online(scope("small"), paper.cloud, lambda: "2026-12-01")
    assert (found.region, found.date) == ("eu-central-1", "2026-12-01")
    assert found.prices["ec2/t3.small"] == 0.024
    assert "Pricing API for ec2/t3.small, rds/db.t4g.small, valkey/cache.t4g.micro" in found.source
    paper.done()


# -- policy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SITES)
def test_every_resource_type_is_granted(name: str) -> None:
    for stack in stacks(scope(name)):
        for resource in stack.template.resources.values():
            assert resource.type in policy.TYPES


@pytest.mark.parametrize("name", SITES)
def test_documents_fit_and_are_clean(name: str) -> None:
    for document in policy.documents(scope(name), "eu-central-1", ACCOUNT):
        text = json.dumps(document, separators=(",", ":"))
        assert len(text) <= policy.SIZE_LIMIT
        findings = parliament.analyze_policy_string(text).findings
        assert [(f.issue, str(f.detail)[:200]) for f in findings if f.issue not in EXCEPTIONS] == []


@pytest.mark.parametrize("name", SITES)
def test_nothing_is_granted_by_a_star(name: str) -> None:
    for statement in policy.statements(scope(name), "eu-central-1", ACCOUNT):
        assert all("*" not in action for action in statement["Action"])
        if statement["Resource"] == "*" and "Condition" not in statement:
            allowed = {
                "acm:RequestCertificate", "cloudfront:CreateOriginAccessControl", "pricing:GetProducts",
                "route53:ListHostedZonesByName", "sts:GetCallerIdentity",
            }  # fmt: skip
            assert set(statement["Action"]) <= allowed, "only global services are bound to no region"


def test_a_site_without_a_domain_needs_no_rights_on_domains() -> None:
    def granted(here: Scope) -> set[str]:
        return {a.partition(":")[0] for a in policy.actions(policy.statements(here, "eu-central-1", ACCOUNT))}

    assert not granted(scope("small")) & {"route53", "acm", "eks"}
    assert {"route53", "acm"} <= granted(scope("full"))
    assert "eks" in granted(scope("kubernetes"))


def test_rights_are_on_the_sites_own_names() -> None:
    text = json.dumps(policy.statements(scope("small"), "eu-central-1", ACCOUNT))
    assert "arn:aws:s3:::lampstand-shop*" in text
    assert "repository/lampstand/shop" in text
    assert "arn:aws:iam::123456789012:role/lampstand-shop*" in text


# -- lookups --------------------------------------------------------------------------------------------------------


def test_the_longest_public_zone_is_chosen() -> None:
    paper = Paper()
    stub = paper.stub("route53")

    def zones(*names: tuple[str, bool]) -> dict[str, Any]:
        return {
            "HostedZones": [
                {
                    "Id": f"/hostedzone/Z{n[:1].upper()}",
                    "Name": n,
                    "CallerReference": "x",
                    "Config": {"PrivateZone": p},
                }
                for n, p in names
            ],
            "IsTruncated": False,
            "MaxItems": "10",
        }

    stub.add_response("list_hosted_zones_by_name", zones(("shop.example.com.", True), ("sub.other.", False)))
    stub.add_response("list_hosted_zones_by_name", zones(("example.com.", False)))
    assert preflight.hosted_zone(scope("full"), paper.cloud) == "ZE"
    paper.done()


def test_a_domain_without_a_zone_is_refused() -> None:
    paper = Paper()
    empty = {"HostedZones": [], "IsTruncated": False, "MaxItems": "10"}
    for _ in range(2):
        paper.stub("route53").add_response("list_hosted_zones_by_name", empty)
    with pytest.raises(LampstandError, match="no public Route 53 zone"):
        preflight.hosted_zone(scope("full"), paper.cloud)


def test_a_check_that_may_not_look_is_a_warning_and_stops_nothing() -> None:
    paper = Paper()
    sts = paper.stub("sts")
    for service, operation in (("ec2", "describe_managed_prefix_lists"),):
        paper.stub(service).add_client_error(operation, "UnauthorizedOperation", "no", 403)
    sts.add_client_error("get_caller_identity", "ExpiredToken", "expired", 403)
    found = [r for check in preflight.CHECKS[:1] for r in _safely(check, paper)]
    assert found[0].state == "warning"
    assert "log in again" in found[0].mend


def _safely(check: preflight.Check, paper: Paper) -> list[preflight.Result]:
    before = preflight.CHECKS
    try:
        preflight.CHECKS = (check,)
        return list(preflight.preflight(scope("small"), paper.cloud))
    finally:
        preflight.CHECKS = before


def test_everything_that_is_bad_is_told_at_once() -> None:
    results = [
        preflight.good("a"),
        preflight.bad("b", "mend b"),
        preflight.warning("c"),
        preflight.bad("d", "mend d"),
    ]
    with pytest.raises(LampstandError) as caught:
        preflight.require(results)
    assert (caught.value.what, caught.value.mend) == ("b; d", "mend b; mend d")
    preflight.require(results[:1])
