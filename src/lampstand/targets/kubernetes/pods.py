"""Pods: containers that may do nothing but serve, spread over nodes and zones, probed for what they are there for.

Everything here satisfies the Pod Security Standard `restricted`
(https://kubernetes.io/docs/concepts/security/pod-security-standards/) and has requests and limits for every resource
that a ResourceQuota may count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from lampstand.site.targets import Cpu
from lampstand.targets.docker.compose import HEADROOM
from lampstand.targets.docker.placement import (
    CONFIGURATION,
    CONTROL,
    DATA,
    LOGS,
    PUBLISHED,
    RELEASES,
    SOCKETS,
    UPLOADS,
)
from lampstand.targets.kubernetes.configuration import READABLE, SERVER
from lampstand.targets.kubernetes.placement import CONTROLLER
from lampstand.targets.kubernetes.project import RELEASE, SERVES, Project, quantity
from lampstand.tiers.edge.tier import LEAVING
from lampstand.topology import Instance

USERS: Mapping[str, int] = {
    "edge": 903, "balancer": 33, "web": 33, "database": 901, "cache": 902, CONTROLLER: 65534,
}  # fmt: skip
"""Account of each image as a number: Kubernetes does not believe a name that it is not root."""

GROUPED = ("database", "cache", "sessions")
"""Kinds with a primary."""
PERSISTENT = ("database", "sessions")
"""Kinds whose data outlive their pods. The cache begins empty: that is what a cache may do."""

INIT = "/usr/local/bin/lampstand-init"
CONTAINER = "server"
"""Name of the container in every pod of a server."""

PRESTOP = 5.0
"""Seconds between the withdrawal of a pod from its Services and the first signal to its programs: every node has taken
the change by then, so no connection is opened to a server that is closing."""
LEAVE = 15.0
"""Seconds in which an edge that is to go tells visitors to open another connection."""
SWITCHOVER = 20.0
"""Seconds that a primary which is asked to go waits for the controller to make another server the primary."""
GRACE = 5.0
"""Seconds that the first process has beyond its programs' own time to stop."""
LOST = 20
"""Seconds after which pods of a node that was given up (it was silent for 40 s) are made anew elsewhere; Kubernetes'
own default is 300."""

_MEBIBYTE = 2**20
_MEMORY: Mapping[str, int] = {
    "visitors": 128, "balancer": 256, "worker": 256, "scheduler": 256, CONTROLLER: 256,
}  # fmt: skip
"""MiB of servers that do not say what they are meant to use; for web servers see `_memory`."""

_SCRATCH = {"emptyDir": {"sizeLimit": "1Gi"}}


@dataclass(frozen=True)
class Volumes:
    """What a pod mounts beyond its configuration and scratch folders."""

    mounts: tuple[dict[str, Any], ...] = ()
    volumes: tuple[dict[str, Any], ...] = ()
    init: tuple[dict[str, Any], ...] = ()
    """Init containers that fill them."""


def pod(
    instance: Instance,
    workload: str,
    project: Project,
    sources: Sequence[dict[str, Any]],
    extra: Volumes,
    *,
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """The template of the pods of one server."""
    user = USERS[instance.tier]
    stop = _prestop(instance, project)
    container = {
        "name": CONTAINER,
        "image": image_of(instance, project),
        "imagePullPolicy": "IfNotPresent",
        "args": [instance.name],
        "env": [{"name": SERVER, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        **({"ports": ports} if (ports := _ports(instance)) else {}),
        "resources": resources(instance, project),
        **_probes(instance, project),
        **({"lifecycle": {"preStop": {"exec": {"command": stop[0]}}}} if stop else {}),
        "securityContext": HARDENED,
        "volumeMounts": [
            {"name": "configuration", "mountPath": f"{CONFIGURATION}/{instance.name}", "readOnly": True},
            *_scratch_mounts(instance),
            *extra.mounts,
        ],
    }
    grace = ceil((stop[1] if stop else 0) + sum(p.stop_seconds for p in instance.processes) + GRACE)
    return {
        "metadata": {"labels": {**project.labels, **labels}},
        "spec": {
            **common(project, user),
            "serviceAccountName": "servers",
            "terminationGracePeriodSeconds": grace,
            **spread(instance, workload, project),
            **({"initContainers": list(extra.init)} if extra.init else {}),
            "containers": [container],
            "volumes": [
                {
                    "name": "configuration",
                    "projected": {"defaultMode": READABLE, "sources": list(sources)},
                },
                *_scratch_volumes(instance),
                *extra.volumes,
            ],
        },
    }


HARDENED: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def common(project: Project, user: int, *, token: bool = False) -> dict[str, Any]:
    """What every pod of the site has in its spec."""
    kubernetes = project.site.targets.kubernetes
    return {
        "automountServiceAccountToken": token,
        # Variables like CACHE_PORT=tcp://… are nobody's business and hide the application's own.
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"imagePullSecrets": [{"name": kubernetes.pull_secret}]} if kubernetes.pull_secret else {}),
        **({"nodeSelector": dict(kubernetes.node_selector)} if kubernetes.node_selector else {}),
        "tolerations": [
            {
                "key": f"node.kubernetes.io/{state}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": LOST,
            }
            for state in ("not-ready", "unreachable")
        ],
    }


def spread(instance: Instance, workload: str, project: Project) -> dict[str, Any]:
    """Over nodes and zones, as far as there are any: a cluster of one node is one too.

    Servers with a role are told apart by kind, because each is a StatefulSet of its own, and so are edges.
    """
    alike = (
        project.selector(kind=instance.kind)
        if instance.kind in (*GROUPED, "edge")
        else project.selector(instance=workload)
    )
    return {
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": alike},
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 100,
                        "podAffinityTerm": {
                            "topologyKey": "kubernetes.io/hostname",
                            "labelSelector": {"matchLabels": alike},
                        },
                    }
                ]
            }
        },
    }


def image_of(instance: Instance, project: Project) -> str:
    """The tag of the image that a server runs."""
    if instance.release:
        return project.release_images[instance.release]
    return project.images[instance.tier]


def resources(instance: Instance, project: Project) -> dict[str, Any]:
    """Requests and limits. Memory is a limit that normal work does not meet; CPU is the site file's."""
    return limits(instance.tier, _memory(instance, project), project)


def limits(tier: str, memory: int, project: Project) -> dict[str, Any]:
    """Requests and limits for a tier, or the controller; `memory` in bytes."""
    cpu = {str(name): value for name, value in project.site.targets.kubernetes.cpu.items()}.get(tier, Cpu())
    needed = quantity(memory)
    return {
        "requests": {"cpu": cpu.request, "memory": needed, "ephemeral-storage": "64Mi"},
        "limits": {"cpu": cpu.limit, "memory": needed, "ephemeral-storage": "4Gi"},
    }


def _memory(instance: Instance, project: Project) -> int:
    if instance.memory is not None:
        return instance.memory + HEADROOM
    if instance.kind == "web":
        return (128 + 96 * project.site.web.processes * project.site.web.threads) * _MEBIBYTE
    return _MEMORY[instance.kind] * _MEBIBYTE


def _ports(instance: Instance) -> list[dict[str, Any]]:
    return [{"name": e.name, "containerPort": e.port, "protocol": "TCP"} for e in instance.endpoints]


def _scratch_mounts(instance: Instance) -> list[dict[str, Any]]:
    found = [
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "log", "mountPath": LOGS},
        {"name": "run", "mountPath": SOCKETS},
        {"name": "control", "mountPath": CONTROL},
    ]
    return found if instance.kind in PERSISTENT else [*found, {"name": "data", "mountPath": DATA}]


def _scratch_volumes(instance: Instance) -> list[dict[str, Any]]:
    names = ("tmp", "log", "run", "control", *(() if instance.kind in PERSISTENT else ("data",)))
    # Varnish's log is shared memory: on a disk every line of it would be written there.
    memory = {"emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}
    return [{"name": n, **(memory if (n, instance.kind) == ("run", "edge") else _SCRATCH)} for n in names]


# -- probes and the way out --------------------------------------------------------------------------------------------
def _exec(*arguments: str) -> dict[str, Any]:
    return {"exec": {"command": [INIT, *arguments]}}


def _probes(instance: Instance, project: Project) -> dict[str, Any]:
    """Startup, readiness, liveness.

    Liveness asks the first process, never the engine: a server that is busy is not dead, and one that is dead takes its
    first process along. It says yes for a data server that the controller holds.
    """
    alive = {
        "livenessProbe": {
            **_exec("health", "any"), "periodSeconds": 20, "timeoutSeconds": 10, "failureThreshold": 6,
        }
    }  # fmt: skip
    if instance.kind in GROUPED:
        # Which of them takes requests is the controller's to say, by label; it asks what a probe cannot.
        return {
            "startupProbe": {
                **_exec("health", "any"), "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 300,
            },
            "readinessProbe": {
                **_exec("health"), "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3,
            },
            **alive,
        }  # fmt: skip
    probe = instance.probe
    if probe.protocol != "http":
        return {
            "readinessProbe": {
                **_exec("health"), "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3,
            },
            **alive,
        }  # fmt: skip
    ask = {
        "httpGet": {
            "path": probe.path,
            "port": instance.endpoint(probe.endpoint).port,
            "httpHeaders": [
                {"name": "Host", "value": probe.host},
                {"name": "User-Agent", "value": "lampstand-probe"},
            ],
        }
    }
    period = max(1, round(probe.interval))
    patience = ceil(project.site.app.start_timeout) if instance.tier == "web" else 60
    return {
        "startupProbe": {
            **ask,
            "periodSeconds": 1,
            "timeoutSeconds": max(2, ceil(probe.timeout)),
            "failureThreshold": max(30, patience),
        },
        # Not as soon as a probe fails: while the database changes its primary all web servers would leave at once.
        "readinessProbe": {
            **ask,
            "periodSeconds": period,
            "timeoutSeconds": max(1, ceil(probe.timeout)),
            "successThreshold": 1,
            "failureThreshold": max(probe.falls, ceil(15 / period)),
        },
        **alive,
    }  # fmt: skip


def _prestop(instance: Instance, project: Project) -> tuple[list[str], float] | None:
    """The command that runs before the first signal, and its seconds."""
    site = project.site
    if instance.kind == "database" and site.database.replicas:
        # The controller sees that the pod is to go, and makes another one the primary: then it is read-only.
        ask = (
            f"mariadb --defaults-file={CONFIGURATION}/{instance.name}/admin.cnf --connect-timeout=2 -N -B"
            f" --socket={SOCKETS}/{instance.name}/mysql.sock -e 'SELECT @@read_only'"
        )
        tries = int(SWITCHOVER * 5)
        loop = f'n=0; while [ $n -lt {tries} ] && [ "$({ask} 2>/dev/null)" = 0 ]; do sleep 0.2; n=$((n + 1)); done'
        return ["/bin/sh", "-c", loop], SWITCHOVER
    if instance.kind == "edge":
        # Varnish does not finish what it is at: who keeps a connection is asked to leave first.
        leave = f"touch {SOCKETS}/{instance.name}/{LEAVING}; sleep {LEAVE:g}"
        return ["/bin/sh", "-c", leave], LEAVE
    replicas = {"cache": site.cache.replicas, "sessions": site.sessions.replicas}
    if replicas.get(instance.kind) or (instance.endpoints and instance.kind not in GROUPED):
        return ["/bin/sleep", f"{PRESTOP:g}"], PRESTOP
    return None


# -- what servers share ------------------------------------------------------------------------------------------------
def release_files(project: Project) -> Volumes:
    """The releases' files in a pod that serves them, copied from their images when it starts: a balancer needs no
    volume that all nodes can mount."""
    return Volumes(
        mounts=({"name": "releases", "mountPath": RELEASES, "readOnly": True},),
        volumes=({"name": "releases", "emptyDir": {"sizeLimit": "4Gi"}},),
        init=tuple(
            {
                "name": f"release-{number}",
                "image": project.release_images[release],
                "imagePullPolicy": "IfNotPresent",
                "command": [
                    "/bin/cp",
                    "-a",
                    "--no-preserve=ownership",
                    f"{RELEASES}/{release}",
                    f"{PUBLISHED}/",
                ],
                "resources": limits("balancer", 128 * _MEBIBYTE, project),
                "securityContext": HARDENED,
                "volumeMounts": [{"name": "releases", "mountPath": PUBLISHED}],
            }
            for number, release in enumerate(project.releases(), 1)
        ),
    )


def uploads(project: Project, *, read_only: bool) -> Volumes:
    """The folder that all web servers share; without `app.uploads`, or with a bucket, a scratch folder of the pod."""
    shared = bool(project.site.app.uploads) and not project.site.storage.bucket
    volume = {"persistentVolumeClaim": {"claimName": "uploads"}} if shared else _SCRATCH
    return Volumes(
        mounts=({"name": "uploads", "mountPath": UPLOADS, **({"readOnly": True} if read_only else {})},),
        volumes=({"name": "uploads", **volume},),
    )


def together(*parts: Volumes) -> Volumes:
    """All of them."""
    return Volumes(
        tuple(m for p in parts for m in p.mounts),
        tuple(v for p in parts for v in p.volumes),
        tuple(i for p in parts for i in p.init),
    )


def labels_of(instance: Instance, workload: str, project: Project) -> dict[str, str]:
    """Labels of the pods of one server."""
    serves = instance.kind in ("web", "balancer", "edge", "visitors")
    return {
        "app.kubernetes.io/name": instance.kind,
        **project.selector(kind=instance.kind, tier=instance.tier, instance=workload),
        **({SERVES: "yes"} if serves else {}),
        **({RELEASE: instance.release} if instance.release else {}),
    }
