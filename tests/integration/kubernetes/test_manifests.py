"""The manifests on an API server, which knows better than any schema what it takes. Nothing of them runs here."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lampstand.targets.kubernetes.export import write_export
from lampstand.targets.kubernetes.manifests import release_job, render
from lampstand.targets.kubernetes.project import Manifest, Served, documents
from tests.integration.kubernetes.cluster import Cluster
from tests.kubernetes_support import SITES, paper


def served(cluster: Cluster) -> Served:
    """The API versions that this cluster serves."""
    return Served(frozenset(cluster.kubectl("api-versions").split()))


def manifests(cluster: Cluster, site: Mapping[str, object], namespace: str) -> tuple[Manifest, ...]:
    """What would be applied to this cluster, in order."""
    there = paper(site)
    project = replace(there.project, namespace=namespace)
    found = render(there.topology, project, served(cluster))
    job = release_job(there.topology, project, served(cluster))
    return (*found, job) if job else found


def applied(cluster: Cluster, documents: object, *options: str) -> subprocess.CompletedProcess[str]:
    """Server-side apply as the target does it."""
    listed = {"apiVersion": "v1", "kind": "List", "items": documents}
    return cluster.tried(
        "apply",
        "--server-side",
        "--field-manager",
        "lampstand",
        *options,
        "-f",
        "-",
        given=json.dumps(listed),
    )


def without_namespace(documents: tuple[Manifest, ...]) -> list[Manifest]:
    """All but the namespace, which the test made."""
    return [document for document in documents if document["kind"] != "Namespace"]


@pytest.mark.parametrize("name", SITES)
def test_the_api_server_takes_every_manifest(cluster: Cluster, namespace: str, name: str) -> None:
    """A dry run goes through validation and admission; no field is unknown, none is dropped."""
    wanted = without_namespace(manifests(cluster, SITES[name], namespace))
    done = applied(cluster, wanted, "--dry-run=server", "-o", "json")
    assert done.returncode == 0, done.stderr
    kept = documents(json.loads(done.stdout)["items"])
    assert {what: missing for what, m in documents(wanted).items() if (missing := lost(m, kept[what]))} == {}


def lost(wanted: Any, kept: Any, path: str = "") -> list[str]:  # noqa: ANN401 - JSON
    """Paths of a manifest that an answer does not have. Values may be written in another way (`1000m` is `1`)."""
    if isinstance(wanted, dict):
        if not isinstance(kept, dict):
            return [path]
        found: list[str] = []
        for key, value in wanted.items():
            if value in ({}, [], None, False, "", 0) or (path == "" and key == "stringData"):
                continue  # what is empty is not kept, by many fields
            found += lost(value, kept[key], f"{path}.{key}") if key in kept else [f"{path}.{key}"]
        return found
    if isinstance(wanted, list):
        if not isinstance(kept, list) or len(kept) < len(wanted):
            return [path]
        return [
            p for number, item in enumerate(wanted) for p in lost(item, kept[number], f"{path}[{number}]")
        ]
    return []


def exported(cluster: Cluster, folder: Path, site: Mapping[str, object], namespace: str) -> None:
    """What `lampstand export` writes for this cluster."""
    there = paper(site)
    project = replace(there.project, namespace=namespace)
    write_export(folder, there.topology, project, served(cluster))


@pytest.mark.parametrize("name", SITES)
def test_kustomize_reads_the_export_as_it_was_meant(cluster: Cluster, tmp_path: Path, name: str) -> None:
    """No text of the folder means something else to kubectl, which reads YAML 1.1."""
    exported(cluster, tmp_path, SITES[name], "shop")
    read = yaml.safe_load_all(cluster.kubectl("kustomize", str(tmp_path)))
    wanted = json.loads(json.dumps(documents(manifests(cluster, SITES[name], "shop"))))
    assert documents(read) == wanted


def test_kubectl_alone_applies_the_export_and_has_nothing_to_do_the_second_time(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    exported(cluster, tmp_path, SITES["full"], namespace)
    first = cluster.kubectl("apply", "-k", str(tmp_path)).splitlines()
    assert len(first) == len(manifests(cluster, SITES["full"], namespace))

    def generations() -> dict[str, int]:
        """Of what runs pods: it rises when a change of the wish is more than another way to write it."""
        items = cluster.get("-n", namespace, "deployments,statefulsets")["items"]
        return {f"{i['kind']}/{i['metadata']['name']}": i["metadata"]["generation"] for i in items}

    before = generations()
    second = cluster.kubectl("apply", "-k", str(tmp_path)).splitlines()
    # kubectl says "configured" of every StatefulSet with claims: it compares the cluster's defaults in them.
    told = [line for line in second if not line.startswith("statefulset.apps/")]
    assert [line for line in told if not line.endswith(" unchanged")] == []
    assert generations() == before


LEASE = "lease.coordination.k8s.io"
MAY = [
    # It looks at everything that the site is made of, and asks programs in pods for facts that no probe tells.
    ("get", "pods"), ("list", "pods"), ("watch", "pods"), ("create", "pods/exec"),
    ("list", "statefulset.apps"), ("list", "deployment.apps"),
    # Roles are labels of pods; a pod that must not come back as it was is deleted.
    ("patch", "pods"), ("delete", "pods"),
    # What it was told, what it publishes, and the lease that makes it the only one.
    ("get", "configmap/site"), ("watch", "configmap/site"), ("update", "configmap/status"),
    ("get", f"{LEASE}/controller"), ("update", f"{LEASE}/controller"), ("create", LEASE),
]  # fmt: skip
MAY_NOT = [
    # Nothing that would give it more than this, or let it read what it is not given as files.
    ("get", "secrets"), ("list", "secrets"), ("create", "secrets"), ("get", "secret/secrets"),
    ("create", "role.rbac.authorization.k8s.io"), ("patch", "role.rbac.authorization.k8s.io"),
    ("bind", "role.rbac.authorization.k8s.io"), ("escalate", "role.rbac.authorization.k8s.io"),
    ("create", "rolebinding.rbac.authorization.k8s.io"), ("create", "serviceaccounts/token"),
    ("impersonate", "serviceaccounts"), ("create", "pods"), ("create", "deployment.apps"),
    ("patch", "deployment.apps"), ("patch", "statefulset.apps"),
    # Nothing that loses data or opens doors.
    ("delete", "persistentvolumeclaims"), ("delete", "persistentvolumes"), ("delete", "namespaces"),
    ("delete", "statefulset.apps"), ("delete", "networkpolicy.networking.k8s.io"), ("patch", "services"),
    ("update", "configmap/site"), ("patch", "nodes"), ("delete", "nodes"), ("get", "nodes"),
]  # fmt: skip


@pytest.fixture
def controller(cluster: Cluster, namespace: str) -> str:
    """The name of the controller's account, with the rights that its manifests give it."""
    rights = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    found = [m for m in manifests(cluster, SITES["full"], namespace) if m["kind"] in rights]
    done = applied(cluster, found)
    assert done.returncode == 0, done.stderr
    return f"system:serviceaccount:{namespace}:controller"


def test_the_controller_may_what_it_does_and_no_more(
    cluster: Cluster, namespace: str, controller: str
) -> None:
    """The table of its rights, as the cluster's authorizer reads them."""

    def may(verb: str, resource: str, where: str = namespace, account: str = controller) -> bool:
        kind, _, below = resource.partition("/")
        what = [kind, "--subresource", below] if below in ("exec", "token") else [resource]
        return cluster.tried("auth", "can-i", verb, *what, "-n", where, "--as", account).returncode == 0

    assert [row for row in MAY if not may(*row)] == []
    assert [row for row in MAY_NOT if may(*row)] == []
    assert [row for row in MAY if may(*row, "default")] == [], "rights outside its namespace"
    servers = controller.removesuffix("controller") + "servers"
    assert [row for row in MAY if may(*row, account=servers)] == [], "rights of servers"


def test_a_second_apply_changes_nothing(cluster: Cluster, namespace: str) -> None:
    """The same manifests again: every object keeps its version, so an `up` without changes restarts nothing."""
    # Left out is what the cluster's own controllers write to while this test looks: workloads, accounts.
    quiet = {"ConfigMap", "Secret", "Service", "NetworkPolicy", "Role", "RoleBinding"}
    found = [m for m in manifests(cluster, SITES["full"], namespace) if m["kind"] in quiet]

    def versions() -> dict[str, str]:
        done = applied(cluster, found, "-o", "json")
        assert done.returncode == 0, done.stderr
        items = json.loads(done.stdout)["items"]
        return {f"{i['kind']}/{i['metadata']['name']}": i["metadata"]["resourceVersion"] for i in items}

    first = versions()
    assert len(first) == len(found)
    assert versions() == first
