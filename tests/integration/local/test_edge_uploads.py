"""`docs/uploads.md`: its helpers sign as boto3 does, and a bucket (moto's server) takes and gives what they sign."""

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.server import ThreadedMotoServer

from lampstand.engines import discover

DOCUMENT = (Path(__file__).parents[3] / "docs" / "uploads.md").read_text()
KEY = "uploads/2026/a picture (1)~é.png"
CALLS = {
    "python": "import sys; print(presign(sys.argv[1], sys.argv[2], 300))",
    "php": "echo presign($argv[1], $argv[2], 300);",
    "perl": "print presign(@ARGV, 300);",
}


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """What the application of a site with a bucket gets, and a bucket."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "s3cr/et+key"}
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="eu-central-1",
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"], aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    client.create_bucket(
        Bucket="shop-uploads", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    yield {
        **keys, "UPLOADS_BUCKET": "shop-uploads", "UPLOADS_ENDPOINT": endpoint, "UPLOADS_REGION": "eu-central-1",
        "UPLOADS_PREFIX": "uploads/", "PATH": os.environ["PATH"],
    }  # fmt: skip
    server.stop()


def presigned(language: str, method: str, environment: dict[str, str]) -> str:
    """What the helper of the document makes."""
    found = re.search(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found
    code = f"{found[1]}\n{CALLS[language]}"
    argv = {
        "python": [sys.executable, "-c", code],
        "php": [discover().php.path, "-r", code.removeprefix("<?php")],
        "perl": ["perl", "-e", code],
    }[language]
    if language == "php":
        argv.append("--")
    done = subprocess.run(
        [*argv, method, KEY], env=environment, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("language", CALLS)
def test_a_file_goes_in_and_comes_out(language: str, environment: dict[str, str]) -> None:
    body = os.urandom(100_000)
    kind = {"Content-Type": "application/octet-stream"}
    put = urllib.request.Request(presigned(language, "PUT", environment), body, kind, method="PUT")
    with urllib.request.urlopen(put, timeout=20) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(presigned(language, "GET", environment), timeout=20) as answer:
        assert answer.read() == body


@pytest.mark.parametrize("method", ["PUT", "GET"])
@pytest.mark.parametrize("language", CALLS)
def test_the_signature_is_amazon_s(language: str, method: str, environment: dict[str, str]) -> None:
    url = presigned(language, method, environment)
    parts = urlsplit(url)
    asked = parse_qs(parts.query)
    keys = Credentials(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
    request = AWSRequest(method, f"{parts.scheme}://{parts.netloc}{parts.path}")
    signer = S3SigV4QueryAuth(keys, "s3", "eu-central-1", expires=300)
    request.context["timestamp"] = asked["X-Amz-Date"][0]
    # The steps of `add_auth`, with the time of the URL instead of now.
    signer._modify_request_before_signing(request)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert signer.signature(text, request) == asked["X-Amz-Signature"][0]
