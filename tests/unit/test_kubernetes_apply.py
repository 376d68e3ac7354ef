"""What applying would change, on paper; the wish as a document."""

from typing import Any

import pytest

from lampstand.errors import LampstandError
from lampstand.plan import Verb
from lampstand.site import Site
from lampstand.targets.kubernetes.apply import Applier, Difference, changed, path_of
from lampstand.targets.kubernetes.manifests import render
from lampstand.targets.kubernetes.wish import Wish
from lampstand.topology import SECRETS
from tests.kubernetes_support import SITES, paper


@pytest.mark.parametrize(
    ("before", "after", "paths"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a"]),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, ["a.c"]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, ["a[0].b"]),
        ({"a": [1]}, {"a": [1, 2]}, ["a"]),
        ({"a": 1}, {}, ["a"]),
    ],
)
def test_fields_that_differ_have_a_path(before: object, after: object, paths: list[str]) -> None:
    assert list(changed(before, after)) == paths


def workload(name: str, releases: tuple[str, ...] = ("one",)) -> dict[str, Any]:
    there = paper(SITES["full"], releases=releases)
    return next(
        m
        for m in render(there.topology, there.project)
        if m["metadata"]["name"] == name and m["kind"] in ("Deployment", "StatefulSet")
    )


def test_a_plan_names_the_cause_of_a_change_and_no_value() -> None:
    old, new = workload("web", ("one",)), workload("web", ("one", "two"))
    assert Difference(new, None, ()).action().verb is Verb.CREATE
    roll = Difference(new, old, tuple(changed(old, new))).action()
    assert (roll.verb, roll.cause) == (Verb.RESTART, "release one -> two")
    path = "spec.template.spec.volumes[0].projected.sources[0].configMap.name"
    database = Difference(workload("database-1"), workload("database-1"), (path,)).action()
    assert (database.verb, database.cause) == (Verb.RESTART, "its configuration changed")
    service = {"kind": "Service", "metadata": {"name": "web", "labels": {}}}
    assert (
        Difference(service, service, ("spec.type", "spec.ports[0].port")).action().cause
        == "spec.type and 1 more changed"
    )


def test_what_is_new_beside_the_servers_is_one_line_of_the_plan() -> None:
    there = paper(SITES["smallest"])
    manifests = render(there.topology, there.project)
    applier = Applier(None, "shop", "shop")  # pyright: ignore[reportArgumentType] - nothing is asked
    plan = applier.plan([Difference(m, None, ()) for m in manifests], [workload("edge-fra")])
    assert [a.instance for a in plan.actions if a.verb is Verb.CREATE] == [
        "shop", "balancer", "web", "database-1", "cache-1", "sessions-1", "controller",
    ]  # fmt: skip
    assert [a.instance for a in plan.actions if a.verb is Verb.REMOVE] == ["edge-fra"]


def test_paths_of_objects() -> None:
    there = paper(SITES["full"])
    paths = {path_of(m) for m in render(there.topology, there.project)}
    assert "/api/v1/namespaces/shop" in paths
    assert "/api/v1/namespaces/shop/services/writer" in paths
    assert "/apis/apps/v1/namespaces/shop/statefulsets/database-1" in paths
    assert "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/default-deny" in paths


def test_a_wish_comes_back_from_its_document() -> None:
    wish = Wish(
        Site.model_validate({"site": "shop", **SITES["full"]}),
        "shop",
        "https://shop.example.com",
        "two",
        {"database": "lampstand/database:1"},
        {"one": "web:1", "two": "web:2"},
        releases={"web-1": "one"},
        canary=("two", 10.0),
        scaled={"web": "3"},
        generation=7,
    )
    assert Wish.of(wish.document()) == wish
    secrets = {name: name for name in SECRETS}
    assert wish.topology(secrets).by_name["web-1"].release == "one"
    assert wish.project(secrets).desired == wish.document()
    with pytest.raises(LampstandError, match="another version"):
        Wish.of({"site": {}})
