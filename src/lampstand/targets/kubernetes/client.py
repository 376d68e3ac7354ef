"""A small client of the Kubernetes API, with nothing but the standard library: it runs in the controller's pod too.

Credentials are a kubeconfig's (certificates, tokens, programs that give tokens) or those of a pod. Every request has a
deadline. Nothing is retried but a request that met a connection which the server had closed.
"""

import base64
import contextlib
import http.client
import json
import os
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from lampstand.errors import LampstandError
from lampstand.targets.kubernetes.websocket import WebSocket

DEADLINE = 30.0
"""Seconds for an ordinary request."""
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its credentials."""
PATCHES: Mapping[str, str] = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",  # JSON is YAML
}


class ApiError(LampstandError):
    """The API server refused; `status` is its HTTP status, `reason` its word for why (`NotFound`, `Conflict`)."""

    def __init__(self, status: int, reason: str, message: str, where: str) -> None:
        super().__init__(message, where)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Credentials:
    """How to reach one cluster, and as whom."""

    server: str
    context: ssl.SSLContext
    namespace: str = "default"
    token: str = ""
    token_file: Path | None = None
    """Read for each request: the cluster replaces the token of a pod every hour."""

    def headers(self) -> dict[str, str]:
        """Of every request."""
        token = self.token_file.read_text("ascii").strip() if self.token_file else self.token
        return {"Authorization": f"Bearer {token}"} if token else {}


@dataclass
class Client:
    """Requests to one API server; may be used by several threads."""

    credentials: Credentials
    _local: threading.local = field(default_factory=threading.local, repr=False)

    # -- whose credentials -------------------------------------------------------------------------------------------
    @classmethod
    def in_cluster(cls) -> "Client":
        """As the pod's service account. Raises LampstandError outside of a cluster."""
        host, port = (
            os.environ.get("KUBERNETES_SERVICE_HOST"),
            os.environ.get("KUBERNETES_SERVICE_PORT", "443"),
        )
        if not host or not (ACCOUNT / "token").exists():
            raise LampstandError("this is no pod of a cluster", str(ACCOUNT))
        context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        name = f"[{host}]" if ":" in host else host
        namespace = (ACCOUNT / "namespace").read_text("ascii").strip()
        return cls(Credentials(f"https://{name}:{port}", context, namespace, token_file=ACCOUNT / "token"))

    @classmethod
    def of_kubeconfig(cls, context: str | None = None, path: Path | None = None) -> "Client":
        """As KUBECONFIG or ~/.kube/config say; without one, as the pod that this runs in.

        Raises LampstandError when there is neither, or no such context.
        """
        files = [path] if path else [Path(p) for p in os.environ.get("KUBECONFIG", "").split(os.pathsep) if p]
        files = [f for f in files or [Path.home() / ".kube/config"] if f.exists()]
        if not files:
            if (ACCOUNT / "token").exists():
                return cls.in_cluster()
            raise LampstandError(
                "there is no kubeconfig",
                "~/.kube/config",
                "set KUBECONFIG, or run your provider's login command",
            )
        return cls(_credentials(files, context))

    # -- requests ----------------------------------------------------------------------------------------------------
    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
        deadline: float = DEADLINE,
    ) -> dict[str, Any]:
        """The answer's document. Raises ApiError when the server refuses, LampstandError when it is not reached."""
        target = f"{path}?{urlencode(query)}" if query else path
        data = None if body is None else json.dumps(body).encode()
        headers = {
            **self.credentials.headers(),
            "Accept": "application/json",
            "User-Agent": "lampstand",
            **({"Content-Type": content} if data is not None else {}),
        }
        status, text = self._exchange(method, target, data, headers, deadline)
        try:
            document: dict[str, Any] = json.loads(text or b"{}")
        except ValueError:
            document = {"message": text.decode("utf-8", "replace")[:500]}
        if status >= 400:
            message = str(document.get("message") or f"HTTP {status}")
            raise ApiError(status, str(document.get("reason", "")), message, f"{method} {path}")
        return document

    def _exchange(
        self, method: str, target: str, data: bytes | None, headers: Mapping[str, str], deadline: float
    ) -> tuple[int, bytes]:
        kept: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        for connection in (kept, None):
            fresh = connection is None
            connection = connection or self._connect(deadline)  # noqa: PLW2901
            if connection.sock is not None:
                connection.sock.settimeout(deadline)
            try:
                connection.request(method, target, data, dict(headers))
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._local.connection = None
                if not fresh and isinstance(
                    error, ConnectionError | http.client.RemoteDisconnected | ssl.SSLError
                ):
                    continue
                raise self._unreached(error) from error
            self._local.connection = connection
            return answer.status, text
        raise AssertionError  # the second connection is always a fresh one

    def _connect(self, deadline: float) -> http.client.HTTPConnection:
        at = urlsplit(self.credentials.server)
        host, port = at.hostname or "", at.port
        if at.scheme == "http":
            return http.client.HTTPConnection(host, port or 80, timeout=deadline)
        return http.client.HTTPSConnection(
            host, port or 443, timeout=deadline, context=self.credentials.context
        )

    def _unreached(self, error: Exception) -> LampstandError:
        why = str(error) or type(error).__name__
        return LampstandError(f"the cluster does not answer: {why}", self.credentials.server)

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        """An object, or None where there is none."""
        try:
            return self.request("GET", path, query=query)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, path: str, labels: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """The objects of a collection that carry labels; none where the cluster does not know the collection."""
        found = self.get(path, **({"labelSelector": selector(labels)} if labels else {}))
        return list((found or {}).get("items") or ())

    def create(self, path: str, body: object) -> dict[str, Any]:
        """Make an object; ApiError 409 where there is one of that name."""
        return self.request("POST", path, body)

    def replace(self, path: str, body: object) -> dict[str, Any]:
        """Put an object in the place of another one; ApiError 409 when it changed since it was read."""
        return self.request("PUT", path, body)

    def patch(self, path: str, body: object, kind: str = "merge", **query: str) -> dict[str, Any]:
        """Change an object; `kind` is one of PATCHES."""
        return self.request("PATCH", path, body, query=query, content=PATCHES[kind])

    def delete(self, path: str, grace: int | None = None, propagation: str = "Background") -> bool:
        """Delete an object; `grace` in seconds, 0 is at once. False where there is none."""
        options: dict[str, Any] = {"propagationPolicy": propagation}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            self.request("DELETE", path, options)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    # -- streams -----------------------------------------------------------------------------------------------------
    def watch(
        self,
        path: str,
        labels: Mapping[str, str] | None = None,
        version: str | None = None,
        seconds: int = 240,
    ) -> Iterator[dict[str, Any]]:
        """What happens to the objects of a collection (`type`, `object`), until the server ends it.

        Without `version` it begins with what is there, as ADDED. Raises ApiError 410 for a version that is too old.
        """
        query = {"watch": "1", "timeoutSeconds": str(seconds), "allowWatchBookmarks": "true"}
        if labels:
            query["labelSelector"] = selector(labels)
        if version:
            query["resourceVersion"] = version
        with self._stream(path, query, seconds + 30.0) as answer:
            for line in answer:
                event = json.loads(line)
                if event.get("type") == "ERROR":
                    status = event.get("object", {})
                    raise ApiError(
                        int(status.get("code", 500)),
                        str(status.get("reason")),
                        str(status.get("message")),
                        path,
                    )
                yield event

    def logs(self, namespace: str, pod: str, *, follow: bool = False, **query: str) -> Iterator[str]:
        """Lines of a pod's log. `query`: container, tailLines, previous."""
        if follow:
            query["follow"] = "true"
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        with self._stream(path, query, 86_400.0 if follow else DEADLINE) as answer:
            for line in answer:
                yield line.decode("utf-8", "replace").rstrip("\n")

    @contextlib.contextmanager
    def _stream(
        self, path: str, query: Mapping[str, str], deadline: float
    ) -> Generator[http.client.HTTPResponse]:
        """A connection of its own, closed at the end."""
        connection = self._connect(deadline)
        try:
            connection.request("GET", f"{path}?{urlencode(query)}", headers=self.credentials.headers())
            answer = connection.getresponse()
            if answer.status >= 400:
                text = answer.read()
                with contextlib.suppress(ValueError):
                    text = str(json.loads(text).get("message")).encode()
                raise ApiError(answer.status, "", text.decode("utf-8", "replace"), f"GET {path}")
            yield answer
        except (OSError, http.client.HTTPException) as error:
            raise self._unreached(error) from error
        finally:
            connection.close()

    def execute(
        self,
        namespace: str,
        pod: str,
        argv: Sequence[str],
        deadline: float = DEADLINE,
        *,
        stdin: bytes = b"",
        container: str = "",
    ) -> tuple[int, str]:
        """Run a program in a pod: its exit code, and what it printed on both outputs.

        Raises LampstandError when it is not done within `deadline` seconds; the program may go on then.
        """
        query = [("command", argument) for argument in argv]
        query += [("stdout", "true"), ("stderr", "true"), ("stdin", "true" if stdin else "false")]
        if container:
            query.append(("container", container))
        path = f"/api/v1/namespaces/{namespace}/pods/{quote(pod)}/exec?{urlencode(query)}"
        where = f"{pod}: {argv[0]}"
        try:
            connection = self._connect(deadline)
            connection.connect()
            with contextlib.closing(connection):
                socket = WebSocket(connection.sock, deadline)
                refusal = socket.open(
                    urlsplit(self.credentials.server).netloc, path, self.credentials.headers()
                )
                if refusal is not None:
                    raise ApiError(refusal[0], "", refusal[1], where)
                if stdin:
                    socket.send(b"\0" + stdin)
                return _outcome(socket, where)
        except TimeoutError as error:
            raise LampstandError(f"not done within {deadline:g} s", where) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unreached(error) from error


def selector(labels: Mapping[str, str]) -> str:
    """`a=b,c=d`."""
    return ",".join(f"{name}={value}" for name, value in labels.items())


def _outcome(socket: WebSocket, where: str) -> tuple[int, str]:
    """Channels of v4.channel.k8s.io: 1 and 2 are the outputs, 3 says at the end how it went."""
    output = bytearray()
    for message in socket.messages():
        channel, data = message[:1], message[1:]
        if channel in (b"\1", b"\2"):
            output += data
        elif channel == b"\3":
            status = json.loads(data or b"{}")
            text = output.decode("utf-8", "replace")
            if status.get("status") == "Success":
                return 0, text
            for cause in status.get("details", {}).get("causes", ()):
                if cause.get("reason") == "ExitCode":
                    return int(cause["message"]), text
            raise LampstandError(str(status.get("message", "failed")), where)
    raise LampstandError("the connection ended before the program", where)


# -- kubeconfig --------------------------------------------------------------------------------------------------------
def _credentials(files: Sequence[Path], wanted: str | None) -> Credentials:
    from ruamel.yaml import YAML

    yaml: Any = YAML(typ="safe", pure=True)
    documents: list[tuple[dict[str, Any], Path]] = [
        (yaml.load(f.read_text("utf-8")) or {}, f.parent) for f in files
    ]
    where = str(files[0])
    name = wanted or next((str(d["current-context"]) for d, _ in documents if d.get("current-context")), "")
    context, _ = _named(documents, "contexts", "context", name, where)
    cluster, folder = _named(documents, "clusters", "cluster", str(context.get("cluster")), where)
    user, user_folder = _named(documents, "users", "user", str(context.get("user")), where)
    tls = ssl.create_default_context(cadata=_text(cluster, "certificate-authority", folder) or None)
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    token = str(user.get("token", ""))
    certificate, key = (_text(user, n, user_folder) for n in ("client-certificate", "client-key"))
    if "exec" in user:
        given = _from_program(user["exec"], where)
        token = str(given.get("token", token))
        certificate = str(given.get("clientCertificateData", certificate))
        key = str(given.get("clientKeyData", key))
    if certificate and key:
        _load(tls, certificate, key)
    file = user.get("tokenFile")
    return Credentials(
        str(cluster["server"]).rstrip("/"),
        tls,
        str(context.get("namespace", "default")),
        token,
        user_folder / str(file) if file else None,
    )


def _named(
    documents: Sequence[tuple[dict[str, Any], Path]], section: str, key: str, name: str, where: str
) -> tuple[dict[str, Any], Path]:
    for document, folder in documents:
        for entry in document.get(section) or ():
            if entry.get("name") == name:
                return dict(entry.get(key) or {}), folder
    known = [str(e.get("name")) for d, _ in documents for e in d.get(section) or ()]
    raise LampstandError(
        f"there is no {key} {name!r}",
        where,
        f"it has {', '.join(known)}" if known else "log in to the cluster",
    )


def _text(entry: Mapping[str, Any], name: str, folder: Path) -> str:
    """A PEM text that is in the file or beside it."""
    if data := entry.get(f"{name}-data"):
        return base64.b64decode(str(data)).decode("ascii")
    return (folder / str(entry[name])).read_text("ascii") if entry.get(name) else ""


def _load(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Python takes certificates from files only; these are gone when this returns."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # mode 0600
        file.write(f"{certificate}\n{key}\n")
        file.flush()
        context.load_cert_chain(file.name)


def _from_program(wanted: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What a credential plug-in gives (client.authentication.k8s.io, ExecCredential)."""
    argv = [str(wanted["command"]), *map(str, wanted.get("args") or ())]
    given = {str(e["name"]): str(e["value"]) for e in wanted.get("env") or ()}
    request = {"apiVersion": wanted["apiVersion"], "kind": "ExecCredential", "spec": {"interactive": False}}
    environment = {**os.environ, **given, "KUBERNETES_EXEC_INFO": json.dumps(request)}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, env=environment)
        if done.returncode:
            raise LampstandError(done.stderr.strip()[-500:] or "failed", f"{where}: {argv[0]}")
        return dict(json.loads(done.stdout).get("status") or {})
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise LampstandError(f"gave no credentials: {error}", f"{where}: {argv[0]}") from error
