"""The verbs of one site on this machine's Docker Engine."""

import asyncio
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lampstand.errors import LampstandError, UsageError
from lampstand.plan import Plan
from lampstand.releases.package import commit_of
from lampstand.releases.words import Order
from lampstand.site import Site
from lampstand.site.secrets import application_secret_values
from lampstand.targets.base import Progress, Shell
from lampstand.targets.docker import builder
from lampstand.targets.docker.compose import LABEL, RELEASE, Project, container_name
from lampstand.targets.docker.engine import DockerCli
from lampstand.targets.docker.images import (
    Application,
    Image,
    code_digest,
    images,
    pinned_requirements,
    read_application,
)
from lampstand.targets.docker.releasing import DockerReleasing
from lampstand.targets.docker.target import DockerTarget
from lampstand.targets.docker.tree import ProjectFolder, published
from lampstand.targets.docker.wish import Wish
from lampstand.targets.local.desired import Desired
from lampstand.targets.local.ports import is_free
from lampstand.targets.local.tail import follow_json
from lampstand.targets.scaling import merged, scaled
from lampstand.targets.status import document, server
from lampstand.tiers.web.commands import one_off
from lampstand.topology import Instance, TierName, Topology, expand

if TYPE_CHECKING:
    from lampstand.targets.docker.drill_site import DockerDrillSite


class DockerDeployment:
    """Implements `targets.base.Deployment`."""

    name = "docker"

    def __init__(self, site: Site, project: Path, environment: str | None) -> None:
        self.project = project
        self._file_site = site
        self.folder = ProjectFolder.of(project, site.site, environment)
        default = f"{site.site}-{environment}" if environment else site.site
        self.project_name = site.targets.docker.project or default
        self.cli = DockerCli(self.project_name, self.folder.root)
        self.target = DockerTarget(self.folder, self.cli)

    @property
    def site(self) -> Site:
        """The site file, with what `scale` changed since."""
        return scaled(self._file_site, self.overrides())

    def overrides(self) -> Mapping[str, str]:
        """What `scale` changed."""
        kept = self.folder.state.read_json(self.folder.root / "scale.json")
        return {str(k): str(v) for k, v in kept.items()}

    def application(self) -> Application:
        """The project's files as a release."""
        return read_application(self.site, self.project, commit_of(self.project))

    def images(self, site: Site, application: Application) -> dict[str, Image]:
        """The images of the site with that application."""
        tiers: list[TierName] = ["balancer", "database", "cache"]
        if site.cdn.edges or site.tls.enabled or site.cdn.visitors is not None:
            tiers.append("edge")
        return images(site, application, code_digest(), pinned_requirements(), tiers)

    @cached_property
    def releasing(self) -> DockerReleasing:
        """Its releases."""
        return DockerReleasing(self)

    # -- plan, up, down ----------------------------------------------------------------------------------------------
    async def plan(self) -> Plan:
        """What `up` would do; changes nothing."""
        self.cli.require()
        return (await self.releasing.planned(self.wish(self.site, self.application()))).plan

    async def up(self, confirm: Callable[[Plan], bool], progress: Progress) -> bool:
        """Bring it up, or change what differs; returns when it is well."""
        self.cli.require()
        return await self._change(self.site, self.application(), confirm, progress, "up", None)

    async def scale(
        self, changes: Mapping[str, str], confirm: Callable[[Plan], bool], progress: Progress
    ) -> bool:
        """Keep the new numbers beside the site file, and bring them about."""
        if not self.folder.state.desired.exists():
            raise LampstandError("the site is not up", mend="run `lampstand up -t docker` first")
        wanted = merged(self._file_site, self.overrides(), changes)
        self.cli.require()
        return await self._change(scaled(self._file_site, wanted), None, confirm, progress, "scale", wanted)

    async def _change(
        self,
        site: Site,
        application: Application | None,
        confirm: Callable[[Plan], bool],
        progress: Progress,
        verb: str,
        overrides: Mapping[str, str] | None,
    ) -> bool:
        values = application_secret_values(site, self.project)
        self.folder.create()
        with self.folder.state.lock(f"lampstand {verb}"):
            self.folder.state.keep_application_secrets(values)
            release = None if application else Desired.read(self.folder.state).release
            wish = self.wish(site, application, release)

            steps = await self.releasing.planned(wish)
            if steps.plan and not confirm(steps.plan):
                return False
            if application is not None:
                await self.releasing.build(site, application, progress)
            if overrides is not None:
                self.folder.state.keep_overrides(overrides)
            await self.releasing.bring_about(wish, Order(verb), lambda _: True, progress)
        return True

    def wish(self, site: Site, application: Application | None, release: str | None = None) -> Wish:
        """What should run: the application as it is given, or a release that is there already. What is chosen once is
        chosen here, and a port that a stranger took is replaced.

        Raises LampstandError when a fixed port is taken.
        """
        application = application or replace(self.application(), release=release or "")
        found = self.images(site, application)
        tags = self.folder.tags()
        if release is None:
            tags[application.release] = found["web"].tag
        desired = Desired(site, str(self.project), application.release)
        addresses = self.folder.addresses(self.project_name, self.cli.networks())
        ports = self.folder.ports(site)
        taken = {c["Config"]["Labels"].get(f"{LABEL}.instance") for c in self.cli.containers()}
        for key in published(site, ports):
            if key.partition("/")[0] not in taken and not is_free(site.targets.docker.bind, ports.get(key)):
                if key in ports.fixed:
                    raise LampstandError(
                        f"port {ports.get(key)} is in use by another program",
                        f"targets.docker.ports {key}",
                        "free it, or choose another port in the site file",
                    )
                ports.replace(key)
        project = Project(
            name=self.project_name,
            site=site,
            tags={name: image.tag for name, image in found.items()},
            release_tags=tags,
            release=desired.release,
            addresses=addresses,
            ports=published(site, ports),
            engine=self.cli.version(),
            owner=self.folder.owner(),
        )
        return Wish(desired, ports, project)

    def write(self, wish: Wish, *, everything: bool) -> list[str]:
        """Write the project; `everything` also the files of servers. Returns what was written."""
        desired, ports, project = wish.desired, wish.ports, wish.project
        self.folder.create()
        context = self.folder.context(desired, project.addresses, ports)
        topology = expand(context)
        if desired.site.app.release:
            process = one_off(context, desired.site.app.release)
            step = Instance(RELEASE, "web", RELEASE, (process,), release=desired.release)
            self.target.write_release_step(step)
        written = self.target.write_project(topology, project, everything)
        self.folder.keep_tags(project.release_tags)
        self.folder.keep(project.addresses, ports)
        return written

    async def down(self, progress: Progress) -> Sequence[str]:
        """Stop and remove the containers; volumes stay."""
        self.cli.require()
        if not (self.folder.root / "compose.yaml").exists():
            return ()
        with self.folder.state.lock("lampstand down", wait=5.0):
            return await self.target.down(progress.action)

    def data(self) -> Sequence[str]:
        """The volumes, and the project's folder."""
        text = self._docker(
            "volume", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={self.project_name}"
        )
        found = [f"volume {name}" for name in text.split()]
        return [*found, str(self.folder.root)] if self.folder.root.exists() else found

    def delete_data(self) -> None:
        """Delete the volumes and the folder of a stopped project. Raises LampstandError while something runs."""
        if self.cli.containers():
            raise LampstandError(
                "containers of the site are still there", mend="`lampstand down -t docker` first"
            )
        for name in self.data():
            if name.startswith("volume "):
                self._docker("volume", "rm", name.removeprefix("volume "))
        if self.folder.root.exists():
            self.folder.ports(self._file_site).forget_all()
            shutil.rmtree(self.folder.root)

    def _docker(self, *arguments: str) -> str:
        done = subprocess.run(("docker", *arguments), capture_output=True, text=True, check=False)
        if done.returncode:
            raise LampstandError(done.stderr.strip() or "failed", f"docker {shlex.join(arguments)}")
        return done.stdout

    # -- images ------------------------------------------------------------------------------------------------------
    async def build(self, progress: Progress, *, push: bool, anew: bool, lists: bool) -> dict[str, Any]:
        """`lampstand build`: the images, and beside them their lists of packages (SBOM) and of files."""
        self.cli.require()
        site = self.site
        if push and not site.targets.docker.registry:
            raise UsageError("no registry is named", "targets.docker.registry", "name it in the site file")
        application = self.application()
        found = self.images(site, application)
        self.folder.create()
        made = await builder.build(
            self.cli, found.values(), self.project, self.folder.root, progress.say, anew=anew
        )
        out: dict[str, Any] = {"version": 1, "release": application.release, "built": made, "images": {}}
        for name, image in found.items():
            size = await self.cli.run(["docker", "image", "inspect", "-f", "{{.Size}}", image.tag])
            out["images"][name] = {"tag": image.tag, "bytes": int(size)}
            if lists:
                progress.say(f"Listing {image.tag}")
                folder = self.folder.root / "images"
                listed = await builder.lists(self.cli, image.tag, folder / name)
                (folder / f"{name}.files").write_text(builder.files_text(listed.files))
                out["images"][name] |= {"digest": listed.digest, "sbom": str(listed.sbom)}
        if push:
            await builder.push(self.cli, found.values(), progress.say)
        return out

    # -- looking -----------------------------------------------------------------------------------------------------
    def status(self) -> dict[str, Any]:
        """The document of `status --json`, version 1."""
        self.cli.require()
        running = self.target.controller.running()
        topology = self.topology()
        return document(
            site=self.site.site,
            target=self.name,
            folder=str(self.folder.root),
            topology=topology,
            seen=self.target.look().instances,
            published=self.target.controller.status() if running else None,
            controller={"container": container_name(self.project_name, "controller")},
            lock=self.folder.state.lock_holder() if topology and self.folder.state.locked() else None,
            release=Desired.read(self.folder.state).release if topology else None,
            scaled=dict(self.overrides()),
            urls=self._urls() if topology else {},
        )

    def topology(self) -> Topology | None:
        """What the last command wished for; None before the first `up`."""
        if not self.folder.state.desired.exists():
            return None
        return self.folder.topology(Desired.read(self.folder.state), self.project_name)

    def _urls(self) -> dict[str, str]:
        site = Desired.read(self.folder.state).site
        bind = site.targets.docker.bind
        host = "127.0.0.1" if bind in ("0.0.0.0", "::") else bind
        found: dict[str, str] = {}
        for key, port in published(site, self.folder.ports(site)).items():
            instance, _, name = key.partition("/")
            url = f"{'https' if name == 'https' else 'http'}://{host}:{port}"
            found.setdefault("site", url)
            found[instance] = url
        return found

    def front_url(self) -> str:
        """Where visitors come in; empty for a site that was never brought up."""
        return self._urls().get("site", "") if self.folder.state.desired.exists() else ""

    def _known(self, name: str) -> Instance:
        return server(self.topology(), name)

    def logs(self, names: Sequence[str], lines: int, follow: bool) -> Iterator[tuple[str, str]]:
        """Lines of the containers' logs."""
        topology = self.topology()
        own = ("controller", "engine")
        wanted = [n if n in own else self._known(n).name for n in names] or [
            *(topology.by_name if topology else ()), *own,
        ]  # fmt: skip
        for name in names:  # a kind means all of its servers
            if topology and name not in topology.by_name and name not in own:
                wanted += [i.name for i in topology.of_kind(name) if i.name not in wanted]
        argv = self.cli.compose(
            "logs", "--no-color", "--tail", str(lines), *(["--follow"] if follow else []), *wanted
        )
        prefix = container_name(self.project_name, "")
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, errors="replace") as process:
            assert process.stdout
            for line in process.stdout:
                name, _, text = line.rstrip("\n").partition("| ")
                yield name.strip().removeprefix(prefix), text

    def events(self, follow: bool) -> Iterator[dict[str, Any]]:
        """The audit log."""
        return follow_json(self.folder.state.events, follow)

    # -- shells ------------------------------------------------------------------------------------------------------
    def _exec(self, name: str, argv: Sequence[str], *variables: str) -> tuple[str, ...]:
        terminal = ("--interactive", *(("--tty",) if os.isatty(0) and os.isatty(1) else ()))
        given = tuple(part for variable in variables for part in ("--env", variable))
        return ("docker", "exec", *terminal, *given, container_name(self.project_name, name), *argv)

    def shell(self, instance: str, argv: Sequence[str]) -> Shell:
        """A program in the folder and environment of a server, in its container."""
        name = self._known(instance).name
        return Shell(self._exec(name, ("lampstand-init", "exec", name, *argv), "TERM"), dict(os.environ))

    def _server_with_role(self, kind: str, primary: bool) -> str:
        chosen = self.target.controller.status().get("primaries", {}).get(kind)
        servers = [i.name for i in (self.topology() or Topology("", ())).of_kind(kind)]
        found = [n for n in servers if (n == chosen) is primary] or servers
        if not found:
            raise LampstandError("the site was never brought up here", mend="run `lampstand up -t docker`")
        return found[0]

    def database_shell(self, replica: bool, arguments: Sequence[str]) -> Shell:
        """The MariaDB client, as the administrator, in the container of the primary (or of a replica)."""
        name = self._server_with_role("database", not replica)
        socket = f"/run/lampstand/{name}/mysql.sock"
        client = (
            "mariadb",
            "--user=lampstand_admin",
            f"--socket={socket}",
            *arguments,
            self.site.database.name,
        )
        password = self.folder.state.secrets()["database_admin"]
        return Shell(self._exec(name, client, "TERM", "MYSQL_PWD"), {**os.environ, "MYSQL_PWD": password})

    def redis_shell(self, sessions: bool, arguments: Sequence[str]) -> Shell:
        """redis-cli, in the container of the primary."""
        kind = "sessions" if sessions else "cache"
        name = self._server_with_role(kind, True)
        password = self.folder.state.secrets()[kind]
        argv = self._exec(name, ("redis-cli", *arguments), "TERM", "REDISCLI_AUTH")
        return Shell(argv, {**os.environ, "REDISCLI_AUTH": password})

    async def operate(self, operation: str, **arguments: object) -> dict[str, Any]:
        """Ask the controller."""
        return await asyncio.to_thread(self.target.controller.post, operation, 120.0, **arguments)

    # -- walking away ------------------------------------------------------------------------------------------------
    def export(self, folder: str) -> Sequence[str]:
        """The whole project, build contexts included: `docker compose up -d --wait` there is all it needs.

        Ports, networks and passwords are chosen anew unless the folder has them already.
        """
        to = DockerDeployment(self._file_site, self.project, None)
        to.folder = ProjectFolder(Path(folder).resolve())
        to.project_name = self.project_name
        to.cli = DockerCli(self.project_name, to.folder.root)
        to.target = DockerTarget(to.folder, to.cli)
        return to.write_everything(self.site)

    def write_everything(self, site: Site) -> list[str]:
        """All files of the project. Returns them, relative to its folder."""
        self.folder.create()
        self.folder.state.keep_application_secrets(application_secret_values(site, self.project))
        application = self.application()
        wish = self.wish(site, application)
        wish = replace(wish, desired=replace(wish.desired, project="").write(self.folder.state))
        for image in self.images(site, application).values():
            builder.write_context(image, self.project, self.folder.root / "images" / image.name)
        self.write(wish, everything=True)
        (self.folder.root / "README.md").write_text(_EXPORT_README.format(owner=wish.project.owner))
        root = self.folder.root
        return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())

    def drill_site(self) -> "DockerDrillSite":
        """The site as drills see it."""
        from lampstand.targets.docker.drill_site import DockerDrillSite

        topology = self.topology()
        if topology is None:
            raise LampstandError("the site was never brought up here", mend="run `lampstand up -t docker`")
        return DockerDrillSite(self, topology)


_EXPORT_README = """\
# A site as a Compose project

Written by `lampstand export docker`. It needs Docker with Compose, and no Lampstand:

    docker compose up -d --wait

The first call builds the images. `compose.yaml` tells which ports are published. The controller, which decides roles
and routes, is one of the containers. This folder holds passwords: keep it closed (mode 0700), out of version control.

- Whoever owns this folder must be who the controller runs as. It was `{owner}`; elsewhere write
  `LAMPSTAND_OWNER=1000:1000` (`id -u`, `id -g`) into the file `.env`. `DOCKER_SOCKET=/path` goes there too, where
  Docker's socket is not /var/run/docker.sock.
- The application's release step again: `docker compose run --rm release`
- A new version of the application: `lampstand export docker` again into this folder, then
  `docker compose up -d --build --wait`
- Data are in the project's volumes; `docker compose down` keeps them.
"""
