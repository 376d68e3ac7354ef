"""The smallest site in a real account: made, asked, rolled, taken away.

Only with LAMPSTAND_AWS_SMOKE=ACCOUNT (docs/aws.md). About an hour and less than 1 USD; ends by itself after two hours.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from lampstand.plan import Action
from lampstand.releases.words import Order
from lampstand.site import Site
from lampstand.targets.aws.deployment import AwsDeployment

ACCOUNT = os.environ["LAMPSTAND_AWS_SMOKE"]
PAGE = "<?php echo 'release ', getenv('APP_RELEASE'), ' on ', getenv('LAMPSTAND_SERVER'), ' {text}';"


class Says:
    """Progress as plain lines."""

    def say(self, text: str) -> None:
        print(text, flush=True)

    def action(self, action: Action, state: str) -> None:
        print(action, state, flush=True)

    def waiting(self, sentence: str) -> None:
        print(sentence, flush=True)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[AwsDeployment]:
    """The site, which goes away whatever happens."""
    (tmp_path / "index.php").write_text(PAGE.format(text="one"))
    site = Site.model_validate(
        {
            "site": "lampstand-smoke",
            "app": {"health": "/index.php"},
            "web": {"servers": 1},
            "database": {"replicas": 0},
            "cache": {"replicas": 0},
            "sessions": {"replicas": 0},
            "targets": {"aws": {"account": ACCOUNT, "protect_data": False, "log_days": 1, "backup_days": 1}},
        }
    )
    found = AwsDeployment(site, tmp_path, None)
    print(found.cost())
    try:
        yield found
    finally:
        asyncio.run(found.down(Says()))
        found.delete_data()
        print("left:", *found.left(), sep="\n")


@pytest.mark.timeout(7200)
def test_a_site_is_made_asked_rolled_and_taken_away(deployment: AwsDeployment, tmp_path: Path) -> None:
    assert asyncio.run(deployment.up(lambda plan: print(plan) is None, Says()))
    url = deployment.status()["urls"]["site"]
    first = ask(url)
    assert "one" in first
    (tmp_path / "index.php").write_text(PAGE.format(text="two"))
    assert asyncio.run(deployment.releasing.deploy(Order("deploy", dirty=True), lambda _: True, Says()))
    deployment.purge(["/*"], [])
    assert "two" in ask(url, "two")
    assert asyncio.run(deployment.releasing.deploy(Order("deploy", first.split()[1]), lambda _: True, Says()))
    assert deployment.status()["well"]


def ask(url: str, wanted: str = "release") -> str:
    """The page, once it says what is wanted: a distribution takes minutes to be everywhere."""
    end = time.monotonic() + 900
    while True:
        try:
            text = httpx.get(url, params={"t": time.time()}, timeout=20).text
            if wanted in text:
                return text
        except httpx.HTTPError as error:
            text = str(error)
        assert time.monotonic() < end, text
        time.sleep(5)
