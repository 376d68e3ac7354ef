"""What Apache makes of an application's answers so that CloudFront may keep them: a real Apache in front of an
application that answers with the headers that its URL asks for."""

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from lampstand.site import Site
from lampstand.targets.aws.bundle import origin_rules
from lampstand.targets.aws.scope import Scope
from tests.aws_support import SITES
from tests.support import eventually, free_port

MODULES = "/usr/lib/apache2/modules"
SITE = {
    **SITES["full"],
    "cdn": {
        "rules": [
            {"match": "/shop/new*", "ttl": "5m"},
            {
                "match": ["/shop/*", "/list/*"],
                "ttl": "10m",
                "tags": ["catalogue", "hats"],
                "vary_headers": ["Accept-Language"],
            },
        ]
    },
}


class Application(BaseHTTPRequestHandler):
    """Answers with the headers in its query string."""

    def do_GET(self) -> None:
        self.send_response(200)
        for name, value in parse_qsl(urlsplit(self.path).query):
            self.send_header(name, value)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """Says nothing."""


@pytest.fixture(scope="module")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of an Apache with the rules, on a port of its own."""
    folder = tmp_path_factory.mktemp("apache")
    application = ThreadingHTTPServer(("127.0.0.1", 0), Application)
    threading.Thread(target=application.serve_forever, daemon=True).start()
    port = free_port()
    names = ("mpm_event", "authz_core", "headers", "setenvif", "proxy", "proxy_http", "unixd")
    loads = [
        f"LoadModule {n}_module {MODULES}/mod_{n}.so" for n in names if Path(f"{MODULES}/mod_{n}.so").exists()
    ]
    conf = folder / "apache.conf"
    conf.write_text(
        "\n".join(
            [
                f"ServerRoot {folder}", f"PidFile {folder}/pid", f"ErrorLog {folder}/error.log", "ServerName x",
                "Mutex pthread default", f"Listen 127.0.0.1:{port}", *loads,
                f"ProxyPass / http://127.0.0.1:{application.server_port}/",
                origin_rules(Scope(Site.model_validate(SITE))),
            ]
        )
    )  # fmt: skip
    server = subprocess.Popen(["/usr/sbin/apache2", "-f", str(conf), "-DFOREGROUND"])
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        try:
            eventually(lambda: httpx.get(f"http://127.0.0.1:{port}/").status_code == 200)
            yield client
        finally:
            server.terminate()
            server.wait(timeout=10)
            application.shutdown()
            application.server_close()


def answer(apache: httpx.Client, path: str, **headers: str) -> httpx.Headers:
    """The headers of the answer when the application answers with `headers` (`_` for `-`)."""
    found = apache.get(path, params={k.replace("_", "-"): v for k, v in headers.items()})
    assert found.status_code == 200
    return found.headers


def parts(headers: httpx.Headers, name: str) -> set[str]:
    return {p.strip() for p in headers.get(name, "").split(",") if p.strip()}


def test_a_cookie_is_never_for_the_next_visitor(apache: httpx.Client) -> None:
    assert (
        answer(apache, "/", Set_Cookie="s=1", Cache_Control="public, max-age=60")["cache-control"]
        == "private"
    )
    assert answer(apache, "/", Set_Cookie="s=1")["cache-control"] == "private"
    assert (
        answer(apache, "/shop/1", Set_Cookie="s=1", Cache_Control="max-age=60")["cache-control"] == "private"
    )
    assert answer(apache, "/", Set_Cookie="s=1", Cache_Control="no-store")["cache-control"] == "no-store"


def test_what_varies_beyond_the_key_is_not_shared(apache: httpx.Client) -> None:
    for vary in ("*", "User-Agent", "Origin", "Accept-Encoding, X-Mood"):
        assert answer(apache, "/", Vary=vary, Cache_Control="max-age=60")["cache-control"] == "private", vary
    for vary in ("Accept-Encoding", "accept-encoding,Cookie", "Accept-Language"):
        assert answer(apache, "/", Vary=vary, Cache_Control="max-age=60")["cache-control"] == "max-age=60", (
            vary
        )


def test_a_ttl_of_the_operator_counts_instead_of_the_answers_but_for_a_prohibition(
    apache: httpx.Client,
) -> None:
    assert parts(answer(apache, "/shop/1", Cache_Control="max-age=5, s-maxage=7"), "cache-control") == {
        "max-age=5",
        "s-maxage=600",
    }
    assert parts(answer(apache, "/list/1"), "cache-control") == {"s-maxage=600"}
    assert parts(answer(apache, "/shop/new1"), "cache-control") == {"s-maxage=300"}, (
        "the first rule that matches"
    )
    for said in ("no-store", "private, max-age=5", "no-cache"):
        assert "s-maxage" not in answer(apache, "/shop/1", Cache_Control=said)["cache-control"], said
    assert "cache-control" not in answer(apache, "/other")


def test_tags_are_in_the_one_header_that_cloudfront_reads(apache: httpx.Client) -> None:
    assert parts(answer(apache, "/", Surrogate_Key="a b  c"), "cache-tag") == {"a", "b", "c"}
    assert parts(answer(apache, "/", xkey="a b"), "cache-tag") == {"a", "b"}
    assert parts(answer(apache, "/", Cache_Tag="a,b"), "cache-tag") == {"a", "b"}
    assert parts(answer(apache, "/shop/1", Surrogate_Key="a"), "cache-tag") == {"a", "catalogue", "hats"}
    assert parts(answer(apache, "/shop/new1", Surrogate_Key="a"), "cache-tag") == {"a"}
    assert "cache-tag" not in answer(apache, "/")


@pytest.mark.parametrize("name", SITES)
def test_apache_reads_the_rules_of_every_site(name: str, tmp_path: Path) -> None:
    loads = [
        f"LoadModule {n}_module {MODULES}/mod_{n}.so"
        for n in ("mpm_event", "authz_core", "headers", "setenvif")
    ]
    conf = tmp_path / "apache.conf"
    rules = origin_rules(Scope(Site.model_validate(SITES[name])))
    head = [f"ServerRoot {tmp_path}", f"ErrorLog {tmp_path}/log", "ServerName x", "Listen 127.0.0.1:1"]
    conf.write_text("\n".join([*head, *loads, rules]))
    done = subprocess.run(
        ["/usr/sbin/apache2", "-t", "-f", str(conf)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, json.dumps(done.stderr)
