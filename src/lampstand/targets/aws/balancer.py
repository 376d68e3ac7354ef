"""Step 2: the balancer. Life: as the application's.

An Application Load Balancer that speaks to CloudFront only: its security group admits CloudFront's
addresses, and its listener answers 403 to whatever lacks the secret header that this site's distribution
adds (any distribution of anyone has the addresses).
"""

from collections.abc import Mapping

from lampstand.targets.aws.alarms import alarm
from lampstand.targets.aws.scope import HTTP_PORT, NODE_PORT, Scope
from lampstand.targets.aws.storage import secret_reference
from lampstand.targets.aws.template import Att, Output, Parameter, Ref, Resource, Template, Value, merge, tags

ORIGIN_HEADER = "X-Lampstand-Origin"
ZONE = Parameter("Id of the Route 53 zone that the domain is in", pattern="^Z[A-Z0-9]+$")
TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-2021-06"


def template(scope: Scope) -> Template:
    """Load balancer, listener, target group, and with a domain the certificate and name that CloudFront
    uses."""
    balancer = scope.imported_subnets("Public")
    resources = merge(
        {"Balancer": _balancer(scope, balancer), "Web": _targets(scope)},
        _listener(scope),
        _name(scope),
        _alarms(scope),
    )
    outputs: dict[str, Output] = {
        "Host": scope.export("balancer", "Host", Att("Balancer", "DNSName"), "Host name of the balancer"),
        "TargetGroup": scope.export("balancer", "TargetGroup", Ref("Web"), "Where machines are registered"),
        "FullName": scope.export(
            "balancer", "FullName", Att("Balancer", "LoadBalancerFullName"), "For metrics"
        ),
    }
    return Template(
        f"Lampstand {scope.site.site}: step 2, balancer",
        resources,
        {"HostedZone": ZONE} if scope.aws.domain else {},
        outputs,
    )


def _balancer(scope: Scope, subnets: Value) -> Resource:
    timeouts = scope.site.balancer.timeouts
    attributes: Mapping[str, str] = {
        "access_logs.s3.enabled": "true",
        "access_logs.s3.prefix": "balancer",
        "idle_timeout.timeout_seconds": str(round(max(timeouts.read, timeouts.send))),
        "routing.http.drop_invalid_header_fields.enabled": "true",
        "routing.http.desync_mitigation_mode": "defensive",
        "routing.http.xff_header_processing.mode": "append",
        "routing.http.preserve_host_header.enabled": "true",
        "deletion_protection.enabled": "false",
    }
    return Resource(
        "AWS::ElasticLoadBalancingV2::LoadBalancer",
        {
            "Type": "application",
            "Scheme": "internet-facing",
            "IpAddressType": "ipv4",
            "Subnets": subnets,
            "SecurityGroups": (scope.imported("network", "BalancerGroup"),),
            "LoadBalancerAttributes": (
                *({"Key": k, "Value": v} for k, v in attributes.items()),
                {"Key": "access_logs.s3.bucket", "Value": scope.imported("storage", "LogsBucket")},
            ),
            "Tags": tags(scope.tags("balancer")),
        },
    )


def _targets(scope: Scope) -> Resource:
    web, health = scope.site.web, scope.site.app.health
    slow_start = round(web.slow_start)
    attributes: Mapping[str, str] = {
        "deregistration_delay.timeout_seconds": str(min(round(web.drain_seconds), 3600)),
        # A target group has either slow start (30 to 900 s) or the algorithm that looks at outstanding
        # requests.
        **(
            {"slow_start.duration_seconds": str(min(slow_start, 900))}
            if slow_start >= 30
            else {"load_balancing.algorithm.type": "least_outstanding_requests"}
        ),
        "stickiness.enabled": "false",
    }
    return Resource(
        "AWS::ElasticLoadBalancingV2::TargetGroup",
        {
            "VpcId": scope.imported("network", "Vpc"),
            "TargetType": "instance",
            "Protocol": "HTTP",
            "Port": HTTP_PORT if scope.aws.compute == "ec2" else NODE_PORT,
            "HealthCheckPath": health or "/",
            "HealthCheckProtocol": "HTTP",
            # ELB probes every 5 s at most often, and wants the timeout to be shorter than the interval.
            "HealthCheckIntervalSeconds": max(5, round(web.health.interval)),
            "HealthCheckTimeoutSeconds": max(2, min(round(web.health.timeout), 4)),
            "HealthyThresholdCount": max(2, min(web.health.rises, 10)),
            "UnhealthyThresholdCount": max(2, min(web.health.falls, 10)),
            # Without a health path the application need only answer (see app.health in the site file).
            "Matcher": {"HttpCode": "200" if health else "200-499"},
            "TargetGroupAttributes": tuple({"Key": k, "Value": v} for k, v in attributes.items()),
            "Tags": tags(scope.tags("balancer")),
        },
    )


def _listener(scope: Scope) -> Mapping[str, Resource]:
    secure: dict[str, Value] = {"Port": 80, "Protocol": "HTTP"}
    if scope.aws.domain:
        secure = {
            "Port": 443,
            "Protocol": "HTTPS",
            "SslPolicy": TLS_POLICY,
            "Certificates": ({"CertificateArn": Ref("Certificate")},),
        }
    return {
        "Listener": Resource(
            "AWS::ElasticLoadBalancingV2::Listener",
            {
                "LoadBalancerArn": Ref("Balancer"),
                **secure,
                "DefaultActions": (
                    {
                        "Type": "fixed-response",
                        "FixedResponseConfig": {
                            "StatusCode": "403",
                            "ContentType": "text/plain",
                            "MessageBody": "This address serves CloudFront only.",
                        },
                    },
                ),
            },
        ),
        "FromCloudFront": Resource(
            "AWS::ElasticLoadBalancingV2::ListenerRule",
            {
                "ListenerArn": Ref("Listener"),
                "Priority": 1,
                "Conditions": (
                    {
                        "Field": "http-header",
                        "HttpHeaderConfig": {
                            "HttpHeaderName": ORIGIN_HEADER,
                            "Values": (secret_reference(scope.imported("storage", "OriginSecret")),),
                        },
                    },
                ),
                "Actions": ({"Type": "forward", "TargetGroupArn": Ref("Web")},),
            },
        ),
    }


def _name(scope: Scope) -> Mapping[str, Resource]:
    if scope.origin_domain is None:
        return {}
    return {
        "Certificate": Resource(
            "AWS::CertificateManager::Certificate",
            {
                "DomainName": scope.origin_domain,
                # CloudFront passes the visitor's host name on, and then compares the certificate with that
                # too.
                "SubjectAlternativeNames": scope.domains,
                "ValidationMethod": "DNS",
                "DomainValidationOptions": tuple(
                    {"DomainName": name, "HostedZoneId": Ref("HostedZone")}
                    for name in (scope.origin_domain, *scope.domains)
                ),
                "Tags": tags(scope.tags("balancer")),
            },
        ),
        "Name": Resource(
            "AWS::Route53::RecordSet",
            {
                "HostedZoneId": Ref("HostedZone"),
                "Name": scope.origin_domain,
                "Type": "A",
                "AliasTarget": {
                    "DNSName": Att("Balancer", "DNSName"),
                    "HostedZoneId": Att("Balancer", "CanonicalHostedZoneID"),
                },
            },
        ),
    }


def _alarms(scope: Scope) -> Mapping[str, Resource]:
    of: Mapping[str, Value] = {"LoadBalancer": Att("Balancer", "LoadBalancerFullName")}
    space = "AWS/ApplicationELB"
    return {
        "Failing": alarm(
            scope,
            space,
            "HTTPCode_Target_5XX_Count",
            of,
            above=20,
            minutes=5,
            statistic="Sum",
            text="the application answers with errors",
        ),
        "Unreachable": alarm(
            scope,
            space,
            "HTTPCode_ELB_5XX_Count",
            of,
            above=5,
            minutes=5,
            statistic="Sum",
            text="no machine answers",
        ),
        "Unhealthy": alarm(
            scope,
            space,
            "UnHealthyHostCount",
            {**of, "TargetGroup": Att("Web", "TargetGroupFullName")},
            above=0,
            minutes=10,
            statistic="Maximum",
            text="a machine is not well",
        ),
    }
