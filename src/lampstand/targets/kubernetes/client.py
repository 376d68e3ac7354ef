"""A small interface to the Kubernetes API, for the command line and for the controller: paths in, documents out.

Inside it is the official client (https://github.com/kubernetes-client/python): credentials of kubeconfigs and of pods,
connections, watches and programs in pods are its business. Paths instead of its generated methods, because what is
applied are documents, whose fields the generated models would drop when they are newer than the models.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

from lampstand.errors import EngineMissingError, LampstandError

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


class Client:
    """Requests to one API server; may be used by several threads."""

    def __init__(self, configuration: Any, namespace: str = "default") -> None:  # noqa: ANN401 - the client has no types
        from kubernetes.client import ApiClient

        configuration.connection_pool_maxsize = 16
        self._configuration = configuration
        self._api: Any = ApiClient(configuration)
        self.server = str(configuration.host)
        self.namespace = namespace

    # -- whose credentials -------------------------------------------------------------------------------------------
    @classmethod
    def in_cluster(cls) -> "Client":
        """As the pod's service account. Raises LampstandError outside of a cluster."""
        config, configuration = _package()
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException as error:
            raise LampstandError(f"this is no pod of a cluster: {error}", str(ACCOUNT)) from error
        return cls(configuration, (ACCOUNT / "namespace").read_text("ascii").strip())

    @classmethod
    def of_kubeconfig(cls, context: str | None = None) -> "Client":
        """As KUBECONFIG or ~/.kube/config say; without one, as the pod that this runs in.

        Raises LampstandError when there is neither, or no such context.
        """
        config, configuration = _package()
        if context is None and "KUBECONFIG" not in os.environ and (ACCOUNT / "token").exists():
            return cls.in_cluster()
        try:
            config.load_kube_config(context=context, client_configuration=configuration)
            contexts, active = config.list_kube_config_contexts()
        except (config.ConfigException, OSError, KeyError) as error:
            raise LampstandError(
                f"the kubeconfig does not lead to a cluster: {error}",
                os.environ.get("KUBECONFIG", "~/.kube/config"),
                "set KUBECONFIG, or targets.kubernetes.context, or run your provider's login command",
            ) from error
        chosen = next((c for c in contexts if c["name"] == context), active)
        return cls(configuration, str(chosen["context"].get("namespace", "default")))

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
        answer = self._call(method, path, body, query or {}, content, deadline)
        return cast("dict[str, Any]", json.loads(answer.data or b"{}"))  # which gives the connection back

    def _call(
        self, method: str, path: str, body: object, query: Mapping[str, str], content: str, deadline: float
    ) -> Any:  # noqa: ANN401 - urllib3's answer
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        bearer = self._configuration.auth_settings().get("BearerToken")  # renewed by the package when it ends
        headers = {
            "Accept": "application/json",
            "Content-Type": content,
            "User-Agent": "lampstand",
            **({bearer["key"]: bearer["value"]} if bearer and bearer["value"] else {}),
        }
        url = f"{self.server}{path}{'?' if query else ''}{urlencode(query)}"
        try:
            answer = self._api.rest_client.pool_manager.request(
                method,
                url,
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                timeout=Timeout(connect=min(deadline, 10.0), read=deadline),
                preload_content=False,
                retries=False,
            )
            if answer.status < 400:
                return answer
            refusal = answer.read()
        except (HTTPError, OSError) as error:
            raise self._unreached(error) from error
        raise _refused(answer.status, refusal, f"{method} {path}")

    def _unreached(self, error: Exception) -> LampstandError:
        return LampstandError(f"the cluster does not answer: {error or type(error).__name__}", self.server)

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

    def delete(
        self, path: str, grace: int | None = None, propagation: str = "Background", uid: str | None = None
    ) -> bool:
        """Delete an object; `grace` in seconds, 0 is at once. False where there is none, or none with that `uid`."""
        options: dict[str, Any] = {"propagationPolicy": propagation}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            self.request("DELETE", path, options)
        except ApiError as error:
            if error.status == 404 or (uid is not None and error.status == 409):
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
        for line in self._lines(path, query, seconds + 30.0):
            event: dict[str, Any] = json.loads(line)
            if event.get("type") == "ERROR":
                status = event.get("object", {})
                code, reason = int(status.get("code", 500)), str(status.get("reason", ""))
                raise ApiError(code, reason, str(status.get("message", "")), path)
            yield event

    def logs(
        self, namespace: str, pod: str, *, follow: bool = False, query: Mapping[str, str] | None = None
    ) -> Iterator[str]:
        """Lines of a pod's log. `query`: container, tailLines, previous."""
        options = {**(query or {}), **({"follow": "true"} if follow else {})}
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        for line in self._lines(path, options, 86_400.0 if follow else DEADLINE):
            yield line.decode("utf-8", "replace")

    def _lines(self, path: str, query: Mapping[str, str], deadline: float) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        answer = self._call("GET", path, None, query, "application/json", deadline)
        rest = b""
        try:
            for part in answer.stream(amt=None, decode_content=False):
                *lines, rest = (rest + part).split(b"\n")
                yield from lines
        except (HTTPError, OSError) as error:
            raise self._unreached(error) from error
        finally:
            answer.close()
        if rest:
            yield rest

    def execute(
        self,
        namespace: str,
        pod: str,
        argv: Sequence[str],
        deadline: float = DEADLINE,
        *,
        stdin: str = "",
        container: str | None = None,
    ) -> tuple[int, str]:
        """Run a program in a pod: its exit code, and what it printed on both outputs.

        Raises LampstandError when it is not done within `deadline` seconds; the program may go on then.
        """
        from kubernetes.client import ApiClient, CoreV1Api
        from kubernetes.client.exceptions import ApiException

        connect: Any = import_module("kubernetes.stream").stream
        where = f"{pod}: {argv[0]}"
        # A client of its own: `stream` puts another method into the one that it is given while it connects.
        api = CoreV1Api(ApiClient(self._configuration))
        try:
            socket: Any = connect(
                api.connect_get_namespaced_pod_exec, pod, namespace, command=list(argv), stderr=True, stdout=True,
                stdin=bool(stdin), tty=False, _preload_content=False, _request_timeout=deadline,
                **({"container": container} if container else {}),
            )  # fmt: skip
        except ApiException as error:
            told: Any = error
            raise _refused(int(told.status or 0), told.body or str(told.reason), where) from error
        end = time.monotonic() + deadline
        try:
            if stdin:
                socket.write_stdin(stdin)
            while socket.is_open():
                if time.monotonic() > end:
                    raise LampstandError(f"not done within {deadline:g} s", where)
                socket.update(timeout=max(0.0, min(1.0, end - time.monotonic())))
            return int(socket.returncode or 0), str(socket.read_all())
        finally:
            socket.close()


def selector(labels: Mapping[str, str]) -> str:
    """`a=b,c=d`."""
    return ",".join(f"{name}={value}" for name, value in labels.items())


def _package() -> tuple[Any, Any]:
    """The official client's `config`, and an empty configuration. Raises EngineMissingError without the package."""
    try:
        from kubernetes import config
        from kubernetes.client import Configuration
    except ImportError:
        raise EngineMissingError(
            "the Python package `kubernetes` is not installed", mend="pip install 'lampstand[kubernetes]'"
        ) from None
    return config, Configuration()


def _refused(status: int, answer: bytes | str, where: str) -> ApiError:
    body = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    try:
        document: dict[str, Any] = json.loads(body)
    except ValueError:
        document = {}
    message = str(document.get("message") or body[:500] or f"HTTP {status}")
    return ApiError(status, str(document.get("reason", "")), message, where)
