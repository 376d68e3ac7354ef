"""A stand-in for AWS (moto's server) on a free port of the loopback; nothing here reaches a real account."""

import logging
import os
import urllib.request
import warnings
from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer

from lampstand.targets.aws.cloud import Cloud

REGION = "eu-central-1"

# A real account costs money: only whoever names one gets that test.
collect_ignore = [] if os.environ.get("LAMPSTAND_AWS_SMOKE") else ["test_smoke.py"]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a fresh stand-in."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "stand-in",
        "AWS_SECRET_ACCESS_KEY": "stand-in",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server.start()
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        try:
            yield url
        finally:
            # One process has one stand-in, and its memory is global.
            urllib.request.urlopen(
                urllib.request.Request(f"{url}/moto-api/reset", method="POST"), timeout=10
            ).close()
            server.stop()


@pytest.fixture
def cloud(endpoint: str) -> Cloud:
    """The stand-in as the target sees AWS."""
    return Cloud(REGION, endpoint=endpoint, attempts=1)
