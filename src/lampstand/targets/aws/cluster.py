"""Step 3 with `compute: kubernetes`: an EKS cluster with managed nodes. Life: replaced at will.

The cluster has the network, database, cache, buckets, balancer and CDN of the other way beside it; the
application is put onto it by the Kubernetes target. The balancer reaches it through a node port, so the
nodes' Auto Scaling group is registered with the target group once the nodes exist (CloudFormation cannot
name that group).
"""

from collections.abc import Mapping

from lampstand.targets.aws.application import data_statements, log_group
from lampstand.targets.aws.scope import CACHE_PORT, DATABASE_PORT, NODE_PORT, Scope
from lampstand.targets.aws.template import Att, Output, Ref, Resource, Sub, Template, Value, merge, tags

ADDONS: Mapping[str, Mapping[str, str]] = {
    "1.33": {"vpc-cni": "v1.20.4-eksbuild.2", "coredns": "v1.12.1-eksbuild.2", "kube-proxy": "v1.33.3-eksbuild.4",
             "eks-pod-identity-agent": "v1.3.9-eksbuild.3"},
    "1.34": {"vpc-cni": "v1.20.4-eksbuild.2", "coredns": "v1.12.3-eksbuild.1", "kube-proxy": "v1.34.0-eksbuild.4",
             "eks-pod-identity-agent": "v1.3.9-eksbuild.3"},
}  # fmt: skip
"""Version of Kubernetes -> versions of the add-ons. With another version EKS chooses its default ones;
`preflight` compares these with what the region offers."""
NAMES = ("vpc-cni", "coredns", "kube-proxy", "eks-pod-identity-agent")


def template(scope: Scope) -> Template:
    """Cluster, nodes, add-ons, access, the application's identity, and its way to database and cache."""
    return Template(
        f"Lampstand {scope.site.site}: step 3, EKS cluster",
        merge(_logs(scope), _cluster(scope), _nodes(scope), _addons(scope), _access(scope), _identity(scope)),
        outputs={
            "Cluster": Output(Ref("Cluster"), "Name of the cluster", f"{scope.stack('cluster')}-Cluster"),
            "Nodes": Output(Ref("Nodes"), "Node group (CLUSTER/NAME)"),
        },
    )


def _policy(name: str) -> Value:
    return Sub("arn:${AWS::Partition}:iam::aws:policy/" + name)


def _role(scope: Scope, service: str, policies: tuple[str, ...], own: tuple[Value, ...] = ()) -> Resource:
    actions = ("sts:AssumeRole", "sts:TagSession") if service.startswith("pods") else ("sts:AssumeRole",)
    return Resource(
        "AWS::IAM::Role",
        {
            "AssumeRolePolicyDocument": {
                "Version": "2012-10-17",
                "Statement": ({"Effect": "Allow", "Principal": {"Service": service}, "Action": actions},),
            },
            "ManagedPolicyArns": tuple(_policy(p) for p in policies) or None,
            "Policies": (
                {"PolicyName": "application", "PolicyDocument": {"Version": "2012-10-17", "Statement": own}},
            )
            if own
            else None,
            "Tags": tags(scope.tags("web")),
        },
    )


def _logs(scope: Scope) -> Mapping[str, Resource]:
    retention: Mapping[str, Value] = {"RetentionInDays": scope.aws.log_days, "Tags": tags(scope.tags("web"))}
    return {
        "Logs": Resource("AWS::Logs::LogGroup", {"LogGroupName": log_group(scope), **retention}),
        "ClusterLogs": Resource(
            "AWS::Logs::LogGroup", {"LogGroupName": f"/aws/eks/{scope.prefix}/cluster", **retention}
        ),
    }


def _cluster(scope: Scope) -> Mapping[str, Resource]:
    eks = scope.aws.kubernetes
    return {
        "ClusterRole": _role(scope, "eks.amazonaws.com", ("AmazonEKSClusterPolicy",)),
        "Cluster": Resource(
            "AWS::EKS::Cluster",
            {
                "Name": scope.prefix,
                "Version": eks.version,
                "RoleArn": Att("ClusterRole", "Arn"),
                "ResourcesVpcConfig": {
                    "SubnetIds": scope.imported_subnets("Public"),
                    "EndpointPrivateAccess": True,
                    "EndpointPublicAccess": True,
                    "PublicAccessCidrs": eks.networks or ("0.0.0.0/0",),
                },
                "AccessConfig": {
                    "AuthenticationMode": "API",
                    "BootstrapClusterCreatorAdminPermissions": True,
                },
                # Extended support costs six times as much and must be chosen, not slipped into.
                "UpgradePolicy": {"SupportType": "STANDARD"},
                "Logging": {
                    "ClusterLogging": {
                        "EnabledTypes": tuple(
                            {"Type": t}
                            for t in ("api", "audit", "authenticator", "controllerManager", "scheduler")
                        )
                    }
                },
                "Tags": tags(scope.tags("web")),
            },
            depends_on=("ClusterLogs",),
        ),
        # Nodes carry the cluster's own security group: database, cache and balancer must know it.
        **{
            f"{name}FromCluster": Resource(
                "AWS::EC2::SecurityGroupIngress",
                {
                    "GroupId": scope.imported("network", f"{name}Group"),
                    "IpProtocol": "tcp",
                    "FromPort": port,
                    "ToPort": port,
                    "SourceSecurityGroupId": Att("Cluster", "ClusterSecurityGroupId"),
                    "Description": "nodes",
                },
            )
            for name, port in (("Database", DATABASE_PORT), ("Cache", CACHE_PORT))
        },
        "ClusterFromBalancer": Resource(
            "AWS::EC2::SecurityGroupIngress",
            {
                "GroupId": Att("Cluster", "ClusterSecurityGroupId"),
                "IpProtocol": "tcp",
                "FromPort": NODE_PORT,
                "ToPort": NODE_PORT,
                "SourceSecurityGroupId": scope.imported("network", "BalancerGroup"),
                "Description": "balancer",
            },
        ),
        "BalancerToCluster": Resource(
            "AWS::EC2::SecurityGroupEgress",
            {
                "GroupId": scope.imported("network", "BalancerGroup"),
                "IpProtocol": "tcp",
                "FromPort": NODE_PORT,
                "ToPort": NODE_PORT,
                "DestinationSecurityGroupId": Att("Cluster", "ClusterSecurityGroupId"),
                "Description": "nodes",
            },
        ),
    }


def _nodes(scope: Scope) -> Mapping[str, Resource]:
    eks = scope.aws.kubernetes
    return {
        "NodeRole": _role(
            scope,
            "ec2.amazonaws.com",
            (
                "AmazonEKSWorkerNodePolicy",
                "AmazonEC2ContainerRegistryPullOnly",
                "AmazonEKS_CNI_Policy",
                "AmazonSSMManagedInstanceCore",
            ),
        ),
        "NodeLaunch": Resource(
            "AWS::EC2::LaunchTemplate",
            {
                "LaunchTemplateData": {
                    "InstanceType": eks.instance_type,
                    "MetadataOptions": {
                        "HttpTokens": "required",
                        # Pods have an identity of their own and no business with the node's.
                        "HttpPutResponseHopLimit": 1,
                    },
                    "NetworkInterfaces": (
                        {
                            "DeviceIndex": 0,
                            "AssociatePublicIpAddress": True,
                            "DeleteOnTermination": True,
                            "Groups": (Att("Cluster", "ClusterSecurityGroupId"),),
                        },
                    ),
                    "BlockDeviceMappings": (
                        {
                            "DeviceName": "/dev/xvda",
                            "Ebs": {
                                "VolumeType": "gp3",
                                "VolumeSize": -(-scope.aws.disk // 2**30),
                                "Encrypted": True,
                                "DeleteOnTermination": True,
                            },
                        },
                    ),
                    "TagSpecifications": (
                        {
                            "ResourceType": "instance",
                            "Tags": tags(scope.tags("web"), Name=f"{scope.prefix}-node"),
                        },
                    ),
                }
            },
        ),
        "Nodes": Resource(
            "AWS::EKS::Nodegroup",
            {
                "ClusterName": Ref("Cluster"),
                "NodeRole": Att("NodeRole", "Arn"),
                "Subnets": scope.imported_subnets("Public"),
                "AmiType": "AL2023_x86_64_STANDARD",
                "LaunchTemplate": {
                    "Id": Ref("NodeLaunch"),
                    "Version": Att("NodeLaunch", "LatestVersionNumber"),
                },
                "ScalingConfig": {
                    "MinSize": eks.nodes,
                    "DesiredSize": eks.nodes,
                    "MaxSize": max(eks.max_nodes, eks.nodes),
                },
                "UpdateConfig": {"MaxUnavailable": 1},
                "Tags": {**scope.tags("web")},
            },
            # Without the network add-on no node becomes ready.
            depends_on=("AddonVpcCni", "AddonKubeProxy"),
        ),
    }


def _logical(addon: str) -> str:
    return "Addon" + "".join(part.capitalize() for part in addon.split("-"))


def _addons(scope: Scope) -> Mapping[str, Resource]:
    versions = ADDONS.get(scope.aws.kubernetes.version, {})
    return {
        _logical(name): Resource(
            "AWS::EKS::Addon",
            {
                "ClusterName": Ref("Cluster"),
                "AddonName": name,
                "AddonVersion": versions.get(name),
                "ResolveConflicts": "OVERWRITE",
                "Tags": tags(scope.tags("web")),
            },
            # These run as deployments and wait for nodes.
            depends_on=() if name in ("vpc-cni", "kube-proxy") else ("Nodes",),
        )
        for name in NAMES
    }


def _access(scope: Scope) -> Mapping[str, Resource]:
    return {
        f"Admin{i + 1}": Resource(
            "AWS::EKS::AccessEntry",
            {
                "ClusterName": Ref("Cluster"),
                "PrincipalArn": arn,
                "AccessPolicies": (
                    {
                        "PolicyArn": Sub(
                            "arn:${AWS::Partition}:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"
                        ),
                        "AccessScope": {"Type": "cluster"},
                    },
                ),
                "Tags": tags(scope.tags("web")),
            },
        )
        for i, arn in enumerate(scope.aws.kubernetes.admins)
    }


def _identity(scope: Scope) -> Mapping[str, Resource]:
    """The application's pods get the rights of the machines: buckets and secrets, nothing else."""
    return {
        "PodRole": _role(scope, "pods.eks.amazonaws.com", (), data_statements(scope)),
        "PodIdentity": Resource(
            "AWS::EKS::PodIdentityAssociation",
            {
                "ClusterName": Ref("Cluster"),
                "Namespace": scope.site.targets.kubernetes.namespace or scope.site.site,
                "ServiceAccount": "application",
                "RoleArn": Att("PodRole", "Arn"),
                "Tags": tags(scope.tags("web")),
            },
        ),
    }
