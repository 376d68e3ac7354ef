"""Certificates by ACME: certbot asks Debian's test authority pebble, nginx answers the challenge."""

import json
import os
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lampstand.site import Site
from tests.edge_support import Answer, Origin, edges
from tests.support import eventually, free_port


class Authority:
    """pebble, and the name server that sends it to the loopback for every name."""

    def __init__(self, root: Path) -> None:
        self.directory_port, self.http_port = free_port(), free_port()
        self.certificate, key = root / "pebble.pem", root / "pebble.key"
        request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        names = ["-addext", "subjectAltName=DNS:localhost"]
        argv = ["openssl", *request.split(), *names, "-keyout", key, "-out", self.certificate]
        subprocess.run(argv, check=True, capture_output=True)
        self.certificate.chmod(0o644)
        name_server = f"127.0.0.1:{free_port()}"
        settings = {
            "listenAddress": f"127.0.0.1:{self.directory_port}",
            "managementListenAddress": f"127.0.0.1:{free_port()}",
            "certificate": str(self.certificate),
            "privateKey": str(key),
            "httpPort": self.http_port,
            "tlsPort": free_port(),
        }
        config = root / "pebble.json"
        config.write_text(json.dumps({"pebble": settings}))
        nothing = [
            "-http01=",
            "-https01=",
            "-tlsalpn01=",
            "-defaultIPv6=",
            f"-management=127.0.0.1:{free_port()}",
        ]
        commands = [
            ["pebble-challtestsrv", *nothing, f"-dns01={name_server}"],
            ["pebble", "-config", str(config), "-dnsserver", name_server],
        ]
        env = os.environ | {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
        self._processes = [
            subprocess.Popen(c, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for c in commands
        ]
        eventually(lambda: socket.create_connection(("127.0.0.1", self.directory_port)).close() is None)

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(10)


@pytest.fixture
def authority() -> Iterator[Authority]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        started = Authority(Path(folder))
        yield started
        started.stop()


def issuer(port: int) -> str:
    """Who has signed the certificate that is given now."""
    pem = ssl.get_server_certificate(("127.0.0.1", port))
    return subprocess.run(
        ["openssl", "x509", "-noout", "-issuer", "-ext", "subjectAltName"],
        input=pem,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_a_certificate_comes_and_is_used_without_a_restart(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.certificate))
    tls = {
        "mode": "acme",
        "domains": ["shop.test", "www.shop.test"],
        "email": "admin@shop.test",
        "acme_directory": f"https://localhost:{authority.directory_port}/dir",
    }
    site = Site.model_validate({"site": "acme", "tls": tls, "cdn": {"edges": ["fra"]}})
    origin = Origin()
    try:
        fixed = {("visitors-1", "http"): authority.http_port}
        with edges(site, [origin], ports=fixed) as running:
            entry = running["visitors-1"]
            port = entry.instance.endpoint("https").port
            master = entry.process.pid
            eventually(lambda: "Pebble" in issuer(port), 60)
            assert "DNS:shop.test, DNS:www.shop.test" in issuer(port)
            assert (entry.process.poll(), entry.process.pid) == (None, master)
            page = entry.page(Answer())
            assert entry.ask(page).status == 308
            assert entry.ask("/.well-known/acme-challenge/none").status == 404
            assert origin.count("/.well-known/acme-challenge/none") == 0
    finally:
        origin.stop()
