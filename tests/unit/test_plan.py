"""The plan is the difference between what should run and what runs; its text is the test."""

from dataclasses import replace

from lampstand.observed import Observed, ObservedInstance, Role, State
from lampstand.plan import Plan, plan
from lampstand.topology import File, Instance, Process, Topology


def server(name: str, kind: str, content: str = "a", release: str | None = None) -> Instance:
    process = Process("engine", ("/usr/sbin/engine", release or ""), account="www-data")
    files = (File(f"/etc/{name}", content), File(f"/etc/{name}.reload", content, on_change="reload"))
    return Instance(name, "web", kind, (process,), files=files, release=release)


def running(instance: Instance, state: State = State.RUNNING, role: Role | None = None) -> ObservedInstance:
    return ObservedInstance(
        instance.name,
        instance.kind,
        state,
        restart_hash=instance.restart_hash,
        config_hash=instance.config_hash,
        release=instance.release,
        role=role,
    )


SITE = Topology(
    "shop",
    (
        server("edge-fra", "edge"),
        server("web-1", "web", release="one"),
        server("web-2", "web", release="one"),
        server("database-1", "database"),
        server("database-2", "database"),
    ),
)


def text(topology: Topology, *seen: ObservedInstance) -> str:
    return str(plan(topology, Observed(0.0, {s.name: s for s in seen})))


def all_running(topology: Topology) -> list[ObservedInstance]:
    return [running(i) for i in topology.instances]


def test_everything_is_created_side_by_side() -> None:
    found = plan(SITE, Observed(0.0))
    assert len(found.waves) == 1
    assert str(found) == (
        "create     edge-fra         not there yet\n"
        "create     web-1            not there yet\n"
        "create     web-2            not there yet\n"
        "create     database-1       not there yet\n"
        "create     database-2       not there yet\n"
    )


def test_nothing_differs_nothing_is_done() -> None:
    assert text(SITE, *all_running(SITE)) == "nothing to do\n"
    assert not Plan()


def test_a_role_is_no_difference() -> None:
    seen = [replace(s, role="primary" if s.name == "database-1" else None) for s in all_running(SITE)]
    assert text(SITE, *seen) == "nothing to do\n"


def test_changes_go_from_data_to_edge_and_one_server_at_a_time() -> None:
    changed = Topology("shop", tuple(server(i.name, i.kind, "b", i.release) for i in SITE.instances))
    found = plan(changed, Observed(0.0, {s.name: s for s in all_running(SITE)}))
    assert [[a.instance for a in wave] for wave in found.waves] == [
        ["database-1"],
        ["database-2"],
        ["web-1"],
        ["web-2"],
        ["edge-fra"],
    ]


def test_a_file_that_is_read_again_needs_a_reload_only() -> None:
    first = SITE.instances[0]
    changed = replace(first, files=(first.files[0], File("/etc/edge-fra.reload", "b", on_change="reload")))
    site = Topology("shop", (changed, *SITE.instances[1:]))
    assert text(site, *all_running(SITE)) == "reload     edge-fra         its configuration changed\n"


def test_another_release_is_named() -> None:
    site = Topology(
        "shop", tuple(replace(i, release="two") if i.kind == "web" else i for i in SITE.instances)
    )
    site = Topology("shop", tuple(server(i.name, i.kind, "a", i.release) for i in site.instances))
    assert text(site, *all_running(SITE)) == (
        "restart    web-1            release one -> two\nrestart    web-2            release one -> two\n"
    )


def test_the_primary_hands_over_and_goes_last() -> None:
    site = Topology("shop", tuple(server(n, "database", "b") for n in ("database-1", "database-2")))
    seen = [
        running(server("database-1", "database"), role="primary"),
        running(server("database-2", "database")),
    ]
    assert text(site, *seen) == (
        "restart    database-2       its command or configuration changed\n"
        "switchover database-1       it is the primary and is restarted next\n"
        "restart    database-1       its command or configuration changed\n"
    )


def test_a_primary_alone_has_nobody_to_hand_over_to() -> None:
    site = Topology("shop", (server("database-1", "database", "b"),))
    seen = running(server("database-1", "database"), role="primary")
    assert text(site, seen) == "restart    database-1       its command or configuration changed\n"


def test_a_primary_is_not_removed_before_it_handed_over() -> None:
    site = Topology("shop", (server("database-1", "database"),))
    seen = [
        running(server("database-1", "database")),
        running(server("database-2", "database"), role="primary"),
    ]
    assert text(site, *seen) == (
        "switchover database-2       it is the primary and is removed\n"
        "remove     database-2       no longer in the site file\n"
    )


def test_dead_and_half_dead_servers() -> None:
    seen = {s.name: s for s in all_running(SITE)}
    seen["web-1"] = running(SITE.instances[1], State.STOPPED)
    seen["web-2"] = running(SITE.instances[2], State.PARTIAL)
    assert text(SITE, *seen.values()) == (
        "start      web-1            stopped\nrestart    web-2            only  runs\n"
    )
