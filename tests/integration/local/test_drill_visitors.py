"""A whole site and its edges: drills judged by what legitimate visitors see, deploys, figures, logs."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from lampstand.targets.local.folder import StateFolder
from tests.integration.local.site import WholeSite, whole_site
from tests.support import eventually

LIMITED = """balancer:
  rate_limit: {per_client: 50/s, burst: 50, connections: 200, exempt: [127.0.0.1]}
"""


@pytest.fixture(scope="module")
def site() -> Iterator[WholeSite]:
    with whole_site("visitors", LIMITED) as started:
        page = "<?php header('Cache-Control: public, max-age=1'); echo '<link href=/style.css>', microtime(true);"
        started.write("index.php", page + " if (strpos($_SERVER['REQUEST_URI'], 'flood')) { usleep(20000); }")
        started.write(
            "lampstand.yaml", started.project.joinpath("lampstand.yaml").read_text().replace("/healthz", "/")
        )
        started.call("up", "-y")
        yield started


def drill(site: WholeSite, name: str) -> dict[str, Any]:
    done = site.call("drill", name, "--json", code=None, timeout=120)
    verdict: dict[str, Any] = json.loads(done.stdout)
    print(name, json.dumps(verdict["visitors"]), verdict["breaches"])
    assert done.returncode == (0 if verdict["passed"] else 4), done.stderr
    return verdict


def test_with_the_whole_origin_down_no_visitor_sees_an_error(site: WholeSite) -> None:
    verdict = drill(site, "origin-down")
    assert verdict["passed"], verdict
    assert verdict["visitors"]["during"]["requests"] > 200
    assert verdict["visitors"]["during"]["failed"] == 0


def test_a_flood_is_refused_and_visitors_are_served(site: WholeSite) -> None:
    verdict = drill(site, "flood")
    assert verdict["visitors"]["attack"]["429"] > verdict["visitors"]["attack"]["200"]
    assert verdict["visitors"]["during"]["failed"] == 0
    assert verdict["passed"], verdict


def test_slow_connections_hold_nobody_up(site: WholeSite) -> None:
    verdict = drill(site, "slowloris")
    assert verdict["visitors"]["attack"]["opened"] >= 300
    assert verdict["visitors"]["attack"]["ended by the site"] >= 100
    assert verdict["visitors"]["during"]["failed"] == 0
    assert verdict["passed"], verdict


# --- deploys, figures, logs ---------------------------------------------------------------------------------------


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_a_deploy_makes_old_what_the_edges_keep(site: WholeSite) -> None:
    """A style sheet whose name says nothing of its content is fresh for five minutes."""
    url = f"{site.url.rstrip('/')}/style.css"
    assert [get(url) for _ in range(2)] == ["body { color: red }"] * 2
    site.write("style.css", "body { color: blue }")
    site.call("deploy", "-y", "--dirty")
    eventually(lambda: get(url) == "body { color: blue }", 5)


def test_figures_and_logs_of_the_edges(site: WholeSite) -> None:
    for _ in range(5):
        get(f"{site.url.rstrip('/')}/style.css")
    site.call("purge", "--tag", "nothing")
    rows = json.loads(site.call("cdn", "status", "--json").stdout)["edges"]
    assert [r["edge"] for r in rows] == ["edge-fra", "edge-iad"]
    assert sum(r["hits"] for r in rows) >= 4
    assert all(r["purges"] >= 1 and 0 < r["purge_p99_ms"] < 1000 for r in rows)
    assert "purge p99" in site.call("cdn", "status").stdout
    metrics = exposition(site)
    for name in ("hit_ratio", "saved_bytes", "fetches_total", "stale_total", "purge_p99_seconds"):
        assert f'lampstand_edge_{name}{{instance="edge-fra"}}' in metrics
    lines = [json.loads(line.partition("{")[1] + line.partition("{")[2]) for line in edge_log(site)]
    assert {"/style.css"} <= {line["uri"] for line in lines}


def exposition(site: WholeSite) -> str:
    """What Prometheus reads from the controller."""
    folder = StateFolder.at(site.state)
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(folder.socket))) as client:
        return client.get("http://controller/metrics").text


def edge_log(site: WholeSite) -> list[str]:
    """Lines of the access logs in `lampstand logs`."""
    text = site.call("logs", "edge", "-n", "200").stdout
    return [line for line in text.splitlines() if '"request_id"' in line]
