"""Broken releases return by themselves, and visitors see nothing of those that never got a request."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.local.releases import Visitors, get, marks, receipt, release, released_site
from tests.integration.local.site import WholeSite
from tests.support import eventually


@pytest.fixture(scope="module")
def site() -> Iterator[WholeSite]:
    with released_site() as found:
        yield found


def untouched(site: WholeSite, before: dict[str, list[int]], serves: str) -> None:
    """Every server still runs as before, nobody stands in, and the old release serves."""
    assert site.pids() == before
    assert marks(site) == {serves}
    assert site.status()["well"]


def test_a_release_that_answers_500_never_gets_a_request(site: WholeSite) -> None:
    release(site, "five-hundred", "http_response_code(500); exit('no');")
    before = site.pids()
    with Visitors(site.url) as visitors:
        said = site.call("deploy", "-y", "-q", code=5).stderr
    assert "web-3" in said
    assert "answers 500" in said
    assert visitors.seen.failures == []
    assert visitors.seen.releases == {"one"}
    found = receipt(site)
    assert (found["outcome"], found["failed_requests"]) == ("failed", 0)
    assert "answers 500" in found["reason"]
    untouched(site, before, "one")


def test_a_release_that_does_not_start_never_gets_a_request(site: WholeSite) -> None:
    release(site, "unstartable", "this is no PHP;")
    before = site.pids()
    with Visitors(site.url) as visitors:
        site.call("deploy", "-y", "-q", code=5)
    assert visitors.seen.failures == []
    assert receipt(site)["outcome"] == "failed"
    untouched(site, before, "one")


def test_a_release_step_that_hangs_is_killed_and_nothing_changes(site: WholeSite) -> None:
    release(site, "hangs", step="while (true) { sleep(1); }")
    before = site.pids()
    with Visitors(site.url) as visitors:
        said = site.call("deploy", "-y", "-q", code=1).stderr
    assert "did not end within 8 s" in said
    assert visitors.seen.failures == []
    assert receipt(site)["outcome"] == "failed"
    untouched(site, before, "one")
    commands = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
    assert not [c for c in commands if b"migrate.php" in c and str(site.state).encode() in c]


def test_a_release_step_that_fails_leaves_the_old_release_and_runs_again(site: WholeSite) -> None:
    release(
        site, "fails", step="if (!file_exists('/tmp/' . basename(getenv('UPLOADS_DIR')) . '-none')) exit(3);"
    )
    said = site.call("deploy", "-y", "-q", code=1).stderr
    assert "exit code 3" in said
    assert marks(site) == {"one"}
    release(site, "fails", step="")
    site.call("deploy", "-y", "-q")
    assert marks(site) == {"fails"}
    release(site, "one")
    site.call("deploy", "-y", "-q")


FLAKY = "if ($path !== '/healthz' && random_int(1, 100) <= 5) { http_response_code(500); exit('flaky'); }"


def test_a_release_that_passes_health_and_then_fails_five_percent_returns(site: WholeSite) -> None:
    release(site, "flaky", FLAKY)
    with Visitors(site.url, readers=6, newcomers=2, writers=2):
        said = site.call("deploy", "-y", "-q", code=4).stderr
        eventually(lambda: marks(site) == {"one"})
    assert "requests to the new release failed" in said
    found = receipt(site)
    assert found["outcome"] == "returned"
    assert "may" in found["reason"]
    assert found["visitors"]["new"]["failed_requests"] >= 1
    assert marks(site) == {"one"}
    assert site.wait_well()["release"] == found["previous"]
    assert [i["name"] for i in site.status()["instances"] if i["kind"] == "web"] == ["web-1", "web-2"]
    assert site.plan() != ""


def test_a_canary_that_fails_returns_within_the_error_budget(site: WholeSite) -> None:
    release(site, "flaky-canary", FLAKY)
    before = site.pids()
    with Visitors(site.url, readers=6, newcomers=4, writers=2) as visitors:
        site.call("deploy", "-y", "-q", "--canary", "10%", "--canary-time", "60s", code=4)
    found = receipt(site)
    assert found["outcome"] == "returned"
    assert len(visitors.seen.failures) < 0.01 * visitors.seen.requests
    assert found["duration_seconds"] < 60
    untouched(site, before, "one")


def test_a_slow_canary_returns_and_a_good_one_is_promoted(site: WholeSite) -> None:
    release(site, "slow", "if ($path !== '/healthz') { usleep(300000); }")
    said = site.call("deploy", "-y", "-q", "--canary", "50%", "--canary-time", "20s", code=4).stderr
    assert "p99" in said
    assert marks(site) == {"one"}
    release(site, "good")
    url = site.url
    roll = site.start("deploy", "-y", "--canary", "50%", "--canary-time", "6s")
    sticky: set[str] = set()

    def met() -> httpx.Client | None:
        with httpx.Client() as client:
            found = client.get(url)
            return (
                client
                if found.headers["x-release"] == "good" and client.cookies.get("lampstand_release")
                else None
            )

    first = eventually(met, 30)
    assert first is not None
    with httpx.Client(cookies=first.cookies) as client:
        sticky = {client.get(url).headers["x-release"] for _ in range(20)}
    assert roll.wait(120) == 0, roll.communicate()[0]
    assert sticky == {"good"}
    assert marks(site) == {"good"}
    assert "promoted" in [m["what"] for m in receipt(site)["timeline"]]
    release(site, "one")
    site.call("deploy", "-y", "-q")


def test_a_release_that_dies_after_a_while_returns(site: WholeSite) -> None:
    """It leaks until it is killed: its server ends after some requests."""
    dies = "if ($path !== '/healthz' && getenv('LAMPSTAND_SERVER') === 'web-1') { posix_kill(posix_getppid(), 9); }"
    release(site, "dies", dies)
    with Visitors(site.url) as visitors:
        site.call("deploy", "-y", "-q", code=1)
    found = receipt(site)
    assert found["outcome"] == "returned"
    assert "web-1" in found["reason"]
    assert len(visitors.seen.failures) < 0.05 * visitors.seen.requests
    assert marks(site) == {"one"}
    assert site.wait_well()["release"] == found["previous"]


def test_refusals_say_why_and_change_nothing(site: WholeSite) -> None:
    release(site, "refused")
    text = (site.project / "lampstand.yaml").read_text()
    site.write("lampstand.yaml", text.replace("health: /healthz, ", ""))
    assert "app.health" in site.call("deploy", "-y", code=1).stderr
    site.write(
        "lampstand.yaml", text.replace("drain_seconds: 5s", "drain_seconds: 5s, surge: 0, max_unavailable: 2")
    )
    assert "web.max_unavailable" in site.call("deploy", "-y", code=1).stderr
    site.write("lampstand.yaml", text)
    assert receipt(site)["outcome"] == "refused"
    assert "lists them" in site.call("deploy", "-y", "0000", code=1).stderr
    assert marks(site) == {"one"}


def test_a_deploy_with_the_database_broken_is_refused_and_can_be_forced(site: WholeSite) -> None:
    rows = site.status()["instances"]
    replica = next(r["name"] for r in rows if r["kind"] == "database" and r["role"] == "replica")
    pid = next(r["processes"][0]["pid"] for r in rows if r["name"] == replica)
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(
            lambda: next(r["health"] for r in site.status()["instances"] if r["name"] == replica) == "bad", 30
        )
        release(site, "forced")
        said = site.call("deploy", "-y", code=1).stderr
        assert replica in said
        assert "--force" in said
    finally:
        os.kill(pid, signal.SIGCONT)
    site.wait_well()
    assert json.loads(site.call("releases", "--json").stdout)["version"] == 1
    assert get(site).status_code == 200
