"""The site as Kubernetes objects, in the order in which they are applied. Pure.

A manifest is a dict, as the API server takes it; `export.py` writes the same ones as a folder for kustomize.
"""

import json
from collections.abc import Iterator

from lampstand.targets.kubernetes.configuration import secret_manifest
from lampstand.targets.kubernetes.network import entry, policies, services
from lampstand.targets.kubernetes.project import SECRETS, SITE_MAP, Manifest, Project, Served
from lampstand.targets.kubernetes.rights import namespace, rights
from lampstand.targets.kubernetes.workloads import controller, release_step, shared_volume, workloads
from lampstand.topology import Topology


def render(topology: Topology, project: Project, served: Served | None = None) -> tuple[Manifest, ...]:
    """All objects of a site, but for the Job of its release step. Equal input gives equal output.

    Raises LampstandError when the cluster lacks what the site file asks for, or web servers on several nodes have no
    way to share their uploads.
    """
    return tuple(_all(topology, project, served or Served.newest()))


def release_job(topology: Topology, project: Project, served: Served | None = None) -> Manifest | None:
    """The Job of the release step; None where `app.release` is empty. Its name is that of the release, so one that has
    run is not run again."""
    del served  # batch/v1 is older than every cluster that is supported
    return release_step(topology, project)


def _all(topology: Topology, project: Project, served: Served) -> Iterator[Manifest]:
    yield namespace(project)
    yield from rights(topology, project)
    yield from policies(topology, project)
    yield secret_manifest(project, SECRETS, dict(project.secrets))
    yield {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": project.metadata(SITE_MAP),
        "data": {"desired.json": json.dumps(project.desired, indent=1, sort_keys=True)},
    }
    yield from shared_volume(project)
    # Names before those who look them up when they start.
    yield from services(topology, project)
    yield from entry(project, served)
    yield from workloads(topology, project, served)
    if project.controller:
        yield controller(project)
