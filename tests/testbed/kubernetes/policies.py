"""What a network plug-in does with NetworkPolicies: what none of them allows does not leave its node, or enter it.

usage: policies.py KUBECONFIG NODE

Rules are in the table `mangle`, chain FORWARD: behind the translation of Services, before kube-proxy accepts anything.
What the node itself sends to its pods (probes) never passes there, as it should be. Addresses of version 4 only.

Only namespaces with the label `lampstand-test/policies: enforced` are looked after: in the others tests reach every
server from outside, to see what it does.
"""

import contextlib
import hashlib
import ipaddress
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from api import Api, Object

CHAIN = "LAMPSTAND"
ENFORCED = {"matchLabels": {"lampstand-test/policies": "enforced"}}
ALL = "0.0.0.0/0"
OPERATORS = {
    "In": lambda value, values: value in values,
    "NotIn": lambda value, values: value not in values,
    "Exists": lambda value, values: value is not None,
    "DoesNotExist": lambda value, values: value is None,
}


def selects(selector: Object, item: Object) -> bool:
    """Whether a label selector chooses an object; an empty one chooses all."""
    labels = item["metadata"].get("labels", {})
    wanted = selector.get("matchLabels", {}).items()
    return all(labels.get(name) == value for name, value in wanted) and all(
        OPERATORS[e["operator"]](labels.get(e["key"]), e.get("values", []))
        for e in selector.get("matchExpressions", [])
    )


def address(pod: Object) -> str | None:
    """A pod's own address, while it runs."""
    if pod["spec"].get("hostNetwork") or pod["status"].get("phase") not in ("Pending", "Running"):
        return None
    return pod["status"].get("podIP")


def number(port: Any, pod: Object | None) -> int | None:  # noqa: ANN401 - a name or a number
    """A port by number; a name is that of a container's port in the pod that listens."""
    if isinstance(port, int):
        return port
    containers = pod["spec"]["containers"] if pod else []
    named = [p for c in containers for p in c.get("ports", []) if p.get("name") == port]
    return named[0]["containerPort"] if named else None


class Policies:
    """The policies of the cluster as rules of one node."""

    def __init__(self, kubeconfig: str, node: str) -> None:
        self.node = node
        self.changed = threading.Event()
        api = Api(kubeconfig)
        self.pods = api.watch("/api/v1/pods", self._wake)
        self.namespaces = api.watch("/api/v1/namespaces", self._wake)
        self.policies = api.watch("/apis/networking.k8s.io/v1/networkpolicies", self._wake)
        self.written = ""

    def _wake(self, _: Object) -> None:
        self.changed.set()

    def run(self) -> None:
        """Never returns."""
        while True:
            self.changed.wait(1.0)  # what was deleted wakes nobody
            self.changed.clear()
            with contextlib.suppress(RuntimeError):  # a dictionary changed while it was read: once more
                text = self.text()
                if text != self.written:
                    restored = ["iptables-restore", "--noflush", "--wait=5", "--table=mangle"]
                    subprocess.run(restored, input=text, text=True, check=True)
                    self.written = text
            time.sleep(0.05)

    def text(self) -> str:
        """All rules, as iptables-restore(8) reads them."""
        chains: dict[str, list[str]] = {}
        jumps: list[str] = []
        for key, pod in sorted(self.pods.items()):
            ip = address(pod)
            room = self.namespaces.get(("", key[0]))
            if (
                ip is None
                or pod["spec"].get("nodeName") != self.node
                or not room
                or not selects(ENFORCED, room)
            ):
                continue
            for kind, side in (("Ingress", "-d"), ("Egress", "-s")):
                policies = [p for p in self._of(key[0]) if kind in p["spec"].get("policyTypes", ["Ingress"])]
                policies = [p for p in policies if selects(p["spec"].get("podSelector", {}), pod)]
                if policies:
                    name = f"{CHAIN}-{hashlib.sha256(f'{key}{kind}'.encode()).hexdigest()[:12]}"
                    chains[name] = [*dict.fromkeys(self._rules(kind, pod, policies))]
                    jumps.append(f"-A {CHAIN} {side} {ip}/32 -j {name}")
        lines = ["*mangle", f":{CHAIN} - [0:0]", *(f":{name} - [0:0]" for name in chains)]
        lines += ["-F FORWARD", f"-A FORWARD -j {CHAIN}"]
        lines.append(f"-A {CHAIN} -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN")
        lines += jumps
        for name, rules in chains.items():
            lines += [f"-A {name} {rule} -j RETURN" for rule in rules]
            lines.append(f"-A {name} -j DROP")
        return "\n".join([*lines, "COMMIT", ""])

    def _of(self, namespace: str) -> Iterator[Object]:
        return (policy for (room, _), policy in sorted(self.policies.items()) if room == namespace)

    def _rules(self, kind: str, pod: Object, policies: Iterable[Object]) -> Iterator[str]:
        """What may pass, as matches of iptables(8)."""
        side, peers, option = ("ingress", "from", "-s") if kind == "Ingress" else ("egress", "to", "-d")
        for policy in policies:
            for rule in policy["spec"].get(side) or []:
                for source, peer in self._peers(policy, rule.get(peers)):
                    listener = pod if kind == "Ingress" else peer
                    for match in self._ports(rule.get("ports"), listener):
                        yield f"{option} {source}{match}"

    def _peers(self, policy: Object, peers: list[Object] | None) -> Iterator[tuple[str, Object | None]]:
        if not peers:
            yield ALL, None
        for peer in peers or []:
            if "ipBlock" in peer:
                for network in without(peer["ipBlock"]):
                    yield network, None
                continue
            for key, pod in sorted(self.pods.items()):
                ip = address(pod)
                if ip and self._room(policy, peer, key[0]) and selects(peer.get("podSelector", {}), pod):
                    yield f"{ip}/32", pod

    def _room(self, policy: Object, peer: Object, namespace: str) -> bool:
        if "namespaceSelector" not in peer:
            return bool(namespace == policy["metadata"]["namespace"])
        found = self.namespaces.get(("", namespace))
        return found is not None and selects(peer["namespaceSelector"], found)

    def _ports(self, ports: list[Object] | None, listener: Object | None) -> Iterator[str]:
        if not ports:
            yield ""
        for port in ports or []:
            protocol = port.get("protocol", "TCP").lower()
            if "port" not in port:
                yield f" -p {protocol}"
            elif (first := number(port["port"], listener)) is not None:
                yield f" -p {protocol} --dport {first}:{port.get('endPort', first)}"


def without(block: Object) -> Iterator[str]:
    """The networks of an ipBlock, those it excepts cut out; version 6 is left out."""
    whole = ipaddress.ip_network(block["cidr"])
    networks = [whole] if whole.version == 4 else []
    for text in block.get("except", []):
        hole = ipaddress.ip_network(text)
        networks = [
            part
            for network in networks
            for part in (network.address_exclude(hole) if hole.subnet_of(network) else [network])  # pyright: ignore[reportArgumentType]
        ]
    return (str(network) for network in sorted(networks))


if __name__ == "__main__":
    Policies(*sys.argv[1:3]).run()
