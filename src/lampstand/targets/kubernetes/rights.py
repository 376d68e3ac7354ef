"""The namespace and what the pods may ask of the cluster: nothing, but for the controller. Pure."""

from collections.abc import Iterator
from typing import Any

from lampstand.targets.kubernetes.configuration import role_map
from lampstand.targets.kubernetes.placement import CONTROLLER
from lampstand.targets.kubernetes.pods import GROUPED
from lampstand.targets.kubernetes.project import SITE_MAP, Manifest, Project
from lampstand.topology import Topology

SERVERS = "servers"
"""Service account of all servers; no right is bound to it and no token is mounted."""

PUBLISHED = ("status", "memory", "journal")
"""ConfigMaps that the controller writes: what it saw, what it must remember, what it did."""


def namespace(project: Project) -> Manifest:
    """The namespace; it refuses pods that ask for more than `restricted` allows."""
    security = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": project.namespace, "labels": {**project.labels, **security}},
    }


def rights(topology: Topology, project: Project) -> Iterator[Manifest]:
    """Accounts, and exactly what the controller needs."""
    for name in (SERVERS, CONTROLLER):
        yield {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": project.metadata(name),
            "automountServiceAccountToken": False,
        }
    yield {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": project.metadata(CONTROLLER),
        "rules": _rules(topology),
    }
    yield {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": project.metadata(CONTROLLER),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": CONTROLLER},
        "subjects": [{"kind": "ServiceAccount", "name": CONTROLLER, "namespace": project.namespace}],
    }


def _rules(topology: Topology) -> list[dict[str, Any]]:
    groups = [i.name for i in topology.instances if i.kind in GROUPED]
    return [
        _rule("", "pods", ["get", "list", "watch", "patch", "delete"]),
        # Over a websocket an exec is a GET, and from Kubernetes 1.30 on it must be allowed to create too.
        _rule("", "pods/exec", ["get", "create"]),
        # A name cannot limit what is created.
        _rule("", "configmaps", ["create"]),
        _rule("", "configmaps", ["get", "patch", "update", "delete"], [*map(role_map, groups), *PUBLISHED]),
        _rule("", "configmaps", ["get", "list", "watch"], [SITE_MAP]),
        _rule("apps", "statefulsets", ["get", "list", "watch"]),
        _rule("apps", "deployments", ["get", "list", "watch"]),
        _rule("coordination.k8s.io", "leases", ["create"]),
        _rule("coordination.k8s.io", "leases", ["get", "update", "patch"], [CONTROLLER]),
    ]


def _rule(group: str, resource: str, verbs: list[str], names: list[str] | None = None) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "resources": [resource],
        "verbs": verbs,
        **({"resourceNames": names} if names else {}),
    }
