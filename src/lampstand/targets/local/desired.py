"""What the last `up`, `deploy` or `scale` asked for, kept so that the controller can expand it again."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lampstand.engines import Engines, discover
from lampstand.errors import LampstandError
from lampstand.files import write_json
from lampstand.site import Site
from lampstand.targets.local.folder import StateFolder
from lampstand.targets.local.placement import LocalPlacement
from lampstand.targets.local.ports import Ports
from lampstand.topology import Context, Topology, expand


@dataclass(frozen=True)
class Desired:
    """The input of `expand`, apart from what the state folder itself holds (ports, secrets)."""

    site: Site
    project: str
    release: str
    releases: Mapping[str, str] = field(default_factory=dict[str, str])
    surge: int = 0
    generation: int = 0

    @classmethod
    def read(cls, folder: StateFolder) -> "Desired":
        """As `write` left it. Raises LampstandError when there is none or this version does not understand it."""
        value = folder.read_json(folder.desired)
        if not value:
            raise LampstandError("the site was never brought up here", str(folder.root), "run `lampstand up`")
        try:
            site = Site.model_validate(value.pop("site"))
            return cls(site=site, **value)
        except (ValueError, TypeError, KeyError) as error:
            raise LampstandError(
                f"written by another version of Lampstand ({error})",
                str(folder.desired),
                "run `lampstand up` again",
            ) from error

    def write(self, folder: StateFolder) -> "Desired":
        """Make this what should run; returns it with its generation."""
        known = folder.read_json(folder.desired)
        written = replace(self, generation=int(known.get("generation", 0)) + 1)
        value: dict[str, Any] = {
            "site": written.site.model_dump(mode="json", exclude_unset=True),
            "project": written.project,
            "release": written.release,
            "releases": dict(written.releases),
            "surge": written.surge,
            "generation": written.generation,
        }
        write_json(folder.desired, value, mode=0o600, durable=True)
        return written

    def topology(self, folder: StateFolder, engines: Engines | None = None) -> Topology:
        """Expand; ports that are new are chosen, and kept by the next `keep_ports`."""
        return expand(self.context(folder, load_ports(folder, self.site), engines or discover()))

    def context(self, folder: StateFolder, ports: Ports, engines: Engines) -> Context:
        """What the tiers look at."""
        return Context(
            site=self.site,
            placement=placement(folder, ports, self.site),
            engines=engines,
            secrets=folder.secrets() | application_secrets(folder),
            release=self.release,
            releases=dict(self.releases),
            surge=self.surge,
            assets=str(folder.assets),
        )


def application_secrets(folder: StateFolder) -> dict[str, str]:
    """Values of `app.secrets`, by `env.NAME`, as the last `up` found them."""
    found = folder.read_json(folder.root / "app-secrets.json")
    return {f"env.{name}": str(value) for name, value in found.items()}


def load_ports(folder: StateFolder, site: Site) -> Ports:
    """The kept ports of a site, with those that its file fixes."""
    kept = folder.read_json(folder.root / "ports.json")
    fixed = {(k if "/" in k else f"{k}/http"): v for k, v in site.targets.local.ports.items()}
    return Ports({k: int(v) for k, v in kept.items()}, fixed, str(folder.root))


def keep_ports(folder: StateFolder, ports: Ports) -> None:
    """Write the chosen ports."""
    write_json(folder.root / "ports.json", dict(ports.kept))


def front(site: Site) -> tuple[str, str]:
    """Instance and port that visitors use: the entry, the first edge, or the balancer where there is no CDN."""
    if site.cdn.visitors is not None or site.tls.enabled:
        return "visitors-1", "https" if site.tls.enabled else "http"
    if site.cdn.edges:
        return f"edge-{site.cdn.edges[0].name}", "http"
    return "balancer-1", "http"


def placement(folder: StateFolder, ports: Ports, site: Site) -> LocalPlacement:
    """Loopback for everything but what visitors reach, which listens where the site file says."""
    bind = site.targets.local.bind
    public = [f"edge-{edge.name}/http" for edge in site.cdn.edges] or ["balancer-1/http"]
    if site.cdn.visitors is not None or site.tls.enabled:
        public = ["visitors-1/http", "visitors-1/https"]
    public += [key if "/" in key else f"{key}/http" for key in site.targets.local.ports]
    found = LocalPlacement(folder, ports, bind, dict.fromkeys(public, bind))
    found.front = front(site)
    return found


def state_folder(path: Path) -> StateFolder:
    """A state folder named by its own path; it must exist. Raises LampstandError."""
    folder = StateFolder.at(path)
    if not folder.exists():
        raise LampstandError("no such state folder", str(path))
    return folder
