"""What dies, hangs or is cut off, on a real engine with networks of its own."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest

from lampstand.drills.runner import Options, run_drill
from lampstand.drills.words import drill as drill_named
from lampstand.site.load import load
from lampstand.targets.docker.deployment import DockerDeployment
from lampstand.targets.docker.drill_site import DockerFaults
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
    assert verdict["passed"], verdict["breaches"]


@pytest.mark.parametrize("name", ["primary-kill", "primary-freeze", "sessions-kill", "web-kill"])
def test_no_acknowledged_write_is_lost(site: DockerSite, name: str) -> None:
    judge(drill(site, name))


@pytest.mark.parametrize("name", ["primary-cut-replicas", "primary-cut-clients"])
def test_no_acknowledged_write_is_lost_by_a_cut(site: DockerSite, name: str) -> None:
    judge(drill(site, name))


class Mute(DockerFaults):
    """One way only: what the primary sends to its replicas is lost, and what they send arrives."""

    def cut(self, instance: str, from_replicas: bool) -> None:
        assert from_replicas
        pid = int(self._inspect(instance, "{{.State.Pid}}"))
        for other in self._topology.of_kind("database"):
            if other.name != instance:
                rule = ["-p", "tcp", "--destination", other.endpoint("mysql").host, "-j", "DROP"]
                self._iptables(pid, "-I", rule, "OUTPUT")
                self._rules.append((instance, pid, "OUTPUT", rule))


class Alone(DockerFaults):
    """The controller is in no network any more."""

    networks: Mapping[str, Mapping[str, str]] = MappingProxyType({})

    def cut(self, instance: str, from_replicas: bool) -> None:
        self.networks = json.loads(self._inspect("controller", "{{json .NetworkSettings.Networks}}"))
        for network in self.networks:
            self._docker("network", "disconnect", network, f"{self._project}-controller")

    def heal(self, instance: str) -> None:
        super().heal(instance)
        found, self.networks = self.networks, {}
        for network, facts in found.items():
            self._docker(
                "network", "connect", "--ip", facts["IPAddress"], network, f"{self._project}-controller"
            )

    def heal_all(self) -> None:
        super().heal_all()
        self.heal("controller")


@pytest.mark.parametrize("faults", [Mute, Alone])
def test_no_acknowledged_write_is_lost_by_a_cut_one_way_or_of_the_controller(
    site: DockerSite, faults: type[DockerFaults], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(site.state))
    deployment = DockerDeployment(load(site.project), site.project, None)
    drilled = deployment.drill_site()
    drilled.faults = faults(site.name, drilled.topology)
    cut = drill_named("primary-cut-replicas")
    assert cut
    primary = site.primary()
    verdict = run_drill(drilled, [replace(cut, hold=4)], faults.__name__, Options()).document()
    judge(verdict)
    if faults is Alone:
        assert verdict["failed_requests"] == 0
        assert site.primary() == primary


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
