"""The resource metrics of a cluster (metrics.k8s.io/v1beta1), so that autoscalers work and `kubectl top` answers.

usage: metrics.py KUBECONFIG ADDRESS KEYS   (KEYS holds metrics.crt, metrics.key, ca.crt and front-ca.crt)

Reads the summaries of the kubelets through the API server, and registers itself there.
"""

import base64
import contextlib
import http.client
import http.server
import json
import re
import socket
import ssl
import sys
import threading
import time
import urllib.parse
from typing import Any

from api import Api, Object

PORT = 4443
VERSION = "metrics.k8s.io/v1beta1"
PATH = re.compile(f"/apis/{VERSION}(?:/namespaces/([^/]+))?/(pods|nodes)(?:/([^/]+))?")
CORE = "/api/v1"


def register(api: Api, address: str, keys: str) -> None:
    """The Service, its endpoint, and the API that it serves."""
    namespace = f"{CORE}/namespaces/kube-system"
    meta = {"name": "metrics-server", "namespace": "kube-system"}
    service = {"ports": [{"name": "https", "port": 443, "targetPort": PORT}]}
    subsets = [{"addresses": [{"ip": address}], "ports": [{"name": "https", "port": PORT}]}]
    with open(f"{keys}/ca.crt", "rb") as file:
        authority = base64.b64encode(file.read()).decode()
    kind: Object = {"apiVersion": "v1", "metadata": meta}
    api.make(f"{namespace}/services", kind | {"kind": "Service", "spec": service})
    api.make(f"{namespace}/endpoints", kind | {"kind": "Endpoints", "subsets": subsets})
    api.make(
        "/apis/apiregistration.k8s.io/v1/apiservices",
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "caBundle": authority,
                "service": {"name": "metrics-server", "namespace": "kube-system"},
            },
        },
    )


def usage(measured: Object) -> dict[str, str]:
    """What the API calls usage."""
    return {
        "cpu": f"{measured['cpu']['usageNanoCores']}n",
        "memory": f"{measured['memory']['workingSetBytes'] // 1024}Ki",
    }


class Summaries:
    """What the kubelets measured, at most two seconds old."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.read = 0.0
        self.lock = threading.Lock()
        self.nodes: dict[str, Object] = {}
        self.pods: dict[tuple[str, str], Object] = {}

    def refresh(self) -> None:
        """Asks all nodes, unless it was done just now; what does not answer is left out."""
        with self.lock:
            if time.monotonic() - self.read < 2:
                return
            self.nodes, self.pods = {}, {}
            for node in self.api.get(f"{CORE}/nodes")["items"]:
                name = node["metadata"]["name"]
                with contextlib.suppress(OSError, http.client.HTTPException, ValueError, KeyError):
                    self._node(name, self.api.get(f"{CORE}/nodes/{name}/proxy/stats/summary"))
            self.read = time.monotonic()

    def _node(self, name: str, summary: Object) -> None:
        time_of_node = summary["node"]["cpu"]["time"]
        self.nodes[name] = {"timestamp": time_of_node, "usage": usage(summary["node"])}
        for pod in summary.get("pods", []):
            with contextlib.suppress(KeyError, IndexError):
                containers = [{"name": c["name"], "usage": usage(c)} for c in pod["containers"]]
                self.pods[pod["podRef"]["namespace"], pod["podRef"]["name"]] = {
                    "timestamp": pod["containers"][0]["cpu"]["time"],
                    "containers": containers,
                }


def entry(meta: Object, measured: Object) -> Object:
    """One PodMetrics or NodeMetrics without its kind."""
    kept = {k: meta[k] for k in ("name", "namespace", "labels") if k in meta}
    return {"metadata": kept, "window": "10s", **measured}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers the API server."""

    protocol_version = "HTTP/1.1"
    api: Api
    summaries: Summaries

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Says nothing."""

    def answer(self, document: Object, status: int = 200) -> None:
        """Sends one JSON document."""
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Discovery, lists and single objects."""
        url = urllib.parse.urlsplit(self.path)
        path = url.path.rstrip("/")
        if path == f"/apis/{VERSION}":
            resources = [
                {"name": "nodes", "singularName": "", "namespaced": False, "kind": "NodeMetrics"},
                {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics"},
            ]
            listed = [resource | {"verbs": ["get", "list"]} for resource in resources]
            self.answer(
                {
                    "kind": "APIResourceList",
                    "apiVersion": "v1",
                    "groupVersion": VERSION,
                    "resources": listed,
                }
            )
            return
        found = PATH.fullmatch(path)
        absent: Object = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
        absent |= {"code": 404, "reason": "NotFound"}
        if found is None:
            self.answer(absent, 404)
            return
        namespace, plural, name = found.groups()
        self.summaries.refresh()
        selector = urllib.parse.parse_qs(url.query).get("labelSelector")
        query = "?" + urllib.parse.urlencode({"labelSelector": selector[0]}) if selector else ""
        room = f"{CORE}/namespaces/{namespace}/{plural}" if namespace else f"{CORE}/{plural}"
        metas = [item["metadata"] for item in self.api.get(room + query)["items"]]
        measured: dict[Any, Object] = self.summaries.nodes if plural == "nodes" else self.summaries.pods
        items: list[Object] = []
        for meta in metas:
            key = meta["name"] if plural == "nodes" else (meta["namespace"], meta["name"])
            if key in measured and name in (None, meta["name"]):
                items.append(entry(meta, measured[key]))
        kind = "NodeMetrics" if plural == "nodes" else "PodMetrics"
        head: Object = {"apiVersion": VERSION}
        if name is None:
            self.answer(head | {"kind": f"{kind}List", "metadata": {}, "items": items})
        elif items:
            self.answer(head | {"kind": kind} | items[0])
        else:
            self.answer(absent, 404)


class Server(http.server.ThreadingHTTPServer):
    """HTTPS whose handshake happens in the thread of the connection."""

    daemon_threads = True
    tls: ssl.SSLContext

    def get_request(self) -> tuple[socket.socket, Any]:
        """One connection."""
        plain, address = self.socket.accept()
        return self.tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


def main(kubeconfig: str, address: str, keys: str) -> None:
    """Never returns."""
    Handler.api = Api(kubeconfig)
    Handler.summaries = Summaries(Handler.api)
    Server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    Server.tls.load_cert_chain(f"{keys}/metrics.crt", f"{keys}/metrics.key")
    Server.tls.load_verify_locations(f"{keys}/front-ca.crt")
    Server.tls.verify_mode = ssl.CERT_REQUIRED  # nobody asks but the API server's aggregator
    threading.Thread(target=register, args=(Handler.api, address, keys), daemon=True).start()
    Server((address, PORT), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:4])
