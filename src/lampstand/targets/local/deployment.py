"""The verbs of one site on this machine."""

import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lampstand.engines import discover, needs_of, require
from lampstand.errors import LampstandError, UnavailableError, UsageError
from lampstand.files import write_text
from lampstand.observed import Observed, State
from lampstand.plan import Plan
from lampstand.releases.origin import working
from lampstand.releases.words import Order
from lampstand.site import Site
from lampstand.site.secrets import application_secret_values
from lampstand.targets.base import Progress, Shell
from lampstand.targets.local import processes, sizes
from lampstand.targets.local.desired import Desired, front, load_ports
from lampstand.targets.local.folder import StateFolder
from lampstand.targets.local.tail import follow_json, tail
from lampstand.targets.local.target import LocalTarget
from lampstand.targets.scaling import merged, scaled
from lampstand.targets.status import document, server
from lampstand.topology import Instance, Topology

if TYPE_CHECKING:
    from lampstand.drills.local_site import LocalDrillSite
    from lampstand.targets.local.releasing import LocalReleasing


class LocalDeployment:
    """Implements `targets.base.Deployment`."""

    name = "local"

    def __init__(self, site: Site, project: Path, environment: str | None) -> None:
        self.project = project
        self.folder = StateFolder.of(project, site.site, environment)
        self._file_site = site

    @cached_property
    def target(self) -> LocalTarget:
        """The machine."""
        return LocalTarget(self.folder, discover())

    @cached_property
    def releasing(self) -> "LocalReleasing":
        """Its releases."""
        from lampstand.targets.local.releasing import LocalReleasing  # `status` need not pay for it

        return LocalReleasing(self)

    @property
    def site(self) -> Site:
        """The site file, with what `scale` changed since."""
        return scaled(self._file_site, self.overrides())

    def overrides(self) -> Mapping[str, str]:
        """What `scale` changed: kept beside the site file, shown by `status`."""
        return {str(k): str(v) for k, v in self.folder.read_json(self.folder.root / "scale.json").items()}

    # -- plan, up, down ----------------------------------------------------------------------------------------------
    async def plan(self) -> Plan:
        """What `up` would do; changes nothing."""
        desired = Desired(self.site, str(self.project), self.releasing.name(working(self.project)))
        return await self.releasing.planned(desired)

    async def up(self, confirm: Callable[[Plan], bool], progress: Progress) -> bool:
        """Bring it up, or change what differs; returns when it is well."""
        self.require_engines()
        site = self.site
        sizes.check(site)
        values = application_secret_values(site, self.project)
        self.folder.create()
        with self.folder.lock("lampstand up"):
            self.folder.keep_application_secrets(values)
            release = self.releasing.make(working(self.project), progress)
            desired = Desired(site, str(self.project), release)
            return await self.releasing.bring_about(desired, Order("up"), confirm, progress)

    def require_engines(self) -> None:
        """Raises EngineMissingError naming every engine that is missing or too old."""
        require(self.target.engines, needs_of(self.site))

    async def down(self, progress: Progress) -> Sequence[str]:
        """Stop everything; data stay."""
        if not self.folder.exists():
            return ()
        with self.folder.lock("lampstand down", wait=5.0):
            return await self.target.stop(progress.action)

    def data(self) -> Sequence[str]:
        """Everything that is deleted with the data."""
        return [str(path) for path in self.target.data_folders()] if self.folder.exists() else ()

    def delete_data(self) -> None:
        """Delete the state folder of a stopped site. Raises LampstandError while something runs."""
        if not self.folder.exists():
            return
        running = [n for n, s in self.target.supervisor.observe_all().items() if s.state is not State.STOPPED]
        if running:
            raise LampstandError(f"still running: {', '.join(running)}", mend="stop the site first")
        load_ports(self.folder, self.site).forget_all()
        shutil.rmtree(self.folder.run, ignore_errors=True)
        shutil.rmtree(self.folder.root)

    async def scale(
        self, changes: Mapping[str, str], confirm: Callable[[Plan], bool], progress: Progress
    ) -> bool:
        """Keep the new numbers beside the site file, and bring them about."""
        if not self.folder.desired.exists():
            raise LampstandError("the site is not up", mend="run `lampstand up` first")
        wanted = merged(
            self._file_site, self.overrides(), changes
        )  # refused here, before anything is written
        self.require_engines()
        with self.folder.lock("lampstand scale"):
            current = Desired.read(self.folder)
            desired = replace(
                current, site=scaled(self._file_site, wanted), project=str(self.project), surge=0, releases={}
            )

            def confirmed(steps: Plan) -> bool:
                if done := confirm(steps):
                    self.folder.keep_overrides(wanted)
                return done

            return await self.releasing.bring_about(desired, Order("scale"), confirmed, progress)

    # -- looking -----------------------------------------------------------------------------------------------------
    def status(self) -> dict[str, Any]:
        """The document of `status --json`, version 1."""
        running = self.target.controller.running()
        published = self.target.controller.status()
        seen = self.target.supervisor.observe_all()
        topology = self._topology()
        return document(
            site=self.site.site,
            target=self.name,
            folder=str(self.folder.root),
            topology=topology,
            seen=seen,
            published=published if running else None,
            controller={"pid": getattr(self.target.controller.record.find(), "pid", None)},
            lock=self.folder.lock_holder() if self.folder.exists() and self.folder.locked() else None,
            release=Desired.read(self.folder).release if topology else None,
            scaled=dict(self.overrides()),
            urls=self._urls(topology) if topology else {},
        )

    def _topology(self) -> Topology | None:
        if not self.folder.desired.exists():
            return None
        return Desired.read(self.folder).topology(self.folder, self.target.engines)

    def _urls(self, topology: Topology) -> dict[str, str]:
        site = Desired.read(self.folder).site
        name, port = front(site)
        found: dict[str, str] = {}
        for instance in topology.instances:
            for endpoint in instance.endpoints:
                url = f"{endpoint.protocol}://{endpoint.address}"
                if (instance.name, endpoint.name) == (name, port):
                    found = {"site": url, **found}
                elif instance.kind in ("edge", "balancer") and endpoint.name in ("http", "https"):
                    found[instance.name] = url
        return found

    def front_url(self) -> str:
        """Where visitors come in; empty for a site that was never brought up."""
        topology = self._topology()
        return self._urls(topology).get("site", "") if topology else ""

    def _known(self, name: str) -> Instance:
        return server(self._topology(), name)

    def logs(self, names: Sequence[str], lines: int, follow: bool) -> Iterator[tuple[str, str]]:
        """Lines of the logs of servers (names or kinds; all of them when none is named), and of the controller."""
        files: list[tuple[str, Path]] = []
        topology = self._topology()
        everything = self.target.supervisor.names()
        if topology is None and not everything:
            raise LampstandError("the site was never brought up here", mend="run `lampstand up`")
        kinds = {n: self.target.supervisor.record_of(n).get("kind", "") for n in everything}
        for wanted in names:
            if wanted != "controller" and wanted not in everything and wanted not in kinds.values():
                raise UsageError(f"the site has no server {wanted!r}", mend=f"it has {', '.join(everything)}")
        for name in everything:
            if not names or name in names or kinds[name] in names:
                home = self.target.supervisor.home(name)
                files += [
                    (name, p) for p in sorted([*home.glob("*.log"), *home.glob("log/*")]) if p.is_file()
                ]
        if not names or "controller" in names:
            files.append(("controller", self.folder.root / "controller.log"))
        return tail(files, lines, follow)

    def events(self, follow: bool) -> Iterator[dict[str, Any]]:
        """The audit log."""
        return follow_json(self.folder.events, follow)

    # -- shells ------------------------------------------------------------------------------------------------------
    def shell(self, instance: str, argv: Sequence[str]) -> Shell:
        """A program in the folder, environment and account of a server."""
        found = self._known(instance)
        process = next((p for p in found.processes if p.cwd not in (None, "/")), found.processes[-1])
        environment = processes.base_environment() | dict(process.env)
        environment |= {k: v for k, v in os.environ.items() if k in ("TERM", "COLORTERM", "HOME")}
        account = processes.account_of(process)
        prefix: tuple[str, ...] = ()
        if account:
            prefix = ("/usr/bin/setpriv", f"--reuid={account}", f"--regid={account}", "--init-groups", "--")
        return Shell((*prefix, *argv), environment, process.cwd or "/")

    def database_shell(self, replica: bool, arguments: Sequence[str]) -> Shell:
        """The MariaDB client, as the administrator, through the gateway."""
        gateway = self._known("gateway-1").endpoint("reader" if replica else "writer")
        conf = self.folder.root / "client.cnf"
        password = self.folder.secrets()["database_admin"]
        write_text(conf, f'[client]\nuser=lampstand_admin\npassword="{password}"\n', mode=0o600)
        database = self.site.database.name
        client = self.target.engines.mariadb.path
        argv = (
            client,
            f"--defaults-file={conf}",
            "--protocol=tcp",
            "-h",
            gateway.host,
            "-P",
            str(gateway.port),
        )
        return Shell((*argv, *arguments, database), dict(os.environ))

    def redis_shell(self, sessions: bool, arguments: Sequence[str]) -> Shell:
        """redis-cli, through the gateway."""
        kind = "sessions" if sessions else "cache"
        gateway = self._known("gateway-1").endpoint(kind)
        argv = (self.target.engines.redis_cli.path, "-h", gateway.host, "-p", str(gateway.port), *arguments)
        return Shell(argv, {**os.environ, "REDISCLI_AUTH": self.folder.secrets()[kind]})

    async def operate(self, operation: str, **arguments: object) -> dict[str, Any]:
        """Ask the controller."""
        return self.target.controller.post(operation, timeout=120.0, **arguments)

    # -- walking away ------------------------------------------------------------------------------------------------
    def export(self, folder: str) -> Sequence[str]:
        """Every rendered file, and one script line for each process: what is needed to run it all by hand."""
        topology = self._topology()
        if topology is None:
            raise UnavailableError(
                "export local writes what runs; the site was never brought up", mend="run `lampstand up`"
            )
        written: list[str] = []
        for instance in topology.instances:
            for file in (*instance.files, *instance.live_files):
                name = Path(file.path).name
                path = Path(folder) / instance.name / name
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(path, file.content, 0o600 if file.secret else file.mode)
                written.append(str(path))
            lines = [f"# {p.name}, as {p.account}\n{shlex.join(p.argv)}\n" for p in instance.processes]
            path = Path(folder) / instance.name / "commands"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, "".join(lines))
            written.append(str(path))
        return written

    def drill_site(self) -> "LocalDrillSite":
        """The site as drills see it. Raises LampstandError when it was never brought up."""
        from lampstand.drills.local_site import LocalDrillSite

        topology = self._topology()
        if topology is None:
            raise LampstandError("the site was never brought up here", mend="run `lampstand up`")
        return LocalDrillSite(self, topology)

    async def observe(self) -> Observed:
        """What really runs."""
        return await self.target.observe()
