"""What moto passes over, and templates as moto takes them."""

import json
from typing import Any

from lampstand.targets.aws.template import Template

SKIPPED = {
    "AWS::AutoScaling::ScalingPolicy",
    "AWS::CertificateManager::Certificate",
    "AWS::CloudFront::CachePolicy",
    "AWS::CloudFront::Distribution",
    "AWS::CloudFront::Function",
    "AWS::CloudFront::OriginAccessControl",
    "AWS::CloudFront::OriginRequestPolicy",
    "AWS::CloudFront::ResponseHeadersPolicy",
    "AWS::CloudWatch::Alarm",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EKS::AccessEntry",
    "AWS::EKS::Addon",
    "AWS::EKS::Cluster",
    "AWS::EKS::Nodegroup",
    "AWS::EKS::PodIdentityAssociation",
    "AWS::ElastiCache::ParameterGroup",
    "AWS::ElastiCache::ReplicationGroup",
    "AWS::ElastiCache::SubnetGroup",
    "AWS::S3::BucketPolicy",
    "AWS::SecretsManager::Secret",
}
"""Types of the templates that moto's CloudFormation does not make."""

UNKNOWN_ATTRIBUTES = {"LoadBalancerFullName", "TargetGroupFullName"}
"""Attributes that moto does not know of types that it makes."""


UNNAMED = {
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::VPCGatewayAttachment",
    "AWS::RDS::DBParameterGroup",
    "AWS::RDS::DBSubnetGroup",
}
"""Types that moto makes and does not list; rules are looked at in a test of their own."""


TRIPPING = {"DBParameterGroupName"}
"""Properties that moto stumbles over when they refer to a resource."""


def for_moto(template: Template) -> tuple[str, set[str]]:
    """A template without what moto skips, and the ids of what it has to make."""
    document: dict[str, Any] = json.loads(template.as_json())
    skipped = {k for k, r in document["Resources"].items() if r["Type"] in SKIPPED}
    for id_ in skipped:
        del document["Resources"][id_]

    def standing_in(value: Any) -> Any:  # noqa: ANN401 - JSON
        if isinstance(value, dict):
            name = value.get("Ref") or (value.get("Fn::GetAtt") or [""])[0]
            if name in skipped or (value.get("Fn::GetAtt") or ["", ""])[1] in UNKNOWN_ATTRIBUTES:
                return f"stand-in-{name}"
            if "Fn::Sub" in value and isinstance(value["Fn::Sub"], str):
                return "stand-in" if any("${" + s in value["Fn::Sub"] for s in skipped) else value
            return {k: standing_in(v) for k, v in value.items() if k not in TRIPPING}
        return [standing_in(v) for v in value] if isinstance(value, list) else value

    document = standing_in(document)
    for parameter in document.get("Parameters", {}).values():
        if parameter["Type"].startswith("AWS::SSM"):
            parameter |= {"Type": "String", "Default": "ami-12c6146b"}
    if not document["Resources"]:
        document["Resources"] = {"Nothing": {"Type": "AWS::SNS::Topic"}}
    return json.dumps(document), set(document["Resources"]) - {"Nothing"}
