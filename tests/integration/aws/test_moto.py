"""The templates become resources of moto, and the target's own calls do to them what they should.

moto passes over many types and says CREATE_COMPLETE all the same. `SKIPPED` pins them: a type that moto learns makes
this test fail until it is tested, and one that it forgets fails as missing. Updates, deletions and change sets over
several stacks are wrong or missing in moto; the canned answers of tests/unit/test_aws_changes.py stand for them.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from moto.cloudformation.parsing import resource_class_from_type

from lampstand.errors import LampstandError, UnavailableError, UsageError
from lampstand.plan import Action
from lampstand.releases.words import Order
from lampstand.targets.aws import inventory, policy, preflight
from lampstand.targets.aws.cloud import AwsError, Cloud, explained
from lampstand.targets.aws.deployment import AwsDeployment
from lampstand.targets.aws.images import pushed, repository
from lampstand.targets.aws.roll import Roller
from lampstand.targets.aws.run import Progress, Runner
from lampstand.targets.aws.scope import Scope
from lampstand.targets.aws.stacks import parameters, stacks
from tests.aws_support import ACCOUNT, every_stack, scope
from tests.integration.aws.moto_support import SKIPPED, UNNAMED, for_moto

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def site() -> Scope:
    """The default site; the stand-in has no termination protection."""
    return scope(
        "small", targets={"aws": {"region": "eu-central-1", "protect_data": False}}, app={"health": "/h"}
    )


def make(cloud: Cloud, here: Scope, known: Mapping[str, str]) -> None:
    """Create every stack, and see that everything in it was made."""
    for stack in stacks(here):
        body, wanted = for_moto(stack.template)
        client = cloud.client("cloudformation", stack.region)
        values = [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters(stack, known).items()]
        name = here.stack(stack.key)
        client.create_stack(
            StackName=name,
            TemplateBody=body,
            Parameters=values,
            Capabilities=["CAPABILITY_IAM"],
            Tags=[{"Key": k, "Value": v} for k, v in here.tags(stack.key).items()],
        )
        assert client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"
        found = client.describe_stack_resources(StackName=name)["StackResources"]
        made = {
            r["LogicalResourceId"] for r in found if r.get("PhysicalResourceId") and "LogicalResourceId" in r
        }
        unnamed = {k for k, r in stack.template.resources.items() if r.type in UNNAMED}
        assert wanted - unnamed <= made, stack.key


@pytest.fixture
def account(cloud: Cloud) -> Cloud:
    """The stand-in with the default site in it."""
    known = {"CloudFrontPrefixList": preflight.prefix_list(cloud), "Release": "r1"}
    make(cloud, site(), known)
    return cloud


def test_the_list_of_what_moto_skips_is_right() -> None:
    types = {r.type for _, stack in every_stack() for r in stack.template.resources.values()}
    unknown = {t for t in types if resource_class_from_type(t) is None}
    assert unknown == SKIPPED & types
    assert types >= SKIPPED, "a type in the list that no template has"


def test_machines_are_made_as_the_template_says(account: Cloud) -> None:
    group = account.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"][0]
    assert (group["MinSize"], group["MaxSize"], len(group["Instances"])) == (2, 3, 2)
    launch = group["LaunchTemplate"]
    version = account.client("ec2").describe_launch_template_versions(
        LaunchTemplateId=launch["LaunchTemplateId"], Versions=[launch["Version"]]
    )["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    assert version["MetadataOptions"]["HttpTokens"] == "required"
    assert version["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True


def test_only_the_arrows_of_the_design_are_open(account: Cloud) -> None:
    groups = {
        next(t["Value"] for t in g["Tags"] if t["Key"] == "Name"): g
        for g in account.client("ec2").describe_security_groups()["SecurityGroups"]
        if g.get("Tags")
    }
    names = {g["GroupId"]: name.removeprefix("lampstand-shop-") for name, g in groups.items()}
    arrows = {
        (names[pair["GroupId"]], names[g["GroupId"]], rule["FromPort"])
        for g in groups.values()
        for rule in g["IpPermissions"]
        for pair in rule["UserIdGroupPairs"]
    }
    assert arrows == {("balancer", "web", 8080), ("web", "database", 3306), ("web", "cache", 6379)}
    assert not any(r["IpRanges"] for g in groups.values() for r in g["IpPermissions"])


def test_the_database_has_a_standby_and_a_reader(account: Cloud) -> None:
    found = {
        d["DBInstanceIdentifier"]: d for d in account.client("rds").describe_db_instances()["DBInstances"]
    }
    primary = found["lampstand-shop-primary"]
    assert primary["MultiAZ"] is True
    assert primary["StorageEncrypted"] is True
    assert primary["DBName"] == "app"
    assert (
        found["lampstand-shop-replica-1"]["ReadReplicaSourceDBInstanceIdentifier"] == "lampstand-shop-primary"
    )


def test_status_speaks_of_the_same_tiers_as_everywhere(account: Cloud) -> None:
    deployment = AwsDeployment(site().site, Path(), None, account)
    outputs = {k: v for k, v in deployment.outputs().items() if k != "Distribution"}
    rows = inventory.status_rows(site(), account, outputs)
    assert [(r["tier"], r["kind"], r["role"]) for r in rows] == [
        ("balancer", "balancer", None),
        ("web", "web", None),
        ("web", "web", None),
        ("database", "database", "primary"),
        ("database", "database", "replica"),
    ]
    assert {r["release"] for r in rows if r["tier"] == "web"} == {"r1"}
    assert {r["health"] for r in rows if r["tier"] == "database"} == {"good"}


def test_a_release_becomes_a_new_version_of_the_launch_template(account: Cloud) -> None:
    """moto has no instance refresh; the rest of a roll is real here."""
    roller = Roller(account, site())
    name = account.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"][0][
        "AutoScalingGroupName"
    ]
    group = roller.group(name, "web")
    assert (group.release, group.version, group.count) == ("r1", "1", 2)
    version = roller._new_version(group, "r2")
    assert version == "2"
    account.client("autoscaling").update_auto_scaling_group(
        AutoScalingGroupName=name,
        LaunchTemplate={"LaunchTemplateId": group.launch_template, "Version": version},
    )
    assert roller.group(name, "web").release == "r2"


def test_releases_and_assets_go_into_their_buckets(account: Cloud, tmp_path: Path) -> None:
    roller = Roller(account, site())
    names = {b["Name"].split("-")[3]: b["Name"] for b in account.client("s3").list_buckets()["Buckets"]}
    roller.ship(names["releasesbucket"], "r1", "{}")
    roller.ship(names["releasesbucket"], "r2", "{}")
    assert {s.id for s in roller.shipped(names["releasesbucket"])} == {"r1", "r2"}
    (tmp_path / "app.css").write_text("a{}")
    assert roller.upload_assets(names["assetsbucket"], tmp_path, ["app.css"]) == 1
    assert roller.upload_assets(names["assetsbucket"], tmp_path, ["app.css"]) == 0
    found = account.client("s3").get_object(Bucket=names["assetsbucket"], Key="app.css")
    assert (found["ContentType"], found["CacheControl"]) == (
        "text/css",
        "public, max-age=31536000, immutable",
    )


def test_images_are_taken_by_digest_and_only_when_all_are_there(account: Cloud) -> None:
    assert repository(account, "lampstand/shop").endswith("/lampstand/shop")
    assert pushed(account, "lampstand/shop", "r1") is None
    ecr = account.client("ecr")
    for image in ("balancer", "web"):
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"digest": f"sha256:{image.ljust(64, '0')}"},
            "layers": [],
        }
        ecr.put_image(
            repositoryName="lampstand/shop", imageManifest=json.dumps(manifest), imageTag=f"r1-{image}"
        )
    found = pushed(account, "lampstand/shop", "r1")
    assert found is not None
    assert all("/lampstand/shop@sha256:" in reference for reference in found.values())


def test_purge_invalidates_paths_and_tags(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = {"Id": "o", "DomainName": "example.com", "CustomOriginConfig": {
        "HTTPPort": 80, "HTTPSPort": 443, "OriginProtocolPolicy": "http-only"}}  # fmt: skip
    config = {
        "CallerReference": "1", "Comment": "", "Enabled": True, "Origins": {"Quantity": 1, "Items": [origin]},
        "DefaultCacheBehavior": {"TargetOriginId": "o", "ViewerProtocolPolicy": "allow-all"},
    }  # fmt: skip
    client = cloud.client("cloudfront")
    made = client.create_distribution(DistributionConfig=config)["Distribution"]["Id"]
    deployment = AwsDeployment(site().site, Path(), None, cloud)
    monkeypatch.setattr(deployment, "outputs", lambda: {"Distribution": made})
    for urls, tags, expected in (
        (["/news/*"], ["hats"], ["/news/*", "#hats"]),
        ([], ["a", "b"], ["#a", "#b"]),
    ):
        id_ = deployment.purge(urls, tags)["invalidation"]
        found = client.get_invalidation(DistributionId=made, Id=id_)["Invalidation"]["InvalidationBatch"]
        assert found["Paths"]["Items"] == expected


def test_purge_takes_what_the_verb_takes(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = AwsDeployment(site().site, Path(), None, cloud)
    asked: list[tuple[list[str], list[str]]] = []
    monkeypatch.setattr(
        deployment, "purge", lambda paths, tags: asked.append((list(paths), list(tags))) or {}
    )
    given: Any = {"urls": [], "tags": [], "prefix": None, "everything": False, "soft": True}
    for change in (
        {"urls": ["https://h/a?x=1", "/b"]},
        {"prefix": "/c/"},
        {"tags": ["t"]},
        {"everything": True},
    ):
        asyncio.run(deployment.operate("purge", **{**given, **change}))
    assert asked == [(["/a", "/b"], []), (["/c/*"], []), ([], ["t"]), (["/*"], [])]
    with pytest.raises(UsageError):
        asyncio.run(deployment.operate("purge", **given))


def test_receipts_of_deploys_are_kept_in_the_bucket(account: Cloud, tmp_path: Path) -> None:
    """A deploy to a release that is not there, refused; then one that moto cannot roll (it has no instance refresh)."""
    deployment = AwsDeployment(site().site, tmp_path, None, account)
    releasing = deployment.releasing
    bucket = deployment.outputs()["ReleasesBucket"]
    deployment.shipping.roller.ship(bucket, "r1", "{}")
    deployment.shipping.roller.ship(bucket, "r2", "{}")
    says = Silence()
    with pytest.raises(UsageError, match="no such release"):
        asyncio.run(releasing.deploy(Order("deploy", "nope"), lambda _: True, says))
    assert asyncio.run(releasing.deploy(Order("deploy", "r2"), lambda _: False, says)) is None
    with pytest.raises(LampstandError):
        asyncio.run(releasing.deploy(Order("deploy", "r2"), lambda _: True, says))
    with pytest.raises(UnavailableError):
        asyncio.run(releasing.deploy(Order("deploy", canary=0.1), lambda _: True, says))
    assert [releasing.release(str(n))["outcome"] for n in (1, 2, 3)] == ["refused", "refused", "returned"]
    assert releasing.release("3")["serves"] == "r1"
    assert [(r["release"], r["state"]) for r in releasing.releases() if r["release"] == "r1"] == [
        ("r1", "serves")
    ]


class Silence:
    """Progress that nobody hears."""

    def say(self, text: str) -> None: ...

    def action(self, action: Action, state: str) -> None: ...

    def waiting(self, sentence: str) -> None: ...


def test_secrets_of_the_application_are_kept_and_not_written_twice(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = cloud.client("secretsmanager")
    arn = client.create_secret(Name="settings", SecretString="{}")["ARN"]
    shipping = AwsDeployment(site().site, Path(), None, cloud).shipping
    monkeypatch.setattr(shipping, "outputs", lambda: {"SettingsSecret": arn})
    shipping.keep_secrets({"STRIPE_KEY": "sk"})
    version = client.get_secret_value(SecretId=arn)["VersionId"]
    assert json.loads(client.get_secret_value(SecretId=arn)["SecretString"]) == {"STRIPE_KEY": "sk"}
    shipping.keep_secrets({"STRIPE_KEY": "sk"})
    assert client.get_secret_value(SecretId=arn)["VersionId"] == version


def test_change_sets_are_made_executed_and_followed(cloud: Cloud) -> None:
    """One stack, through the target's own loop: moto forgets the exports of a stack that a change set made."""
    here = site()
    told: list[Progress] = []
    runner = Runner(cloud, here, known={"CloudFrontPrefixList": preflight.prefix_list(cloud)})
    network = next(s for s in stacks(here) if s.key == "network")
    began = time.monotonic()
    runner.apply([network], told.append)
    assert [p.state for p in told][-1] == "done"
    assert time.monotonic() - began < 30
    vpcs = cloud.client("ec2").describe_vpcs(Filters=[{"Name": "cidr", "Values": ["10.0.0.0/16"]}])["Vpcs"]
    assert {"Key": "lampstand:site", "Value": "shop"} in vpcs[0]["Tags"]


# -- preflight and rights -------------------------------------------------------------------------------------------


def test_preflight_of_an_empty_account(cloud: Cloud) -> None:
    results = {r.what.partition(":")[0].partition(",")[0]: r for r in preflight.preflight(site(), cloud)}
    assert results[f"account {ACCOUNT}"].state == "good"
    assert results["CloudFront's addresses"].state == "good"
    assert results["network 10.0.0.0/16"].state == "good"
    assert any("t3.small exists in eu-central-1a" in r.what for r in results.values())


def test_a_network_that_overlaps_another_is_told(cloud: Cloud) -> None:
    cloud.client("ec2").create_vpc(CidrBlock="10.0.128.0/20")
    found = [r for r in preflight.preflight(site(), cloud) if "overlaps" in r.what]
    assert [r.state for r in found] == ["warning"]


def test_a_type_that_does_not_exist_is_told(cloud: Cloud) -> None:
    here = scope("small", targets={"aws": {"instance_type": "x9z.huge"}})
    found = [r for r in preflight.preflight(here, cloud) if "x9z.huge" in r.what]
    assert [r.state for r in found] == ["bad"]


def test_another_account_is_refused(cloud: Cloud) -> None:
    here = scope("small", targets={"aws": {"account": "999999999999"}})
    assert any("not 999999999999" in r.what and r.state == "bad" for r in preflight.preflight(here, cloud))


def test_the_generated_policy_allows_what_is_needed_and_nothing_else(
    cloud: Cloud, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto enforces IAM, with names for S3 alone: elsewhere it asks for `*`, which only actions without names have."""
    here = site()
    iam = cloud.client("iam")
    iam.create_user(UserName="deployer")
    for number, document in enumerate(policy.documents(here, "eu-central-1", ACCOUNT)):
        made = iam.create_policy(PolicyName=f"deployer-{number}", PolicyDocument=json.dumps(document))
        iam.attach_user_policy(UserName="deployer", PolicyArn=made["Policy"]["Arn"])
    key = iam.create_access_key(UserName="deployer")["AccessKey"]
    enforce(endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    deployer = Cloud("eu-central-1", endpoint=endpoint, attempts=1)
    assert preflight.prefix_list(deployer)
    deployer.client("s3").create_bucket(
        Bucket="lampstand-shop-x", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    assert deployer.client("ec2").describe_vpcs()["Vpcs"]
    assert deployer.client("ecr").get_authorization_token()["authorizationData"]
    for service, operation, arguments in (
        (
            "s3",
            "create_bucket",
            {"Bucket": "other", "CreateBucketConfiguration": {"LocationConstraint": "eu-central-1"}},
        ),
        ("ecr", "create_repository", {"repositoryName": "other"}),
        ("iam", "create_user", {"UserName": "more"}),
        ("iam", "create_role", {"RoleName": "admin", "AssumeRolePolicyDocument": "{}"}),
        ("dynamodb", "list_tables", {}),
    ):
        with pytest.raises(AwsError, match=r"AccessDenied|not authorized"), explained(operation):
            getattr(deployer.client(service), operation)(**arguments)


def enforce(endpoint: str) -> None:
    """From the next request on the stand-in asks IAM."""
    import urllib.request

    # Form data would be parsed and not be there to be read.
    headers = {"Content-Type": "text/plain"}
    request = urllib.request.Request(
        f"{endpoint}/moto-api/reset-auth", data=b"0", headers=headers, method="POST"
    )
    urllib.request.urlopen(request, timeout=10).close()
