"""A site on this machine, as drills see it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lampstand.drills.local_faults import LocalFaults
from lampstand.topology import Endpoint, Topology

if TYPE_CHECKING:
    from lampstand.targets.local.deployment import LocalDeployment


class MachineSite:
    """What drills need of any site whose servers are reached from this machine by their endpoints."""

    def __init__(
        self,
        status: Callable[[], dict[str, Any]],
        secrets: Callable[[], Mapping[str, str]],
        topology: Topology,
    ) -> None:
        self._status = status
        self._secrets = secrets
        self.topology = topology

    def status(self) -> dict[str, Any]:
        """The document of `lampstand status --json`."""
        return self._status()

    def secret(self, name: str) -> str:
        """A generated secret."""
        return self._secrets()[name]

    def url(self, avoid: str) -> str:
        """An edge that the drill does not hit, or the balancer."""
        fronts = [*self.topology.of_kind("edge"), *self.topology.of_kind("balancer")]
        chosen = next(i for i in fronts if i.name != avoid)
        return f"http://{chosen.endpoint('http').address}/"

    def reach(self, instance: str, port: str) -> Endpoint:
        """An endpoint, from this machine."""
        return self.topology.by_name[instance].endpoint(port)


class LocalDrillSite(MachineSite):
    """Implements `drills.runner.Site`."""

    target = "local"

    def __init__(self, deployment: "LocalDeployment", topology: Topology) -> None:
        super().__init__(deployment.status, deployment.folder.secrets, topology)
        self._deployment = deployment
        self.faults = LocalFaults(deployment.target, topology)

    def program(self, name: str) -> str:
        """Path of a program, empty where it is missing."""
        return self._deployment.target.engines[name].path
