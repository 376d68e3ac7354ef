"""A Compose project as drills see it, and the faults that can be made in one."""

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from lampstand.drills.faults import Faults
from lampstand.drills.local_site import MachineSite
from lampstand.errors import LampstandError
from lampstand.targets.docker.compose import container_name
from lampstand.topology import Topology

if TYPE_CHECKING:
    from lampstand.targets.docker.deployment import DockerDeployment

CUTS = ("cut-replicas", "cut-clients")


class DockerFaults:
    """Implements `drills.faults.Faults` with Docker's own verbs, and iptables(8) within a container's network."""

    def __init__(self, project: str, topology: Topology) -> None:
        self._project = project
        self._topology = topology
        self._paused: set[str] = set()
        self._rules: list[tuple[str, int, str, list[str]]] = []

    def unavailable(self, fault: str) -> str:
        """Why a fault cannot be made here."""
        if fault in CUTS:
            if os.geteuid() != 0:
                return "cutting connections needs root (nsenter into a container's network)"
            missing = [p for p in ("iptables", "nsenter") if not shutil.which(p)]
            return f"cutting connections needs {' and '.join(missing)}" if missing else ""
        if fault == "fill-disk":
            return "volumes of Docker share the disk of the machine, which a drill must not fill"
        return ""

    def kill(self, instance: str) -> None:
        """SIGKILL to the first process; all others end with it."""
        self._docker("kill", container_name(self._project, instance))

    def freeze(self, instance: str) -> None:
        """The control group is frozen."""
        self._docker("pause", container_name(self._project, instance))
        self._paused.add(instance)

    def thaw(self, instance: str) -> None:
        """What was killed meanwhile is not frozen any more."""
        if instance in self._paused:
            self._paused.discard(instance)
            if self._inspect(instance, "{{.State.Paused}}") == "true":
                self._docker("unpause", container_name(self._project, instance))

    def restart(self, instance: str) -> None:
        """Stopped politely; the controller or a recovery starts it again."""
        self._docker("kill", "--signal", "TERM", container_name(self._project, instance))

    def kill_controller(self) -> None:
        """SIGKILL the controller."""
        self._docker("kill", container_name(self._project, "controller"))

    def start_controller(self) -> None:
        """The controller again."""
        self._docker("start", container_name(self._project, "controller"))

    def cut(self, instance: str, from_replicas: bool) -> None:
        """Packets to the server's port that come from its replicas, or from everybody else, are dropped on arrival."""
        mysql = self._topology.by_name[instance].endpoint("mysql")
        others = [i.endpoint("mysql").host for i in self._topology.of_kind("database") if i.name != instance]
        pid = int(self._inspect(instance, "{{.State.Pid}}"))
        port = ["-p", "tcp", "--dport", str(mysql.port)]
        if from_replicas:
            rules = [[*port, "--source", host, "-j", "DROP"] for host in others]
        else:
            rules = [[*port, "-j", "DROP"], *([*port, "--source", host, "-j", "ACCEPT"] for host in others)]
        for rule in rules:  # each goes in front of those before it
            self._iptables(pid, "-I", rule, "INPUT")
            self._rules.append((instance, pid, "INPUT", rule))

    def fill_disk(self, instance: str) -> None:
        """Not here."""
        raise LampstandError(self.unavailable("fill-disk"), instance)

    def heal(self, instance: str) -> None:
        """Thaw, and let packets through."""
        self.thaw(instance)
        mine = [r for r in self._rules if r[0] == instance]
        self._rules = [r for r in self._rules if r[0] != instance]
        for _, pid, chain, rule in mine:
            # A container that was started anew has a new network without rules.
            if self._inspect(instance, "{{.State.Pid}}") == str(pid):
                self._iptables(pid, "-D", rule, chain)

    def heal_all(self) -> None:
        """Undo everything."""
        for instance in {*self._paused, *(r[0] for r in self._rules)}:
            self.heal(instance)
        if self._inspect("controller", "{{.State.Running}}") != "true":
            self.start_controller()

    def _inspect(self, instance: str, template: str) -> str:
        return self._docker(
            "container", "inspect", "-f", template, container_name(self._project, instance)
        ).strip()

    @staticmethod
    def _iptables(pid: int, action: str, rule: list[str], chain: str) -> None:
        _run(["nsenter", "--target", str(pid), "--net", "iptables", "-w", action, chain, *rule])

    @staticmethod
    def _docker(*arguments: str) -> str:
        return _run(["docker", *arguments])


class DockerDrillSite(MachineSite):
    """Implements `drills.runner.Site`. On Linux a container's address is reached from its host."""

    target = "docker"

    def __init__(self, deployment: "DockerDeployment", topology: Topology) -> None:
        super().__init__(deployment.status, deployment.folder.state.secrets, topology)
        self.faults: Faults = DockerFaults(deployment.project_name, topology)

    def program(self, name: str) -> str:
        """Path of a program on this machine, empty where it is missing."""
        return shutil.which(name) or ""


def _run(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LampstandError(
            f"ended with exit code {done.returncode}: {done.stderr.strip()}", " ".join(argv[:6])
        )
    return done.stdout
