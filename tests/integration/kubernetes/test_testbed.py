"""The cluster is what the tests of the target take it for: a real one, with what a cloud gives beside it."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.kubernetes.cluster import Cluster
from tests.support import eventually

SERVE = r"""
use IO::Socket;
open my $log, '>>', '/data/started' or die $!; print $log "started\n"; close $log;
$SIG{TERM} = sub { exit 0 };
my $server = IO::Socket::INET->new(LocalPort => 8000, Listen => 64, ReuseAddr => 1) or die $!;
while (my $client = $server->accept) {
  while (<$client>) { last if /^\r?$/ }
  print $client "HTTP/1.0 200 OK\r\n\r\n$ENV{HOSTNAME}";
  close $client;
}
"""
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "fsGroup": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def site(image: str, replicas: int) -> list[dict[str, Any]]:
    """A StatefulSet with volumes, spread over the nodes, behind a load balancer, with a disruption budget."""
    labels = {"app": "site"}
    selector = {"matchLabels": labels}
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
    container = {
        "name": "site",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["perl", "-e", SERVE],
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True},
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
    }
    pod = {
        "securityContext": RESTRICTED,
        "topologySpreadConstraints": [{**spread, "labelSelector": selector}],
        "containers": [container],
        "terminationGracePeriodSeconds": 2,
    }
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "site"},
            "spec": {
                "type": "LoadBalancer",
                "selector": labels,
                "ports": [{"name": "http", "port": 80, "targetPort": 8000, "protocol": "TCP"}],
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "site"},
            "spec": {
                "serviceName": "site",
                "replicas": replicas,
                "podManagementPolicy": "Parallel",
                "selector": selector,
                "template": {"metadata": {"labels": labels}, "spec": pod},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
            },
        },
        {
            "apiVersion": "policy/v1beta1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "site"},
            "spec": {"maxUnavailable": 1, "selector": selector},
        },
    ]


def brought_up(cluster: Cluster, namespace: str, image: str, replicas: int) -> str:
    """The address of the site's load balancer, once all pods are ready."""
    objects = site(image, replicas)
    for item in objects:
        item["metadata"]["namespace"] = namespace
    cluster.apply(*objects)
    cluster.kubectl("-n", namespace, "rollout", "status", "statefulset/site", "--timeout=60s")
    service = eventually(
        lambda: cluster.get("-n", namespace, "service", "site")["status"]["loadBalancer"].get("ingress")
    )
    return f"http://{service[0]['ip']}"


def answer(url: str, seconds: float = 3) -> str:
    """Who answered; AssertionError when nobody did."""
    try:
        return httpx.get(url, timeout=seconds).text
    except httpx.TransportError as error:
        raise AssertionError(f"{url}: {error!r}") from error


def who(url: str) -> set[str]:
    """All who answer, by twenty requests."""
    return {answer(url, 1) for _ in range(20)}


def test_nodes_are_in_zones(cluster: Cluster) -> None:
    nodes = cluster.get("nodes")["items"]
    zones = {n["metadata"]["name"]: n["metadata"]["labels"]["topology.kubernetes.io/zone"] for n in nodes}
    assert zones == {"node1": "zone1", "node2": "zone2", "node3": "zone3"}
    assert cluster.all_ready()


def test_an_old_cluster_serves_old_versions(cluster: Cluster) -> None:
    """Newer manifests than the cluster serves are refused, so a target has to choose by discovery."""
    served = set(cluster.kubectl("api-versions").split())
    assert {"apps/v1", "autoscaling/v2beta2", "policy/v1beta1", "networking.k8s.io/v1"} <= served
    assert not {"autoscaling/v2", "policy/v1", "gateway.networking.k8s.io/v1"} & served


def test_fields_have_owners(cluster: Cluster, namespace: str) -> None:
    """Server-side apply: a dry run changes nothing, and a field of another owner is a conflict."""

    def applied(owner: str, value: str, *options: str) -> subprocess.CompletedProcess[str]:
        settings = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings"},
            "data": {"color": value},
        }
        return cluster.tried(
            "-n", namespace, "apply", "--server-side", "--field-manager", owner, *options, "-f", "-",
            given=json.dumps(settings),
        )  # fmt: skip

    assert applied("lampstand", "red").returncode == 0
    assert applied("lampstand", "blue", "--dry-run=server").returncode == 0
    assert cluster.get("-n", namespace, "configmap", "settings")["data"] == {"color": "red"}
    refused = applied("somebody", "green")
    assert refused.returncode != 0
    assert 'conflict with "lampstand"' in refused.stderr


def test_a_site_has_volumes_names_and_an_entry(cluster: Cluster, namespace: str, base_image: str) -> None:
    url = brought_up(cluster, namespace, base_image, 3)
    pods = cluster.get("-n", namespace, "pods")["items"]
    assert {pod["spec"]["nodeName"] for pod in pods} == {"node1", "node2", "node3"}

    eventually(lambda: who(url) == {"site-0", "site-1", "site-2"}, pause=0.3)
    inside = ("-n", namespace, "exec", "site-0", "--")
    # The group that the pod asked for owns the volume, and the volume keeps what is written.
    assert cluster.kubectl(*inside, "stat", "-c", "%g", "/data").strip() == "1000"
    assert cluster.kubectl(*inside, "cat", "/data/started") == "started\n"
    address = cluster.get("-n", namespace, "service", "site")["spec"]["clusterIP"]
    assert cluster.kubectl(*inside, "getent", "hosts", "site").split()[0] == address

    def measured() -> bool:
        return cluster.tried("-n", namespace, "top", "pods").stdout.count("site-") == 3

    eventually(measured, 60, 1.0)  # the kubelets measure every 10 s


def test_a_drain_honours_the_budget_and_volumes_follow(
    cluster: Cluster, namespace: str, base_image: str
) -> None:
    url = brought_up(cluster, namespace, base_image, 2)
    node = cluster.get("-n", namespace, "pod", "site-0")["spec"]["nodeName"]
    try:
        drain = ("drain", node, "--ignore-daemonsets", "--force", "--timeout=60s")
        cluster.kubectl(*drain, "--pod-selector=app=site")
        cluster.kubectl("-n", namespace, "rollout", "status", "statefulset/site", "--timeout=60s")
        moved = cluster.get("-n", namespace, "pod", "site-0")["spec"]["nodeName"]
        assert moved != node
        started = cluster.kubectl("-n", namespace, "exec", "site-0", "--", "cat", "/data/started")
        assert started == "started\n" * 2
        eventually(lambda: answer(url) == "site-0")
        budget = cluster.get("-n", namespace, "poddisruptionbudget", "site")
        budget["spec"]["maxUnavailable"] = 0
        cluster.kubectl("-n", namespace, "replace", "-f", "-", given=json.dumps(budget))
        seen = ("-n", namespace, "poddisruptionbudget", "site")
        eventually(lambda: cluster.get(*seen)["status"].get("disruptionsAllowed") == 0)
        eviction = {
            "apiVersion": "policy/v1beta1",
            "kind": "Eviction",
            "metadata": {"name": "site-1", "namespace": namespace},
        }
        path = f"/api/v1/namespaces/{namespace}/pods/site-1/eviction"
        refused = cluster.tried("create", "--raw", path, "-f", "-", given=json.dumps(eviction))
        assert refused.returncode != 0
        assert "disruption budget" in refused.stderr
    finally:
        cluster.kubectl("uncordon", node)


def test_a_node_without_power_is_missed_and_comes_back(
    cluster: Cluster, namespace: str, base_image: str
) -> None:
    """The control plane waits 40 s (its default) before it says so; what is in a pod's volume is still there."""
    url = brought_up(cluster, namespace, base_image, 3)
    pods = {
        p["spec"]["nodeName"]: p["metadata"]["name"] for p in cluster.get("-n", namespace, "pods")["items"]
    }
    cluster.node("kill", "node2")
    try:
        eventually(lambda: not cluster.ready("node2"), 90, 1.0)
        others = set(pods.values()) - {pods["node2"]}
        # Endpoints follow the node's state: the load balancer asks the others alone.
        eventually(lambda: who(url) == others, 30, 0.5)
    finally:
        cluster.node("start", "node2")
        eventually(cluster.all_ready, 60, 1.0)
    back = pods["node2"]
    eventually(lambda: who(url) == set(pods.values()), 60, 0.5)
    started = cluster.kubectl("-n", namespace, "exec", back, "--", "cat", "/data/started")
    assert started == "started\n" * 2


def test_a_node_without_network_is_out_of_reach_and_alive(
    cluster: Cluster, namespace: str, base_image: str
) -> None:
    brought_up(cluster, namespace, base_image, 3)
    pods = {
        p["spec"]["nodeName"]: p["status"]["podIP"] for p in cluster.get("-n", namespace, "pods")["items"]
    }
    url = f"http://{pods['node3']}:8000"
    assert answer(url)
    cluster.node("cut", "node3")
    try:
        with pytest.raises(httpx.TransportError):
            httpx.get(url, timeout=1)
    finally:
        cluster.node("mend", "node3")
    eventually(lambda: answer(url))
    pod = cluster.get("-n", namespace, "pods", "--field-selector=spec.nodeName=node3")["items"][0]
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def policy(name: str, chosen: Mapping[str, Any], **rules: object) -> dict[str, Any]:
    """A NetworkPolicy for both directions."""
    spec = {"podSelector": chosen, "policyTypes": ["Ingress", "Egress"], **rules}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


def test_what_no_policy_allows_is_dropped(cluster: Cluster, namespace: str, base_image: str) -> None:
    """Between pods of one node and of two, by address and through a Service."""
    cluster.kubectl("label", "namespace", namespace, "lampstand-test/policies=enforced")
    brought_up(cluster, namespace, base_image, 4)
    pods = {p["metadata"]["name"]: p for p in cluster.get("-n", namespace, "pods")["items"]}
    beside = next((a, b) for a in pods for b in pods if a < b and node_of(pods[a]) == node_of(pods[b]))
    apart = next((a, b) for a in pods for b in pods if a < b and node_of(pods[a]) != node_of(pods[b]))

    def reaches(source: str, target: str) -> bool:
        """By address; the program of the pods speaks HTTP on port 8000."""
        ip = pods[target]["status"]["podIP"] if target in pods else target
        port = 8000 if target in pods else 80
        ask = f"use IO::Socket; IO::Socket::INET->new(PeerAddr => '{ip}:{port}', Timeout => 2) or exit 1"
        return cluster.tried("-n", namespace, "exec", source, "--", "perl", "-e", ask).returncode == 0

    def applied(*policies: dict[str, Any]) -> None:
        for item in policies:
            item["metadata"]["namespace"] = namespace
        cluster.apply(*policies)

    assert all(reaches(*pair) for pair in (beside, apart))
    applied(policy("default-deny", {}))
    eventually(lambda: not any(reaches(*pair) for pair in (beside, apart)))
    assert not reaches(beside[0], "site"), "names are denied too"
    peers = [{"podSelector": {"matchLabels": {"app": "site"}}}]
    ports = [{"protocol": "TCP", "port": 8000}]
    names = [{"protocol": "UDP", "port": 53}]
    egress = [{"to": peers, "ports": ports}, {"ports": names}]
    applied(
        policy(
            "arrows",
            {"matchLabels": {"app": "site"}},
            ingress=[{"from": peers, "ports": ports}],
            egress=egress,
        )
    )
    eventually(lambda: all(reaches(*pair) for pair in (beside, apart)))
    assert reaches(apart[0], "site")
    # Neither the machine outside nor the node's probes are pods of the site: the first is denied, the second never is.
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{pods['site-0']['status']['podIP']}:8000", timeout=1)
    ready = cluster.get("-n", namespace, "statefulset", "site")["status"]["readyReplicas"]
    assert ready == 4


def node_of(pod: Mapping[str, Any]) -> str:
    """Where a pod runs."""
    return str(pod["spec"]["nodeName"])


def test_the_machine_is_left_as_it_was(cluster: Cluster) -> None:
    """All a cluster's processes are descendants of its members' first processes, in namespaces of their own."""
    own = Path("/proc/self/ns/net").readlink()
    for file in (cluster.home / "run").glob("*.pid"):
        member = Path(f"/proc/{file.read_text().strip()}")
        assert (member / "ns/net").readlink() != own
        assert (member / "ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()
    mounts = Path("/proc/self/mounts").read_text()
    assert str(cluster.home) not in mounts
