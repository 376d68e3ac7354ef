"""Step 1: what outlives everything else: buckets, the image repository, secrets. Life: until it is deleted
by name.

Every bucket is private, versioned and encrypted; the bucket policies refuse requests without TLS. Those of
the buckets that CloudFront reads name its distribution, so they are in the CDN's stack.
"""

import json
from collections.abc import Mapping

from lampstand.targets.aws.scope import Scope
from lampstand.targets.aws.template import (
    Att,
    Output,
    Properties,
    Ref,
    Resource,
    Sub,
    Template,
    Value,
    merge,
    tags,
)
from lampstand.tiers.database.accounts import APP

BUCKETS: Mapping[str, str] = {
    "Assets": "static files of the releases",
    "Uploads": "what the application's users uploaded",
    "Releases": "what machines start, and templates too large for a request",
    "Logs": "the balancer's access logs",
}
SECRETS: Mapping[str, str] = {
    "DatabaseSecret": "account of the application in the database",
    "CacheSecret": "password of cache and sessions",
    "AppSecret": "APP_SECRET: the application's signing key",
    "OriginSecret": "header by which the balancer knows CloudFront",
    "SettingsSecret": "values of app.secrets",
}
STATEFUL_SECRETS = ("DatabaseSecret", "AppSecret", "SettingsSecret")


def template(scope: Scope) -> Template:
    """Buckets, image repository, secrets."""
    outputs = {
        f"{name}Bucket": scope.export("storage", f"{name}Bucket", Ref(f"{name}Bucket"), f"Bucket: {text}")
        for name, text in BUCKETS.items()
    }
    for name in ("Assets", "Uploads"):
        outputs[f"{name}Domain"] = scope.export(
            "storage",
            f"{name}Domain",
            Att(f"{name}Bucket", "RegionalDomainName"),
            f"Host name of {name}Bucket",
        )
    for name, text in SECRETS.items():
        outputs[name] = scope.export("storage", name, Ref(name), f"Secret: {text}")
    outputs["Images"] = Output(
        Att("Images", "RepositoryUri"), "Image repository", f"{scope.stack('storage')}-Images"
    )
    outputs["ImagesArn"] = scope.export("storage", "ImagesArn", Att("Images", "Arn"), "Image repository")
    return Template(
        f"Lampstand {scope.site.site}: step 1, buckets, images and secrets",
        merge(_buckets(scope), _images(scope), _secrets(scope)),
        outputs=outputs,
    )


def _buckets(scope: Scope) -> Mapping[str, Resource]:
    result: dict[str, Resource] = {}
    keep_days = round(scope.site.deploy.assets_keep / 86_400)
    expiry: Mapping[str, tuple[Value, ...]] = {
        # Assets carry the time of the last release that had them; a release touches its own again.
        "Assets": (
            _expire("old-assets", {"NoncurrentVersionExpiration": {"NoncurrentDays": max(keep_days, 1)}}),
        ),
        "Uploads": (_expire("deleted-uploads", {"NoncurrentVersionExpiration": {"NoncurrentDays": 30}}),),
        "Releases": (_expire("old-versions", {"NoncurrentVersionExpiration": {"NoncurrentDays": 30}}),),
        "Logs": (
            _expire(
                "old-logs",
                {
                    "ExpirationInDays": scope.aws.log_days,
                    "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
                },
            ),
        ),
    }
    for name in BUCKETS:
        bucket = f"{name}Bucket"
        result[bucket] = Resource("AWS::S3::Bucket", _bucket(scope, expiry[name]), keep="Retain")
        if name in ("Releases", "Logs"):
            result[f"{bucket}Policy"] = Resource(
                "AWS::S3::BucketPolicy",
                {
                    "Bucket": Ref(bucket),
                    "PolicyDocument": {
                        "Version": "2012-10-17",
                        "Statement": (
                            only_tls(Att(bucket, "Arn")),
                            *(_log_delivery() if name == "Logs" else ()),
                        ),
                    },
                },
            )
    return result


def _bucket(scope: Scope, rules: tuple[Value, ...]) -> Properties:
    abandoned: Value = {
        "Id": "abandoned-uploads",
        "Status": "Enabled",
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    }
    return {
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": (
                {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}},
            )
        },
        "OwnershipControls": {"Rules": ({"ObjectOwnership": "BucketOwnerEnforced"},)},
        "PublicAccessBlockConfiguration": {
            "BlockPublicAcls": True,
            "BlockPublicPolicy": True,
            "IgnorePublicAcls": True,
            "RestrictPublicBuckets": True,
        },
        "VersioningConfiguration": {"Status": "Enabled"},
        "LifecycleConfiguration": {"Rules": (*rules, abandoned)},
        "Tags": tags(scope.tags("storage")),
    }


def _expire(name: str, what: Properties) -> Value:
    return {"Id": name, "Status": "Enabled", **what}


def only_tls(bucket: Value) -> Value:
    """Statement of a bucket policy that refuses whatever comes without TLS; `bucket` is the ARN."""
    return {
        "Sid": "OnlyTls",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": (bucket, Sub("${Arn}/*", (("Arn", bucket),))),
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def _log_delivery() -> tuple[Value, ...]:
    """The balancer may write its access logs (ELB user guide, "Enable access logs")."""
    return (
        {
            "Sid": "BalancerLogs",
            "Effect": "Allow",
            "Principal": {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"},
            "Action": "s3:PutObject",
            "Resource": Sub("${LogsBucket.Arn}/balancer/AWSLogs/${AWS::AccountId}/*"),
        },
    )


def _images(scope: Scope) -> Mapping[str, Resource]:
    keep = {
        "rules": [
            {
                "rulePriority": 1,
                "description": "images of releases that were pruned",
                "selection": {
                    "tagStatus": "any",
                    "countType": "imageCountMoreThan",
                    # Two images a release, and room for the one that is being shipped.
                    "countNumber": 2 * (scope.site.deploy.keep + 2),
                },
                "action": {"type": "expire"},
            }
        ]
    }
    return {
        "Images": Resource(
            "AWS::ECR::Repository",
            {
                "RepositoryName": f"lampstand/{scope.site.site}",
                "ImageTagMutability": "IMMUTABLE",
                "ImageScanningConfiguration": {"ScanOnPush": True},
                "EncryptionConfiguration": {"EncryptionType": "AES256"},
                "LifecyclePolicy": {"LifecyclePolicyText": json.dumps(keep, separators=(",", ":"))},
                "Tags": tags(scope.tags("storage")),
            },
            keep="Retain",
        )
    }


def _secrets(scope: Scope) -> Mapping[str, Resource]:
    result: dict[str, Resource] = {}
    for name, text in SECRETS.items():
        properties: dict[str, Value] = {
            "Description": f"Lampstand {scope.site.site}: {text}",
            "Tags": tags(scope.tags("storage")),
        }
        if name == "SettingsSecret":
            properties["SecretString"] = "{}"
        else:
            properties["GenerateSecretString"] = {
                "SecretStringTemplate": f'{{"username":"{APP}"}}' if name == "DatabaseSecret" else "{}",
                "GenerateStringKey": "password",
                # RDS takes at most 41 characters; letters and digits need no quoting anywhere.
                "PasswordLength": 40,
                "ExcludePunctuation": True,
            }
        keep = "Retain" if name in STATEFUL_SECRETS else None
        result[name] = Resource("AWS::SecretsManager::Secret", properties, keep=keep)
    return result


def secret_reference(arn: Value, key: str = "password") -> Value:
    """A dynamic reference: CloudFormation reads the secret itself, and no template or event shows it."""
    return Sub("{{resolve:secretsmanager:${Secret}:SecretString:" + key + "}}", (("Secret", arn),))
