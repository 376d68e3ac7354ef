"""The IAM policy that the deployer needs, generated from the templates: exactly the actions of the resource
types that this site has, on names of this site wherever IAM can name them.

Sources: the handlers' permissions in CloudFormation's resource schemas, and the service authorization
reference for what can be named. Actions that have no resource in IAM are bound to the site's region
instead.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lampstand.targets.aws.certificate import REGION as CERTIFICATE_REGION
from lampstand.targets.aws.scope import Scope
from lampstand.targets.aws.stacks import stacks

SIZE_LIMIT = 6_144
"""Characters of a managed policy without white space (IAM quotas)."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Actions of one service on some resources. `{p}` is the partition, `{r}` the region, `{a}` the
    account, `{s}` the prefix of the site's names, `{t}` the part of it that CloudFormation never cuts off a
    generated name, `{n}` the site's name. Without resources they are allowed on `*`, in the region only."""

    service: str
    actions: str
    """Names separated by blanks."""
    resources: tuple[str, ...] = ()
    anywhere: bool = False
    """A global service: no region to bind it to."""


_S3 = ("arn:{p}:s3:::{t}*", "arn:{p}:s3:::{t}*/*")
"""Buckets and what is in them."""
_ELB = ("arn:{p}:elasticloadbalancing:{r}:{a}:*",)
_RDS = (
    *("arn:{p}:rds:{r}:{a}:" + f"{kind}:{{s}}-*" for kind in ("db", "subgrp", "pg", "snapshot")),
    "arn:{p}:rds:{r}:{a}:og:default*",  # the default option group, which a replica names
    "arn:{p}:rds:{r}:{a}:cluster:{s}-*",
)
_CACHE = tuple(
    "arn:{p}:elasticache:{r}:{a}:" + f"{kind}:*"
    for kind in ("replicationgroup", "cluster", "subnetgroup", "parametergroup", "snapshot")
)
_LOGS = ("arn:{p}:logs:{r}:{a}:log-group:/lampstand/{n}*", "arn:{p}:logs:{r}:{a}:log-group:/aws/rds/instance/{s}-*",
         "arn:{p}:logs:{r}:{a}:log-group:/aws/eks/{s}/*")  # fmt: skip
_EKS = tuple("arn:{p}:eks:{r}:{a}:" + f"{kind}/{{s}}*" for kind in (
    "cluster", "nodegroup", "addon", "access-entry", "podidentityassociation"))  # fmt: skip

TYPES: Mapping[str, tuple[Grant, ...]] = {
    "AWS::EC2::VPC": (Grant("ec2", "CreateVpc DeleteVpc ModifyVpcAttribute DescribeVpcs DescribeVpcAttribute "
                            "CreateTags DeleteTags DescribeNetworkAcls"),),
    "AWS::EC2::InternetGateway": (Grant("ec2", "CreateInternetGateway DeleteInternetGateway "
                                        "DescribeInternetGateways"),),
    "AWS::EC2::VPCGatewayAttachment": (Grant("ec2", "AttachInternetGateway DetachInternetGateway"),),
    "AWS::EC2::RouteTable": (Grant("ec2", "CreateRouteTable DeleteRouteTable DescribeRouteTables"),),
    "AWS::EC2::Route": (Grant("ec2", "CreateRoute DeleteRoute ReplaceRoute"),),
    "AWS::EC2::Subnet": (Grant("ec2", "CreateSubnet DeleteSubnet ModifySubnetAttribute DescribeSubnets "
                               "DescribeAvailabilityZones"),),
    "AWS::EC2::SubnetRouteTableAssociation": (Grant("ec2", "AssociateRouteTable DisassociateRouteTable"),),
    "AWS::EC2::VPCEndpoint": (Grant("ec2", "CreateVpcEndpoint DeleteVpcEndpoints ModifyVpcEndpoint "
                                    "DescribeVpcEndpoints"),),
    "AWS::EC2::SecurityGroup": (Grant("ec2", "CreateSecurityGroup DeleteSecurityGroup DescribeSecurityGroups "
                                      "DescribeSecurityGroupRules"),),
    "AWS::EC2::SecurityGroupIngress": (Grant("ec2", "AuthorizeSecurityGroupIngress RevokeSecurityGroupIngress"),),
    "AWS::EC2::SecurityGroupEgress": (Grant("ec2", "AuthorizeSecurityGroupEgress RevokeSecurityGroupEgress"),),
    "AWS::EC2::LaunchTemplate": (Grant("ec2", "CreateLaunchTemplate DeleteLaunchTemplate "
                                       "CreateLaunchTemplateVersion ModifyLaunchTemplate "
                                       "DescribeLaunchTemplates DescribeLaunchTemplateVersions RunInstances"),),
    "AWS::SNS::Topic": (Grant("sns", "CreateTopic DeleteTopic GetTopicAttributes SetTopicAttributes Subscribe "
                              "ListSubscriptionsByTopic TagResource UntagResource ListTagsForResource",
                              ("arn:{p}:sns:{r}:{a}:{s}-*",)), Grant("sns", "Unsubscribe")),
    "AWS::S3::Bucket": (Grant("s3", "CreateBucket DeleteBucket ListBucket ListBucketVersions GetBucketLocation "
                              "PutBucketTagging GetBucketTagging PutBucketVersioning GetBucketVersioning "
                              "PutEncryptionConfiguration GetEncryptionConfiguration "
                              "PutBucketPublicAccessBlock GetBucketPublicAccessBlock "
                              "PutBucketOwnershipControls GetBucketOwnershipControls "
                              "PutLifecycleConfiguration GetLifecycleConfiguration PutObject GetObject "
                              "DeleteObject DeleteObjectVersion AbortMultipartUpload", _S3, anywhere=True),),
    "AWS::S3::BucketPolicy": (Grant("s3", "PutBucketPolicy GetBucketPolicy DeleteBucketPolicy", _S3,
                                    anywhere=True),),
    "AWS::ECR::Repository": (Grant("ecr", "CreateRepository DeleteRepository DescribeRepositories "
                                   "PutLifecyclePolicy GetLifecyclePolicy PutImageTagMutability "
                                   "PutImageScanningConfiguration TagResource UntagResource ListTagsForResource "
                                   "BatchCheckLayerAvailability InitiateLayerUpload UploadLayerPart "
                                   "CompleteLayerUpload PutImage BatchGetImage DescribeImages ListImages "
                                   "BatchDeleteImage GetRepositoryPolicy",
                                   ("arn:{p}:ecr:{r}:{a}:repository/lampstand/{n}",)),
                             Grant("ecr", "GetAuthorizationToken")),
    "AWS::SecretsManager::Secret": (Grant("secretsmanager", "CreateSecret DeleteSecret DescribeSecret "
                                          "GetSecretValue PutSecretValue UpdateSecret TagResource UntagResource",
                                          ("arn:{p}:secretsmanager:{r}:{a}:secret:*Secret-*",)),
                                    Grant("secretsmanager", "GetRandomPassword")),
    "AWS::ElasticLoadBalancingV2::LoadBalancer": (
        Grant("elasticloadbalancing", "CreateLoadBalancer DeleteLoadBalancer ModifyLoadBalancerAttributes "
              "SetSecurityGroups SetSubnets SetIpAddressType AddTags RemoveTags", _ELB),
        Grant("elasticloadbalancing", "DescribeLoadBalancers DescribeLoadBalancerAttributes DescribeTags"),
        Grant("ec2", "DescribeAccountAttributes DescribeAddresses DescribeNetworkInterfaces "
              "DescribeManagedPrefixLists GetManagedPrefixListEntries")),
    "AWS::ElasticLoadBalancingV2::Listener": (
        Grant("elasticloadbalancing", "CreateListener DeleteListener ModifyListener", _ELB),
        Grant("elasticloadbalancing", "DescribeListeners DescribeListenerAttributes DescribeSSLPolicies")),
    "AWS::ElasticLoadBalancingV2::ListenerRule": (
        Grant("elasticloadbalancing", "CreateRule DeleteRule ModifyRule SetRulePriorities", _ELB),
        Grant("elasticloadbalancing", "DescribeRules")),
    "AWS::ElasticLoadBalancingV2::TargetGroup": (
        Grant("elasticloadbalancing", "CreateTargetGroup DeleteTargetGroup ModifyTargetGroup "
              "ModifyTargetGroupAttributes RegisterTargets DeregisterTargets", _ELB),
        Grant("elasticloadbalancing", "DescribeTargetGroups DescribeTargetGroupAttributes DescribeTargetHealth")),
    "AWS::CloudWatch::Alarm": (Grant("cloudwatch", "PutMetricAlarm DeleteAlarms TagResource UntagResource "
                                     "ListTagsForResource DescribeAlarms",
                                     ("arn:{p}:cloudwatch:{r}:{a}:alarm:{s}-*",)),),
    "AWS::Logs::LogGroup": (Grant("logs", "CreateLogGroup DeleteLogGroup PutRetentionPolicy "
                                  "DeleteRetentionPolicy TagResource UntagResource ListTagsForResource "
                                  "FilterLogEvents GetLogEvents DescribeLogStreams", _LOGS),
                            Grant("logs", "DescribeLogGroups")),
    "AWS::RDS::DBInstance": (Grant("rds", "CreateDBInstance DeleteDBInstance ModifyDBInstance RebootDBInstance "
                                   "CreateDBInstanceReadReplica CreateDBSnapshot AddTagsToResource "
                                   "RemoveTagsFromResource ListTagsForResource", _RDS),
                             Grant("rds", "DescribeDBInstances DescribeDBSnapshots DescribeDBEngineVersions "
                                   "DescribeOrderableDBInstanceOptions DescribeEvents")),
    "AWS::RDS::DBSubnetGroup": (Grant("rds", "CreateDBSubnetGroup DeleteDBSubnetGroup ModifyDBSubnetGroup", _RDS),
                                Grant("rds", "DescribeDBSubnetGroups")),
    "AWS::RDS::DBParameterGroup": (Grant("rds", "CreateDBParameterGroup DeleteDBParameterGroup "
                                         "ModifyDBParameterGroup ResetDBParameterGroup", _RDS),
                                   Grant("rds", "DescribeDBParameterGroups DescribeDBParameters "
                                         "DescribeEngineDefaultParameters")),
    "AWS::ElastiCache::ReplicationGroup": (
        Grant("elasticache", "CreateReplicationGroup DeleteReplicationGroup ModifyReplicationGroup "
              "IncreaseReplicaCount DecreaseReplicaCount CreateSnapshot AddTagsToResource "
              "RemoveTagsFromResource ListTagsForResource", _CACHE),
        Grant("elasticache", "DescribeReplicationGroups DescribeCacheClusters DescribeSnapshots "
              "DescribeCacheEngineVersions")),
    "AWS::ElastiCache::SubnetGroup": (
        Grant("elasticache", "CreateCacheSubnetGroup DeleteCacheSubnetGroup ModifyCacheSubnetGroup", _CACHE),
        Grant("elasticache", "DescribeCacheSubnetGroups")),
    "AWS::ElastiCache::ParameterGroup": (
        Grant("elasticache", "CreateCacheParameterGroup DeleteCacheParameterGroup ModifyCacheParameterGroup", _CACHE),
        Grant("elasticache", "DescribeCacheParameterGroups DescribeCacheParameters")),
    "AWS::IAM::Role": (Grant("iam", "CreateRole DeleteRole GetRole UpdateRole UpdateAssumeRolePolicy "
                             "PutRolePolicy DeleteRolePolicy GetRolePolicy AttachRolePolicy DetachRolePolicy "
                             "ListRolePolicies ListAttachedRolePolicies TagRole UntagRole PassRole",
                             ("arn:{p}:iam::{a}:role/{t}*",), anywhere=True),
                       Grant("iam", "CreateServiceLinkedRole", ("arn:{p}:iam::{a}:role/aws-service-role/*",),
                             anywhere=True)),
    "AWS::IAM::InstanceProfile": (Grant("iam", "CreateInstanceProfile DeleteInstanceProfile GetInstanceProfile "
                                        "AddRoleToInstanceProfile RemoveRoleFromInstanceProfile",
                                        ("arn:{p}:iam::{a}:instance-profile/{t}*",), anywhere=True),),
    "AWS::AutoScaling::AutoScalingGroup": (
        Grant("autoscaling", "CreateAutoScalingGroup DeleteAutoScalingGroup UpdateAutoScalingGroup "
              "PutLifecycleHook DeleteLifecycleHook CreateOrUpdateTags DeleteTags EnableMetricsCollection "
              "AttachLoadBalancerTargetGroups StartInstanceRefresh CancelInstanceRefresh RollbackInstanceRefresh "
              "SetDesiredCapacity", ("arn:{p}:autoscaling:{r}:{a}:autoScalingGroup:*",)),
        Grant("autoscaling", "DescribeAutoScalingGroups DescribeLifecycleHooks DescribeInstanceRefreshes "
              "DescribeScalingActivities DescribeTags DescribeLifecycleHookTypes")),
    "AWS::AutoScaling::ScalingPolicy": (
        Grant("autoscaling", "PutScalingPolicy DeletePolicy", ("arn:{p}:autoscaling:{r}:{a}:autoScalingGroup:*",)),
        Grant("autoscaling", "DescribePolicies")),
    "AWS::CertificateManager::Certificate": (
        Grant("acm", "RequestCertificate", anywhere=True),
        Grant("acm", "DescribeCertificate DeleteCertificate AddTagsToCertificate "
              "ListTagsForCertificate", ("arn:{p}:acm:{r}:{a}:certificate/*",
                                         "arn:{p}:acm:" + CERTIFICATE_REGION + ":{a}:certificate/*"), anywhere=True),),
    "AWS::Route53::RecordSet": (Grant("route53", "ChangeResourceRecordSets ListResourceRecordSets GetHostedZone",
                                      ("arn:{p}:route53:::hostedzone/*",), anywhere=True),
                                Grant("route53", "GetChange", ("arn:{p}:route53:::change/*",), anywhere=True),
                                Grant("route53", "ListHostedZonesByName", anywhere=True)),
    "AWS::CloudFront::Distribution": (
        Grant("cloudfront", "CreateDistribution UpdateDistribution DeleteDistribution GetDistribution "
              "GetDistributionConfig TagResource UntagResource ListTagsForResource CreateInvalidation "
              "GetInvalidation ListInvalidations", ("arn:{p}:cloudfront::{a}:distribution/*",), anywhere=True),),
    "AWS::CloudFront::Function": (
        Grant("cloudfront", "CreateFunction UpdateFunction DeleteFunction PublishFunction DescribeFunction "
              "GetFunction", ("arn:{p}:cloudfront::{a}:function/{s}-*",), anywhere=True),),
    "AWS::CloudFront::CachePolicy": (
        Grant("cloudfront", "CreateCachePolicy UpdateCachePolicy DeleteCachePolicy GetCachePolicy",
              ("arn:{p}:cloudfront::{a}:cache-policy/*",), anywhere=True),),
    "AWS::CloudFront::OriginRequestPolicy": (
        Grant("cloudfront", "CreateOriginRequestPolicy UpdateOriginRequestPolicy DeleteOriginRequestPolicy "
              "GetOriginRequestPolicy", ("arn:{p}:cloudfront::{a}:origin-request-policy/*",), anywhere=True),),
    "AWS::CloudFront::ResponseHeadersPolicy": (
        Grant("cloudfront", "CreateResponseHeadersPolicy UpdateResponseHeadersPolicy "
              "DeleteResponseHeadersPolicy GetResponseHeadersPolicy",
              ("arn:{p}:cloudfront::{a}:response-headers-policy/*",), anywhere=True),),
    "AWS::CloudFront::OriginAccessControl": (
        Grant("cloudfront", "CreateOriginAccessControl", anywhere=True),
        Grant("cloudfront", "UpdateOriginAccessControl DeleteOriginAccessControl "
              "GetOriginAccessControl", ("arn:{p}:cloudfront::{a}:origin-access-control/*",), anywhere=True),),
    "AWS::EKS::Cluster": (Grant("eks", "CreateCluster"),
                          Grant("eks", "DeleteCluster DescribeCluster UpdateClusterConfig "
                                "UpdateClusterVersion DescribeUpdate TagResource UntagResource", _EKS),
                          Grant("eks", "DescribeClusterVersions DescribeAddonVersions")),
    "AWS::EKS::Nodegroup": (Grant("eks", "CreateNodegroup DeleteNodegroup DescribeNodegroup "
                                  "UpdateNodegroupConfig UpdateNodegroupVersion", _EKS),),
    "AWS::EKS::Addon": (Grant("eks", "CreateAddon DeleteAddon DescribeAddon UpdateAddon", _EKS),),
    "AWS::EKS::AccessEntry": (Grant("eks", "CreateAccessEntry DeleteAccessEntry DescribeAccessEntry "
                                    "UpdateAccessEntry AssociateAccessPolicy DisassociateAccessPolicy "
                                    "ListAssociatedAccessPolicies", _EKS),),
    "AWS::EKS::PodIdentityAssociation": (Grant("eks", "CreatePodIdentityAssociation DeletePodIdentityAssociation "
                                               "DescribePodIdentityAssociation UpdatePodIdentityAssociation", _EKS),),
}  # fmt: skip
"""Resource type -> what its handlers do."""

ALWAYS: tuple[Grant, ...] = (
    Grant("cloudformation", "CreateChangeSet DescribeChangeSet ExecuteChangeSet DeleteChangeSet DescribeStacks "
          "DescribeStackEvents DescribeStackResources DeleteStack CancelUpdateStack ContinueUpdateRollback "
          "UpdateTerminationProtection TagResource",
          ("arn:{p}:cloudformation:{r}:{a}:stack/{s}-*", "arn:{p}:cloudformation:us-east-1:{a}:stack/{s}-*")),
    Grant("sts", "GetCallerIdentity", anywhere=True),
    Grant("tag", "GetResources"),
    Grant("servicequotas", "GetServiceQuota"),
    Grant("pricing", "GetProducts", anywhere=True),
    Grant("ec2", "DescribeInstances DescribeInstanceTypeOfferings DescribeInstanceTypes DescribeImages"),
    Grant("ssm", "GetParameters GetParameter",
          ("arn:{p}:ssm:{r}::parameter/aws/service/debian/*", "arn:{p}:ssm:{r}:{a}:parameter/lampstand/{n}/*")),
    Grant("ssm", "DeleteParameter GetParametersByPath", ("arn:{p}:ssm:{r}:{a}:parameter/lampstand/{n}/*",)),
    Grant("ssm", "StartSession SendCommand", ("arn:{p}:ec2:{r}:{a}:instance/*", "arn:{p}:ssm:{r}::document/AWS-*",
                                              "arn:{p}:ssm:{r}:{a}:document/SSM-SessionManagerRunShell")),
    Grant("ssm", "TerminateSession", ("arn:{p}:ssm:{r}:{a}:session/*",)),
    Grant("ssm", "GetCommandInvocation DescribeInstanceInformation"),
)  # fmt: skip
"""What every site needs, whatever is in its templates."""


def grants(scope: Scope) -> tuple[Grant, ...]:
    """The grants of a site. Raises KeyError for a resource type that this table does not know."""
    types = dict.fromkeys(r.type for s in stacks(scope) for r in s.template.resources.values())
    return (*ALWAYS, *(grant for type_ in types for grant in TYPES[type_]))


def statements(scope: Scope, region: str, account: str, partition: str = "aws") -> list[dict[str, Any]]:
    """The statements, one for each set of resources, sorted."""
    names = {
        "p": partition,
        "r": region,
        "a": account,
        "s": scope.prefix,
        "t": scope.prefix[:24],
        "n": scope.site.site,
    }
    many: dict[tuple[tuple[str, ...], bool], set[str]] = {}
    for grant in grants(scope):
        where = tuple(text.format(**names) for text in grant.resources)
        many.setdefault((where, grant.anywhere), set()).update(
            f"{grant.service}:{a}" for a in grant.actions.split()
        )
    result: list[dict[str, Any]] = []
    for (where, anywhere), actions in sorted(many.items()):
        statement: dict[str, Any] = {
            "Effect": "Allow",
            "Action": sorted(actions),
            "Resource": list(where) or "*",
        }
        if not where and not anywhere:
            statement["Condition"] = {"StringEquals": {"aws:RequestedRegion": region}}
        result.append(statement)
    return result


def documents(scope: Scope, region: str, account: str, partition: str = "aws") -> list[dict[str, Any]]:
    """The policy, in as many documents as IAM's size limit asks for."""
    result: list[dict[str, Any]] = []
    for statement in statements(scope, region, account, partition):
        if result and _size([*result[-1]["Statement"], statement]) <= SIZE_LIMIT:
            result[-1]["Statement"].append(statement)
        else:
            result.append({"Version": "2012-10-17", "Statement": [statement]})
    return result


def actions(many: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """All actions of statements."""
    return frozenset(action for statement in many for action in statement["Action"])


def _size(many: list[dict[str, Any]]) -> int:
    return len(json.dumps({"Version": "2012-10-17", "Statement": many}, separators=(",", ":")))
