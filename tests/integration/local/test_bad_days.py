"""What goes wrong on a user's machine, and what Lampstand says and does about it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.local.site import LAMPSTAND, WholeSite, whole_site
from tests.support import eventually

REPLACED = (
    (
        "database: {memory: 64MB}",
        "database: {memory: 64MB, replicas: 0}\ncache: {replicas: 0}\nsessions: {replicas: 0}",
    ),
    ("edges: [fra, iad]", "edges: [fra]"),
    ("web: {processes: 2, drain_seconds: 5s}", "web: {servers: 1, processes: 2, drain_seconds: 5s}"),
)


def shrink(site: WholeSite) -> WholeSite:
    """One server of each kind: enough to see what is said."""
    text = (site.project / "lampstand.yaml").read_text()
    for old, new in REPLACED:
        assert old in text
        text = text.replace(old, new)
    site.write("lampstand.yaml", text)
    return site


@pytest.fixture
def site() -> Iterator[WholeSite]:
    with whole_site() as found:
        yield shrink(found)


def add(site: WholeSite, text: str) -> None:
    path = site.project / "lampstand.yaml"
    path.write_text(f"{path.read_text()}{text}\n")


def nothing_runs(site: WholeSite) -> bool:
    return all(i["state"] in ("missing", "stopped") for i in site.status()["instances"])


def test_a_wrong_site_file_changes_nothing(site: WholeSite) -> None:
    add(site, "databse: {replicas: 1}\nweb_: 3")
    said = site.call("up", "-y", code=3).stderr
    assert "lampstand.yaml:" in said
    assert "did you mean `database`?" in said
    assert not (site.folder / "state").exists()
    as_json = json.loads(site.call("status", "--json", code=3).stderr)
    assert as_json["exit_code"] == 3


def test_a_site_file_that_is_no_yaml(site: WholeSite) -> None:
    site.write("lampstand.yaml", "site: [shop\napp: }")
    assert "lampstand.yaml:" in site.call("plan", code=3).stderr


def test_no_site_file_and_no_folder(tmp_path: Path) -> None:
    empty = subprocess.run(
        [*LAMPSTAND, "-C", str(tmp_path), "up", "-y"], capture_output=True, text=True, check=False
    )
    assert empty.returncode == 3
    assert "lampstand init" in empty.stderr
    gone = subprocess.run(
        [*LAMPSTAND, "-C", str(tmp_path / "x"), "up"], capture_output=True, text=True, check=False
    )
    assert gone.returncode == 2


def test_init_writes_a_file_that_comes_up(site: WholeSite) -> None:
    (site.project / "lampstand.yaml").unlink()
    site.call("init")
    assert "site: project" in site.call("config").stdout
    assert "there is a site file already" in site.call("init", code=2).stderr


def test_nobody_to_ask_is_not_a_yes(site: WholeSite) -> None:
    said = site.call("up", code=2).stderr
    assert "-y" in said
    assert nothing_runs(site)


def test_a_fixed_port_that_is_in_use(site: WholeSite) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        add(site, f"targets: {{local: {{ports: {{edge-fra: {taken.getsockname()[1]}}}}}}}")
        said = site.call("up", "-y", code=1).stderr
    assert "in use" in said
    assert "edge-fra" in said
    assert nothing_runs(site)
    site.up()  # free again
    assert site.url.endswith(f":{taken_port(site)}")


def taken_port(site: WholeSite) -> int:
    text = (site.project / "lampstand.yaml").read_text()
    return int(text.rpartition("edge-fra: ")[2].split("}")[0])


def test_a_chosen_port_that_a_stranger_took_meanwhile(site: WholeSite) -> None:
    site.up()
    port = int(site.url.rpartition(":")[2])
    site.call("down", "-q")
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        site.up()
        assert int(site.url.rpartition(":")[2]) != port
        assert httpx.get(site.url, timeout=10).status_code == 200


def test_more_memory_than_there_is(site: WholeSite) -> None:
    add(site, "storage: {}")
    text = (site.project / "lampstand.yaml").read_text()
    site.write("lampstand.yaml", text.replace("memory: 64MB,", "memory: 900GB,"))
    said = site.call("up", "-y", code=1).stderr
    assert "of memory" in said
    assert "database.memory" in said


def test_an_application_that_answers_500_is_said_to(site: WholeSite) -> None:
    site.write("broken", "")
    text = (site.project / "lampstand.yaml").read_text()
    site.write(
        "lampstand.yaml",
        text.replace("app: {health: /healthz}", "app: {health: /healthz, start_timeout: 3s}"),
    )
    said = site.call("up", "-y", code=None).stderr
    assert "web-1" in said or "500" in said
    status = site.status()
    (web,) = [i for i in status["instances"] if i["name"] == "web-1"]
    assert "answers 500: broken on purpose" in web["text"]
    (site.project / "broken").unlink()
    site.up()
    assert site.status()["well"]


def test_an_application_without_a_health_path(site: WholeSite) -> None:
    text = (site.project / "lampstand.yaml").read_text()
    site.write("lampstand.yaml", text.replace("app: {health: /healthz}\n", ""))
    assert "health" in site.call("doctor", code=None).stdout
    assert site.up()["well"]


def test_huge_headers_harm_nobody_else(site: WholeSite) -> None:
    site.up()
    try:
        asked = httpx.get(site.url, headers={"X-Huge": "a" * 100_000}, timeout=10).status_code
    except httpx.TransportError:
        asked = 400  # closed while the rest of the header was still on its way
    assert 400 <= asked < 500
    assert httpx.get(f"{site.url}/huge", timeout=10).status_code >= 500
    assert httpx.get(site.url, timeout=10).status_code == 200
    assert site.status()["well"]


def test_two_at_the_same_time(site: WholeSite) -> None:
    first = site.start("up", "-y")
    eventually(lambda: (site.folder / "state").exists() and list(site.state.glob("lock")) and holder(site))
    second = site.call("down", code=None)
    if second.returncode:  # it waits a little for the first
        assert second.returncode == 6
        assert "lampstand up" in second.stderr
    assert first.wait(120) == 0 or second.returncode == 0
    first.communicate()


def holder(site: WholeSite) -> str:
    return (site.state / "lock").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("after", [0.3, 0.8, 1.6])
def test_up_that_is_broken_off_is_finished_by_the_next(site: WholeSite, number: int, after: float) -> None:
    first = site.start("up", "-y")
    time.sleep(after)  # what is tested is that the moment does not matter
    first.send_signal(number)
    first.communicate(timeout=60)
    assert first.returncode in (130, -number, 0)
    status = site.up()
    assert status["well"]
    known = {pid for i in status["instances"] for p in i["processes"] for pid in [p["pid"]]}
    running = [
        int(line.split()[0])
        for line in subprocess.run(
            ["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        if str(site.state) in line
        and any(e in line for e in ("mariadbd ", "redis-server ", "varnishd ", "apache2 "))
    ]
    parents = {
        p: int(Path(f"/proc/{p}/stat").read_text().rpartition(")")[2].split()[1]) for p in running if alive(p)
    }
    assert all(p in known or parents[p] in known for p in parents), "a process that nobody knows"


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").exists()


def test_a_state_folder_that_cannot_be_written(site: WholeSite) -> None:
    site.env["XDG_STATE_HOME"] = "/proc/nowhere"
    said = site.call("up", "-y", code=1).stderr
    assert "state folder" in said
    assert "XDG_STATE_HOME" in said


def test_a_full_disk_is_said_and_mended(site: WholeSite) -> None:
    if os.geteuid() != 0:
        return  # only root can mount a small disk; the same code runs either way
    state = site.folder / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=0711", "small", str(state)], check=True)
    try:
        said = site.call("up", "-y", code=None)
        assert said.returncode in (1, 5)
        assert "space" in said.stderr
        assert "Traceback" not in said.stderr
        subprocess.run(["mount", "-o", "remount,size=900m", str(state)], check=True)
        assert site.up()["well"]
        site.call("down", "-y", "-q", "--delete-data")
    finally:
        site.call("down", "-q", code=None)
        subprocess.run(["umount", "-l", str(state)], check=False)


def test_names_with_anything_in_them() -> None:
    with whole_site() as found:
        odd = found.folder / 'it\'s a "shop" ünï $(touch x) & co'
        shutil.move(found.project, odd)
        found.project = odd
        shrink(found)
        add(found, "x-note: 'quotes \" and $dollars'")
        found.write("a file's (name) $HOME.css", "x")
        assert found.up()["well"]
        assert httpx.get(found.url, timeout=10).status_code == 200
        assert httpx.get(f"{found.url}/a%20file's%20(name)%20$HOME.css", timeout=10).text == "x"
        assert not (odd / "x").exists()


def test_two_sites_side_by_side() -> None:
    with whole_site() as one, whole_site() as two:
        shrink(one)
        shrink(two)
        first, second = one.start("up", "-y"), two.start("up", "-y")
        assert (first.wait(120), second.wait(120)) == (0, 0), first.communicate()[0] + second.communicate()[0]
        ports = [set(), set()]
        for n, site in enumerate((one, two)):
            ports[n] = {a for i in site.status()["instances"] for a in i["endpoints"].values()}
        assert not ports[0] & ports[1]
        one.call("down", "-q")
        assert httpx.get(two.url, timeout=10).status_code == 200


def test_down_names_what_it_deletes_and_deletes_nothing_without_a_yes(site: WholeSite) -> None:
    site.up()
    said = site.call("down", "--delete-data", code=2).stderr
    assert "database-1/data" in said
    assert site.status()["well"]
    site.call("down", "-q")
    assert list(site.state.glob("instances/database-1/data/*"))
    add(site, "protected: true")
    assert "--yes-really" in site.call("down", "-y", "--delete-data", code=2).stderr
    site.call("down", "-y", "--delete-data", "--yes-really")
    assert not list((site.folder / "state/lampstand").iterdir())
