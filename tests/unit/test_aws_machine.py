"""What a machine runs: the release's document, its configuration files, and the program's own small parts."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lampstand.targets.aws import machine_names
from lampstand.targets.aws.bundle import bundle, machine_context, origin_rules
from lampstand.targets.aws.export import files
from lampstand.targets.aws.inventory import kind_of, priced
from lampstand.topology import SECRETS
from tests.aws_support import SITES, readable, scope
from tests.web_support import golden

IMAGES = {"balancer": "registry/shop@sha256:aa", "web": "registry/shop@sha256:bb"}
PROGRAM = Path(__file__).parents[2] / "src/lampstand/targets/aws/machine.py"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The machine's program, as a module, with a configuration of its own."""
    config = tmp_path / "machine.json"
    config.write_text(json.dumps({"region": "eu-central-1", "values": {"url": "https://u"}, "secrets": {}}))
    monkeypatch.setattr(sys, "argv", ["machine.py", str(config)])
    spec = importlib.util.spec_from_file_location("lampstand_machine", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "BASE", tmp_path)
    return module


def document(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(bundle(scope(name), "r1", IMAGES))
    return result


def test_golden() -> None:
    """The document's shape, and the two texts of this target; the other files are their tiers' own (with own tests)."""
    found = document("full")
    instances = [i for m in found["machines"].values() for i in m["instances"]]
    texts = {f[0]: f[1] for i in instances for f in i["files"]}
    golden("aws/gateway.conf", texts["/var/lib/lampstand/instances/gateway-1/etc/nginx.conf"])
    golden("aws/origin.conf", origin_rules(scope("full")))
    for instance in instances:
        instance["files"] = [[path, mode] for path, _, mode in instance["files"]]
        for process in instance["processes"]:
            process["env"] = [name for name, _ in process["env"]]
    found["step"]["env"] = [name for name, _ in found["step"]["env"]]
    golden("aws/bundle-full.json", json.dumps(found, indent=1) + "\n")


def test_a_machine_has_a_gateway_a_web_server_and_nginx() -> None:
    web = document("full")["machines"]["web"]
    assert [i["name"] for i in web["instances"]] == ["gateway-1", "web-1", "balancer-1"]
    assert web["health"] == {"port": 8080, "path": "/healthz", "below": 300, "checks": 3, "deadline": 90.0}
    names = [i["name"] for i in document("full")["machines"]["worker"]["instances"]]
    assert names == ["gateway-1", "worker-mail-1", "scheduler-1"]
    assert "worker" not in document("small")["machines"]


def test_no_secret_is_in_a_release() -> None:
    """Every secret is a name that the machine puts a value in for; the names are those it knows."""
    text = bundle(scope("full"), "r1", IMAGES)
    found = set(re.findall(r"__lampstand_secret_(.+?)__", text))
    assert found <= {*SECRETS, "env.STRIPE_KEY"}
    assert {"database_app", "cache", "sessions", "app_secret", "env.STRIPE_KEY"} <= found
    values = set(re.findall(r"__lampstand_value_(.+?)__", text))
    assert values == {"database_host", "replica_host", "cache_host", "sessions_host", "url", "server"}
    assert machine_context(scope("full").site, "r1").secrets.keys() >= set(SECRETS)


def test_the_machine_knows_the_same_names(machine: ModuleType) -> None:
    assert (machine.SECRET, machine.VALUE) == (machine_names.SECRET, machine_names.VALUE)


def test_the_gateway_checks_the_certificates_of_elasticache() -> None:
    config = document("small")["machines"]["web"]["instances"][0]["files"][0][1]
    assert config.count("proxy_ssl_verify on;") == 2
    assert config.count("listen 127.0.0.1:") == 4
    assert "resolver 169.254.169.253" in config


def test_the_visitors_scheme_comes_from_cloudfront() -> None:
    nginx = document("small")["machines"]["web"]["instances"][2]["files"][0][1]
    assert '"$told$http_x_lampstand_proto"' in nginx
    assert "http_x_forwarded_proto" not in nginx
    assert "set_real_ip_from 0.0.0.0/0;" in nginx


def test_nginx_never_closes_a_connection_first() -> None:
    """The load balancer's idle time-out is 60 s; it must give a connection up before nginx does."""
    nginx = document("small")["machines"]["web"]["instances"][2]["files"][0][1]
    found = re.search(r"keepalive_timeout (\d+)s?", nginx)
    assert found
    assert int(found[1].removesuffix("000")) > 60


# -- the program ----------------------------------------------------------------------------------------------------


def test_values_are_put_in(machine: ModuleType) -> None:
    values = {machine.SECRET % "cache": "s3cret", machine.VALUE % "url": "https://u"}
    text = "redis://:__lampstand_secret_cache__@127.0.0.1 __lampstand_value_url__/x"
    assert machine.filled(text, values) == "redis://:s3cret@127.0.0.1 https://u/x"


def test_a_container_gets_no_secret_in_its_arguments(machine: ModuleType) -> None:
    process = document("full")["machines"]["web"]["instances"][1]["processes"][0]
    values = {machine.SECRET % "database_app": "s3cret"}
    command, environment = machine.container("web-1.php-fpm", process, values, "web-1", "--detach")
    assert "s3cret" not in " ".join(command)
    assert environment["DB_PASSWORD"] == "s3cret"
    assert "--read-only" in command
    assert command[command.index("--cap-drop") + 1] == "ALL"
    assert command[command.index("--user") + 1] == "www-data"
    at = command.index(process["image"])
    assert command[at - 1] == process["argv"][0]
    assert command[at + 1 :] == process["argv"][1:]


def test_a_program_that_fails_is_told_by_its_last_line(machine: ModuleType) -> None:
    with pytest.raises(machine.Failed, match=r"ls: .*No such file"):
        machine.run("ls", "/nowhere/at/all")
    with pytest.raises(machine.Failed, match="took longer"):
        machine.run("sleep", "5", deadline=0.1)


# -- what is left, and what is exported -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arn", "kind"),
    [
        ("arn:aws:rds:eu-central-1:1:db:lampstand-shop-primary", "rds:db"),
        ("arn:aws:s3:::lampstand-shop-storage-uploads", "s3:"),
        ("arn:aws:ec2:eu-central-1:1:instance/i-1", "ec2:instance"),
        ("arn:aws:elasticache:eu-central-1:1:cluster:x-001", "elasticache:cluster"),
        (
            "arn:aws:elasticloadbalancing:eu-central-1:1:loadbalancer/app/x/1",
            "elasticloadbalancing:loadbalancer",
        ),
        ("arn:aws:secretsmanager:eu-central-1:1:secret:Db-1", "secretsmanager:secret"),
        ("arn:aws:sns:eu-central-1:1:topic", "sns:"),
        ("arn:aws:cloudfront::1:distribution/E1", "cloudfront:distribution"),
    ],
)
def test_what_an_arn_is(arn: str, kind: str) -> None:
    assert kind_of(arn) == kind


def test_what_is_left_has_a_price() -> None:
    database = "arn:aws:rds:eu-central-1:1:db:x"
    left = priced(database, {database: "rds/db.t4g.small × 1460"})
    assert left.monthly == pytest.approx(46.72)
    assert "46.72 USD a month" in str(left)
    assert priced("arn:aws:secretsmanager:r:1:secret:x", {}).monthly == pytest.approx(0.40)
    assert priced("arn:aws:s3:::b", {}).monthly is None
    assert priced("arn:aws:ec2:r:1:vpc/v", {}).monthly == 0.0
    assert priced("arn:aws:new:r:1:thing/v", {}).what == "new:thing"


@pytest.mark.parametrize("name", SITES)
def test_the_export_applies_with_the_aws_cli_alone(name: str, tmp_path: Path) -> None:
    """The script is run by sh with a stand-in for `aws` that writes down how it is called."""
    here = scope(name)
    many = files(here, here.aws.region or "us-east-1", {"r1": "{}"})
    golden(f"aws/export-{name}.sh", many["apply.sh"])
    for path, text in many.items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(readable(text))
    stand_in = tmp_path / "bin" / "aws"
    stand_in.parent.mkdir()
    stand_in.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$*" >> "$CALLS"\ncase "$*" in *describe*) echo found;; esac\n'
    )
    stand_in.chmod(0o755)
    calls = tmp_path / "calls"
    env = {"PATH": f"{stand_in.parent}:/usr/bin:/bin", "CALLS": str(calls), "HOSTED_ZONE": "Z1"}
    done = subprocess.run(
        ["sh", str(tmp_path / "apply.sh"), "r1"],
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = calls.read_text().splitlines()
    applied = [
        re.search(r"--stack-name lampstand-shop-(\w+)", c) for c in lines if "cloudformation deploy" in c
    ]
    assert [m[1] for m in applied if m] == [
        p.removesuffix(".json") for p in many if "/" not in p and p != "apply.sh"
    ]
    parameters = " ".join(c for c in lines if "--parameter-overrides" in c)
    assert "CloudFrontPrefixList=found" in parameters
    assert ("Release=r1" in parameters) is (name != "kubernetes")
    if here.aws.domain:
        assert "HostedZone=Z1" in parameters
        assert "Certificate=found" in parameters
