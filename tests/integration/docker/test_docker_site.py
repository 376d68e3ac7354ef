"""The verbs on a real engine, and what the containers may not do."""

import json
import re
import uuid
from pathlib import Path

import pytest

from tests.integration.docker.conftest import DockerSite
from tests.support import eventually

pytestmark = pytest.mark.timeout(600)  # the first test also waits for the images


def test_visitors_get_the_page_and_nothing_is_left_to_do(site: DockerSite) -> None:
    answer = site.get()
    assert answer.status_code == 200
    assert "guestbook" in answer.text.lower()
    assert json.loads(site.lampstand("plan", "--json"))["waves"] == []


def test_status_names_roles_addresses_and_urls(site: DockerSite) -> None:
    document = site.status()
    assert document["target"] == "docker"
    assert document["well"] is True
    roles = [i["role"] for i in document["instances"] if i["kind"] == "database"]
    assert sorted(roles) == ["primary", "replica", "replica"]
    assert set(document["urls"]) == {"site", "edge-fra"}


def test_logs_exec_db_and_redis(site: DockerSite) -> None:
    site.get("/?logged")
    assert eventually(lambda: "/?logged" in site.lampstand("logs", "--lines", "50", "balancer"))
    assert (
        site.lampstand("exec", "web-1", "sh", "-c", "echo $LAMPSTAND_SERVER $DB_PORT").strip() == "web-1 3306"
    )
    assert site.lampstand("exec", "web-1", "pwd").startswith("/srv/lampstand/releases/")
    assert site.lampstand("db", "--", "-N", "-e", "SELECT @@read_only").strip() == "0"
    assert site.lampstand("db", "--replica", "--", "-N", "-e", "SELECT @@read_only").strip() == "1"
    assert site.lampstand("redis", "PING").strip() == "PONG"
    assert site.lampstand("redis", "--sessions", "PING").strip() == "PONG"


def test_static_files_and_uploads_are_the_balancer_s(site: DockerSite) -> None:
    page = site.get().text
    asset = re.search(r'/assets/[^"]+\.css', page)
    assert asset
    assert site.get(asset[0]).status_code == 200
    assert (
        site.inside(
            "web-1", "sh", "-c", "echo seen > /srv/lampstand/uploads/public/uploads/seen.txt"
        ).returncode
        == 0
    )
    assert site.get("/uploads/seen.txt").text == "seen\n"


def test_no_process_runs_as_root_or_writes_its_root(site: DockerSite) -> None:
    for instance in site.status()["instances"]:
        name = instance["name"]
        assert site.inside(name, "id", "-u").stdout.strip() != "0", name
        assert site.inside(name, "touch", "/usr/here").returncode != 0, name
        assert site.inside(name, "touch", f"/etc/lampstand/{name}/here").returncode != 0, name
        capabilities = site.inside(name, "sh", "-c", "grep CapEff /proc/1/status").stdout
        assert int(capabilities.split()[1], 16) == 0, name


def test_passwords_are_in_no_image_and_no_container_s_description(site: DockerSite) -> None:
    password = site.lampstand("exec", "web-1", "printenv", "DB_PASSWORD").strip()
    assert len(password) > 20
    for instance in site.status()["instances"]:
        assert password not in site.docker("inspect", f"{site.name}-{instance['name']}")
    image = site.inspect("web-1", "{{.Config.Image}}")
    assert password not in site.docker("history", "--no-trunc", image)
    assert password not in site.docker("inspect", image)


def test_the_data_are_reached_through_the_gateway_only(site: DockerSite) -> None:
    address = site.inspect(
        "database-1", '{{(index .NetworkSettings.Networks "' + site.name + '_data").IPAddress}}'
    )
    program = f"echo @fsockopen('{address}', 3306, $e, $s, 2) ? 'open' : 'closed';"
    assert site.inside("web-1", "php", "-r", program).stdout == "closed"
    assert site.docker("network", "inspect", "-f", "{{.Internal}}", f"{site.name}_data").strip() == "true"


def test_the_controller_may_look_kill_and_start_and_nothing_else(site: DockerSite) -> None:
    program = (
        "import sys; from lampstand.targets.local.client import UnixConnection as U\n"
        "c = U('/run/engine/engine.sock', 5.0); c.request(sys.argv[1], sys.argv[2]); print(c.getresponse().status)"
    )

    def asked(method: str, path: str) -> int:
        done = site.inside("controller", "/opt/lampstand/venv/bin/python", "-c", program, method, path)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert asked("GET", "/containers") == 200
    assert asked("GET", f"/containers/{site.name}-web-1/json") == 200
    assert asked("POST", f"/containers/{site.name}-web-1/start") == 304
    for method, path in (
        ("POST", "/containers/create"),
        ("POST", f"/containers/{site.name}-web-1/exec"),
        ("GET", f"/containers/{site.name}-web-1/archive?path=/etc"),
        ("DELETE", f"/containers/{site.name}-web-1"),
        ("POST", f"/containers/{site.name}-controller/kill"),
        ("GET", "/images/json"),
        ("GET", "/v1.41/info"),
        ("POST", "/containers"),
    ):
        assert asked(method, path) == 403, path
    assert site.inside("controller", "ls", "/var/run/docker.sock").returncode != 0


def test_a_configuration_that_is_read_again_needs_no_new_container(site: DockerSite) -> None:
    before = site.inspect("web-1", "{{.Id}} {{.State.StartedAt}}")
    site.write({"app:\n  runtime: php": "app:\n  php_ini: {memory_limit: 200M}\n  runtime: php"})
    waves = json.loads(site.lampstand("plan", "--json"))["waves"]
    found = {(a["verb"], a["instance"]) for wave in waves for a in wave}
    assert ("reload", "web-1") in found
    assert len(waves) >= 2, "one web server after the other"
    site.lampstand("up")
    assert site.inspect("web-1", "{{.Id}} {{.State.StartedAt}}") == before
    assert json.loads(site.lampstand("plan", "--json"))["waves"] == []


def test_a_configuration_that_the_engine_refuses_changes_nothing(site: DockerSite) -> None:
    before = {n: site.inspect(n, "{{.Id}}") for n in ("database-1", "database-2", "database-3")}
    whole = (site.project / "lampstand.yaml").read_text()
    (site.project / "lampstand.yaml").write_text(whole + "\ndatabase: {settings: {no_such_variable: '1'}}\n")
    try:
        refused = site.tried("up")
        assert refused.returncode != 0
        assert "no_such_variable" in refused.stderr
    finally:
        (site.project / "lampstand.yaml").write_text(whole)
    assert {n: site.inspect(n, "{{.Id}}") for n in before} == before
    site.lampstand("up")
    assert site.status()["well"]


def test_scaling_concerns_nobody_else(site: DockerSite) -> None:
    before = {i["name"]: site.inspect(i["name"], "{{.Id}}") for i in site.status()["instances"]}
    site.lampstand("scale", "web=3")
    after = {i["name"]: site.inspect(i["name"], "{{.Id}}") for i in site.status()["instances"]}
    assert after.keys() - before.keys() == {"web-3"}
    assert {n for n in before if before[n] != after[n]} == set()
    routes = site.inside("balancer-1", "cat", "/etc/lampstand/balancer-1/live/routes.conf").stdout
    assert "# web-3" in routes
    site.lampstand("scale", "web=2")
    assert "web-3" not in {i["name"] for i in site.status()["instances"]}
    assert site.get().status_code == 200


def test_a_release_is_rolled_out_and_back_without_a_failed_request(site: DockerSite) -> None:
    first = site.status()["release"]
    page = site.project / "templates/home.php"
    page.write_text(page.read_text() + "<!-- the second release -->\n")
    old = site.project / "public/assets/old.css"
    old.write_text("/* of the second release */\n")
    receipt = json.loads(site.lampstand("deploy", "--dirty", "--json"))
    assert (receipt["outcome"], receipt["previous"]) == ("done", first)
    assert receipt["failed_requests"] == 0
    assert receipt["requests"] > 20
    assert "the second release" in site.get("/?second").text
    assert receipt["visitors"]["new"]["requests"] == 0, "nobody but the deploy itself asked"
    assert "second" in site.get("/assets/old.css").text
    listed = json.loads(site.lampstand("releases", "--json"))["releases"]
    assert [(r["release"], r["state"]) for r in listed] == [(receipt["release"], "serves"), (first, "good")]
    back = json.loads(site.lampstand("rollback", "--json"))
    assert (back["outcome"], back["serves"]) == ("done", first)
    assert back["failed_requests"] == 0
    assert "the second release" not in site.get("/?first").text
    assert "second" in site.get("/assets/old.css?kept").text, (
        "a page of the second release finds its style sheet"
    )
    assert site.get("/assets/new.css").status_code == 404
    old.unlink()
    page.write_text(page.read_text().replace("<!-- the second release -->\n", ""))


def test_a_canary_gets_its_share_and_then_everybody(site: DockerSite) -> None:
    page = site.project / "templates/home.php"
    whole = page.read_text()
    page.write_text(whole + "<!-- the canary -->\n")
    receipt = json.loads(
        site.lampstand("deploy", "--dirty", "--canary", "30%", "--canary-time", "4s", "--json")
    )
    page.write_text(whole)
    assert receipt["outcome"] == "done"
    assert receipt["failed_requests"] == 0
    told = [moment["what"] for moment in receipt["timeline"]]
    assert any(what.startswith("Canary: 30%") for what in told)
    assert "promoted" in told
    assert "the canary" in site.get("/?everybody").text
    assert (
        "canary" not in site.inside("balancer-1", "cat", "/etc/lampstand/balancer-1/live/routes.conf").stdout
    )


def test_a_canary_that_fails_is_taken_back(site: DockerSite) -> None:
    first = site.status()["release"]
    page = site.project / "public/index.php"
    good = page.read_text()
    # Well for whoever asks for its health, and wrong for everybody else.
    broken = "if ($_SERVER['REQUEST_URI'] === '/') { http_response_code(500); exit; }"
    page.write_text(good.replace("$root = dirname(__DIR__);", f"$root = dirname(__DIR__);\n{broken}"))
    try:
        done = site.tried("deploy", "--dirty", "--canary", "50%", "--canary-time", "60s")
    finally:
        page.write_text(good)
    assert done.returncode != 0
    assert "serves" in done.stderr
    assert site.status()["release"] == first
    assert site.get("/").status_code == 200
    assert (
        "canary" not in site.inside("balancer-1", "cat", "/etc/lampstand/balancer-1/live/routes.conf").stdout
    )


def test_a_release_that_does_not_start_is_taken_back(site: DockerSite) -> None:
    first = site.status()["release"]
    page = site.project / "public/index.php"
    good = page.read_text()
    page.write_text("<?php http_response_code(500); exit;\n")
    try:
        done = site.tried("deploy", "--dirty")
    finally:
        page.write_text(good)
    assert done.returncode != 0
    assert "serves" in done.stderr
    assert site.get("/?still").status_code == 200
    assert site.status()["release"] == first
    eventually(lambda: site.status()["well"], 60, 0.5)


def test_two_sites_run_side_by_side(site: DockerSite, tmp_path: Path) -> None:
    small = DockerSite(f"test-{uuid.uuid4().hex[:8]}", tmp_path / "app", site.state)
    small.project.mkdir()
    (small.project / "index.php").write_text("<?php echo 'the other site';\n")
    alone = "database: {replicas: 0}\ncache: {replicas: 0}\nsessions: {replicas: 0}\nweb: {servers: 1}\n"
    (small.project / "lampstand.yaml").write_text(f"site: {small.name}\n{alone}cdn: {{edges: []}}\n")
    try:
        small.lampstand("up")
        assert small.get().text == "the other site"
        assert "guestbook" in site.get("/?beside").text.lower()
        assert small.url != site.url
        # Neither reaches the other's servers.
        (_, zone), *_ = json.loads(site.inspect("web-1", "{{json .NetworkSettings.Networks}}")).items()
        peer = f"PeerAddr => '{zone['IPAddress']}:8080', Timeout => 2"
        reach = f"use IO::Socket::INET; IO::Socket::INET->new({peer}) or exit 7"
        assert small.inside("web-1", "perl", "-e", reach).returncode == 7
    finally:
        small.lampstand("down", "--delete-data")
        for tag in small.docker("images", "-q", f"lampstand/{small.name}-web").split():
            small.docker("rmi", "--force", tag)
