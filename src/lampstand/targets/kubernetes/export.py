"""A folder for kustomize: `kubectl apply -k FOLDER` brings the site up, controller included, without Lampstand.

The objects are those that `up` applies. Texts are written as they are, so that a change can be read in a diff.
"""

import os
import re
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from lampstand.files import write_text
from lampstand.targets.kubernetes.manifests import release_job, render
from lampstand.targets.kubernetes.project import INSTANCE, SECRETS, Manifest, Project, Served
from lampstand.topology import Topology

_HEAD = "# The site {site}, written by Lampstand: changes are lost.\n"
_README = """# The site {site} on Kubernetes

    kubectl apply -k .

makes the namespace `{namespace}` and everything in it, the controller included; nothing else is needed. The images must
be where the nodes can pull them:

{images}

`secrets.yaml`, and every other Secret in here, holds passwords: keep this folder where only those who may know them can
read it. The passwords of the database are read once, when its volumes are made; later changes here do not change them.

A later export may be applied over an earlier one: what a server reads has a name of its own for each content, and only
servers for which something changed are replaced. Databases, caches and session stores are replaced by the controller,
one after the other, the primary last.
{release}
`kubectl delete namespace {namespace}` removes all of it, volumes included.
"""
_RELEASE = """
The release step of the application is the Job `{job}`. It runs once; a Job that is done cannot be changed, so delete it
before you apply an export of the same release with another configuration.
"""

_PARTS: Mapping[str, str] = {
    "Namespace": "namespace", "ServiceAccount": "rights", "Role": "rights", "RoleBinding": "rights",
    "NetworkPolicy": "policies", "Service": "services", "Ingress": "services", "HTTPRoute": "services",
    "PodDisruptionBudget": "budgets", "PersistentVolumeClaim": "uploads",
}  # fmt: skip
"""Files of objects that belong to no single server; all others are in their server's."""


def export_files(topology: Topology, project: Project, served: Served | None = None) -> dict[str, str]:
    """The files of the folder by name. Pure.

    Raises LampstandError where `render` does.
    """
    manifests = [*render(topology, project, served)]
    job = release_job(topology, project, served)
    if job is not None:
        manifests.append(job)
    parts: dict[str, list[Manifest]] = {}
    for manifest in manifests:
        parts.setdefault(f"{_part(manifest)}.yaml", []).append(manifest)
    head = _HEAD.format(site=project.site.site)
    found = {name: head + yaml_text(part) for name, part in parts.items()}
    found["kustomization.yaml"] = head + yaml_text(
        [{"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": [*parts]}]
    )
    images = sorted({c["image"] for m in manifests for c in _containers(m)})
    found["README.md"] = _README.format(
        site=project.site.site,
        namespace=project.namespace,
        images="\n".join(f"- `{image}`" for image in images),
        release=_RELEASE.format(job=job["metadata"]["name"]) if job else "",
    )
    return found


def write_export(
    folder: Path, topology: Topology, project: Project, served: Served | None = None
) -> list[str]:
    """Write them; returns their names. Files with passwords are readable by their owner only."""
    folder.mkdir(parents=True, exist_ok=True)
    files = export_files(topology, project, served)
    for name, text in files.items():
        write_text(folder / name, text, 0o600 if "kind: Secret\n" in text else 0o644)
    for old in folder.glob("*.yaml"):
        if old.name not in files and old.read_text("utf-8").startswith(_HEAD.format(site=project.site.site)):
            os.unlink(old)
    return sorted(files)


def yaml_text(documents: Iterable[Manifest]) -> str:
    """Documents as YAML, texts of several lines as they are."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 1000
    yaml.explicit_start = False
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = StringIO()
    for number, document in enumerate(documents):
        if number:
            out.write("---\n")
        yaml.dump(_readable(document), out)  # pyright: ignore[reportUnknownMemberType]
    return out.getvalue()


def _readable(value: Any) -> Any:  # noqa: ANN401 - JSON
    """The same with blocks for texts of several lines, and quotes around what YAML 1.1, which kubectl reads, would take
    for something else than text (`yes`)."""
    if isinstance(value, Mapping):
        return {key: _readable(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list | tuple):
        return [_readable(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(value, str):
        return value
    if "\n" in value and all(c == "\n" or c.isprintable() for c in value):
        return LiteralScalarString(value)
    return (
        value if _PLAIN.fullmatch(value) and value.lower() not in _WORDS else DoubleQuotedScalarString(value)
    )


_PLAIN = re.compile(r"[A-Za-z/][\w./-]*")
_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")


def _part(manifest: Manifest) -> str:
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    if kind == "Secret" and name == SECRETS:
        return SECRETS
    if kind in _PARTS:
        return _PARTS[kind]
    return manifest["metadata"]["labels"].get(INSTANCE, name)


def _containers(manifest: Manifest) -> list[dict[str, Any]]:
    spec = manifest.get("spec", {}).get("template", {}).get("spec", {})
    return [*spec.get("initContainers", []), *spec.get("containers", [])]
