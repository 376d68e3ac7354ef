"""A whole site on this machine, as a user meets it."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from lampstand.targets.local.folder import StateFolder
from tests.integration.local.site import WholeSite, kill, whole_site
from tests.support import eventually


@pytest.fixture(scope="module")
def site() -> Iterator[WholeSite]:
    with whole_site() as found:
        found.up()
        yield found


def get(site: WholeSite, path: str = "/", **more: object) -> httpx.Response:
    return httpx.get(site.url + path, timeout=10, **more)  # type: ignore[arg-type]


def write(site: WholeSite, text: str) -> None:
    def post() -> bool:
        return httpx.post(f"{site.url}/write", data={"text": text}, timeout=10).text == "written"

    eventually(post, 20)


def test_every_tier_runs_and_is_well(site: WholeSite) -> None:
    status = site.status()
    assert status["version"] == 1
    assert status["well"], status["sentence"]
    assert [i["name"] for i in status["instances"]] == [
        "edge-fra", "edge-iad", "balancer-1", "gateway-1", "web-1", "web-2", "database-1", "database-2", "database-3",
        "cache-1", "cache-2", "sessions-1", "sessions-2",
    ]  # fmt: skip
    roles = [i["role"] for i in status["instances"] if i["kind"] == "database"]
    assert sorted(roles) == ["primary", "replica", "replica"]


def test_a_request_goes_through_edge_balancer_and_web(site: WholeSite) -> None:
    answer = get(site)
    assert answer.text == f"hello from {site.status()['release']}"
    assert {get(site).headers["x-served-by"] for _ in range(12)} == {"web-1", "web-2"}
    assert answer.headers["x-cache"].endswith("edge-fra")
    style = get(site, "/style.css")
    assert (style.status_code, style.headers["content-type"]) == (200, "text/css")
    assert "x-served-by" not in style.headers
    eventually(lambda: "hit" in get(site, "/style.css").headers["x-cache"])


def test_sessions_are_shared_by_all_web_servers(site: WholeSite) -> None:
    with httpx.Client(base_url=site.url) as client:
        numbers = [client.get("/session") for _ in range(6)]
    assert [r.text for r in numbers] == ["1", "2", "3", "4", "5", "6"]
    assert {r.headers["x-served-by"] for r in numbers} == {"web-1", "web-2"}


def test_private_files_are_not_served(site: WholeSite) -> None:
    for path in (
        "/lampstand.yaml",
        "/.git/config",
        "/index.php~",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
    ):
        assert "site:" not in get(site, path).text


def test_a_running_site_needs_nothing(site: WholeSite) -> None:
    assert site.plan() == "nothing to do\n"
    before = site.pids()
    site.up()
    assert site.pids() == before


def test_json_documents_and_tables(site: WholeSite) -> None:
    assert json.loads(site.call("plan", "--json").stdout) == {"version": 1, "target": "local", "waves": []}
    text = site.call("status").stdout
    assert "database-1" in text
    assert site.status()["urls"]["site"] in text
    assert "web-1" in site.call("logs", "web", "-n", "1").stdout
    config = site.call("config").stdout
    assert "site: shop" in config
    assert json.loads(site.call("config", "--json").stdout)["site"]["database"]["replicas"] == 2
    assert site.call("completion", "bash").stdout


def test_no_password_is_shown(site: WholeSite) -> None:
    secrets = json.loads((site.state / "secrets.json").read_text())
    assert (site.state / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert StateFolder.at(site.state).socket.stat().st_mode & 0o777 == 0o600
    shown = "".join(
        site.call(*verb).stdout + site.call(*verb).stderr
        for verb in (
            ("config",),
            ("config", "--json"),
            ("status", "-v"),
            ("plan", "-v"),
            ("logs", "-n", "1000"),
            ("events",),
        )
    )
    for name, value in secrets.items():
        assert value not in shown, f"{name} is shown"
    commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    for name, value in secrets.items():
        assert value not in commands, f"{name} is on a command line"


def test_shells(site: WholeSite) -> None:
    assert site.call("exec", "web-1", "sh", "-c", "echo $LAMPSTAND_SERVER").stdout == "web-1\n"
    assert "1" in site.call("db", "-e", "SELECT 1").stdout
    assert site.call("db", "--replica", "-N", "-e", "SELECT @@read_only").stdout == "1\n"
    assert site.call("redis", "PING").stdout == "PONG\n"
    assert site.call("redis", "--sessions", "PING").stdout == "PONG\n"


def test_usage_errors_say_what_there_is(site: WholeSite) -> None:
    wrong = site.call("logs", "web-9", code=2).stderr
    assert "web-9" in wrong
    assert "web-1" in wrong
    assert "choose one of" in site.call("status", "-t", "moon", code=2).stderr
    assert "Traceback" not in wrong


def test_doctor_warns_of_an_application_that_writes_into_its_own_release(site: WholeSite) -> None:
    status = site.status()
    page = Path(status["state_folder"]) / "releases" / status["release"] / "cache" / "page.html"
    assert "into its own release" not in site.call("doctor").stdout
    page.parent.mkdir()
    page.write_text("kept")
    try:
        told = site.call("doctor").stdout
    finally:
        shutil.rmtree(page.parent)
    assert "writes into its own release (cache/page.html)" in told
    assert "uploads: [cache]" in told


def test_a_dead_web_server_costs_no_request_and_comes_back(site: WholeSite) -> None:
    before = site.pids("web-1")["web-1"]
    url = site.url
    with ThreadPoolExecutor(4) as pool:
        kill(before[::-1])  # Apache first: without its php-fpm it would answer 503 for a moment
        codes = set(pool.map(lambda _: httpx.get(url, timeout=10).status_code, range(100)))
    assert codes == {200}
    site.wait_well()
    assert set(site.pids("web-1")["web-1"]).isdisjoint(before)


def test_the_controller_killed_stops_nothing_and_up_adopts_everything(site: WholeSite) -> None:
    before = site.pids()
    kill([site.status()["controller"]["pid"]])
    eventually(lambda: not site.status()["controller"]["running"])
    assert get(site).status_code == 200
    assert "controller does not run" in site.status()["sentence"]
    site.up()
    assert site.pids() == before
    site.wait_well()


def test_power_cut_loses_no_acknowledged_row(site: WholeSite) -> None:
    for n in range(20):
        write(site, f"row {n} {Path(site.folder).name}")
    count = int(get(site, "/count").text)
    kill([site.status()["controller"]["pid"]])
    kill([pid for pids in site.pids().values() for pid in pids])
    eventually(lambda: all(i["state"] == "stopped" for i in site.status()["instances"]))
    site.up()
    site.wait_well()
    assert int(get(site, "/count").text) == count


def test_a_changed_option_restarts_only_what_it_touches(site: WholeSite) -> None:
    before = site.pids()
    text = (site.project / "lampstand.yaml").read_text()
    site.write("lampstand.yaml", text.replace("processes: 2", "processes: 3"))
    plan = site.plan()
    assert {line.split()[1] for line in plan.splitlines()} <= {"web-1", "web-2"}
    assert plan != "nothing to do\n"
    site.up()
    after = site.pids()
    for name in before:
        if not name.startswith("web-"):
            assert after[name] == before[name], name
    assert site.plan() == "nothing to do\n"


def test_an_edit_of_the_application_is_a_new_release_without_a_failed_request(site: WholeSite) -> None:
    old, url = site.status()["release"], site.url
    site.write("index.php", (site.project / "index.php").read_text() + "\n// edited\n")
    roll = site.start("up", "-y")
    codes: list[int] = []
    while roll.poll() is None:
        codes.append(httpx.get(url, timeout=10).status_code)
    assert roll.returncode == 0, roll.communicate()[0]
    assert set(codes) == {200}
    new = site.status()["release"]
    assert new != old
    assert get(site).text == f"hello from {new}"


def test_scale_up_and_down(site: WholeSite) -> None:
    site.call("scale", "-y", "-q", "web=3", "database.replicas=1", "edge+=tokyo")
    names = [i["name"] for i in site.wait_well()["instances"]]
    assert {"web-3", "edge-tokyo"} < set(names)
    assert "database-3" not in names
    eventually(lambda: {get(site).headers["x-served-by"] for _ in range(20)} == {"web-1", "web-2", "web-3"})
    site.call("scale", "-y", "-q", "web=2", "database.replicas=2", "edge-=tokyo", "edge+=fra")
    names = [i["name"] for i in site.wait_well()["instances"]]
    assert "web-3" not in names
    assert "database-3" in names
