"""The site as Kubernetes objects, on paper."""

import json
import warnings
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest

from lampstand.errors import LampstandError
from lampstand.targets.kubernetes.export import yaml_text
from lampstand.targets.kubernetes.manifests import release_job, render
from lampstand.targets.kubernetes.project import Manifest, Served, docker_site, documents
from tests.kubernetes_support import RELEASE, SITES, paper
from tests.web_support import golden

VERSIONS = [f"1.{minor}" for minor in range(29, int(kubernetes_validate.latest_version().split(".")[1]) + 1)]
OLD = Served(
    frozenset({"apps/v1", "batch/v1", "policy/v1beta1", "autoscaling/v2beta2", "networking.k8s.io/v1"})
)


def manifests(site: dict[str, object], **more: Any) -> tuple[Manifest, ...]:  # noqa: ANN401
    there = paper(site, **more)
    job = release_job(there.topology, there.project)
    return (*render(there.topology, there.project), *([job] if job else []))


def found(site: dict[str, object], **more: Any) -> dict[str, Manifest]:  # noqa: ANN401
    return documents(manifests(site, **more))


def pods(site: dict[str, object]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, manifest in found(site).items():
        if "template" in manifest.get("spec", {}):
            yield name, manifest["spec"]["template"]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", []), *spec["containers"]]


@pytest.mark.parametrize("name", SITES)
def test_the_objects_are_the_golden_ones(name: str) -> None:
    golden(f"kubernetes/{name}.yaml", yaml_text(manifests(SITES[name])))


@pytest.mark.parametrize("version", VERSIONS)
def test_published_schemas_know_every_field(version: str) -> None:
    for manifest in found(SITES["full"] | {"database": {"replicas": 0}}).values():
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a schema that is missing is only warned about
            kubernetes_validate.validate(manifest, version, strict=True)


def test_equal_input_gives_equal_output() -> None:
    assert manifests(SITES["full"]) == manifests(SITES["full"])


def test_names_are_unique() -> None:
    for site in SITES.values():
        assert len(found(site)) == len(manifests(site))


def test_an_old_cluster_gets_what_it_serves() -> None:
    there = paper(SITES["full"])
    versions = {m["kind"]: m["apiVersion"] for m in render(there.topology, there.project, OLD)}
    assert versions["PodDisruptionBudget"] == "policy/v1beta1"
    assert versions["HorizontalPodAutoscaler"] == "autoscaling/v2beta2"


@pytest.mark.parametrize("site", SITES.values())
def test_every_pod_is_restricted(site: dict[str, object]) -> None:
    for name, template in pods(site):
        spec = template["spec"]
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert not any("hostPath" in v for v in spec["volumes"]), name
        for container in containers(spec):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["readOnlyRootFilesystem"] is True, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name


@pytest.mark.parametrize("site", SITES.values())
def test_a_quota_can_count_everything(site: dict[str, object]) -> None:
    for name, template in pods(site):
        for container in containers(template["spec"]):
            for side in ("requests", "limits"):
                assert set(container["resources"][side]) == {"cpu", "memory", "ephemeral-storage"}, name
        for volume in template["spec"]["volumes"]:
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], (name, volume["name"])


@pytest.mark.parametrize("site", SITES.values())
def test_only_the_controller_gets_a_token(site: dict[str, object]) -> None:
    with_token = {n for n, t in pods(site) if t["spec"]["automountServiceAccountToken"]}
    assert with_token == {"Deployment/controller"}
    assert {t["spec"]["serviceAccountName"] for n, t in pods(site) if n not in with_token} == {"servers"}


def test_the_controller_may_do_nothing_but_its_work() -> None:
    role = found(SITES["full"])["Role/controller"]
    assert all("*" not in rule[key] for rule in role["rules"] for key in ("apiGroups", "resources", "verbs"))
    assert not any(r in ("secrets", "nodes") for rule in role["rules"] for r in rule["resources"])
    writing = [
        r for r in role["rules"] if {"update", "patch"} & set(r["verbs"]) and r["resources"] != ["pods"]
    ]
    assert all(rule.get("resourceNames") for rule in writing)


@pytest.mark.parametrize("site", SITES.values())
def test_every_mounted_volume_exists_and_every_configuration_is_rendered(site: dict[str, object]) -> None:
    there = found(site)
    for name, template in pods(site):
        spec = template["spec"]
        claims = [c["metadata"]["name"] for c in there[name]["spec"].get("volumeClaimTemplates", [])]
        names = [*(v["name"] for v in spec["volumes"]), *claims]
        assert len(names) == len(set(names)), name
        mounted = {m["name"] for c in containers(spec) for m in c["volumeMounts"]}
        assert mounted == set(names), name
        for volume in spec["volumes"]:
            for source in volume.get("projected", {}).get("sources", []):
                [(kind, reference)] = source.items()
                if not reference.get("optional"):
                    manifest = there[
                        f"{'ConfigMap' if kind == 'configMap' else 'Secret'}/{reference['name']}"
                    ]
                    assert {i["key"] for i in reference.get("items", [])} <= set(manifest["data"])


@pytest.mark.parametrize("site", SITES.values())
def test_every_service_finds_a_pod(site: dict[str, object]) -> None:
    there = found(site)
    labels = [t["metadata"]["labels"] for _, t in pods(site)]
    given = {"lampstand.org/role": "primary", "lampstand.org/reads": "yes"}
    for name, manifest in there.items():
        if manifest["kind"] == "Service":
            wanted = {k: v for k, v in manifest["spec"]["selector"].items() if given.get(k) != v}
            assert any(wanted.items() <= one.items() for one in labels), name


@pytest.mark.parametrize("site", SITES.values())
def test_a_selector_finds_the_pods_of_its_own_workload_only(site: dict[str, object]) -> None:
    there = dict(pods(site))
    for name, manifest in found(site).items():
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            selector = manifest["spec"]["selector"]["matchLabels"]
            matched = [n for n, t in there.items() if selector.items() <= t["metadata"]["labels"].items()]
            assert matched == [name]


def test_a_change_rolls_what_it_touches_and_nothing_else() -> None:
    before = found(SITES["full"])
    site = {**SITES["full"], "web": {"servers": 3, "max_servers": 6, "memory": "256MB", "processes": 9}}
    after = found(site)
    changed = {n for n in before.keys() & after.keys() if before[n] != after[n]}
    # The scheduler and workers do not serve, so the number of processes is nothing to them.
    assert changed == {"Deployment/web", f"Job/release-{RELEASE}"}


def test_a_new_release_rolls_the_web_tier_and_the_balancers_that_serve_its_files() -> None:
    before, after = (found(SITES["full"], releases=r) for r in (("one",), ("one", "two")))
    changed = {n for n in before.keys() & after.keys() if before[n] != after[n]}
    assert changed == {
        "Deployment/web",
        "Deployment/balancer",
        "Deployment/worker-mail",
        "Deployment/scheduler",
    }
    balancer = after["Deployment/balancer"]["spec"]["template"]["spec"]
    assert [c["image"] for c in balancer["initContainers"]] == [
        "lampstand/shop-web:two",
        "lampstand/shop-web:one",
    ]


def test_no_password_is_outside_a_secret() -> None:
    for manifest in manifests(SITES["full"]):
        if manifest["kind"] != "Secret":
            assert "<database" not in json.dumps(manifest), manifest["metadata"]["name"]
            assert "<cache" not in json.dumps(manifest), manifest["metadata"]["name"]


def test_servers_with_a_role_are_restarted_by_who_knows_the_roles() -> None:
    for name, manifest in found(SITES["full"]).items():
        if manifest["kind"] == "StatefulSet":
            assert manifest["spec"]["updateStrategy"] == {"type": "OnDelete"}, name


def test_liveness_never_asks_an_engine() -> None:
    for name, template in pods(SITES["full"]):
        for container in template["spec"]["containers"]:
            probe = container.get("livenessProbe")
            if probe and name == "Deployment/controller":
                assert probe["httpGet"]["path"] == "/healthz"  # of the controller itself; it is no engine
            elif probe:
                assert probe["exec"]["command"][1:] == ["health", "any"], name


def test_a_pod_has_time_for_all_that_it_does_on_its_way_out() -> None:
    there = dict(pods(SITES["full"]))
    database = there["StatefulSet/database-1"]["spec"]
    assert database["terminationGracePeriodSeconds"] >= 20 + 30
    assert "read_only" in database["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
    web = there["Deployment/web"]["spec"]
    assert web["terminationGracePeriodSeconds"] >= 5 + 35 + 35
    assert web["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][0] == "/bin/sleep"


def test_uploads_need_a_volume_that_many_nodes_may_write_or_a_bucket() -> None:
    site: dict[str, object] = {"app": {"uploads": ["pictures"]}}
    with pytest.raises(LampstandError, match="storage class") as error:
        manifests(site)
    assert error.value.where == "targets.kubernetes.uploads_class"
    claim = found({**site, "targets": {"kubernetes": {"uploads_class": "nfs"}}})[
        "PersistentVolumeClaim/uploads"
    ]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert "PersistentVolumeClaim/uploads" not in found({**site, "storage": {"bucket": "shop-uploads"}})


@pytest.mark.parametrize("entry", ["loadbalancer", "nodeport", "none", "ingress", "gateway"])
def test_the_entry(entry: str) -> None:
    options = {"entry": entry, "gateway": "infra/public", "host": "shop.example.com"}
    there = found({"targets": {"kubernetes": options}})
    types = {"loadbalancer": "LoadBalancer", "nodeport": "NodePort"}
    assert there["Service/entry"]["spec"]["type"] == types.get(entry, "ClusterIP")
    assert there["Service/entry"]["spec"]["selector"]["lampstand.org/kind"] == "edge"
    assert ("Ingress/entry" in there) == (entry == "ingress")
    assert ("HTTPRoute/entry" in there) == (entry == "gateway")


def test_a_gateway_needs_a_cluster_that_serves_it_and_a_name() -> None:
    there = paper({"targets": {"kubernetes": {"entry": "gateway", "gateway": "public"}}})
    with pytest.raises(LampstandError, match=r"gateway\.networking\.k8s\.io"):
        render(there.topology, there.project, OLD)
    nameless = paper({"targets": {"kubernetes": {"entry": "gateway"}}})
    with pytest.raises(LampstandError, match="needs the Gateway"):
        render(nameless.topology, nameless.project)


def test_the_autoscaler_alone_decides_how_many_web_servers_there_are() -> None:
    there = found(SITES["full"])
    assert "replicas" not in there["Deployment/web"]["spec"]
    assert there["HorizontalPodAutoscaler/web"]["spec"]["maxReplicas"] == 6
    assert found({"web": {"servers": 4}})["Deployment/web"]["spec"]["replicas"] == 4


def test_what_is_alone_may_be_drained() -> None:
    budgets = {n for n in found(SITES["smallest"]) if n.startswith("PodDisruptionBudget/")}
    assert not budgets
    assert "PodDisruptionBudget/database" in found(SITES["full"])
    assert "PodDisruptionBudget/web" in found({"web": {"servers": 1, "max_servers": 6}})


def test_images_are_named_after_the_registry_of_this_target() -> None:
    site = paper({"targets": {"kubernetes": {"registry": "registry.example.com/shop"}}}).project.site
    assert site.targets.docker.registry is None
    assert docker_site(site).targets.docker.registry == "registry.example.com/shop"


def test_a_canary_is_a_deployment_of_its_own_that_the_balancers_send_a_share_to() -> None:
    old = {f"web-{n}": "old" for n in (1, 2, 3)}
    there = found(
        SITES["full"], releases=("old", "new"), running=old, surge=1, canary=("new", 10.0), web_replicas=3
    )
    images = {
        n: there[f"Deployment/{n}"]["spec"]["template"]["spec"]["containers"][0]["image"]
        for n in ("web", "web-canary")
    }
    assert images == {"web": "lampstand/shop-web:old", "web-canary": "lampstand/shop-web:new"}
    assert [there[f"Deployment/{n}"]["spec"]["replicas"] for n in ("web", "web-canary")] == [3, 1]
    assert there["Service/web-canary"]["spec"]["selector"]["lampstand.org/instance"] == "web-canary"
    [routes] = [
        m["data"]["live__routes.conf"] for n, m in there.items() if n.startswith("ConfigMap/balancer-")
    ]
    assert "server web-canary:8080" in routes
    assert "10.00%" in routes
    job = there["Job/release-new"]["spec"]["template"]["spec"]["containers"][0]
    assert job["image"] == "lampstand/shop-web:new"
