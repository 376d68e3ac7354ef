"""The Compose project on paper."""

import re
from dataclasses import replace
from typing import Any

import pytest

from lampstand.targets.docker.compose import compose, compose_text, engine_configuration
from lampstand.targets.docker.placement import Addresses
from tests.docker_support import NETWORKS, paper
from tests.web_support import golden

SITES: dict[str, dict[str, object]] = {
    "smallest": {
        "database": {"replicas": 0}, "cache": {"replicas": 0}, "sessions": {"replicas": 0}, "cdn": {"edges": []},
    },
    "full": {
        "app": {
            "release": "php bin/migrate.php $latest",
            "uploads": ["public/pictures"],
            "jobs": {"nightly": {"schedule": "0 3 * * *", "run": "php bin/nightly.php"}},
            "workers": {"mail": {"run": "php bin/worker.php", "count": 2}},
        },
        "cdn": {"edges": ["fra", "iad"], "shield": "fra"},
        "web": {"servers": 3, "memory": "256MB"},
        "balancer": {"servers": 2},
    },
}  # fmt: skip
PORTS = {"edge-fra/http": 8000, "edge-iad/http": 8001, "balancer-1/http": 8002}


def services(site: dict[str, object]) -> dict[str, Any]:
    there = paper(site, PORTS)
    return compose(there.topology, there.project)["services"]


@pytest.mark.parametrize("name", SITES)
def test_the_project_is_the_golden_one(name: str) -> None:
    there = paper(SITES[name], PORTS)
    golden(f"docker/{name}.yaml", compose_text(there.topology, there.project))


def test_what_the_controller_may_ask_of_docker_is_a_closed_list() -> None:
    there = paper(SITES["smallest"])
    text = engine_configuration("shop", [*there.topology.by_name])
    golden("docker/engine.conf", text)
    allowed = re.findall(r"location (?:=|~) (\S+)", text)
    assert any(re.fullmatch(rule, "/containers/shop-database-1/kill") for rule in allowed)
    for path in (
        "/containers/create",
        "/containers/other-database-1/kill",
        "/containers/shop-database-10/kill",
        "/containers/shop-database-1/exec",
        "/containers/shop-controller/kill",
        "/containers/shop-web-1/archive",
        "/exec/0123/start",
        "/v1.41/containers/json",
        "/volumes",
    ):
        assert not any(re.fullmatch(rule, path) for rule in allowed), path


@pytest.mark.parametrize("site", SITES.values())
def test_no_container_can_write_its_root_or_gain_rights(site: dict[str, object]) -> None:
    for name, service in services(site).items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        assert service["logging"]["options"]["max-size"], name


def test_docker_s_socket_is_mounted_into_one_container_that_has_no_network() -> None:
    mounted = {n for n, s in services(SITES["full"]).items() if any("docker.sock" in v for v in s["volumes"])}
    assert mounted == {"engine"}
    assert services(SITES["full"])["engine"]["network_mode"] == "none"


def test_no_secret_is_in_the_text() -> None:
    there = paper(SITES["full"], PORTS)
    text = compose_text(there.topology, there.project)
    assert not re.search(r"<[a-z_]+>", text), "a generated secret"


def test_the_data_zone_is_internal_and_only_the_gateway_and_the_controller_lead_there() -> None:
    there = paper(SITES["full"], PORTS)
    document = compose(there.topology, there.project)
    assert document["networks"]["data"]["internal"] is True
    assert not any(document["networks"][zone].get("internal") for zone in ("edge", "web"))
    inside = {n for n, s in document["services"].items() if "data" in s.get("networks", {})}
    kinds = {n.partition("-")[0] for n in inside}
    assert kinds == {"database", "cache", "sessions", "gateway", "controller"}
    at_the_edge = {
        n.partition("-")[0] for n, s in document["services"].items() if "edge" in s.get("networks", {})
    }
    assert at_the_edge == {"edge", "balancer", "controller"}


def test_every_container_has_addresses_of_its_own() -> None:
    found = [
        membership["ipv4_address"]
        for service in services(SITES["full"]).values()
        for membership in service.get("networks", {}).values()
    ]
    assert len(found) == len(set(found))


def test_servers_with_a_role_are_not_restarted_by_docker_when_others_could_take_it() -> None:
    full, smallest = services(SITES["full"]), services(SITES["smallest"])
    assert {full[n]["restart"] for n in ("database-1", "cache-1", "sessions-2")} == {"no"}
    assert full["web-1"]["restart"] == "unless-stopped"
    assert smallest["database-1"]["restart"] == "unless-stopped"


def test_compose_stops_the_controller_before_the_servers_and_starts_the_entries_after_the_release_step() -> (
    None
):
    found = services(SITES["full"])
    entries = {"edge-fra", "edge-iad"}
    assert entries.isdisjoint(found["controller"]["depends_on"])
    assert {n for n in found if n not in entries} - {"controller", "release"} == set(
        found["controller"]["depends_on"]
    )
    for name in entries:
        assert found[name]["depends_on"] == {"release": {"condition": "service_completed_successfully"}}
    assert "release" not in services(SITES["smallest"])
    assert found["release"]["command"][-1].endswith("$$latest"), "Compose must not see a variable"


def test_a_server_s_hash_tells_whether_compose_would_make_it_anew() -> None:
    addresses = Addresses("shop", NETWORKS)

    def hashes(site: dict[str, object]) -> dict[str, str]:
        there = paper(site, PORTS, addresses)
        found = compose(there.topology, there.project)["services"]
        return {
            n: s["labels"]["org.lampstand.service-hash"]
            for n, s in found.items()
            if "restart" in s and n[-1].isdigit()
        }

    before = hashes(SITES["full"])
    more = hashes({**SITES["full"], "web": {"servers": 4, "memory": "256MB"}})
    assert {n for n in more if before.get(n) != more[n]} == {"web-4"}, (
        "a fourth web server concerns nobody else"
    )
    larger = hashes({**SITES["full"], "web": {"servers": 3, "memory": "512MB"}})
    assert {n.partition("-")[0] for n in larger if before[n] != larger[n]} == {"web", "worker", "scheduler"}


def test_only_what_visitors_reach_is_published_on_the_loopback() -> None:
    ports = {n: s["ports"] for n, s in services(SITES["full"]).items() if "ports" in s}
    assert ports["edge-fra"] == ["127.0.0.1:8000:8080"]
    assert not any(n.startswith(("database", "gateway", "web", "cache")) for n in ports)


def test_a_dead_neighbour_is_given_up_soon_on_every_interface_and_engine() -> None:
    there = paper(SITES["smallest"])
    old = compose(there.topology, there.project)["services"]["gateway-1"]
    assert {name.split(".")[3] for name in old["sysctls"]} == {"eth0", "eth1"}
    new = compose(there.topology, replace(there.project, engine=28))["services"]["gateway-1"]
    assert "sysctls" not in new
    assert all(
        "IFNAME" in n["driver_opts"]["com.docker.network.endpoint.sysctls"] for n in new["networks"].values()
    )
