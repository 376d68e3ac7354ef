"""What Docker says, understood."""

from ipaddress import IPv4Network
from typing import Any

from lampstand.observed import State
from lampstand.targets.docker.containers import observed, unix_time
from lampstand.targets.docker.engine import routes
from lampstand.targets.docker.health import well


def document(name: str, status: str = "running", **labels: str) -> dict[str, Any]:
    own = {"instance": name, "kind": name.partition("-")[0], "restart-hash": "r", **labels}
    return {
        "Config": {"Labels": {f"org.lampstand.{k}": v for k, v in own.items()}},
        "State": {"Status": status, "Pid": 4711, "StartedAt": "2026-01-02T03:04:05.123456789Z"},
    }


def test_states() -> None:
    names = {"running": State.RUNNING, "paused": State.FROZEN, "exited": State.STOPPED, "created": State.STOPPED,
             "restarting": State.STOPPED, "dead": State.STOPPED}  # fmt: skip
    for status, state in names.items():
        assert observed([document("web-1", status)], {})["web-1"].state is state
    assert observed([document("web-1", "exited")], {})["web-1"].processes[0].pid is None
    assert observed([document("web-1")], {})["web-1"].processes[0].pid == 4711


def test_a_container_whose_programs_are_held_back_counts_as_stopped() -> None:
    assert observed([document("database-1")], {}, ["database-1"])["database-1"].state is State.STOPPED


def test_what_a_server_follows() -> None:
    seen = observed([document("web-1", release="abc")], {"web-1": "c"})["web-1"]
    assert (seen.restart_hash, seen.config_hash, seen.release, seen.kind) == ("r", "c", "abc", "web")


def test_containers_that_are_no_servers_are_left_out() -> None:
    strangers = [document("controller"), document("engine"), {**document("x"), "Config": {"Labels": None}}]
    assert observed(strangers, {}) == {}


def test_times_with_nanoseconds() -> None:
    assert round(unix_time("1970-01-01T00:00:01.500000001Z"), 3) == 1.5
    assert unix_time("1970-01-01T00:00:02Z") == 2


def test_networks_of_the_machine_s_routes() -> None:
    text = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    assert routes(text) == [IPv4Network("10.0.0.0/24")]


def test_the_controller_is_well_when_its_status_is_recent_and_everybody_is() -> None:
    good: dict[str, object] = {"time": 100.0, "instances": {"web-1": {"state": "running", "health": "good"}}}
    assert well(good, 104.0)
    assert not well(good, 130.0)
    assert not well({**good, "recoveries": ["x"]}, 104.0)
    assert not well({**good, "instances": {}}, 104.0)
    assert not well({**good, "instances": {"web-1": {"state": "running", "health": "bad"}}}, 104.0)
