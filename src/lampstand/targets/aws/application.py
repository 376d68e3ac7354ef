"""Step 3: the machines that run the application. Life: replaced at will.

Two Auto Scaling groups: `WebServers` behind the balancer, and `Workers` (one machine) when the site has
workers or jobs. A new machine is held back by a lifecycle hook until its release answers well, so a broken
release never gets a request, and an instance refresh that meets one returns to the old release by itself.
"""

from collections.abc import Mapping

from lampstand.targets.aws.alarms import alarm
from lampstand.targets.aws.scope import RELEASE_TAG, Scope
from lampstand.targets.aws.template import (
    Att,
    Output,
    Parameter,
    Ref,
    Resource,
    Sub,
    Template,
    Value,
    merge,
    tags,
)
from lampstand.targets.aws.userdata import GROUPS, HOOK, parameters, user_data

KIND_TAG = "lampstand:kind"
RELEASE = Parameter("Id of the release that machines run", pattern="^[A-Za-z0-9._-]{1,128}$")
BOOT_SECONDS = 600
"""A machine that is not well after this time has failed: packages, images, the application's own start."""


def image_parameter(scope: Scope) -> Parameter:
    """The Debian image of the region, as the Debian project publishes it.

    Debian 13, because the s3fs of Debian 12 (1.90) asks for credentials without a token, which IMDSv2 refuses. What the
    containers are built from is another matter.
    """
    processor = "arm64" if scope.aws.arm else "amd64"
    return Parameter(
        "Image of the machines",
        f"/aws/service/debian/release/13/latest/{processor}",
        type="AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>",
    )


def boot_seconds(scope: Scope) -> int:
    """How long a new machine may take, with the release step."""
    app = scope.site.app
    return round(BOOT_SECONDS + app.start_timeout + (app.release_timeout if app.release else 0))


def template(scope: Scope) -> Template:
    """Role, launch templates, Auto Scaling groups, logs and alarms."""
    kinds = ("web", "worker") if scope.has_workers else ("web",)
    parts = merge(
        {
            "Logs": Resource(
                "AWS::Logs::LogGroup",
                {
                    "LogGroupName": log_group(scope),
                    "RetentionInDays": scope.aws.log_days,
                    "Tags": tags(scope.tags("web")),
                },
            )
        },
        _role(scope),
        *(_launch(scope, kind) for kind in kinds),
        *(_group(scope, kind) for kind in kinds),
        _scaling(scope),
    )
    outputs = {
        GROUPS[kind]: Output(Ref(GROUPS[kind]), f"Auto Scaling group of the {kind} machines")
        for kind in kinds
    }
    return Template(
        f"Lampstand {scope.site.site}: step 3, application",
        parts,
        {"Release": RELEASE, "Image": image_parameter(scope)},
        outputs,
    )


def log_group(scope: Scope) -> str:
    """Name of the group that machines write to."""
    return f"/lampstand/{scope.site.site}"


def statement(sid: str, actions: tuple[str, ...], resources: Value, condition: Value = None) -> Value:
    """An allowing statement of a policy."""
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources, "Condition": condition}


def data_statements(scope: Scope) -> tuple[Value, ...]:
    """What the application's machines (or pods) may do with buckets and secrets."""
    uploads = scope.imported("storage", "UploadsBucket")
    releases = scope.imported("storage", "ReleasesBucket")
    bucket = "arn:${AWS::Partition}:s3:::${Bucket}"
    return (
        statement("Releases", ("s3:GetObject",), Sub(bucket + "/releases/*", (("Bucket", releases),))),
        statement(
            "Uploads",
            ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"),
            Sub(bucket + "/*", (("Bucket", uploads),)),
        ),
        statement("UploadsList", ("s3:ListBucket",), Sub(bucket, (("Bucket", uploads),))),
        statement(
            "Secrets",
            ("secretsmanager:GetSecretValue",),
            tuple(
                scope.imported("storage", name)
                for name in ("DatabaseSecret", "CacheSecret", "AppSecret", "SettingsSecret")
            ),
        ),
    )


def _role(scope: Scope) -> Mapping[str, Resource]:
    here = "${AWS::Partition}:%s:${AWS::Region}:${AWS::AccountId}:"
    statements = (
        *data_statements(scope),
        # Has no resource to name (service authorization reference, Amazon ECR).
        statement("RegistryLogin", ("ecr:GetAuthorizationToken",), "*"),
        statement(
            "Images",
            ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"),
            scope.imported("storage", "ImagesArn"),
        ),
        statement("Logs", ("logs:CreateLogStream", "logs:PutLogEvents"), Att("Logs", "Arn")),
        statement(
            "ReleaseStep",
            ("ssm:GetParameter", "ssm:PutParameter"),
            Sub("arn:" + here % "ssm" + f"parameter{parameters(scope)}/step/*"),
        ),
        statement(
            "TellGroup",
            ("autoscaling:CompleteLifecycleAction",),
            Sub(
                "arn:" + here % "autoscaling" + "autoScalingGroup:*:autoScalingGroupName/${AWS::StackName}-*"
            ),
        ),
        statement("TellStack", ("cloudformation:SignalResource",), Ref("AWS::StackId")),
    )
    return {
        "Role": Resource(
            "AWS::IAM::Role",
            {
                "AssumeRolePolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": (
                        {
                            "Effect": "Allow",
                            "Principal": {"Service": "ec2.amazonaws.com"},
                            "Action": "sts:AssumeRole",
                        },
                    ),
                },
                # Session Manager instead of SSH: no port is open, every session is in CloudTrail.
                "ManagedPolicyArns": (
                    Sub("arn:${AWS::Partition}:iam::aws:policy/AmazonSSMManagedInstanceCore"),
                ),
                "Policies": (
                    {
                        "PolicyName": "machine",
                        "PolicyDocument": {"Version": "2012-10-17", "Statement": statements},
                    },
                ),
                "Tags": tags(scope.tags("web")),
            },
        ),
        "Profile": Resource("AWS::IAM::InstanceProfile", {"Roles": (Ref("Role"),)}),
    }


def _launch(scope: Scope, kind: str) -> Mapping[str, Resource]:
    own = {**scope.tags("web"), "Name": f"{scope.prefix}-{kind}"}
    return {
        f"{GROUPS[kind]}Launch": Resource(
            "AWS::EC2::LaunchTemplate",
            {
                "LaunchTemplateData": {
                    "ImageId": Ref("Image"),
                    "InstanceType": scope.aws.instance_type,
                    "IamInstanceProfile": {"Arn": Att("Profile", "Arn")},
                    "MetadataOptions": {
                        "HttpTokens": "required",
                        "HttpPutResponseHopLimit": 1,
                        "HttpEndpoint": "enabled",
                        # The machine reads its release and kind from its tags.
                        "InstanceMetadataTags": "enabled",
                    },
                    "Monitoring": {"Enabled": False},
                    "NetworkInterfaces": (
                        {
                            "DeviceIndex": 0,
                            "AssociatePublicIpAddress": True,
                            "DeleteOnTermination": True,
                            "Groups": (scope.imported("network", "WebGroup"),),
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
                            "Tags": (
                                *tags(own),
                                *tags({KIND_TAG: kind}),
                                {"Key": RELEASE_TAG, "Value": Ref("Release")},
                            ),
                        },
                        {"ResourceType": "volume", "Tags": tags(own)},
                    ),
                    "UserData": user_data(scope),
                },
            },
        )
    }


def _group(scope: Scope, kind: str) -> Mapping[str, Resource]:
    name = GROUPS[kind]
    web = kind == "web"
    least = scope.site.web.servers if web else 1
    seconds = boot_seconds(scope)
    properties: dict[str, Value] = {
        "MinSize": str(least),
        "MaxSize": str(scope.web_maximum if web else 1),
        "VPCZoneIdentifier": scope.imported_subnets("Public"),
        "LaunchTemplate": {
            "LaunchTemplateId": Ref(f"{name}Launch"),
            "Version": Att(f"{name}Launch", "LatestVersionNumber"),
        },
        "TargetGroupARNs": (scope.imported("balancer", "TargetGroup"),) if web else None,
        "HealthCheckType": "ELB" if web else "EC2",
        "HealthCheckGracePeriod": 60,
        "LifecycleHookSpecificationList": (
            {
                "LifecycleHookName": HOOK,
                "LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING",
                "HeartbeatTimeout": min(seconds, 7200),
                "DefaultResult": "ABANDON",
            },
        ),
        "MetricsCollection": ({"Granularity": "1Minute", "Metrics": ("GroupInServiceInstances",)},),
        "Tags": tuple(
            {"Key": k, "Value": v, "PropagateAtLaunch": False} for k, v in scope.tags("web").items()
        ),
    }
    return {
        name: Resource(
            "AWS::AutoScaling::AutoScalingGroup",
            properties,
            creation_policy={"ResourceSignal": {"Count": least, "Timeout": f"PT{-(-seconds // 60) + 5}M"}},
            # A change of the stack must not touch the number that `scale` or the load chose.
            update_policy={"AutoScalingScheduledAction": {"IgnoreUnmodifiedGroupSizeProperties": True}},
        )
    }


def _scaling(scope: Scope) -> Mapping[str, Resource]:
    result: dict[str, Resource] = {
        "Few": alarm(
            scope,
            "AWS/AutoScaling",
            "GroupInServiceInstances",
            {"AutoScalingGroupName": Ref(GROUPS["web"])},
            below=scope.site.web.servers,
            minutes=10,
            text="fewer web servers than the site file asks for",
        )
    }
    if scope.site.web.max_servers:
        result["Load"] = Resource(
            "AWS::AutoScaling::ScalingPolicy",
            {
                "AutoScalingGroupName": Ref(GROUPS["web"]),
                "PolicyType": "TargetTrackingScaling",
                "EstimatedInstanceWarmup": 60,
                "TargetTrackingConfiguration": {
                    "PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"},
                    "TargetValue": 60,
                },
            },
        )
    return result
