"""Addresses and ports of containers."""

from ipaddress import IPv4Network

import pytest

from lampstand.errors import LampstandError
from lampstand.targets.docker.placement import PORTS, ZONES, Addresses, DockerPlacement, zones_of
from tests.docker_support import NETWORKS


def test_two_projects_seldom_begin_at_the_same_network_and_never_take_one_in_use() -> None:
    first, other = Addresses("shop", {}), Addresses("blog", {})
    assert first.network("edge") != other.network("edge")
    taken = tuple(first.network(zone) for zone in ZONES)
    again = Addresses("shop", {}, taken)
    assert not any(again.network(z).overlaps(t) for z in ZONES for t in taken)


def test_the_three_networks_do_not_overlap_and_lie_within_what_the_servers_trust() -> None:
    found = [Addresses("shop", {}).network(zone) for zone in ZONES]
    assert not any(a.overlaps(b) for a in found for b in found if a is not b)
    assert all(n.subnet_of(IPv4Network("10.0.0.0/8")) for n in found)


def test_without_a_free_network_it_says_so() -> None:
    with pytest.raises(LampstandError, match="no network is free"):
        Addresses("shop", {}, [IPv4Network("10.0.0.0/8")])


def test_an_address_stays_and_one_that_was_given_back_is_not_soon_another_s() -> None:
    addresses = Addresses("shop", NETWORKS)
    first, second = addresses.address("web", "web-1"), addresses.address("web", "web-2")
    assert (first, second) == ("10.128.1.2", "10.128.1.3")
    addresses.forget("web-2")
    assert addresses.address("web", "worker-mail-1") == "10.128.1.4"
    assert Addresses("shop", addresses.kept).address("web", "web-1") == first


def test_a_full_network_wraps_around_and_then_says_so() -> None:
    addresses = Addresses("shop", NETWORKS)
    for number in range(253):
        addresses.address("data", f"database-{number}")
    addresses.forget("database-7")
    assert addresses.address("data", "database-999") == "10.128.2.9"
    with pytest.raises(LampstandError, match="no address left"):
        addresses.address("data", "database-1000")


def test_no_container_needs_a_port_that_only_root_may_open() -> None:
    assert all(number >= 1024 for number in PORTS.values())
    for kind in {k for k, _ in PORTS}:
        mine = [n for (k, _), n in PORTS.items() if k == kind]
        assert len(mine) == len(set(mine))


def test_others_reach_a_server_in_its_home_zone() -> None:
    place = DockerPlacement(Addresses("shop", NETWORKS), "http://127.0.0.1:8000")
    assert place.reach("database-1", "mysql") == ("10.128.2.2", 3306)
    assert place.reach("gateway-1", "writer") == ("10.128.1.2", 3306)
    assert zones_of("gateway-1") == ("web", "data")
    assert zones_of("controller") == ZONES
    assert zones_of("worker-mail-1") == ("web",)
