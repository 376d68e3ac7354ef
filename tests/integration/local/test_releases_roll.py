"""A release rolls out and back while visitors read and write; nobody notices."""

import http.client
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.local.releases import Visitors, executed, get, marks, receipt, release, released_site
from tests.integration.local.site import WholeSite
from tests.support import eventually


@pytest.fixture(scope="module")
def site() -> Iterator[WholeSite]:
    with released_site() as found:
        yield found


def test_deploys_and_a_rollback_fail_no_request_and_run_none_twice(site: WholeSite) -> None:
    with Visitors(site.url) as visitors:
        for mark in ("two", "three"):
            release(site, mark)
            site.call("deploy", "-y", "-q")
        site.call("rollback", "-y", "-q")
    assert visitors.seen.failures == []
    assert visitors.seen.requests > 500
    assert {"one", "two", "three"} <= visitors.seen.releases
    assert executed(site, visitors.seen) == (0, 0)
    assert marks(site) == {"two"}


def test_the_receipt_tells_what_was_measured(site: WholeSite) -> None:
    release(site, "receipt")
    document = json.loads(site.call("deploy", "-y", "-q", "--json").stdout)
    assert document == {k: v for k, v in receipt(site).items() if k != "manifest"}
    assert (document["version"], document["outcome"], document["failed_requests"]) == (1, "done", 0)
    assert document["requests"] > 50
    assert document["serves"] == document["release"] == site.status()["release"]
    assert document["duration_seconds"] < 30
    for phase in ("before", "during", "after"):
        assert document["phases"][phase]["requests"] > 0
        assert document["phases"][phase]["p99_seconds"] >= document["phases"][phase]["p50_seconds"]
    assert document["visitors"]["new"]["requests"] >= 0
    events = [(m["server"], m["what"]) for m in document["timeline"]]
    for server in ("web-1", "web-2", "web-3"):
        assert (server, "let in") in events
    assert events.index(("web-3", "let in")) < events.index(("web-1", "held"))
    assert events.index(("web-1", "let in")) < events.index(("web-2", "held"))
    assert "let in" in site.call("releases", "show", document["release"]).stdout


def test_the_same_release_again_is_nothing_to_do(site: WholeSite) -> None:
    pids = site.pids()
    site.call("deploy", "-y", "-q")
    assert site.pids() == pids
    steps = int(site.call("db", "-N", "-e", "SELECT COUNT(*) FROM steps WHERE mark = 'receipt'").stdout)
    assert steps == 1


def test_what_is_under_way_is_finished(site: WholeSite) -> None:
    """A slow page, a slow upload and a stream of events that began before the roll all end as they should."""
    url = urlsplit(site.url)
    before = next(iter(marks(site)))
    results: dict[str, object] = {}

    def slow(number: int) -> None:
        # Not one page twice: an edge asks once for a page that it does not know yet, and the second waits for it.
        results[f"slow-{number}"] = get(site, f"/slow?seconds=4&number={number}").text

    def events() -> None:
        results["events"] = get(site, "/events?count=20").text.count("data:")

    def upload() -> None:
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
        connection.putrequest("POST", "/upload")
        connection.putheader("Content-Length", "2000000")
        connection.endheaders()
        for _ in range(20):
            connection.send(b"x" * 100_000)
            time.sleep(0.2)  # a slow visitor, not a wait
        answer = connection.getresponse()
        results["upload"] = (answer.status, answer.read())

    threads = [threading.Thread(target=slow, args=(n,)) for n in (1, 2)]
    threads += [threading.Thread(target=t) for t in (events, upload, upload)]
    for thread in threads:
        thread.start()
    release(site, "under-way")
    site.call("deploy", "-y", "-q")
    for thread in threads:
        thread.join(30)
    assert results == {"slow-1": before, "slow-2": before, "events": 20, "upload": (200, b"2000000")}
    assert marks(site) == {"under-way"}


def test_assets_of_both_releases_are_there_and_stay(site: WholeSite) -> None:
    site.write("assets/old.0123abcd.css", "old")
    release(site, "assets-1")
    site.call("deploy", "-y", "-q")
    (site.project / "assets/old.0123abcd.css").unlink()
    site.write("assets/new.4567cdef.css", "new")
    release(site, "assets-2")
    roll = site.start("deploy", "-y")
    seen: set[tuple[int, str]] = set()
    while roll.poll() is None:
        found = get(site, "/assets/old.0123abcd.css", headers={"Cookie": f"n={len(seen)}"})
        seen.add((found.status_code, found.text))
    assert roll.returncode == 0, roll.communicate()[0]
    assert seen == {(200, "old")}
    balancer = site.status()["urls"]["balancer-1"]
    import httpx

    assert httpx.get(f"{balancer}/assets/old.0123abcd.css").text == "old"
    assert httpx.get(f"{balancer}/assets/new.4567cdef.css").text == "new"
    assert "hello" in httpx.get(f"{balancer}/assets/never.css").text  # the application answers


def test_old_releases_are_pruned_by_count(site: WholeSite) -> None:
    text = (site.project / "lampstand.yaml").read_text()
    site.write("lampstand.yaml", text.replace("deploy: {", "deploy: {keep: 2, "))
    release(site, "pruned")
    site.call("deploy", "-y", "-q")
    listed = json.loads(site.call("releases", "--json").stdout)["releases"]
    assert len(listed) == 2
    assert [r["state"] for r in listed] == ["serves", "good"]
    assert receipt(site)["pruned"]
    site.call("rollback", "-y", "-q")
    assert marks(site) == {"assets-2"}


def test_maintenance_closes_the_site_and_the_edges_serve_what_they_have(site: WholeSite) -> None:
    page = get(site, "/page")
    balancer = site.status()["urls"]["balancer-1"]
    site.write("closed.html", "<h1>back at noon</h1>")
    site.call("maintenance", "on", "--retry-after", "2m", "--page", str(site.project / "closed.html"))
    try:
        import httpx

        closed = httpx.get(f"{balancer}/")
        assert (closed.status_code, closed.headers["retry-after"]) == (503, "120")
        assert "back at noon" in closed.text
        assert httpx.post(f"{balancer}/write").status_code == 503
        assert get(site).status_code == 503
        assert get(site, "/page").text == page.text
        site.call("maintenance", "on", "--allow", "127.0.0.0/8")
        assert httpx.get(f"{balancer}/").status_code == 200
        assert "reviously" not in site.call("maintenance", "maybe", code=2).stderr
    finally:
        site.call("maintenance", "off")
    assert get(site).status_code == 200


def test_a_command_runs_in_the_release_that_serves(site: WholeSite) -> None:
    done = site.call("run", "--", "php", "-r", "echo getenv('APP_RELEASE'), ' ', getcwd();")
    running = site.status()["release"]
    assert done.stdout.split() == [running, str(site.state / "releases" / running)]
    assert site.call("run", "--", "sh", "-c", "exit 7", code=7).returncode == 7


def test_hooks_run_around_a_deploy(site: WholeSite) -> None:
    hook = site.write(
        "hook", '#!/bin/sh\necho "$LAMPSTAND_HOOK $LAMPSTAND_OUTCOME $LAMPSTAND_VERB" >> hooks.log\n'
    )
    hook.chmod(0o755)
    (site.project / ".lampstandignore").write_text("hook\nhooks.log\n")
    text = (site.project / "lampstand.yaml").read_text()
    hooks = "hooks: {before_deploy: ./hook, after_deploy: ./hook, on_failure: ./hook}\n"
    site.write("lampstand.yaml", text + hooks)
    release(site, "hooked")
    site.call("deploy", "-y", "-q")
    assert (site.project / "hooks.log").read_text().splitlines() == [
        "before_deploy running deploy",
        "after_deploy done deploy",
    ]
    site.write("lampstand.yaml", text + hooks.replace("before_deploy: ./hook", "before_deploy: 'false'"))
    release(site, "unhooked")
    assert "hooks.before_deploy" in site.call("deploy", "-y", "-q", code=1).stderr
    assert (site.project / "hooks.log").read_text().splitlines()[2:] == ["on_failure failed deploy"]
    assert marks(site) == {"hooked"}
    assert receipt(site)["outcome"] == "failed"
    site.write("lampstand.yaml", text)


def test_what_is_not_committed_is_not_released(site: WholeSite, tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-C", str(site.project), "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments],
            check=True, capture_output=True, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip

    git("init", "-q")
    release(site, "committed")
    git("add", "-A")
    git("commit", "-qm", "one")
    release(site, "changed")
    said = site.call("deploy", "-y").stderr
    assert "index.php" in said
    assert marks(site) == {"committed"}
    assert receipt(site)["commit"]
    assert receipt(site)["notes"]
    site.call("deploy", "-y", "-q", "--dirty")
    assert marks(site) == {"changed"}
    assert receipt(site)["commit"].endswith("-dirty")


def test_up_uses_the_same_roll(site: WholeSite) -> None:
    release(site, "by-up")
    plan = site.plan()
    assert [line.split()[:2] for line in plan.splitlines()] == [
        ["create", "web-3"], ["restart", "web-1"], ["restart", "web-2"], ["remove", "web-3"]
    ]  # fmt: skip
    with Visitors(site.url) as visitors:
        site.up()
    assert visitors.seen.failures == []
    assert executed(site, visitors.seen) == (0, 0)
    assert receipt(site)["verb"] == "up"
    eventually(lambda: marks(site) == {"by-up"})


def test_scale_under_load_fails_no_request(site: WholeSite) -> None:
    with Visitors(site.url) as visitors:
        site.call("scale", "-y", "-q", "web=4")
        site.call("scale", "-y", "-q", "web=1")
        site.call("scale", "-y", "-q", "web=2")
    assert visitors.seen.failures == []
    assert executed(site, visitors.seen) == (0, 0)
