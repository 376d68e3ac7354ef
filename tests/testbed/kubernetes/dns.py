"""The names of a cluster, as CoreDNS answers them: A, SRV, PTR and CNAME records of *.svc.cluster.local.

usage: dns.py KUBECONFIG ADDRESS SERVICE_ADDRESS

Makes the Service kube-system/kube-dns with this process as its endpoint. Names of other zones do not exist: nothing is
forwarded. The rules are those of the specification "Kubernetes DNS-Based Service Discovery".
"""

import contextlib
import re
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from api import Api, Object

ZONE = ("cluster", "local")
PORT = 53  # policies look at ports behind the translation of Services
TTL = 5  # seconds
TYPES = {"A": 1, "CNAME": 5, "SOA": 6, "PTR": 12, "AAAA": 28, "SRV": 33}
Labels = tuple[str, ...]
Record = tuple[str, Any]  # type and value: a name, an address, or (port, name)


def register(api: Api, address: str, service_address: str) -> None:
    """The Service that pods ask, and its endpoint: this process."""
    namespace = "/api/v1/namespaces/kube-system"
    meta = {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}
    ports: list[Object] = [{"name": "dns", "protocol": "UDP"}, {"name": "dns-tcp", "protocol": "TCP"}]
    listened = [port | {"port": 53, "targetPort": PORT} for port in ports]
    subsets = [{"addresses": [{"ip": address}], "ports": [port | {"port": PORT} for port in ports]}]
    kind: Object = {"apiVersion": "v1", "metadata": meta}
    spec = {"clusterIP": service_address, "ports": listened}
    api.make(f"{namespace}/services", kind | {"kind": "Service", "spec": spec})
    api.make(f"{namespace}/endpoints", kind | {"kind": "Endpoints", "subsets": subsets})


class Names:
    """The records, from what the API server says now. None: no such name; []: the name has no such record."""

    def __init__(self, api: Api) -> None:
        self.services = api.watch("/api/v1/services")
        self.endpoints = api.watch("/api/v1/endpoints")

    def addresses(self, key: tuple[str, str]) -> Iterator[tuple[str, str, dict[str, tuple[str, int]]]]:
        """Address, host label and ports of a Service's endpoints.

        The API server lists those that are not ready among them where the Service publishes these.
        """
        for subset in self.endpoints.get(key, {}).get("subsets") or []:
            ports = {p.get("name", ""): (p["protocol"].lower(), p["port"]) for p in subset.get("ports") or []}
            for address in subset.get("addresses") or []:
                yield address["ip"], address.get("hostname") or address["ip"].replace(".", "-"), ports

    def lookup(self, labels: Labels) -> list[Record] | None:
        """Records of a name below the zone."""
        if labels[-2:] == ("in-addr", "arpa"):
            return self._pointer(".".join(reversed(labels[:4])))
        if labels[-2:] != ZONE:
            return None
        name = labels[:-2]
        if name in ((), ("svc",), ("pod",)):
            return []
        if name[-1] == "pod" and len(name) == 3:
            return [("A", name[0].replace("-", "."))] if re.fullmatch(r"(\d+-){3}\d+", name[0]) else None
        if name[-1] != "svc":
            return None
        if len(name) == 2:
            return [] if any(namespace == name[0] for namespace, _ in self.services) else None
        return self._service((name[-2], name[-3]), name[:-3])

    def _service(self, key: tuple[str, str], below: Labels) -> list[Record] | None:
        service = self.services.get(key)
        if service is None:
            return None
        spec = service["spec"]
        if spec.get("type") == "ExternalName":
            return None if below else [("CNAME", spec["externalName"])]
        headless = spec.get("clusterIP") in ("None", "", None)
        full = f"{key[1]}.{key[0]}.svc.cluster.local"
        if len(below) == 2 and below[0].startswith("_") and below[1].startswith("_"):
            wanted = below[0][1:], below[1][1:]
            found: list[Record] = [
                ("SRV", (port, f"{label}.{full}"))
                for _, label, ports in (self.addresses(key) if headless else ())
                for name, (protocol, port) in ports.items()
                if (name, protocol) == wanted
            ] or [
                ("SRV", (port["port"], full))
                for port in (() if headless else spec.get("ports", []))
                if (port.get("name"), port["protocol"].lower()) == wanted
            ]
            return found or None
        if len(below) == 1:
            return [("A", ip) for ip, label, _ in self.addresses(key) if label == below[0]] or None
        if below:
            return None
        if headless:
            return [("A", ip) for ip in dict.fromkeys(ip for ip, _, _ in self.addresses(key))] or None
        return [("A", spec["clusterIP"])]

    def _pointer(self, ip: str) -> list[Record] | None:
        for (namespace, name), service in list(self.services.items()):
            full = f"{name}.{namespace}.svc.cluster.local"
            if service["spec"].get("clusterIP") == ip:
                return [("PTR", full)]
            if service["spec"].get("clusterIP") == "None":
                for address, label, _ in self.addresses((namespace, name)):
                    if address == ip:
                        return [("PTR", f"{label}.{full}")]
        return None


def encoded(name: str) -> bytes:
    """A name on the wire (RFC 1035 section 3.1)."""
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".") if part) + b"\0"


def data(kind: str, value: str | tuple[int, str]) -> bytes:
    """The data of a record on the wire."""
    if isinstance(value, tuple):
        return struct.pack(">HHH", 0, 100, value[0]) + encoded(value[1])
    return socket.inet_aton(value) if kind == "A" else encoded(value)


def record(name: bytes, kind: str, value: bytes) -> bytes:
    """A record on the wire (RFC 1035 section 4.1.3)."""
    return name + struct.pack(">HHIH", TYPES[kind], 1, TTL, len(value)) + value


def answer(names: Names, query: bytes, limit: int) -> bytes:
    """The answer to one query, cut to its head where it would be longer than `limit` bytes."""
    identity, flags = struct.unpack(">HH", query[:4])
    at = 12
    labels: list[str] = []
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("latin1").lower())
        at += 1 + query[at]
    kind = struct.unpack(">H", query[at + 1 : at + 3])[0]
    question = query[12 : at + 5]
    found = names.lookup(tuple(labels))
    answers = [(k, v) for k, v in found or [] if TYPES[k] == kind or kind == 255 or k == "CNAME"]
    body = b"".join(record(b"\xc0\x0c", k, data(k, v)) for k, v in answers)
    extra = [
        record(encoded(v[1]), "A", socket.inet_aton(ip))
        for k, v in answers
        if k == "SRV"
        for t, ip in names.lookup(tuple(v[1].split("."))) or []
        if t == "A"
    ]
    authority = 0
    if not answers:  # RFC 2308: the SOA record says for how long a no is good
        authority = 1
        soa = encoded("ns.dns.cluster.local") + encoded("hostmaster.cluster.local")
        soa += struct.pack(">5I", int(time.time()), 7200, 1800, 86400, TTL)
        body += record(encoded("cluster.local"), "SOA", soa)
    code = 3 if found is None else 0
    head = struct.pack(
        ">6H", identity, 0x8400 | (flags & 0x0100) | code, 1, len(answers), authority, len(extra)
    )
    message = head + question + body + b"".join(extra)
    if len(message) <= limit:
        return message
    return struct.pack(">6H", identity, 0x8600 | (flags & 0x0100), 1, 0, 0, 0) + question


def serve(names: Names, address: str) -> None:
    """Answers by UDP and by TCP, in threads of their own."""

    class Udp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            query, reply = self.request
            with contextlib.suppress(IndexError, struct.error):  # a broken question gets no answer
                reply.sendto(answer(names, query, 1232), self.client_address)

    class Tcp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(10)
            with contextlib.suppress(OSError, IndexError, struct.error):
                while len(head := self.request.recv(2, socket.MSG_WAITALL)) == 2:
                    size = struct.unpack(">H", head)[0]
                    reply = answer(names, self.request.recv(size, socket.MSG_WAITALL), 65535)
                    self.request.sendall(struct.pack(">H", len(reply)) + reply)

    socketserver.ThreadingTCPServer.allow_reuse_address = True
    socketserver.ThreadingTCPServer.daemon_threads = True
    socketserver.ThreadingUDPServer.daemon_threads = True
    for server in (
        socketserver.ThreadingUDPServer((address, PORT), Udp),
        socketserver.ThreadingTCPServer((address, PORT), Tcp),
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()


def main(kubeconfig: str, address: str, service_address: str) -> None:
    """Never returns."""
    api = Api(kubeconfig)
    serve(Names(api), address)
    register(api, address, service_address)
    print(time.strftime("%T"), "serving", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:4])
