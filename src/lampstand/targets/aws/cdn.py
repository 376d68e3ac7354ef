"""Step 6: CloudFront. Life: as the site's; a distribution takes minutes to appear and to go.

Behaviours, cache policies and response-header policies come from the same `Behaviour` values as the other
targets' edges; README.md lists where CloudFront differs. Pages come from the balancer; files that never
change (`immutable`) from the bucket of assets, and from the balancer where the bucket has none.
"""

from collections.abc import Mapping, Sequence

from lampstand.targets.aws.balancer import ORIGIN_HEADER, ZONE
from lampstand.targets.aws.behaviours import CACHING_DISABLED, Path, paths, public_uploads, with_uploads
from lampstand.targets.aws.scope import Scope
from lampstand.targets.aws.storage import only_tls, secret_reference
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
from lampstand.targets.aws.viewer import viewer_function
from lampstand.tiers.edge.rules import behaviours

CLOUDFRONT_ZONE = "Z2FDTNDATAQYW2"
"""Route 53 zone of every distribution (AWS general reference, "CloudFront endpoints")."""
TAG_HEADER = "Cache-Tag"
"""Header of an answer with its tags, separated by commas; the machines write it from the headers of all
edges."""
READ = ("GET", "HEAD", "OPTIONS")
ALL = ("GET", "HEAD", "OPTIONS", "PUT", "PATCH", "POST", "DELETE")
CERTIFICATE = Parameter("ARN of the certificate in us-east-1", pattern="^arn:aws[a-z-]*:acm:us-east-1:")


def template(scope: Scope) -> Template:
    """The distribution, its policies and function, the bucket policies that name it, and the site's
    records."""
    many, policies = paths(scope)
    domains = scope.domains
    parameters: dict[str, Parameter] = {}
    if domains:
        parameters = {"Certificate": CERTIFICATE, "HostedZone": ZONE}
    host: Value = domains[0] if domains else Att("Distribution", "DomainName")
    return Template(
        f"Lampstand {scope.site.site}: step 6, CDN",
        merge(
            {"Distribution": _distribution(scope, many), "Viewer": _function(scope)},
            policies,
            _access(scope),
            _records(domains),
        ),
        parameters,
        {
            "Distribution": Output(
                Ref("Distribution"), "Id of the distribution", f"{scope.stack('cdn')}-Distribution"
            ),
            "Url": scope.export(
                "cdn", "Url", Sub("https://${Host}", (("Host", host),)), "URL that visitors use"
            ),
        },
    )


def _function(scope: Scope) -> Resource:
    return Resource(
        "AWS::CloudFront::Function",
        {
            "Name": f"{scope.prefix}-viewer",
            "AutoPublish": True,
            "FunctionConfig": {"Comment": f"Rules of {scope.site.site}", "Runtime": "cloudfront-js-2.0"},
            "FunctionCode": viewer_function(with_uploads(scope, behaviours(scope.site))),
        },
    )


def _distribution(scope: Scope, many: Sequence[Path]) -> Resource:
    domains = scope.domains
    certificate: Value = {"CloudFrontDefaultCertificate": True}
    if domains:
        certificate = {
            "AcmCertificateArn": Ref("Certificate"),
            "SslSupportMethod": "sni-only",
            "MinimumProtocolVersion": "TLSv1.2_2021",
        }
    classes = {"100": "PriceClass_100", "200": "PriceClass_200", "all": "PriceClass_All"}
    sources = {p.source for p in many}
    config: dict[str, Value] = {
        "Comment": f"Lampstand {scope.site.site}",
        "Enabled": True,
        "HttpVersion": "http2and3",
        "IPV6Enabled": True,
        "PriceClass": classes[scope.aws.price_class],
        "Aliases": domains or None,
        "ViewerCertificate": certificate,
        "CacheTagConfig": {"HeaderName": TAG_HEADER},
        "Origins": tuple(
            _origin(scope, s) for s in ("balancer", "assets", "uploads") if s in {*sources, "balancer"}
        ),
        "OriginGroups": _groups(sources),
        "DefaultCacheBehavior": _behaviour(scope, many[-1]),
        "CacheBehaviors": tuple({"PathPattern": p.pattern, **_behaviour(scope, p)} for p in many[:-1])
        or None,
        # Errors are kept only as long as their own headers say, as on the other targets.
        "CustomErrorResponses": tuple(
            {"ErrorCode": code, "ErrorCachingMinTTL": 0}
            for code in (400, 403, 404, 405, 414, 416, 500, 501, 502, 503, 504)
        ),
    }
    return Resource(
        "AWS::CloudFront::Distribution",
        {"DistributionConfig": config, "Tags": tags(scope.tags("edge"))},
    )


def _origin(scope: Scope, source: str) -> Value:
    if source != "balancer":
        bucket = source.capitalize()
        root = scope.site.app.root
        return {
            "Id": source,
            "DomainName": scope.imported("storage", f"{bucket}Domain"),
            "OriginPath": f"/{root}" if source == "uploads" and root != "." else None,
            "OriginAccessControlId": Att("Access", "Id"),
            "S3OriginConfig": {"OriginAccessIdentity": ""},
        }
    read = min(max(round(scope.site.balancer.timeouts.read), 1), 60)
    shield = scope.site.cdn.shield is not None
    return {
        "Id": source,
        "DomainName": scope.origin_domain or scope.imported("balancer", "Host"),
        "CustomOriginConfig": {
            "OriginProtocolPolicy": "https-only" if scope.origin_domain else "http-only",
            "OriginSSLProtocols": ("TLSv1.2",),
            "OriginReadTimeout": read,
            "OriginKeepaliveTimeout": 60,
        },
        "OriginCustomHeaders": (
            {
                "HeaderName": ORIGIN_HEADER,
                "HeaderValue": secret_reference(scope.imported("storage", "OriginSecret")),
            },
        ),
        "OriginShield": {"Enabled": True, "OriginShieldRegion": Ref("AWS::Region")} if shield else None,
    }


def _groups(sources: set[str]) -> Value:
    many = tuple(
        {
            "Id": f"{source}-or-balancer",
            # S3 says 403 for a missing object to whoever may not list the bucket.
            "FailoverCriteria": {"StatusCodes": {"Items": (403, 404, 500, 502, 503, 504), "Quantity": 6}},
            "Members": {"Items": ({"OriginId": source}, {"OriginId": "balancer"}), "Quantity": 2},
        }
        for source in ("assets", "uploads")
        if source in sources
    )
    return {"Items": many, "Quantity": len(many)} if many else None


def _behaviour(scope: Scope, path: Path) -> dict[str, Value]:
    own = path.source == "balancer"
    return {
        "TargetOriginId": "balancer" if own else f"{path.source}-or-balancer",
        # An origin group takes reading requests only.
        "AllowedMethods": ALL if own else READ,
        "CachedMethods": ("GET", "HEAD"),
        "Compress": path.behaviour.compress,
        "ViewerProtocolPolicy": "redirect-to-https" if scope.site.tls.redirect else "allow-all",
        "CachePolicyId": path.cache if path.cache == CACHING_DISABLED else Ref(path.cache),
        # S3 signs with its own host name, so the visitor's must not reach it.
        "OriginRequestPolicyId": Ref("ToBalancer") if own else None,
        "ResponseHeadersPolicyId": Ref(path.headers) if path.headers else None,
        "FunctionAssociations": (
            {"EventType": "viewer-request", "FunctionARN": Att("Viewer", "FunctionMetadata.FunctionARN")},
        ),
    }


def _access(scope: Scope) -> Mapping[str, Resource]:
    """What CloudFront sends to the balancer, and its right to read the buckets."""
    result = {
        "ToBalancer": Resource(
            "AWS::CloudFront::OriginRequestPolicy",
            {
                "OriginRequestPolicyConfig": {
                    "Name": f"{scope.prefix}-to-balancer",
                    "HeadersConfig": {
                        "HeaderBehavior": "allViewerAndWhitelistCloudFront",
                        "Headers": ("CloudFront-Forwarded-Proto",),
                    },
                    "CookiesConfig": {"CookieBehavior": "all"},
                    "QueryStringsConfig": {"QueryStringBehavior": "all"},
                }
            },
        ),
        "Access": Resource(
            "AWS::CloudFront::OriginAccessControl",
            {
                "OriginAccessControlConfig": {
                    "Name": f"{scope.prefix}-access",
                    "OriginAccessControlOriginType": "s3",
                    "SigningBehavior": "always",
                    "SigningProtocol": "sigv4",
                }
            },
        ),
    }
    for name in ("Assets", "Uploads"):
        bucket = scope.imported("storage", f"{name}Bucket")
        arn = Sub("arn:${AWS::Partition}:s3:::${Bucket}", (("Bucket", bucket),))
        folders = tuple(
            f"{'' if scope.site.app.root == '.' else scope.site.app.root + '/'}{f}/*"
            for f in public_uploads(scope)
        )
        readable = ("*",) if name == "Assets" else folders
        allow = {
            "Sid": "CloudFront",
            "Effect": "Allow",
            "Principal": {"Service": "cloudfront.amazonaws.com"},
            "Action": "s3:GetObject",
            "Resource": tuple(
                Sub("arn:${AWS::Partition}:s3:::${Bucket}/" + key, (("Bucket", bucket),)) for key in readable
            ),
            "Condition": {
                "StringEquals": {
                    "AWS:SourceArn": Sub(
                        "arn:${AWS::Partition}:cloudfront::${AWS::AccountId}:distribution/${Distribution}"
                    )
                }
            },
        }
        result[f"{name}Policy"] = Resource(
            "AWS::S3::BucketPolicy",
            {
                "Bucket": bucket,
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": (only_tls(arn), *((allow,) if readable else ())),
                },
            },
        )
    return result


def _records(domains: Sequence[str]) -> Mapping[str, Resource]:
    return {
        f"Name{i + 1}{kind}": Resource(
            "AWS::Route53::RecordSet",
            {
                "HostedZoneId": Ref("HostedZone"),
                "Name": domain,
                "Type": kind,
                "AliasTarget": {
                    "DNSName": Att("Distribution", "DomainName"),
                    "HostedZoneId": CLOUDFRONT_ZONE,
                },
            },
        )
        for i, domain in enumerate(domains)
        for kind in ("A", "AAAA")
    }
