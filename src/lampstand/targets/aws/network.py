"""Step 1: the network. Life: as long as the site.

Public subnets for the balancer and the machines, which have public addresses instead of a NAT gateway
(about 33 USD a month and zone); isolated subnets without a route to the internet for database and cache. A
gateway endpoint keeps the traffic to S3 inside the network at no cost.
"""

from collections.abc import Mapping

from lampstand.targets.aws.scope import CACHE_PORT, DATABASE_PORT, HTTP_PORT, NODE_PORT, Scope
from lampstand.targets.aws.template import (
    Att,
    Output,
    Parameter,
    Ref,
    Resource,
    Sub,
    Template,
    Value,
    Zone,
    merge,
    tags,
)

PREFIX_LIST = Parameter(
    "Id of the prefix list com.amazonaws.global.cloudfront.origin-facing in this region",
    pattern="^pl-[0-9a-f]+$",
)
NOWHERE: tuple[Value, ...] = (
    {
        "IpProtocol": "-1",
        "CidrIp": "127.0.0.1/32",
        "Description": "Starts no connections (an empty list would allow all)",
    },
)


def template(scope: Scope) -> Template:
    """VPC, subnets, routes, the S3 endpoint, security groups, and the topic for alarms."""
    parts = merge(_vpc(scope), _subnets(scope), _endpoint(scope), _groups(scope), _alarms(scope))
    return Template(
        f"Lampstand {scope.site.site}: step 1, network",
        parts,
        {"CloudFrontPrefixList": PREFIX_LIST},
        _outputs(scope),
    )


def _named(scope: Scope, name: str) -> tuple[Value, ...]:
    return tags(scope.tags("network"), Name=f"{scope.prefix}-{name}")


def _vpc(scope: Scope) -> Mapping[str, Resource]:
    return {
        "Vpc": Resource(
            "AWS::EC2::VPC",
            {
                "CidrBlock": scope.aws.network,
                "EnableDnsSupport": True,
                "EnableDnsHostnames": True,
                "Tags": _named(scope, "vpc"),
            },
        ),
        "Gateway": Resource("AWS::EC2::InternetGateway", {"Tags": _named(scope, "gateway")}),
        "GatewayAttachment": Resource(
            "AWS::EC2::VPCGatewayAttachment", {"VpcId": Ref("Vpc"), "InternetGatewayId": Ref("Gateway")}
        ),
        "PublicRoutes": Resource(
            "AWS::EC2::RouteTable", {"VpcId": Ref("Vpc"), "Tags": _named(scope, "public")}
        ),
        "PublicDefaultRoute": Resource(
            "AWS::EC2::Route",
            {
                "RouteTableId": Ref("PublicRoutes"),
                "DestinationCidrBlock": "0.0.0.0/0",
                "GatewayId": Ref("Gateway"),
            },
            depends_on=("GatewayAttachment",),
        ),
        "IsolatedRoutes": Resource(
            "AWS::EC2::RouteTable", {"VpcId": Ref("Vpc"), "Tags": _named(scope, "isolated")}
        ),
    }


def _subnets(scope: Scope) -> Mapping[str, Resource]:
    result: dict[str, Resource] = {}
    for kind, offset in (("Public", 0), ("Isolated", 8)):
        for zone in scope.zones:
            name = f"{kind}Subnet{zone + 1}"
            result[name] = Resource(
                "AWS::EC2::Subnet",
                {
                    "VpcId": Ref("Vpc"),
                    "CidrBlock": scope.subnets[offset + zone],
                    "AvailabilityZone": Zone(zone),
                    # Addresses are given to the machines by their launch template, and to nothing else by
                    # chance.
                    "MapPublicIpOnLaunch": False,
                    "Tags": _named(scope, f"{kind.lower()}-{zone + 1}"),
                },
            )
            result[f"{name}Routes"] = Resource(
                "AWS::EC2::SubnetRouteTableAssociation",
                {"SubnetId": Ref(name), "RouteTableId": Ref(f"{kind}Routes")},
            )
    return result


def _endpoint(scope: Scope) -> Mapping[str, Resource]:
    return {
        "S3Endpoint": Resource(
            "AWS::EC2::VPCEndpoint",
            {
                "VpcId": Ref("Vpc"),
                "VpcEndpointType": "Gateway",
                "ServiceName": Sub("com.amazonaws.${AWS::Region}.s3"),
                "RouteTableIds": (Ref("PublicRoutes"), Ref("IsolatedRoutes")),
                "Tags": _named(scope, "s3"),
            },
        )
    }


def _groups(scope: Scope) -> Mapping[str, Resource]:
    """Who may speak to whom. Rules between groups are resources of their own, because the groups name each
    other."""
    front = 443 if scope.aws.domain else 80
    port = HTTP_PORT if scope.aws.compute == "ec2" else NODE_PORT
    result = {
        "BalancerGroup": _group(
            scope,
            "balancer",
            "The balancer: CloudFront may speak to it",
            NOWHERE,
            (
                {
                    # The list counts as 55 of the 60 rules that a group may have, so there can be one port only.
                    "SourcePrefixListId": Ref("CloudFrontPrefixList"),
                    "IpProtocol": "tcp",
                    "FromPort": front,
                    "ToPort": front,
                    "Description": "CloudFront",
                },
            ),
        ),
        "DatabaseGroup": _group(scope, "database", "The database: machines may speak to it", NOWHERE),
        "CacheGroup": _group(scope, "cache", "Cache and sessions: machines may speak to them", NOWHERE),
        "WebGroup": _group(
            scope,
            "web",
            "The machines: the balancer may speak to them",
            # Applications call mail services, payment providers and the like: where to is theirs to say.
            ({"IpProtocol": "-1", "CidrIp": "0.0.0.0/0", "Description": "Anywhere"},),
        ),
    }
    for source, target, number in (
        ("BalancerGroup", "WebGroup", port),
        ("WebGroup", "DatabaseGroup", DATABASE_PORT),
        ("WebGroup", "CacheGroup", CACHE_PORT),
    ):
        result[f"{target}From{source}"] = Resource(
            "AWS::EC2::SecurityGroupIngress",
            {
                **_rule(target, number, source.removesuffix("Group").lower()),
                "SourceSecurityGroupId": Att(source, "GroupId"),
            },
        )
    result["BalancerGroupToWebGroup"] = Resource(
        "AWS::EC2::SecurityGroupEgress",
        {**_rule("BalancerGroup", port, "web"), "DestinationSecurityGroupId": Att("WebGroup", "GroupId")},
    )
    return result


def _group(
    scope: Scope, name: str, description: str, egress: tuple[Value, ...], ingress: tuple[Value, ...] = ()
) -> Resource:
    return Resource(
        "AWS::EC2::SecurityGroup",
        {
            "GroupDescription": description,
            "VpcId": Ref("Vpc"),
            "SecurityGroupEgress": egress,
            "SecurityGroupIngress": ingress or None,
            "Tags": _named(scope, name),
        },
    )


def _rule(group: str, port: int, other: str) -> dict[str, Value]:
    return {
        "GroupId": Att(group, "GroupId"),
        "IpProtocol": "tcp",
        "FromPort": port,
        "ToPort": port,
        "Description": other,
    }


def _alarms(scope: Scope) -> Mapping[str, Resource]:
    email = scope.aws.alarm_email
    return {
        "Alarms": Resource(
            "AWS::SNS::Topic",
            {
                "DisplayName": f"Lampstand {scope.site.site}",
                "Subscription": ({"Protocol": "email", "Endpoint": email},) if email else None,
                "Tags": tags(scope.tags("network")),
            },
        )
    }


def _outputs(scope: Scope) -> Mapping[str, Output]:
    result = {"Vpc": scope.export("network", "Vpc", Ref("Vpc"), "The VPC")}
    for kind in ("Public", "Isolated"):
        for zone in scope.zones:
            name = f"{kind}Subnet{zone + 1}"
            result[name] = scope.export("network", name, Ref(name), f"{kind} subnet in zone {zone + 1}")
    for name in ("BalancerGroup", "WebGroup", "DatabaseGroup", "CacheGroup"):
        result[name] = scope.export("network", name, Att(name, "GroupId"), f"Security group {name}")
    result["Alarms"] = scope.export("network", "Alarms", Ref("Alarms"), "Topic that alarms are sent to")
    return result
