"""Faults of a whole site, as a visitor meets them: through edge, balancer, application and gateway."""

import os
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.local.site import WholeSite, kill, whole_site
from tests.support import eventually

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def site() -> Iterator[WholeSite]:
    with whole_site() as found:
        found.up()
        found.wait_well()
        yield found


def write(site: WholeSite, url: str, text: str, seconds: float = 15.0) -> float:
    """Writes until it is acknowledged; returns how long that took."""

    def acknowledged() -> bool:
        try:
            return httpx.post(f"{url}/write", data={"text": text}, timeout=5).text == "written"
        except httpx.HTTPError:
            return False

    begun = time.monotonic()
    eventually(acknowledged, seconds)
    return time.monotonic() - begun


def count(url: str) -> int:
    return int(httpx.get(f"{url}/count", timeout=5).text)


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_database_primary(site: WholeSite, fault: signal.Signals) -> None:
    url, old = site.url, site.primary()
    write(site, url, f"before {fault}")
    before = count(url)
    for pid in site.pids(old)[old]:
        os.kill(pid, fault)
    assert write(site, url, f"after {fault}") < 10
    site.wait_well()
    assert site.primary() != old
    assert count(url) == before + 1


def test_a_session_survives_its_primary(site: WholeSite) -> None:
    url, old = site.url, site.primary("sessions")
    with httpx.Client(base_url=url, timeout=5) as visitor:
        assert [visitor.get("/session").text for _ in range(3)] == ["1", "2", "3"]
        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())}
    kill(site.pids(old)[old])

    def logged_in() -> bool:
        try:
            answer = httpx.get(f"{url}/session", headers=cookie, timeout=5)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 and int(answer.text) >= 4

    eventually(logged_in, 10)
    site.wait_well()
    assert site.primary("sessions") != old


def test_planned_switchover(site: WholeSite) -> None:
    url, old = site.url, site.primary()
    site.call("database", "switchover", "-y")
    assert site.primary() != old
    assert write(site, url, "after the switchover") < 5
    site.wait_well()


def test_power_cut_of_every_data_server(site: WholeSite) -> None:
    url = site.url
    write(site, url, "before the power cut")
    before = count(url)
    kill(
        [
            pid
            for name, pids in site.pids().items()
            if name.startswith(("database", "sessions", "cache"))
            for pid in pids
        ]
    )
    assert write(site, url, "after the power cut", 30) < 30
    site.wait_well()
    assert count(url) == before + 1
