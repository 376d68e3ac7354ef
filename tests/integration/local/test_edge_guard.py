"""What an edge refuses, what it logs, and how presets treat visitors of well-known applications."""

import http.client
import json
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lampstand.site import Site
from tests.edge_support import Answer, Origin, RunningEdge, as_account, edges
from tests.support import eventually

FRESH = ("Cache-Control", "max-age=3600")


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    server = Origin()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def guarded(origin: Origin) -> Iterator[RunningEdge]:
    rate = {
        "per_client": "1/s",
        "burst": 19,
        "exempt": "127.0.0.4",
        "paths": [{"match": "/login*", "per_client": "1/m", "burst": 2}],
    }
    balancer = {"allow": "127.0.0.0/8", "deny": "127.0.0.66", "body_limit": "1kB", "rate_limit": rate}
    with edges(
        Site.model_validate({"site": "guarded", "cdn": {"edges": ["fra"]}, "balancer": balancer}), [origin]
    ) as running:
        yield running["edge-fra"]


def ask(
    edge: RunningEdge, path: str, visitor: str, *, method: str = "GET", size: int = 0
) -> http.client.HTTPResponse:
    """A request from another address of this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=20, source_address=(visitor, 0))
    try:
        connection.request(method, path, b"x" * size if size else None, {"Host": "site.test"})
        response = connection.getresponse()
        response.read()
        return response
    finally:
        connection.close()


def test_a_denied_network(guarded: RunningEdge) -> None:
    path = guarded.page(Answer(headers=[FRESH]))
    assert ask(guarded, path, "127.0.0.2").status == 200
    assert ask(guarded, path, "127.0.0.66").status == 403
    assert guarded.origin.count(path) == 1


def test_only_an_allowed_network(origin: Origin) -> None:
    site = {"site": "few", "cdn": {"edges": ["fra"]}, "balancer": {"allow": "127.0.0.7"}}
    with edges(Site.model_validate(site), [origin]) as running:
        edge = running["edge-fra"]
        path = edge.page(Answer())
        assert [ask(edge, path, f"127.0.0.{n}").status for n in (7, 8)] == [200, 403]
        assert ask(edge, "/.lampstand/edge", "127.0.0.8").status == 200


def test_a_body_that_is_too_large(guarded: RunningEdge) -> None:
    path = guarded.page(Answer())
    assert ask(guarded, path, "127.0.0.3", method="POST", size=1000).status == 200
    assert ask(guarded, path, "127.0.0.3", method="POST", size=1001).status == 413
    assert guarded.origin.count(path) == 1


def test_a_visitor_who_asks_too_much(guarded: RunningEdge) -> None:
    """Answers from memory count too, others are not concerned, and some are exempt."""
    path = guarded.page(Answer(headers=[FRESH]))
    statuses = [ask(guarded, path, "127.0.0.5").status for _ in range(40)]
    assert statuses[:20] == [200] * 20
    refused = ask(guarded, path, "127.0.0.5") if 429 not in statuses else None
    assert 429 in statuses or (refused and refused.status == 429)
    assert ask(guarded, path, "127.0.0.6").status == 200
    assert {ask(guarded, path, "127.0.0.4").status for _ in range(40)} == {200}
    assert guarded.origin.count(path) == 1
    limited = ask(guarded, path, "127.0.0.5")
    if limited.status == 429:
        assert limited.getheader("Retry-After") == "1"


def test_a_path_with_a_limit_of_its_own(guarded: RunningEdge) -> None:
    path = f"/login-{uuid.uuid4().hex}"
    guarded.origin.script(path, Answer())
    assert [ask(guarded, f"{path}?n={n}", "127.0.0.8").status for n in range(4)] == [200, 200, 200, 429]
    other = guarded.page(Answer())
    assert ask(guarded, other, "127.0.0.8").status == 200


# --- the log --------------------------------------------------------------------------------------------------


def test_the_access_log(guarded: RunningEdge) -> None:
    log = Path(guarded.instance.files[0].path).parents[1] / "log" / "access.log"
    path = guarded.page(Answer(headers=[FRESH]))
    for _ in range(2):
        ask(guarded, f"{path}?q=%22", "127.0.0.9")

    def lines() -> list[dict[str, object]]:
        whole = log.read_text().rpartition("\n")[0].splitlines()
        return [found for line in whole if path in (found := json.loads(line))["uri"]]

    eventually(lambda: log.exists() and len(lines()) == 2)
    first, second = lines()
    assert (first["cache"], second["cache"]) == ("miss edge-fra", "hit edge-fra")
    assert (first["client"], first["server"], first["method"]) == ("127.0.0.9", "edge-fra", "GET")
    assert (first["uri"], first["status"], first["host"]) == (f"{path}?q=%22", "200", "site.test")
    assert "/.lampstand/" not in log.read_text()


def test_the_log_goes_on_after_varnish_was_killed(origin: Origin) -> None:
    with edges(Site.model_validate({"site": "again", "cdn": {"edges": ["fra"]}}), [origin]) as running:
        edge = running["edge-fra"]
        log = Path(edge.instance.files[0].path).parents[1] / "log" / "access.log"
        before, after = edge.page(Answer()), edge.page(Answer())

        def logged(path: str) -> bool:
            edge.ask(path)
            return path in log.read_text()

        eventually(lambda: logged(before), 20)
        manager = edge.process.pid
        for pid in [manager, *map(int, Path(f"/proc/{manager}/task/{manager}/children").read_text().split())]:
            os.kill(pid, signal.SIGKILL)
        edge.process.wait(10)
        argv = edge.instance.processes[0].argv
        edge.process = subprocess.Popen(argv, stderr=subprocess.DEVNULL, **as_account(edge.instance))
        eventually(lambda: edge.ask(after).status == 200, 20)
        eventually(lambda: logged(after), 20)


# --- presets --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wordpress(origin: Origin) -> Iterator[RunningEdge]:
    site = {"site": "blog", "cdn": {"edges": ["fra"], "preset": "wordpress"}}
    with edges(Site.model_validate(site), [origin]) as running:
        yield running["edge-fra"]


def test_a_wordpress_page_is_kept_for_visitors_without_its_cookies(wordpress: RunningEdge) -> None:
    path = wordpress.page(Answer(headers=[("Content-Type", "text/html; charset=UTF-8")]))
    assert [wordpress.ask(path).answer, wordpress.ask(path).answer] == [1, 1]
    assert wordpress.ask(path, [("Cookie", "consent=yes")]).answer == 1
    logged_in = "consent=yes; wordpress_logged_in_0123=admin"
    assert wordpress.ask(path, [("Cookie", logged_in)]).answer == 2
    assert wordpress.origin.requests[path][-1].header("Cookie") == logged_in
    assert wordpress.ask(path).answer == 1


@pytest.mark.parametrize(
    "headers",
    [
        [("Cache-Control", "no-cache, must-revalidate, max-age=0, no-store, private")],
        [("Cache-Control", "no-cache, must-revalidate, max-age=0")],
        [("Set-Cookie", "PHPSESSID=1")],
    ],
)
def test_what_wordpress_does_not_want_kept_is_not(
    wordpress: RunningEdge, headers: list[tuple[str, str]]
) -> None:
    path = wordpress.page(Answer(headers=headers))
    assert [wordpress.ask(path).answer, wordpress.ask(path).answer] == [1, 2]


def test_a_comment_goes_to_the_application_with_its_cookies(wordpress: RunningEdge) -> None:
    path = wordpress.page(Answer(302, [("Location", "/")]))
    wordpress.ask(path, [("Cookie", "consent=yes")], method="POST", body=b"comment=hello")
    assert wordpress.origin.requests[path][0].header("Cookie") == "consent=yes"


def test_mediawiki_cookies_of_scripts_make_no_page_of_their_own(origin: Origin) -> None:
    site = {"site": "wiki", "cdn": {"edges": ["fra"], "preset": "mediawiki"}}
    with edges(Site.model_validate(site), [origin]) as running:
        edge = running["edge-fra"]
        said = [
            ("Cache-Control", "s-maxage=18000, must-revalidate, max-age=0"),
            ("Vary", "Accept-Encoding, Cookie"),
        ]
        path = edge.page(Answer(headers=said))
        assert edge.ask(path).answer == 1
        assert edge.ask(path, [("Cookie", "wikimwuser-sessionId=0123")]).answer == 1
        assert edge.ask(path, [("Cookie", "wiki_session=1; wikiUserID=7")]).answer == 2
        assert origin.requests[path][-1].header("Cookie") == "wiki_session=1; wikiUserID=7"
