"""What nginx makes of an application's answers so that CloudFront may keep them: a real nginx in front of an
application that answers with the headers that its URL asks for."""

import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from lampstand.engines import BOOKWORM
from lampstand.site import Site
from lampstand.targets.aws.bundle import ANSWER, origin_rules
from lampstand.targets.aws.scope import Scope
from tests.aws_support import SITES
from tests.support import eventually, free_port

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


def configuration(folder: Path, name: str | None, port: int, application: int) -> Path:
    """An nginx.conf with the rules of a site."""
    rules = origin_rules(Scope(Site.model_validate(SITES[name] if name else SITE)))
    conf = folder / "nginx.conf"
    conf.write_text(
        f"""daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ }}
http {{
    access_log off;
    proxy_temp_path {folder}/p;
    client_body_temp_path {folder}/b;
    fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u;
    scgi_temp_path {folder}/s;
{rules}
    server {{
        listen 127.0.0.1:{port};
        {ANSWER}
        location / {{ proxy_pass http://127.0.0.1:{application}; }}
    }}
}}
"""
    )
    return conf


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of an nginx with the rules, on a port of its own."""
    folder = tmp_path_factory.mktemp("nginx")
    application = ThreadingHTTPServer(("127.0.0.1", 0), Application)
    threading.Thread(target=application.serve_forever, daemon=True).start()
    port = free_port()
    conf = configuration(folder, None, port, application.server_port)
    server = subprocess.Popen([BOOKWORM.nginx.path, "-p", str(folder), "-c", str(conf)])
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        try:
            eventually(lambda: httpx.get(f"http://127.0.0.1:{port}/").status_code == 200)
            yield client
        finally:
            server.terminate()
            server.wait(timeout=10)
            application.shutdown()
            application.server_close()


def answer(site: httpx.Client, path: str, **headers: str) -> httpx.Headers:
    """The headers of the answer when the application answers with `headers` (`_` for `-`)."""
    found = site.get(path, params={k.replace("_", "-"): v for k, v in headers.items()})
    assert found.status_code == 200
    return found.headers


def parts(headers: httpx.Headers, name: str) -> set[str]:
    return {p for p in re.split(r"[\s,]+", headers.get(name, "")) if p}


def test_a_cookie_is_never_for_the_next_visitor(site: httpx.Client) -> None:
    assert (
        answer(site, "/", Set_Cookie="s=1", Cache_Control="public, max-age=60")["cache-control"] == "private"
    )
    assert answer(site, "/", Set_Cookie="s=1")["cache-control"] == "private"
    assert answer(site, "/shop/1", Set_Cookie="s=1", Cache_Control="max-age=60")["cache-control"] == "private"
    assert answer(site, "/", Set_Cookie="s=1", Cache_Control="no-store")["cache-control"] == "no-store"


def test_what_varies_beyond_the_key_is_not_shared(site: httpx.Client) -> None:
    for vary in ("*", "User-Agent", "Origin", "Accept-Encoding, X-Mood"):
        assert answer(site, "/", Vary=vary, Cache_Control="max-age=60")["cache-control"] == "private", vary
    for vary in ("Accept-Encoding", "accept-encoding,Cookie", "Accept-Language"):
        assert answer(site, "/", Vary=vary, Cache_Control="max-age=60")["cache-control"] == "max-age=60", vary


def test_a_ttl_of_the_operator_counts_instead_of_the_answers_but_for_a_prohibition(
    site: httpx.Client,
) -> None:
    assert parts(answer(site, "/shop/1", Cache_Control="max-age=5, s-maxage=7"), "cache-control") == {
        "max-age=5",
        "s-maxage=600",
    }
    assert parts(answer(site, "/list/1"), "cache-control") == {"s-maxage=600"}
    assert parts(answer(site, "/shop/new1"), "cache-control") == {"s-maxage=300"}, (
        "the first rule that matches"
    )
    for said in ("no-store", "private, max-age=5", "no-cache"):
        assert "s-maxage" not in answer(site, "/shop/1", Cache_Control=said)["cache-control"], said
    assert "cache-control" not in answer(site, "/other")


def test_tags_are_in_the_one_header_that_cloudfront_reads(site: httpx.Client) -> None:
    assert parts(answer(site, "/", Surrogate_Key="a b  c"), "cache-tag") == {"a", "b", "c"}
    assert parts(answer(site, "/", xkey="a b"), "cache-tag") == {"a", "b"}
    assert parts(answer(site, "/", Cache_Tag="a,b"), "cache-tag") == {"a", "b"}
    assert parts(answer(site, "/shop/1", Surrogate_Key="a"), "cache-tag") == {"a", "catalogue", "hats"}
    assert parts(answer(site, "/shop/new1", Surrogate_Key="a"), "cache-tag") == {"a"}
    assert "cache-tag" not in answer(site, "/")


@pytest.mark.parametrize("name", SITES)
def test_nginx_reads_the_rules_of_every_site(name: str, tmp_path: Path) -> None:
    conf = configuration(tmp_path, name, 1, 2)
    done = subprocess.run(
        [BOOKWORM.nginx.path, "-t", "-p", str(tmp_path), "-c", str(conf)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
