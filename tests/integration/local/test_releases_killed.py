"""Deploys that are killed, that meet each other, and that meet a failover."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.integration.local.releases import Visitors, executed, get, marks, receipt, release, released_site
from tests.integration.local.site import WholeSite, kill
from tests.support import eventually


@pytest.fixture(scope="module")
def site() -> Iterator[WholeSite]:
    with released_site() as found:
        yield found


def until_line(roll: "subprocess.Popen[str]", pattern: str) -> None:
    """Read what a command says until a line matches."""
    assert roll.stdout is not None
    said: list[str] = []
    for line in roll.stdout:
        said.append(line)
        if re.search(pattern, line):
            return
    raise AssertionError(f"no line with {pattern!r}:\n{''.join(said)}")


def says(pattern: str) -> Callable[[WholeSite, "subprocess.Popen[str]"], None]:
    return lambda _, roll: until_line(roll, pattern)


def held(name: str) -> Callable[[WholeSite, "subprocess.Popen[str]"], None]:
    def wait(site: WholeSite, _: "subprocess.Popen[str]") -> None:
        memory = site.state / "memory.json"
        eventually(lambda: name in json.loads(memory.read_text())["held"], 60, 0.002)

    return wait


def stopped(name: str) -> Callable[[WholeSite, "subprocess.Popen[str]"], None]:
    def wait(site: WholeSite, roll: "subprocess.Popen[str]") -> None:
        held(name)(site, roll)
        pid = site.state / "instances" / name / "apache.json"
        eventually(lambda: not pid.exists(), 60, 0.002)

    return wait


STEPS = {
    "building": says("Building release"),
    "release-step": says("Release step"),
    "standing-in": held("web-3"),
    "stood-in": says(r"s create +web-3"),
    "first-held": held("web-1"),
    "first-stopped": stopped("web-1"),
    "first-replaced": says(r"s restart +web-1"),
    "second-stopped": stopped("web-2"),
    "second-replaced": says(r"s restart +web-2"),
    "removed": says(r"s remove +web-3"),
}


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_it_serves_and_the_next_deploy_finishes(site: WholeSite, step: str) -> None:
    release(site, step)
    with Visitors(site.url, rate=30) as visitors:
        roll = site.start("deploy", "-y")
        STEPS[step](site, roll)
        roll.kill()
        roll.wait()
        assert get(site).status_code == 200
        site.call("deploy", "-y", "-q")
    assert visitors.seen.failures == []
    assert executed(site, visitors.seen) == (0, 0)
    assert marks(site) == {step}
    status = site.wait_well()
    assert [i["name"] for i in status["instances"] if i["kind"] == "web"] == ["web-1", "web-2"]
    assert json.loads((site.state / "memory.json").read_text())["held"] == {}
    assert site.plan() == "nothing to do\n"
    steps = int(site.call("db", "-N", "-e", f"SELECT COUNT(*) FROM steps WHERE mark = '{step}'").stdout)
    # A release step that was under way when its deploy was killed runs again; one that was done does not.
    assert steps in ((1, 2) if step == "release-step" else (1,))
    before = receipt(site, str(receipt(site)["number"] - 1))
    assert (before["outcome"], before["reason"]) == ("interrupted", "its command was killed")


def test_a_killed_canary_gets_nobody(site: WholeSite) -> None:
    serves = next(iter(marks(site)))
    release(site, "orphan")
    roll = site.start("deploy", "-y", "--canary", "50%", "--canary-time", "60s")
    until_line(roll, "Canary")
    eventually(lambda: marks(site, 30) == {serves, "orphan"})
    roll.kill()
    roll.wait()
    eventually(lambda: marks(site, 30) == {serves})
    site.call("deploy", "-y", "-q")
    assert marks(site) == {"orphan"}


def test_two_people_at_once(site: WholeSite) -> None:
    release(site, "first")
    roll = site.start("deploy", "-y")
    until_line(roll, r"s create +web-3")
    refused = site.call("deploy", "-y", code=6).stderr
    assert "lampstand deploy" in refused
    assert str(roll.pid) in refused
    assert site.call("up", "-y", code=6).returncode == 6
    assert roll.wait(120) == 0
    assert marks(site) == {"first"}


def test_the_controller_killed_during_a_deploy_costs_nothing(site: WholeSite) -> None:
    release(site, "controllerless")
    with Visitors(site.url) as visitors:
        roll = site.start("deploy", "-y")
        until_line(roll, r"s create +web-3")
        kill([site.status()["controller"]["pid"]])
        assert roll.wait(120) == 0, roll.communicate()[0]
    assert visitors.seen.failures == []
    assert marks(site) == {"controllerless"}


def test_a_failover_of_the_database_during_a_deploy(site: WholeSite) -> None:
    release(site, "failover")
    primary = site.primary()
    with Visitors(site.url, readers=3, writers=2) as visitors:
        roll = site.start("deploy", "-y")
        until_line(roll, r"s create +web-3")
        kill(site.pids(primary)[primary])
        assert roll.wait(180) == 0, roll.communicate()[0]
    assert [f for f in visitors.seen.failures if not f.startswith("write")] == []
    assert marks(site) == {"failover"}
    site.wait_well()
    assert site.primary() != primary
    missing, _ = executed(site, visitors.seen)
    assert missing == 0
    assert receipt(site)["outcome"] == "done"


def test_interrupted_it_says_so_and_serves(site: WholeSite) -> None:
    release(site, "interrupted")
    with Visitors(site.url) as visitors:
        roll = site.start("deploy", "-y")
        until_line(roll, r"s create +web-3")
        roll.terminate()
        assert roll.wait(60) == 130
        assert receipt(site)["outcome"] == "interrupted"
        site.up()
    assert visitors.seen.failures == []
    assert marks(site) == {"interrupted"}
