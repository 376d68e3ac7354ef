"""Rendered files as ConfigMaps and Secrets, named after what they hold: a change gives them another name, and rolls
exactly the pods that mount them. Pure."""

import base64
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lampstand.site import Site
from lampstand.targets.docker.description import description_file
from lampstand.targets.kubernetes.placement import KubernetesPlacement
from lampstand.targets.kubernetes.project import RENDERED, Manifest, Project, digest, limited
from lampstand.tiers.balancer import live
from lampstand.tiers.balancer.tier import RELEASES as RELEASES_FILE
from lampstand.tiers.balancer.tier import ROUTES
from lampstand.topology import File, Instance

TRIES = 3
"""How often the balancer's upstream names the Service of the web servers: a refused connection is tried again with
"another server" (`proxy_next_upstream_tries`), which is the same Service and most often another pod."""

READABLE = 0o440
"""Mode of mounted files; the group is the pod's `fsGroup`. Scripts are run by /bin/sh, which only reads them."""

SERVER = "LAMPSTAND_SERVER"
"""What the pod's name is given as: pods of a Deployment share everything else."""


@dataclass(frozen=True)
class Configuration:
    """The rendered files of one workload."""

    manifests: tuple[Manifest, ...]
    sources: tuple[dict[str, Any], ...]
    """Of a projected volume at the folder of the configuration."""


def role_map(instance: str) -> str:
    """The ConfigMap in which the controller keeps what a data server reads at its next start: `role.cnf` in the place
    of the rendered one, and `hold`, with which its programs are not started."""
    return f"{instance}-role"


def configuration(instance: Instance, workload: str, project: Project, *, role: bool) -> Configuration:
    """Files of an instance as objects; `role` adds the controller's ConfigMap over them."""
    files = _files(instance, project)
    plain = {f.path: f.content for f in files if not f.secret}
    secret = {f.path: f.content for f in files if f.secret}
    top = KubernetesPlacement("").folder(instance.name, "etc")
    manifests: list[Manifest] = []
    sources: list[dict[str, Any]] = []
    if plain:
        data = {_key(path, top): text for path, text in plain.items()}
        name = limited(f"{workload}-{digest(data)}")
        manifests.append(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": _rendered(project, name, workload),
                "immutable": True,
                "data": data,
            }
        )
        sources.append({"configMap": {"name": name, **_items(plain, top)}})
    if secret:
        data = {_key(path, top): _base64(text) for path, text in secret.items()}
        name = limited(f"{workload}-{digest(data)}")
        manifests.append(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": _rendered(project, name, workload),
                "immutable": True,
                "type": "Opaque",
                "data": data,
            }
        )
        sources.append({"secret": {"name": name, **_items(secret, top)}})
    if role:
        # Later sources win where nobody names items, so what the controller wrote takes the place of what is rendered.
        sources.append({"configMap": {"name": role_map(instance.name), "optional": True}})
    return Configuration(tuple(manifests), tuple(sources))


def secret_manifest(project: Project, name: str, values: dict[str, str]) -> Manifest:
    """A Secret of given values."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": project.metadata(name),
        "type": "Opaque",
        "data": {key: _base64(value) for key, value in sorted(values.items())},
    }


def _rendered(project: Project, name: str, workload: str) -> dict[str, Any]:
    found = project.metadata(name, instance=workload)
    return {**found, "labels": {**found["labels"], RENDERED: "yes"}}


def _files(instance: Instance, project: Project) -> list[File]:
    found = [
        *instance.files,
        *_live(instance, project),
        description_file(_nameless(instance), _uploads(instance, project.site), publish=False),
    ]
    return sorted(found, key=lambda f: f.path)


def _uploads(instance: Instance, site: Site) -> Sequence[str]:
    return site.app.uploads if instance.tier == "web" else ()


def _nameless(instance: Instance) -> Instance:
    """Without the server's name in the environment: it comes from the pod."""
    processes = tuple(
        replace(p, env=tuple(pair for pair in p.env if pair[0] != SERVER)) for p in instance.processes
    )
    return replace(instance, processes=processes)


def _live(instance: Instance, project: Project) -> Iterable[File]:
    """What the controller of other targets rewrites; here Services decide where requests go, so routes are constant."""
    for file in instance.live_files:
        if instance.kind == "balancer" and file.path.endswith(f"/{ROUTES}"):
            yield replace(file, content=_routes(project))
        elif instance.kind == "balancer" and file.path.endswith(f"/{RELEASES_FILE}"):
            place = KubernetesPlacement("")
            yield replace(file, content=live.releases([place.release(r) for r in project.releases()]))
        else:
            yield file


def _routes(project: Project) -> str:
    canary = project.canary and live.Canary(project.canary[0], _servers("web-canary"), project.canary[1])
    return live.web_routes(_servers("web"), canary)


def _servers(service: str) -> tuple[live.Server, ...]:
    # A failure says nothing about the next try, because the next pod is another one.
    return tuple(live.Server(f"{service}, try {n}", service, 8080, max_fails=0) for n in range(1, TRIES + 1))


def _key(path: str, top: str) -> str:
    """A path as a key: letters, digits, `-`, `_` and `.` only."""
    return posixpath.relpath(path, top).replace("/", "__")


def _items(files: Iterable[str], top: str) -> dict[str, Any]:
    """Keys and where they lie, which needs saying only for files in folders."""
    paths = [posixpath.relpath(path, top) for path in files]
    if not any("/" in path for path in paths):
        return {}
    return {"items": [{"key": path.replace("/", "__"), "path": path} for path in paths]}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
