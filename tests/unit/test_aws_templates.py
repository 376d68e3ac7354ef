"""The templates on paper: golden texts, what no linter looks at, and the promises of the site file."""

import ast
import ipaddress
import json
import re
from typing import Any

import pytest
import yaml

from lampstand.site import Site
from lampstand.targets.aws.scope import STEPS, Scope
from lampstand.targets.aws.stacks import STATEFUL, parameters, stacks
from lampstand.targets.aws.template import BODY_LIMIT, Ref, Resource, Sub, Template
from lampstand.targets.aws.userdata import LIMIT
from tests.aws_support import SITES, every_stack, readable, resources, scope, unpacked_program
from tests.web_support import golden

STACKS = dict(every_stack())


@pytest.mark.parametrize("name", STACKS)
def test_golden(name: str) -> None:
    golden(f"aws/{name}.json", readable(STACKS[name].template.as_json()))


@pytest.mark.parametrize("name", SITES)
def test_every_import_is_exported_by_a_stack_that_is_waited_for(name: str) -> None:
    many = {s.key: s for s in stacks(scope(name))}

    def before(key: str) -> set[str]:
        return {key} | {k for need in many[key].needs for k in before(need)}

    for stack in many.values():
        exported = {e for key in before(stack.key) - {stack.key} for e in many[key].template.exports()}
        assert stack.template.imports() <= exported, stack.key


@pytest.mark.parametrize("name", SITES)
def test_every_step_has_a_stack_and_every_stack_a_step(name: str) -> None:
    assert {s.step for s in stacks(scope(name))} == set(range(1, len(STEPS) + 1))


@pytest.mark.parametrize("name", STACKS)
def test_what_holds_data_survives_its_stack(name: str) -> None:
    """Buckets, secrets and images are kept; databases and sessions leave a snapshot; only copies may go."""
    copies = re.compile(r"Replica\d+$|^Cache$|CacheSecret|OriginSecret|.*Log$|^Logs$|^ClusterLogs$")
    for id_, resource in STACKS[name].template.resources.items():
        if resource.type in STATEFUL and not copies.match(id_):
            assert resource.keep in ("Retain", "Snapshot"), id_


def test_data_are_in_stacks_of_their_own() -> None:
    for stack in stacks(scope("full")):
        held = {r.type for r in stack.template.resources.values()} & (
            STATEFUL.keys() - {"AWS::Logs::LogGroup"}
        )
        assert (stack.life == "data") == bool(held), stack.key


@pytest.mark.parametrize("name", STACKS)
def test_templates_fit_into_a_request(name: str) -> None:
    assert len(STACKS[name].template.as_json().encode()) <= BODY_LIMIT


def _user_data(stack_name: str) -> list[str]:
    launches = resources(STACKS[stack_name], "AWS::EC2::LaunchTemplate")
    found: list[str] = []
    for launch in launches.values():
        data = launch["Properties"]["LaunchTemplateData"].get("UserData")
        if data:
            found.append(data["Fn::Base64"]["Fn::Sub"][0])
    return found


@pytest.mark.parametrize("name", ["small-application", "full-application", "single-application"])
def test_user_data_fit_and_have_only_keys_that_cloud_init_knows(name: str) -> None:
    """cfn-lint does not count the bytes, and cloud-init's schema lets unknown top-level keys pass."""
    for text in _user_data(name):
        # Every `${…}` becomes an ARN or a host name: no more than 150 characters.
        assert len(re.sub(r"\$\{[^}]*\}", "x" * 150, text).encode()) <= LIMIT
        assert text.startswith("#cloud-config\n")
        document = yaml.safe_load(text)
        assert document.keys() == {"package_update", "package_upgrade", "packages", "write_files", "runcmd"}
        config = json.loads(document["write_files"][0]["content"])
        assert config["kinds"]["web"] == {"group": "WebServers", "hook": "well"}
        assert not re.search(r"password|secretsmanager:[^$]*:SecretString", text)
    program = unpacked_program(STACKS[name].template.as_json())
    ast.parse(program)
    assert "${" not in program, "Fn::Sub would take it for a name"


def test_types_are_literal_so_that_linters_see_them() -> None:
    """cfn-lint does not check instance types that are defaults of parameters, so there are none."""
    for name, stack in STACKS.items():
        for parameter in stack.template.parameters.values():
            assert parameter.default is None or parameter.default.startswith("/aws/service/debian/"), name


def test_cache_with_one_node_asks_for_no_second_zone() -> None:
    """ElastiCache refuses Multi-AZ and automatic failover with a single node; cfn-lint does not know."""
    for name, stack in STACKS.items():
        for group in resources(stack, "AWS::ElastiCache::ReplicationGroup").values():
            properties = group["Properties"]
            many = properties["NumCacheClusters"] > 1
            assert (properties["MultiAZEnabled"], properties["AutomaticFailoverEnabled"]) == (many, many), (
                name
            )


def test_cache_node_types_are_some_that_exist() -> None:
    """cfn-lint checks no cache node types: the families of the previous and the present generation do exist."""
    known = re.compile(r"cache\.(t3|t4g|m5|m6g|m7g|r5|r6g|r7g|c7gn)\.(micro|small|medium|large|\d*xlarge)$")
    for stack in STACKS.values():
        for group in resources(stack, "AWS::ElastiCache::ReplicationGroup").values():
            assert known.match(group["Properties"]["CacheNodeType"])


def test_certificate_of_the_cdn_is_in_the_region_that_cloudfront_asks() -> None:
    many = {s.key: s for s in stacks(scope("full"))}
    assert many["certificate"].region == "us-east-1"
    assert many["cdn"].template.parameters["Certificate"].pattern == "^arn:aws[a-z-]*:acm:us-east-1:"
    assert "certificate" in many["cdn"].needs


def test_balancer_admits_cloudfront_only() -> None:
    network, balancer = STACKS["full-network"], STACKS["full-balancer"]
    group = resources(network, "AWS::EC2::SecurityGroup")["BalancerGroup"]["Properties"]
    assert [r["SourcePrefixListId"] for r in group["SecurityGroupIngress"]] == [
        {"Ref": "CloudFrontPrefixList"}
    ]
    assert group["SecurityGroupIngress"][0]["FromPort"] == group["SecurityGroupIngress"][0]["ToPort"] == 443
    more = resources(network, "AWS::EC2::SecurityGroupIngress").values()
    assert {"Fn::GetAtt": ["BalancerGroup", "GroupId"]} not in [r["Properties"]["GroupId"] for r in more]
    listener = resources(balancer, "AWS::ElasticLoadBalancingV2::Listener")["Listener"]["Properties"]
    assert [a["Type"] for a in listener["DefaultActions"]] == ["fixed-response"]
    rule = resources(balancer, "AWS::ElasticLoadBalancingV2::ListenerRule")["FromCloudFront"]["Properties"]
    assert rule["Conditions"][0]["HttpHeaderConfig"]["HttpHeaderName"] == "X-Lampstand-Origin"


def test_subnets_do_not_overlap_and_lie_in_the_network() -> None:
    for network in ("10.0.0.0/16", "10.7.4.0/22"):
        site = Scope(Site.model_validate({"targets": {"aws": {"network": network, "zones": 4}}}))
        used = [ipaddress.ip_network(site.subnets[i]) for i in (*range(4), *range(8, 12))]
        assert all(n.subnet_of(ipaddress.ip_network(network)) for n in used)  # type: ignore[arg-type]
        assert not any(a.overlaps(b) for i, a in enumerate(used) for b in used[i + 1 :])
        assert all(n.prefixlen <= 28 for n in used), "AWS has no smaller subnets"


@pytest.mark.parametrize(
    ("replicas", "multi", "readers"), [(0, False, 0), (1, True, 0), (2, True, 1), (3, True, 2)]
)
def test_replicas_are_a_standby_first(replicas: int, multi: bool, readers: int) -> None:
    stack = next(s for s in stacks(scope(database={"replicas": replicas})) if s.key == "database")
    instances = resources(stack, "AWS::RDS::DBInstance")
    assert instances["Primary"]["Properties"]["MultiAZ"] is multi
    assert len(instances) == 1 + readers


def test_a_reference_to_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing is called 'Nowhere'"):
        Template("test", {"Thing": Resource("AWS::SNS::Topic", {"TopicName": Ref("Nowhere")})})
    with pytest.raises(ValueError, match="nothing is called 'Else'"):
        Template(
            "test", {"Thing": Resource("AWS::SNS::Topic", {"TopicName": Sub("a ${Else.Arn} ${!Literal}")})}
        )


def test_parameters_without_a_value_are_named() -> None:
    stack = STACKS["full-cdn"]
    with pytest.raises(KeyError, match="Certificate"):
        parameters(stack, {"HostedZone": "Z1"})
    assert parameters(STACKS["small-application"], {"Release": "r1"}) == {"Release": "r1"}


def test_everything_that_can_carries_the_sites_tag() -> None:
    untagged = {
        "AWS::EC2::VPCGatewayAttachment", "AWS::EC2::Route", "AWS::EC2::SubnetRouteTableAssociation",
        "AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroupEgress", "AWS::S3::BucketPolicy",
        "AWS::ElasticLoadBalancingV2::Listener", "AWS::ElasticLoadBalancingV2::ListenerRule",
        "AWS::Route53::RecordSet", "AWS::IAM::InstanceProfile", "AWS::AutoScaling::ScalingPolicy",
        "AWS::CloudFront::CachePolicy", "AWS::CloudFront::OriginRequestPolicy", "AWS::CloudFront::Function",
        "AWS::CloudFront::ResponseHeadersPolicy", "AWS::CloudFront::OriginAccessControl",
        "AWS::EC2::LaunchTemplate",
    }  # fmt: skip
    for name, stack in STACKS.items():
        for id_, resource in json.loads(stack.template.as_json())["Resources"].items():
            if resource["Type"] in untagged:
                continue
            tags: Any = resource["Properties"]["Tags"]
            keys = tags.keys() if isinstance(tags, dict) else {t["Key"] for t in tags}
            assert {"lampstand:site", "lampstand:tier"} <= set(keys), (name, id_)
