"""Which web servers the balancers send requests to."""

from dataclasses import replace

import pytest

from lampstand.controller.problems import Memory, View
from lampstand.controller.routes import routes
from lampstand.observed import Health, Observed, ObservedInstance, State
from lampstand.tiers.balancer import live
from lampstand.topology import Endpoint, File, Instance, Process, Topology

NOW = 1_000_000.0
LIVE = (
    File("/etc/balancer/live/routes.conf", live.web_routes(())),
    File("/etc/balancer/live/releases.conf", live.releases(["/releases/r1"])),
    File("/etc/balancer/live/maintenance.conf", live.maintenance()),
)
BALANCER = Instance(
    "balancer-1", "balancer", "balancer", (Process("nginx", ("nginx",), "www-data"),), live_files=LIVE
)


def web(number: int, release: str = "r1") -> Instance:
    endpoint = Endpoint(f"web-{number}", "http", "127.0.0.1", 20_000 + number, "http")
    return Instance(
        f"web-{number}",
        "web",
        "web",
        (),
        endpoints=(endpoint,),
        release=release,
        slow_start=6.0,
        index=number,
    )


def seen(
    number: int, health: Health = Health.GOOD, state: State = State.RUNNING, age: float = 3600.0
) -> ObservedInstance:
    return ObservedInstance(f"web-{number}", "web", state, health=health, health_since=NOW - age)


def view(
    *observed: ObservedInstance, memory: Memory | None = None, releases: dict[int, str] | None = None
) -> View:
    servers = [web(int(o.name[4:]), (releases or {}).get(int(o.name[4:]), "r1")) for o in observed]
    topology = Topology("shop", (BALANCER, *servers))
    return View(topology, Observed(NOW, {o.name: o for o in observed}), memory or Memory(), NOW)


def text(found: View) -> str:
    return routes(found)["balancer-1"][0].content


def weights(found: View, upstream: str = "web") -> dict[str, int]:
    """Server -> weight in one upstream of the text."""
    block = text(found).split(f"upstream {upstream} {{")[1].split("}")[0]
    lines = [line for line in block.splitlines() if "weight=" in line]
    return {line.split("# ")[1]: int(line.split("weight=")[1].split()[0]) for line in lines}


def test_good_servers_get_requests_in_both_upstreams() -> None:
    found = view(seen(1), seen(2))
    assert weights(found) == weights(found, "web_once") == {"web-1": 10, "web-2": 10}


def test_what_is_not_well_gets_none() -> None:
    for ill in (
        seen(2, Health.BAD),
        seen(2, Health.STARTING),
        seen(2, Health.UNKNOWN),
        seen(2, state=State.FROZEN),
        seen(2, state=State.STOPPED),
    ):
        assert weights(view(seen(1), ill)) == {"web-1": 10}


def test_when_nobody_is_well_all_that_run_are_tried() -> None:
    found = view(seen(1, Health.BAD), seen(2, Health.STARTING), seen(3, Health.GOOD, State.FROZEN))
    assert list(weights(found)) == ["web-1", "web-2"]


def test_when_nobody_runs_all_are_tried_and_the_upstream_is_never_empty() -> None:
    stopped = view(seen(1, Health.BAD, State.STOPPED), seen(2, Health.UNKNOWN, State.MISSING))
    assert list(weights(stopped)) == ["web-1", "web-2"]
    unseen = replace(stopped, observed=Observed(NOW))
    assert list(weights(unseen)) == ["web-1", "web-2"]


def test_held_servers_get_none_unless_there_is_nobody_else() -> None:
    memory = Memory(held={"web-1": "drain"})
    assert list(weights(view(seen(1), seen(2), memory=memory))) == ["web-2"]
    assert list(weights(view(seen(1), seen(2, Health.BAD), memory=memory))) == ["web-2"]
    assert list(weights(view(seen(1), memory=memory))) == ["web-1"]


@pytest.mark.parametrize(
    ("age", "weight"), [(0.0, 1), (1.9, 1), (2.0, 3), (4.0, 6), (5.9, 6), (6.0, 10), (60.0, 10)]
)
def test_a_server_that_comes_back_beside_a_warm_one_grows_in_steps(age: float, weight: int) -> None:
    assert weights(view(seen(1), seen(2, age=age))) == {"web-1": 10, "web-2": weight}


def test_when_all_start_nobody_is_spared_and_no_step_makes_a_reload() -> None:
    texts = {
        text(view(seen(1, age=age + 0.3), seen(2, age=age))) for age in (0.0, 1.0, 2.1, 3.0, 5.0, 7.0, 100.0)
    }
    assert len(texts) == 1


def test_the_text_depends_on_nothing_but_who_gets_what() -> None:
    first = view(seen(1), seen(2, Health.BAD))
    later = View(first.topology, Observed(NOW + 9, dict(first.observed.instances)), first.memory, NOW + 9)
    other_reason = view(
        seen(1, age=9999), replace(seen(2, Health.BAD), health_text="answers 500", restarts=3)
    )
    assert text(first) == text(later) == text(other_reason)


def test_all_balancers_get_the_same() -> None:
    found = view(seen(1))
    second = replace(BALANCER, name="balancer-2")
    both = replace(found, topology=Topology("shop", (BALANCER, second, web(1))))
    files = routes(both)
    assert files["balancer-1"] == files["balancer-2"]
    assert [f.path.rsplit("/", 1)[1] for f in files["balancer-1"]] == [
        "routes.conf",
        "releases.conf",
        "maintenance.conf",
    ]
    assert [f.content for f in files["balancer-1"]][1:] == [LIVE[1].content, LIVE[2].content]


def test_maintenance_has_its_page_before_it_is_on() -> None:
    facts = {"retry_after": "300", "allow": "192.0.2.0/24 ::1/128", "page": "<p>soon</p>"}
    files = routes(view(seen(1), memory=Memory(intents={"maintenance": facts})))["balancer-1"]
    assert [f.path.rsplit("/", 1)[1] for f in files][2:] == ["maintenance.html", "maintenance.conf"]
    assert files[2].content == "<p>soon</p>"
    assert files[3].content == live.maintenance(300, ["192.0.2.0/24", "::1/128"])


def test_nobody_is_spared_while_a_server_is_missing() -> None:
    held = Memory(held={"web-1": "roll"})
    assert weights(view(seen(1), seen(2), seen(3, age=0.0), memory=held)) == {"web-2": 10, "web-3": 10}


def test_a_release_that_is_taken_back_gets_nobody_unless_it_is_alone() -> None:
    memory = Memory(intents={"canary": {"release": "r2", "percent": "0"}})
    found = view(seen(1), seen(2), memory=memory, releases={2: "r2"})
    assert list(weights(found)) == ["web-1"]
    assert "r2" not in text(found)
    assert list(weights(view(seen(1, Health.BAD), seen(2), memory=memory, releases={2: "r2"}))) == ["web-2"]


def test_a_canary_has_its_own_upstreams() -> None:
    memory = Memory(intents={"canary": {"release": "r2", "percent": "10"}})
    found = view(seen(1), seen(2), seen(3), memory=memory, releases={3: "r2"})
    assert list(weights(found)) == ["web-1", "web-2"]
    assert list(weights(found, "canary")) == list(weights(found, "canary_once")) == ["web-3"]
    assert '10.00% "r2";' in text(found)


def test_a_canary_that_is_not_well_gets_no_visitors_and_one_that_is_alone_gets_all() -> None:
    memory = Memory(intents={"canary": {"release": "r2", "percent": "10"}})
    ill = view(seen(1), seen(2, Health.BAD), memory=memory, releases={2: "r2"})
    assert list(weights(ill)) == ["web-1"]
    assert "canary" not in text(ill)
    alone = view(seen(1, Health.BAD), seen(2), memory=memory, releases={2: "r2"})
    assert list(weights(alone)) == ["web-2"]
    assert "canary" not in text(alone)


def test_a_thousand_servers_take_linear_time() -> None:
    found = view(*(seen(n) for n in range(1, 1001)))
    assert len(weights(found)) == 1000
