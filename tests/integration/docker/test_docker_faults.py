"""What dies, hangs or is cut off, on a real engine with networks of its own."""

import json
import os

import pytest

from tests.integration.docker.conftest import DockerSite
from tests.support import eventually

pytestmark = pytest.mark.timeout(600)  # the first test also waits for the images


def well(site: DockerSite) -> bool:
    return bool(site.status()["well"])


def drill(site: DockerSite, name: str) -> dict[str, object]:
    done = site.tried("drill", name, "--json")
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def judge(verdict: dict[str, object]) -> None:
    assert verdict["lost"] == 0
    assert verdict["two_primaries"] == 0
    assert verdict["diverged"] == 0
    assert verdict["passed"], verdict


@pytest.mark.parametrize("name", ["primary-kill", "primary-freeze", "sessions-kill", "web-kill"])
def test_no_acknowledged_write_is_lost(site: DockerSite, name: str) -> None:
    judge(drill(site, name))


@pytest.mark.parametrize("name", ["primary-cut-replicas", "primary-cut-clients"])
def test_no_acknowledged_write_is_lost_by_a_cut(site: DockerSite, name: str) -> None:
    judge(drill(site, name))


def test_servers_keep_their_addresses_when_they_all_come_back_at_once(site: DockerSite) -> None:
    names = ["web-1", "web-2", "balancer-1", "gateway-1"]
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    before = [site.inspect(name, template) for name in names]
    site.docker("kill", *(f"{site.name}-{name}" for name in names))
    eventually(lambda: well(site), 120, 0.5)
    assert [site.inspect(name, template) for name in names] == before
    assert site.get().status_code == 200


def test_docker_starts_a_crashed_server_again_while_the_controller_is_gone(site: DockerSite) -> None:
    site.docker("kill", f"{site.name}-controller")
    assert site.get("/?without-controller").status_code == 200
    pid = site.inspect("web-1", "{{.State.Pid}}")
    os.kill(int(pid), 9)
    eventually(
        lambda: site.inspect("web-1", "{{.State.Running}} {{.State.Pid}}") not in (f"true {pid}", "false 0"),
        60,
    )
    primary = site.status()["instances"]
    assert primary, "status works without the controller"
    site.lampstand("up")
    eventually(lambda: well(site), 120, 0.5)


def test_a_controller_that_is_cut_off_from_everything_changes_nothing(site: DockerSite) -> None:
    before = site.primary()
    networks = [f"{site.name}_{zone}" for zone in ("edge", "web", "data")]
    addresses = {
        network: site.inspect(
            "controller", f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
        )
        for network in networks
    }
    for network in networks:
        site.docker("network", "disconnect", network, f"{site.name}-controller")
    try:
        eventually(lambda: not well(site), 60, 0.5)
        assert site.get("/?cut-off").status_code == 200
    finally:
        for network, address in addresses.items():
            site.docker("network", "connect", "--ip", address, network, f"{site.name}-controller")
    eventually(lambda: well(site), 120, 0.5)
    assert site.get("/?back").status_code == 200
    assert before
