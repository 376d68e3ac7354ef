"""Addresses and folders of the pods. Pure.

Folders are those of the images, which are Docker's (targets/docker/images.py). Addresses are names of Services, whose
cluster address never changes: nginx and Varnish resolve a name once. There is no gateway: Services lead to the primary
and to the readers by labels that the controller sets.
"""

from collections.abc import Mapping

from lampstand.targets.docker.placement import PORTS, InContainers, kind_of

CONTROLLER = "controller"
ENTRY = "entry"
"""The Service that visitors reach."""

GATEWAY: Mapping[str, tuple[str, int]] = {
    "writer": ("writer", 3306),
    "reader": ("reader", 3306),
    "cache": ("cache", 6379),
    "sessions": ("sessions", 6379),
}
"""Ports of the gateway of other targets -> Service and port."""

_SHARED: Mapping[str, str] = {"web": "web", "balancer": "balancer"}
"""Kinds whose pods are alike, behind one Service."""


def workload_of(instance: str) -> str:
    """The Deployment or StatefulSet that an instance of the topology is a pod of: `web-2` -> `web`,
    `worker-mail-1` -> `worker-mail`, `database-2` -> `database-2`."""
    kind = kind_of(instance)
    if kind == "worker":
        return instance.rpartition("-")[0]
    return _SHARED.get(kind, "scheduler" if kind == "scheduler" else instance)


class KubernetesPlacement(InContainers):
    """Implements `topology.Placement`."""

    def reach(self, instance: str, port: str) -> tuple[str, int]:
        kind = kind_of(instance)
        if kind == "gateway":
            return GATEWAY.get(port, (instance, PORTS[kind, port]))
        return workload_of(instance), PORTS[kind, port]
