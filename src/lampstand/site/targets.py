"""What each target needs to know that the others do not."""

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lampstand.site.aws import Aws
from lampstand.site.base import Model, option, shown
from lampstand.site.types import Command, Flag, Host, Line, Name, Port, Positive, TextLine
from lampstand.site.units import Size

Registry = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.:-]*(/[a-z0-9._-]+)*$")]


def _check_address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(
            f"{shown(value)} is not an IP address; write 127.0.0.1, or 0.0.0.0 for all"
        ) from None


Address = Annotated[str, AfterValidator(_check_address)]


class Local(Model):
    """Processes on this machine."""

    bind: Address = option("127.0.0.1", "Address that visitors reach.", "bind: 0.0.0.0")
    ports: Mapping[Line, Port] = option(
        dict,
        "Ports that are fixed, by server; all others are free ones, chosen once and kept.",
        "ports: {edge-fra: 8080, balancer-1: 8000}",
    )


class Docker(Model):
    """A Compose project."""

    project: Name | None = option(
        None, "Name of the Compose project; by default the site's.", "project: shop-staging"
    )
    bind: Address = option("127.0.0.1", "Address that the published ports are on.", "bind: 0.0.0.0")
    ports: Mapping[Line, Port] = option(
        dict, "Published ports, by server; by default the edges get free ones.", "ports: {edge-fra: 80}"
    )
    registry: Registry | None = option(
        None, "Where `lampstand build --push` sends images.", "registry: registry.example.com/shop"
    )
    base: Line = option(
        "debian:bookworm-slim", "Image that all others are built from.", "base: debian:trixie-slim"
    )


Quantity = Annotated[str, Field(pattern=r"^[0-9]+m?$|^[0-9]+\.[0-9]+$")]
"""Of CPU, as Kubernetes writes it: `250m` is a quarter of a core."""


class Cpu(Model):
    """What a server asks of the cores of its node."""

    shorthand = "request"

    request: Quantity = option("100m", "What the scheduler keeps free for it.", "request: 250m")
    limit: Quantity = option("2", "More than this it never gets.", 'limit: "4"')


class Kubernetes(Model):
    """A cluster."""

    context: Line | None = option(
        None, "Context of the kubeconfig; by default the current one.", "context: prod"
    )
    namespace: Name | None = option(None, "Namespace; by default the site's name.", "namespace: shop-staging")
    registry: Registry | None = option(
        None, "Where images are pushed to and pulled from.", "registry: registry.example.com/shop"
    )
    load: Command | None = option(
        None,
        "Command that brings images to the nodes where there is no registry; the images are its last arguments.",
        "load: kind load docker-image --name shop",
    )
    pull_secret: Line | None = option(None, "Secret with the registry's account.", "pull_secret: registry")
    entry: Literal["loadbalancer", "ingress", "gateway", "nodeport", "none"] = option(
        "loadbalancer", "How visitors reach the edges.", "entry: ingress"
    )
    host: Host | None = option(None, "Host name for `ingress` and `gateway`.", "host: shop.example.com")
    ingress_class: Line | None = option(None, "Class of the Ingress.", "ingress_class: traefik")
    gateway: Line | None = option(None, "Gateway (NAMESPACE/NAME) for `gateway`.", "gateway: infra/public")
    tls_secret: Line | None = option(
        None, "Secret with the certificate of the Ingress.", "tls_secret: shop-tls"
    )
    entry_annotations: Mapping[Line, TextLine] = option(
        dict,
        "Annotations of the Service, Ingress or HTTPRoute that visitors reach.",
        "entry_annotations: {cert-manager.io/cluster-issuer: letsencrypt}",
    )
    client_address: Flag = option(
        False,
        "With `loadbalancer` and `nodeport`: keep the visitor's address (externalTrafficPolicy: Local). A node without "
        "an entry then takes no visitors.",
        "client_address: true",
    )
    edge_servers: Positive = option(1, "Pods of each edge, each with a memory of its own.", "edge_servers: 2")
    cpu: Mapping[Literal["edge", "balancer", "web", "database", "cache", "controller"], Cpu] = option(
        dict,
        "CPU of the servers of a tier, and of the controller.",
        'cpu: {web: 500m, database: {request: "1"}}',
    )
    storage_class: Line | None = option(
        None,
        "Class of the volumes of database and sessions; by default the cluster's.",
        "storage_class: fast",
    )
    uploads_class: Line | None = option(
        None, "Class of the volume that all web servers share (ReadWriteMany).", "uploads_class: nfs"
    )
    uploads_size: Size = option(10 * 2**30, "Size of that volume.", "uploads_size: 100GiB")
    node_selector: Mapping[Line, TextLine] = option(
        dict, "Labels of the nodes to run on.", "node_selector: {disktype: ssd}"
    )


class Targets(Model):
    """Where the site lives, and what each such place needs to know."""

    local: Local = option(Local, "Processes on this machine.", "local: {bind: 0.0.0.0}")
    docker: Docker = option(Docker, "A Compose project.", "docker: {registry: registry.example.com/shop}")
    kubernetes: Kubernetes = option(
        Kubernetes, "A cluster.", "kubernetes: {context: prod, registry: registry.example.com/shop}"
    )
    aws: Aws = option(
        Aws, "An account of Amazon Web Services.", "aws: {region: eu-central-1, domain: shop.example.com}"
    )
