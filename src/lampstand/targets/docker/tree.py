"""The folder of a Compose project: what `up` works in and what `export` writes. One layout, one way to write it.

| path | what |
|---|---|
| `compose.yaml`, `.env` | the project |
| `images/NAME` | build context of each image |
| `etc/NAME` | configuration of a server, mounted at the same path in its container and in the controller's |
| `control/NAME` | the socket of a server's first process; `control/controller.sock` is the controller's API |
| `desired.json`, `addresses.json`, `ports.json`, `tags.json`, `secrets.json` | input of the topology |
| `memory.json`, `status.json`, `events.ndjson` | the controller's |

Secrets are files here and nowhere else. The folder is closed to everybody but its owner, and what lies in it is
readable for the accounts within the containers, whose numbers the host does not know.
"""

import os
import shutil
from collections.abc import Mapping
from ipaddress import IPv4Network
from pathlib import Path

from lampstand.files import write_json, write_text
from lampstand.site import Site
from lampstand.targets.docker.description import description_file
from lampstand.targets.docker.images import engines_of
from lampstand.targets.docker.placement import ASSETS, CONFIGURATION, Addresses, DockerPlacement
from lampstand.targets.local.desired import Desired, application_secrets, front
from lampstand.targets.local.folder import StateFolder
from lampstand.targets.local.ports import Ports
from lampstand.topology import Context, File, Instance, Topology, expand

HOLD = "hold"
"""A file of this name beside a server's configuration keeps its programs from being started."""


class ProjectFolder:
    """The folder of one project, on the host or as the controller sees it."""

    def __init__(self, root: Path, configuration: Path | None = None, control: Path | None = None) -> None:
        self.state = StateFolder(root, control or root / "control")
        self.root = root
        self.configuration = configuration or root / "etc"
        self.control = control or root / "control"

    @classmethod
    def of(cls, project: Path, site: str, environment: str | None) -> "ProjectFolder":
        """Beside the state folder that the same site has as processes on this machine."""
        local = StateFolder.of(project, site, environment).root
        return cls(local.with_name(f"{local.name}-docker"))

    def create(self) -> None:
        """Make the folders; nobody but the owner gets past the first."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.chmod(0o700)
        for folder in (self.configuration, self.control, self.root / "images"):
            folder.mkdir(mode=0o755, exist_ok=True)

    # -- input of the topology ---------------------------------------------------------------------------------------
    def addresses(self, project: str, taken: tuple[IPv4Network, ...] = ()) -> Addresses:
        """The kept addresses."""
        kept = self.state.read_json(self.root / "addresses.json")
        return Addresses(project, {k: str(v) for k, v in kept.items()}, taken)

    def ports(self, site: Site) -> Ports:
        """The kept published ports, with those that the site file fixes."""
        kept = self.state.read_json(self.root / "ports.json")
        fixed = {(k if "/" in k else f"{k}/http"): v for k, v in site.targets.docker.ports.items()}
        return Ports({k: int(v) for k, v in kept.items()}, fixed, str(self.root))

    def keep(self, addresses: Addresses, ports: Ports) -> None:
        """Write the choices."""
        write_json(self.root / "addresses.json", addresses.kept)
        write_json(self.root / "ports.json", ports.kept)

    def tags(self) -> dict[str, str]:
        """Release -> tag of the image that holds it, of every release that was brought up here."""
        return {k: str(v) for k, v in self.state.read_json(self.root / "tags.json").items()}

    def keep_tags(self, tags: Mapping[str, str]) -> None:
        """Write them."""
        write_json(self.root / "tags.json", tags)

    def context(self, desired: Desired, addresses: Addresses, ports: Ports) -> Context:
        """What the tiers look at."""
        site = desired.site
        return Context(
            site=site,
            placement=DockerPlacement(addresses, public_url(site, ports)),
            engines=engines_of(site.targets.docker.base),
            secrets=self.state.secrets() | application_secrets(self.state),
            release=desired.release,
            releases=dict(desired.releases),
            surge=desired.surge,
            assets=ASSETS,
        )

    def topology(self, desired: Desired, project: str) -> Topology:
        """As it was written last: nothing new is chosen, but for a server that is new."""
        return expand(self.context(desired, self.addresses(project), self.ports(desired.site)))

    # -- servers -----------------------------------------------------------------------------------------------------
    def path(self, file: File) -> Path:
        """Where a rendered or live file lies here."""
        return self.configuration / Path(file.path).relative_to(CONFIGURATION)

    def write_server(self, instance: Instance, site: Site) -> dict[Path, str | None]:
        """Write the rendered files that differ, and live files that are absent; returns what lay there before."""
        previous: dict[Path, str | None] = {}
        (self.control / instance.name).mkdir(exist_ok=True)
        (self.control / instance.name).chmod(0o777)  # the container's account makes its socket there
        files = [*instance.files, description_file(instance, site.app.uploads, site.deploy.assets_keep)]
        for file, live in [*((f, False) for f in files), *((f, True) for f in instance.live_files)]:
            path = self.path(file)
            old = path.read_text("utf-8") if path.exists() else None
            if old == file.content or (live and old is not None):
                continue
            previous[path] = old
            self.write(file)
        return previous

    def write(self, file: File) -> None:
        """Write one file as a whole."""
        path = self.path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, file.content, 0o755 if file.mode & 0o100 else 0o644)

    def put_back(self, previous: Mapping[Path, str | None]) -> None:
        """Undo `write_server`."""
        for path, text in previous.items():
            if text is None:
                path.unlink(missing_ok=True)
            else:
                write_text(path, text, path.stat().st_mode & 0o777)

    def applied(self) -> dict[str, str]:
        """Server -> hash of the configuration that it was last started or reloaded with."""
        return {k: str(v) for k, v in self.state.read_json(self.root / "applied.json").items()}

    def remember(self, instance: str, config_hash: str | None) -> None:
        """Keep that hash; None forgets the server."""
        known = self.applied()
        if config_hash is None:
            known.pop(instance, None)
        else:
            known[instance] = config_hash
        write_json(self.root / "applied.json", known)

    def forget(self, instance: str) -> None:
        """Remove the configuration of a removed server."""
        shutil.rmtree(self.configuration / instance, ignore_errors=True)
        shutil.rmtree(self.control / instance, ignore_errors=True)
        self.remember(instance, None)

    def owner(self) -> str:
        """`UID:GID` of whoever runs this."""
        return f"{os.geteuid()}:{os.getegid()}"


def public_url(site: Site, ports: Ports) -> str:
    """The URL visitors use."""
    name, port = front(site)
    bind = site.targets.docker.bind
    host = "127.0.0.1" if bind in ("0.0.0.0", "::", "") else bind
    return f"{'https' if port == 'https' else 'http'}://{host}:{ports.get(f'{name}/{port}')}"


def published(site: Site, ports: Ports) -> dict[str, int]:
    """`instance/port` -> number, of everything that is reached from outside the project's networks."""
    if site.cdn.visitors is not None or site.tls.enabled:
        keys = ["visitors-1/http", *(["visitors-1/https"] if site.tls.enabled else [])]
    elif site.cdn.edges:
        keys = [f"edge-{edge.name}/http" for edge in site.cdn.edges]
    else:
        keys = ["balancer-1/http"]
    return {key: ports.get(key) for key in dict.fromkeys((*keys, *ports.fixed))}
