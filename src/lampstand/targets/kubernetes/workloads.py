"""Deployments, StatefulSets and what belongs to them: budgets, autoscaler, shared volume, Job of a release. Pure."""

from collections.abc import Iterable, Iterator
from math import ceil
from typing import Any

from lampstand.errors import LampstandError
from lampstand.targets.docker.placement import DATA, RELEASES
from lampstand.targets.kubernetes.configuration import SERVER, configuration
from lampstand.targets.kubernetes.placement import CONTROLLER, workload_of
from lampstand.targets.kubernetes.pods import (
    CONTAINER,
    GROUPED,
    HARDENED,
    INIT,
    PERSISTENT,
    Volumes,
    common,
    image_of,
    labels_of,
    limits,
    pod,
    release_files,
    together,
    uploads,
)
from lampstand.targets.kubernetes.project import SECRETS, Manifest, Project, Served, limited, quantity
from lampstand.tiers.web.tier import command_line
from lampstand.topology import Instance, Topology

CANARY = "web-canary"
CONTROLLER_PORT = 8090
MINIMUM = 2
"""Seconds a new pod must be ready before an old one goes."""


def servers(topology: Topology, project: Project) -> Iterator[tuple[str, Instance, int]]:
    """Workload, the instance that its pods are rendered from, and how many pods it has."""
    seen: dict[str, list[Instance]] = {}
    for instance in topology.instances:
        if instance.kind == "gateway":
            continue
        workload = workload_of(instance.name)
        if project.canary and instance.kind == "web" and instance.release == project.canary[0]:
            workload = CANARY
        seen.setdefault(workload, []).append(instance)
    for workload, instances in seen.items():
        count = len(instances)
        if workload == "web":
            count = project.web_replicas or project.site.web.servers
        elif instances[0].kind == "edge":
            count = project.site.targets.kubernetes.edge_servers
        yield workload, instances[0], count


def workloads(topology: Topology, project: Project, served: Served) -> Iterator[Manifest]:
    """Every server: its configuration, then the object that runs it."""
    for workload, instance, count in servers(topology, project):
        keeps = instance.kind in GROUPED
        found = configuration(instance, workload, project, role=keeps)
        yield from found.manifests
        labels = labels_of(instance, workload, project)
        template = pod(instance, workload, project, found.sources, _volumes(instance, project), labels=labels)
        if keeps or _keeps_certificates(instance, project):
            yield _stateful(instance, workload, project, template)
        else:
            yield _deployment(instance, workload, project, template, count)
    yield from budgets(topology, project, served)
    if project.site.web.max_servers is not None:
        yield _autoscaler(project, served)


def _keeps_certificates(instance: Instance, project: Project) -> bool:
    return instance.kind == "visitors" and project.site.tls.mode in ("local", "acme")


def _volumes(instance: Instance, project: Project) -> Volumes:
    if instance.kind == "balancer":
        return together(release_files(project), uploads(project, read_only=True))
    if instance.tier == "web":
        return uploads(project, read_only=False)
    if instance.kind == "visitors" and any(RELEASES in f.content for f in instance.files):
        return release_files(project)
    if instance.kind in PERSISTENT:
        return Volumes(mounts=({"name": "data", "mountPath": DATA},))
    return Volumes()


def _selector(workload: str, project: Project) -> dict[str, Any]:
    return {"matchLabels": project.selector(instance=workload)}


def _deployment(
    instance: Instance, workload: str, project: Project, template: dict[str, Any], count: int
) -> Manifest:
    scaled = workload == "web" and project.site.web.max_servers is not None
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": project.metadata(workload, kind=instance.kind, instance=workload),
        "spec": {
            # Where the autoscaler decides, a number here would undo what it did.
            **({} if scaled and project.web_replicas is None else {"replicas": count}),
            "selector": _selector(workload, project),
            "strategy": _strategy(instance, project),
            "minReadySeconds": MINIMUM,
            "revisionHistoryLimit": project.site.deploy.keep,
            "progressDeadlineSeconds": 600,
            "template": template,
        },
    }


def _strategy(instance: Instance, project: Project) -> dict[str, Any]:
    if instance.kind == "scheduler":
        return {"type": "Recreate"}  # never two: a job would run twice
    surge, missing = 1, 0
    if instance.kind == "web":
        surge, missing = project.site.web.surge, project.site.web.max_unavailable
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": missing}}


def _stateful(instance: Instance, workload: str, project: Project, template: dict[str, Any]) -> Manifest:
    claims = [_claim(instance, project)] if instance.kind in PERSISTENT else []
    if _keeps_certificates(instance, project):
        claims = [_claim(instance, project)]
        template["spec"]["volumes"] = [v for v in template["spec"]["volumes"] if v["name"] != "data"]
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": project.metadata(workload, kind=instance.kind, instance=workload),
        "spec": {
            "replicas": 1,
            "serviceName": workload,
            "selector": _selector(workload, project),
            # All servers of a group change at once, each in a StatefulSet of its own; who restarts them, one by one
            # and the primary last, knows their roles.
            "updateStrategy": {"type": "OnDelete" if instance.kind in GROUPED else "RollingUpdate"},
            "podManagementPolicy": "Parallel",
            "revisionHistoryLimit": 3,
            "template": template,
            **({"volumeClaimTemplates": claims} if claims else {}),
        },
    }


def _claim(instance: Instance, project: Project) -> dict[str, Any]:
    sizes = {"database": project.site.database.storage, "sessions": project.site.sessions.storage}
    storage_class = project.site.targets.kubernetes.storage_class
    return {
        "metadata": {"name": "data", "labels": project.selector(kind=instance.kind, instance=instance.name)},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            **({"storageClassName": storage_class} if storage_class else {}),
            "resources": {"requests": {"storage": quantity(sizes.get(instance.kind, 2**27))}},
        },
    }


def shared_volume(project: Project) -> Iterator[Manifest]:
    """The claim of the folder that all web servers share. Raises LampstandError where there can be none."""
    site, kubernetes = project.site, project.site.targets.kubernetes
    if not site.app.uploads or site.storage.bucket:
        return
    alone = (
        site.web.servers == 1
        and site.web.max_servers in (None, 1)
        and not site.app.workers
        and not site.app.jobs
    )
    if kubernetes.uploads_class is None and not alone:
        raise LampstandError(
            "web servers on several nodes share `app.uploads`, and the site file names neither a storage class that "
            "many nodes may write (ReadWriteMany) nor a bucket",
            "targets.kubernetes.uploads_class",
            "set uploads_class to such a class (NFS, CephFS, EFS, Azure Files …), or `storage: {bucket: NAME}`",
        )
    yield {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": project.metadata("uploads"),
        "spec": {
            "accessModes": ["ReadWriteMany"],
            **({"storageClassName": kubernetes.uploads_class} if kubernetes.uploads_class else {}),
            "resources": {"requests": {"storage": quantity(kubernetes.uploads_size)}},
        },
    }


def budgets(topology: Topology, project: Project, served: Served) -> Iterator[Manifest]:
    """One of a kind may be drained at a time. A kind of one server has no budget: it would hold the drain for ever."""
    version = served.pick("policy/v1", "policy/v1beta1")
    counts: dict[str, int] = {}
    for workload, instance, count in servers(topology, project):
        most = (project.site.web.max_servers or 0) if workload == "web" else 0
        counts[instance.kind] = counts.get(instance.kind, 0) + max(count, most)
    for kind, count in counts.items():
        if count > 1 and kind not in ("worker", "scheduler"):
            yield {
                "apiVersion": version,
                "kind": "PodDisruptionBudget",
                "metadata": project.metadata(kind, kind=kind),
                "spec": {"maxUnavailable": 1, "selector": {"matchLabels": project.selector(kind=kind)}},
            }


def _autoscaler(project: Project, served: Served) -> Manifest:
    return {
        "apiVersion": served.pick("autoscaling/v2", "autoscaling/v2beta2"),
        "kind": "HorizontalPodAutoscaler",
        "metadata": project.metadata("web", kind="web"),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": project.site.web.servers,
            "maxReplicas": project.site.web.max_servers,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
                }
            ],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
        },
    }


# -- the controller and the release step -------------------------------------------------------------------------------
def controller(project: Project) -> Manifest:
    """One pod; a Lease keeps a second one, of a node that is cut off, from acting."""
    labels = project.selector(kind=CONTROLLER, instance=CONTROLLER)
    container = {
        "name": CONTROLLER,
        "image": project.images[CONTROLLER],
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/lampstand/venv/bin/python", "-m", "lampstand.targets.kubernetes", "controller"],
        "env": [
            {"name": "LAMPSTAND_SITE", "value": project.site.site},
            {"name": "LAMPSTAND_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "ports": [{"name": "http", "containerPort": CONTROLLER_PORT, "protocol": "TCP"}],
        "resources": limits(CONTROLLER, 256 * 2**20, project),
        # It answers well as long as its cycles go on; one that hangs is started anew, which visitors do not notice.
        "startupProbe": {**_well(), "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**_well(), "periodSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {**_well(), "periodSeconds": 10, "failureThreshold": 6},
        "securityContext": HARDENED,
        "volumeMounts": [
            {"name": "secrets", "mountPath": "/etc/lampstand/secrets", "readOnly": True},
            {"name": "site", "mountPath": "/site"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": project.metadata(CONTROLLER, kind=CONTROLLER, instance=CONTROLLER),
        "spec": {
            "replicas": 1,
            "selector": _selector(CONTROLLER, project),
            "strategy": {"type": "Recreate"},
            "revisionHistoryLimit": 2,
            "template": {
                "metadata": {"labels": {**project.labels, "app.kubernetes.io/name": CONTROLLER, **labels}},
                "spec": {
                    **common(project, 65534, token=True),
                    "serviceAccountName": CONTROLLER,
                    "terminationGracePeriodSeconds": 15,
                    "containers": [container],
                    "volumes": [
                        {"name": "secrets", "secret": {"secretName": SECRETS, "defaultMode": 0o440}},
                        {"name": "site", "emptyDir": {"sizeLimit": "256Mi"}},
                        {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
                    ],
                },
            },
        },
    }


def _well() -> dict[str, Any]:
    return {"httpGet": {"path": "/healthz", "port": CONTROLLER_PORT}, "timeoutSeconds": 5}


def release_step(topology: Topology, project: Project) -> Manifest | None:
    """The Job that runs `app.release` of the wished release, in the environment of its web servers; None without one.

    It is tried again until there is a primary to write to, and never longer than `app.release_timeout`.
    """
    site = project.site
    if not site.app.release:
        return None
    instance = next(i for i in topology.of_kind("web") if i.release == project.release)
    workload = CANARY if project.canary and project.canary[0] == instance.release else "web"
    sources = configuration(instance, workload, project, role=False).sources
    labels = {
        **project.selector(kind="release", tier="web", instance="release"),
        "app.kubernetes.io/name": "release",
    }
    template = pod(instance, "release", project, sources, uploads(project, read_only=False), labels=labels)
    server: dict[str, Any] = template["spec"]["containers"][0]
    container = {
        **{
            key: server[key]
            for key in ("image", "imagePullPolicy", "resources", "securityContext", "volumeMounts")
        },
        "name": CONTAINER,
        "command": [INIT, "exec", instance.name],
        "args": [*command_line(site.app.release)],
        "env": [{"name": SERVER, "value": "release"}],
    }
    spec = {
        key: value
        for key, value in template["spec"].items()
        if key not in ("affinity", "topologySpreadConstraints")
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": project.metadata(
            limited(f"release-{project.release}"), kind="release", instance="release"
        ),
        "spec": {
            "backoffLimit": 30,
            "activeDeadlineSeconds": ceil(site.app.release_timeout),
            "template": {
                "metadata": template["metadata"],
                "spec": {
                    **spec,
                    "restartPolicy": "OnFailure",
                    "terminationGracePeriodSeconds": 30,
                    "containers": [container],
                },
            },
        },
    }


def images_of(topology: Topology, project: Project) -> Iterable[str]:
    """Every image that the site runs, once."""
    found = [image_of(instance, project) for _, instance, _ in servers(topology, project)]
    return dict.fromkeys((*found, *project.release_images.values(), project.images[CONTROLLER]))
