"""What should run on Docker, with everything that is chosen once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lampstand.targets.docker.compose import Project
from lampstand.targets.local.desired import Desired
from lampstand.targets.local.ports import Ports


@dataclass(frozen=True)
class Wish:
    """The input of the topology and of the Compose project."""

    desired: Desired
    ports: Ports
    project: Project

    def wider(self, surge: int, releases: Mapping[str, str] | None = None) -> "Wish":
        """The same while a roll is under way: more web servers, and some that still run another release."""
        return replace(self, desired=replace(self.desired, surge=surge, releases=dict(releases or {})))
