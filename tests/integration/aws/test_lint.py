"""The templates as others see them: cfn-lint (warnings fail) and checkov (every exception is explained)."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.aws_support import every_stack

CHECKOV = "3.3.30"

EXCEPTIONS: Mapping[str, str] = {
    "CKV2_AWS_69": "TLS to RDS is offered, and required by `database.settings: {require_secure_transport: 1}`; most "
    "applications' clients begin plain, and the subnets are isolated",
    "CKV_AWS_2": "without a domain there is no certificate, so CloudFront speaks HTTP to the balancer (docs/aws.md)",
    "CKV_AWS_103": "as CKV_AWS_2; with a domain the listener speaks TLS 1.2 and 1.3 only",
    "CKV_AWS_174": "without a domain CloudFront's own certificate serves, whose protocols cannot be chosen",
    "CKV_AWS_161": "applications log in with the generated password; IAM's tokens end after 15 minutes",
    "CKV_AWS_16": "a read replica takes its encryption from the primary",
    "CKV_AWS_157": "a read replica is a copy; the primary is Multi-AZ unless the site file says `replicas: 0`",
    "CKV_AWS_118": "enhanced monitoring costs a log stream a second; CloudWatch's metrics and alarms are there",
    "CKV_AWS_136": "S3-managed keys; a key of one's own is 1 USD a month and protects from nobody else here",
    "CKV_AWS_149": "as CKV_AWS_136: Secrets Manager's own key",
    "CKV_AWS_158": "as CKV_AWS_136: CloudWatch's own key",
    "CKV_AWS_26": "alarms name resources, no data; encrypting the topic needs a key of one's own for CloudWatch",
    "CKV_AWS_58": "no secret of the site is in Kubernetes' own store but the pods' tokens; EKS encrypts its disks",
    "CKV_AWS_18": "who read which object is in CloudTrail's data events; the balancer logs all misses",
    "CKV_AWS_68": "a web application firewall is 5 USD a month and rules of one's own; attach one by its ARN",
    "CKV_AWS_86": "the balancer logs what CloudFront fetches; logs of hits cost by the request",
    "CKV_AWS_88": "machines have addresses instead of NAT gateways (33 USD a month and zone); only the "
    "balancer may connect",
}
"""Check of checkov -> why the templates fail it."""


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every template of every site."""
    folder = tmp_path_factory.mktemp("templates")
    for name, stack in every_stack():
        (folder / f"{name}.json").write_text(stack.template.as_json())
    return folder


def test_cfn_lint_finds_nothing(templates: Path) -> None:
    files = sorted(str(p) for p in templates.iterdir())
    command = [
        str(Path(sys.executable).with_name("cfn-lint")),
        "--regions",
        "us-east-1",
        "eu-central-1",
        "--",
        *files,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.stdout == ""
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def checkov() -> Path:
    """checkov, in a virtual environment of its own, because it pins the libraries that it shares with moto.

    The first run installs it (about a minute); it is kept in the user's cache.
    """
    folder = Path.home() / ".cache" / "lampstand-tests" / f"checkov-{CHECKOV}"
    program = folder / "bin" / "checkov"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=60)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", f"checkov=={CHECKOV}"]
        subprocess.run(pip, check=True, timeout=300)
    return program


@pytest.mark.timeout(420)
def test_checkov_finds_only_what_is_explained(templates: Path, checkov: Path) -> None:
    command = [str(checkov), "--skip-download", "--framework", "cloudformation", "secrets", "--quiet", "--compact",
               "--output", "json", "--directory", str(templates)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    reports = json.loads(done.stdout)
    found: set[str] = set()
    for report in reports if isinstance(reports, list) else [reports]:
        assert report["summary"]["parsing_errors"] == 0
        assert report["summary"]["passed"] > 300 or report["check_type"] == "secrets"
        found |= {check["check_id"] for check in report["results"]["failed_checks"]}
    assert found - EXCEPTIONS.keys() == set(), "neither mended nor explained"
    assert EXCEPTIONS.keys() - found == set(), "explained, and no longer found"
