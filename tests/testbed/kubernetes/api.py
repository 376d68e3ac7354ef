"""What the stand-ins beside this file need of the API server; standard library only: there is no venv in a node."""

import base64
import contextlib
import http.client
import json
import re
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

Object = dict[str, Any]
Key = tuple[str, str]


class Api:
    """An API server, as the user of a kubeconfig written by up.sh."""

    def __init__(self, kubeconfig: str) -> None:
        """Reads the file; connects to nothing."""
        with open(kubeconfig, encoding="utf-8") as file:
            text = file.read()

        def field(name: str) -> str:
            found = re.search(name + r':\s*"?([^\s",}]+)', text)
            if found is None:
                raise ValueError(f"{kubeconfig}: no {name}")
            return found[1]

        def data(name: str) -> bytes:
            return base64.b64decode(field(name))

        self.host, port = field("server").split("//")[1].split(":")
        self.port = int(port)
        self.tls = ssl.create_default_context(cadata=data("certificate-authority-data").decode())
        with tempfile.NamedTemporaryFile() as pair:  # Python loads a certificate from files only
            pair.write(data("client-certificate-data") + b"\n" + data("client-key-data"))
            pair.flush()
            self.tls.load_cert_chain(pair.name)

    def open(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        timeout: float = 10.0,
        kind: str = "application/json",
    ) -> http.client.HTTPResponse:
        """One request; the answer is not read yet. OSError when there is none."""
        connection = http.client.HTTPSConnection(self.host, self.port, context=self.tls, timeout=timeout)
        headers = {"Content-Type": kind, "Accept": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return connection.getresponse()

    def get(self, path: str) -> Object:
        """The document at a path, whatever its status."""
        with self.open("GET", path) as answer:
            return json.load(answer)

    def make(self, path: str, body: Object) -> None:
        """Sees to it that an object is there: asks until the API server says created or present already."""
        while True:
            with (
                contextlib.suppress(OSError, http.client.HTTPException),
                self.open("POST", path, body) as answer,
            ):
                if answer.status in (201, 409):
                    return
            time.sleep(0.3)

    def watch(self, path: str, changed: Callable[[Object], None] | None = None) -> dict[Key, Object]:
        """A dictionary that follows all objects of a path; `changed` is called with each new state of one."""
        store: dict[Key, Object] = {}
        threading.Thread(target=self._follow, args=(path, store, changed), daemon=True).start()
        return store

    def _follow(self, path: str, store: dict[Key, Object], changed: Callable[[Object], None] | None) -> None:
        while True:
            try:
                listed = self.get(path)
                now = {key(item): item for item in listed["items"]}
                for gone in store.keys() - now.keys():
                    del store[gone]
                store.update(now)
                for item in now.values() if changed else ():
                    changed(item)  # pyright: ignore[reportOptionalCall]
                version = listed["metadata"]["resourceVersion"]
                query = f"{path}?watch=1&timeoutSeconds=300&resourceVersion={version}"
                with self.open("GET", query, timeout=310) as answer:
                    for line in answer:
                        event = json.loads(line)
                        item = event["object"]
                        if event["type"] == "ERROR":
                            break
                        if event["type"] == "DELETED":
                            store.pop(key(item), None)
                        else:
                            store[key(item)] = item
                            if changed:
                                changed(item)
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                print(time.strftime("%T"), path, repr(error), flush=True)
                time.sleep(0.5)


def key(item: Object) -> Key:
    """Namespace and name of an object."""
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
