"""Services, the visitors' entry, and which pods may talk to which. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lampstand.errors import LampstandError
from lampstand.site import Site
from lampstand.targets.kubernetes.placement import CONTROLLER, ENTRY, GATEWAY
from lampstand.targets.kubernetes.pods import GROUPED
from lampstand.targets.kubernetes.project import Manifest, Project, Served
from lampstand.targets.kubernetes.workloads import servers
from lampstand.topology import Topology

API_PORTS = (443, 6443, 8443, 16443)
"""Where API servers listen: managed ones, kubeadm, minikube, MicroK8s. Rules are judged after the Service's address was
translated, so the 443 of the Service `kubernetes` alone does not lead to one that listens elsewhere."""
_METADATA_SERVICES = ("169.254.0.0/16", "fd00:ec2::254/128")
"""Where clouds hand out the credentials of their nodes: not the application's to ask for."""


def entry_kind(site: Site) -> str:
    """The kind of servers that visitors reach first."""
    if site.cdn.edges and (site.tls.enabled or site.cdn.visitors is not None):
        return "visitors"
    return "edge" if site.cdn.edges else "balancer"


def services(topology: Topology, project: Project) -> Iterator[Manifest]:
    """One for each server with a name of its own, one for servers that are alike, and one for each role."""
    for workload, instance, _ in servers(topology, project):
        if instance.endpoints:
            keeps = instance.kind in GROUPED
            ports = {e.name: e.port for e in instance.endpoints}
            labels = {"instance": workload} if keeps else {"instance": workload, "serves": "yes"}
            yield _service(project, workload, ports, labels, unready=keeps)
    for name, (service, port) in GATEWAY.items():
        kind = "database" if name in ("writer", "reader") else name
        labels = {"kind": kind, **({"reads": "yes"} if name == "reader" else {"role": "primary"})}
        # The label alone says who is the primary: a probe that is late must not take it away.
        yield _service(project, service, {name: port}, labels, unready=name != "reader")


def _service(
    project: Project, name: str, ports: Mapping[str, int], labels: Mapping[str, str], *, unready: bool
) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": project.metadata(name),
        "spec": {
            "type": "ClusterIP",
            "selector": project.selector(**labels),
            "ports": [_port(n, number, number) for n, number in ports.items()],
            **({"publishNotReadyAddresses": True} if unready else {}),
        },
    }


def _port(name: str, port: int, target: int) -> dict[str, Any]:
    return {"name": name, "port": port, "targetPort": target, "protocol": "TCP"}


# -- the entry ---------------------------------------------------------------------------------------------------------
def entry(project: Project, served: Served) -> Iterator[Manifest]:
    """What visitors reach: a Service, and for `ingress` and `gateway` what leads to it.

    Raises LampstandError when the cluster does not serve the API that the site file asks for.
    """
    kubernetes, kind = project.site.targets.kubernetes, entry_kind(project.site)
    ports = [_port("http", 80, 8080)]
    if project.site.tls.enabled and kind == "visitors":
        ports.append(_port("https", 443, 8443))
    types = {"loadbalancer": "LoadBalancer", "nodeport": "NodePort"}
    outside = types.get(kubernetes.entry)
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _annotated(project, bool(outside)),
        "spec": {
            "type": outside or "ClusterIP",
            **({"externalTrafficPolicy": "Local"} if outside and kubernetes.client_address else {}),
            "selector": project.selector(kind=kind, serves="yes"),
            "ports": ports,
        },
    }
    if kubernetes.entry == "ingress":
        yield _ingress(project)
    elif kubernetes.entry == "gateway":
        yield _route(project, served)


def _annotated(project: Project, here: bool) -> dict[str, Any]:
    annotations = dict(project.site.targets.kubernetes.entry_annotations)
    return {**project.metadata(ENTRY), **({"annotations": annotations} if here and annotations else {})}


def _ingress(project: Project) -> Manifest:
    kubernetes = project.site.targets.kubernetes
    backend = {"service": {"name": ENTRY, "port": {"name": "http"}}}
    rule = {"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    hosts = _hosts(project.site)
    tls = {"secretName": kubernetes.tls_secret, **({"hosts": hosts} if hosts else {})}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": _annotated(project, True),
        "spec": {
            **({"ingressClassName": kubernetes.ingress_class} if kubernetes.ingress_class else {}),
            "rules": [{"host": host, **rule} for host in hosts] or [rule],
            **({"tls": [tls]} if kubernetes.tls_secret else {}),
        },
    }


def _hosts(site: Site) -> list[str]:
    host = site.targets.kubernetes.host
    return [host] if host else list(site.tls.domains)


def _route(project: Project, served: Served) -> Manifest:
    gateway = project.site.targets.kubernetes.gateway
    if gateway is None:
        raise LampstandError(
            "`entry: gateway` needs the Gateway that leads to the site",
            "targets.kubernetes.gateway",
            "set it: gateway: NAMESPACE/NAME",
        )
    namespace, slash, name = gateway.rpartition("/")
    hosts = _hosts(project.site)
    return {
        "apiVersion": served.pick("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"),
        "kind": "HTTPRoute",
        "metadata": _annotated(project, True),
        "spec": {
            "parentRefs": [{"name": name, **({"namespace": namespace} if slash else {})}],
            **({"hostnames": hosts} if hosts else {}),
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "backendRefs": [{"name": ENTRY, "port": 80}],
                }
            ],
        },
    }


# -- who may talk to whom ----------------------------------------------------------------------------------------------
_APPLICATION = ("web", "worker", "scheduler", "release")

ARROWS: Sequence[tuple[tuple[str, ...], str, tuple[int, ...]]] = (
    (("visitors",), "edge", (8082,)),
    (("edge",), "edge", (8081,)),
    (_APPLICATION, "edge", (8080,)),  # purges
    (("edge",), "balancer", (8080, 8081)),
    (("balancer",), "web", (8080,)),
    (_APPLICATION, "database", (3306,)),
    (_APPLICATION, "cache", (6379,)),
    (_APPLICATION, "sessions", (6379,)),
    (("database",), "database", ()),
    (("cache",), "cache", ()),
    (("sessions",), "sessions", ()),
    ((CONTROLLER,), "visitors", ()),
    ((CONTROLLER,), "edge", ()),
    ((CONTROLLER,), "balancer", ()),
    ((CONTROLLER,), "web", ()),
    ((CONTROLLER,), "database", ()),
    ((CONTROLLER,), "cache", ()),
    ((CONTROLLER,), "sessions", ()),
)
"""From which kinds, to which kind, on which ports (none: all). Servers of one group copy their data from each other."""


def policies(topology: Topology, project: Project) -> Iterator[Manifest]:
    """Nothing may talk to anything, but for the arrows of the design, names, and the way in."""
    yield _policy(project, "default-deny", {}, ["Ingress", "Egress"])
    names = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    # Where names are answered differs between clusters: pods of kube-system, the node, an address of its own.
    yield _policy(project, "names", {}, ["Egress"], egress=[{"ports": names}])
    kinds = {i.kind for i in topology.instances if i.kind != "gateway"} | {CONTROLLER, "release"}
    for kind in sorted(kinds):
        ingress, egress = _in(project, kind, kinds), _out(project, kind, kinds)
        if ingress or egress:
            yield _policy(
                project,
                kind,
                project.selector(kind=kind),
                [*(["Ingress"] if ingress else []), *(["Egress"] if egress else [])],
                ingress=ingress,
                egress=egress,
            )


def _in(project: Project, kind: str, kinds: set[str]) -> list[dict[str, Any]]:
    found = [
        _arrow("from", project, [k for k in sources if k in kinds], ports)
        for sources, target, ports in ARROWS
        if target == kind and any(k in kinds for k in sources)
    ]
    if kind == entry_kind(project.site):
        numbers = (8080, 8443) if kind == "visitors" else (8080,)
        found.append({"ports": [{"protocol": "TCP", "port": n} for n in numbers]})
    return found


def _out(project: Project, kind: str, kinds: set[str]) -> list[dict[str, Any]]:
    found = [
        _arrow("to", project, [target], ports)
        for sources, target, ports in ARROWS
        if kind in sources and target in kinds
    ]
    if kind in _APPLICATION or kind == "visitors":
        # Applications call others' services; an entry asks for certificates.
        blocks = [
            {"ipBlock": {"cidr": "0.0.0.0/0", "except": [_METADATA_SERVICES[0]]}},
            {"ipBlock": {"cidr": "::/0", "except": [_METADATA_SERVICES[1]]}},
        ]
        found.append({"to": blocks})
    if kind == CONTROLLER:
        # The API server, whose address no manifest can know; it asks for credentials.
        found.append({"ports": [{"protocol": "TCP", "port": n} for n in API_PORTS]})
    return found


def _arrow(side: str, project: Project, kinds: Sequence[str], ports: Sequence[int]) -> dict[str, Any]:
    peers = [{"podSelector": {"matchLabels": project.selector(kind=k)}} for k in kinds]
    return {
        side: peers,
        **({"ports": [{"protocol": "TCP", "port": number} for number in ports]} if ports else {}),
    }


def _policy(
    project: Project,
    name: str,
    selector: Mapping[str, str],
    types: Sequence[str],
    *,
    ingress: Sequence[dict[str, Any]] = (),
    egress: Sequence[dict[str, Any]] = (),
) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": project.metadata(name),
        "spec": {
            "podSelector": {"matchLabels": dict(selector)} if selector else {},
            "policyTypes": list(types),
            **({"ingress": list(ingress)} if ingress else {}),
            **({"egress": list(egress)} if egress else {}),
        },
    }
