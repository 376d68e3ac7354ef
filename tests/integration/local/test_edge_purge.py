"""Purging on running edges: our own, the conventions of plug-ins, the journal."""

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lampstand.errors import UsageError
from lampstand.site import Site
from lampstand.tiers.edge.purge import Journal, Purge, PurgeReport, purge, replay
from lampstand.topology import Endpoint
from tests.edge_support import TOKEN, Answer, Headers, Origin, RunningEdge, edges
from tests.support import eventually

Running = dict[str, RunningEdge]


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    server = Origin()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def running(origin: Origin) -> Iterator[Running]:
    site = {
        "site": "purge",
        "cdn": {"edges": ["fra", "iad"], "rules": [{"match": "/*tagged", "tags": ["by-rule"]}]},
    }
    with edges(Site.model_validate(site), [origin]) as started:
        yield started


def endpoints(running: Running) -> list[Endpoint]:
    return [e.instance.endpoint("http") for e in running.values()]


def do(running: Running, **what: object) -> PurgeReport:
    return asyncio.run(purge(endpoints(running), TOKEN, Purge(**what)))  # type: ignore[arg-type]


def kept(
    running: Running, *headers: tuple[str, str], directives: str = "max-age=3600", suffix: str = ""
) -> str:
    """A page that all edges keep."""
    path = f"/{uuid.uuid4().hex}{suffix}"
    for edge in running.values():
        edge.origin.script(path, Answer(headers=[("Cache-Control", directives), *headers]))
        edge.ask(path)
        assert edge.ask(path).cache == "hit"
    return path


def states(running: Running, path: str) -> list[str]:
    return [e.ask(path).cache for e in running.values()]


def test_a_url_hard(running: Running) -> None:
    path, other = kept(running), kept(running)
    report = do(running, urls=(f"http://any.test{path}",), soft=False)
    assert [(e.edge, e.purged, e.error) for e in report.edges] == [("edge-fra", 1, ""), ("edge-iad", 1, "")]
    assert states(running, path) == ["miss", "miss"]
    assert states(running, other) == ["hit", "hit"]


def test_a_url_soft_is_given_once_more_and_fetched(running: Running) -> None:
    path = kept(running)
    do(running, urls=(path,))
    for edge in running.values():
        first = edge.ask(path)
        assert first.cache == "stale"
        eventually(lambda edge=edge, first=first: edge.ask(path).answer > first.answer, 5)


def test_soft_never_gives_what_must_be_revalidated(running: Running) -> None:
    path = kept(running, directives="max-age=3600, must-revalidate")
    do(running, urls=(path,))
    assert states(running, path) == ["miss", "miss"]


@pytest.mark.parametrize(
    "name", ["Surrogate-Key", "Cache-Tag", "xkey", "Cache-Tags", "Purge-Cache-Tags", "X-Drupal-Cache-Tags"]
)
def test_tags_of_many_headers(running: Running, name: str) -> None:
    tag = uuid.uuid4().hex
    separator = "," if name == "Cache-Tag" else " "
    path, other = kept(running, (name, f"a-{tag}{separator}b-{tag}")), kept(running, (name, f"c-{tag}"))
    assert running["edge-fra"].ask(path).header("xkey") is None
    do(running, tags=(f"b-{tag}",), soft=False)
    assert (states(running, path), states(running, other)) == (["miss", "miss"], ["hit", "hit"])


def test_tags_of_rules(running: Running) -> None:
    path = kept(running, suffix="tagged")
    assert sum(e.purged for e in do(running, tags=("by-rule",), soft=False).edges) == 2
    assert states(running, path) == ["miss", "miss"]


def test_a_tag_is_no_url_and_no_word_of_ours(running: Running) -> None:
    path = kept(running)
    assert sum(e.purged for e in do(running, tags=("all", f"u:{path}"), soft=False).edges) == 0
    assert states(running, path) == ["hit", "hit"]


def test_many_tags_in_one_purge(running: Running) -> None:
    tag = uuid.uuid4().hex
    path = kept(running, ("Surrogate-Key", f"t250-{tag}"))
    do(running, tags=tuple(f"t{n}-{tag}" for n in range(300)), soft=False)
    assert states(running, path) == ["miss", "miss"]


def test_a_prefix(running: Running) -> None:
    start = f"/{uuid.uuid4().hex}.x+y"
    paths = []
    for path in (f"{start}/a", f"{start}/b?q=1", f"/other{start}/a", start.replace(".", "-") + "/a"):
        running["edge-fra"].origin.script(
            path.partition("?")[0], Answer(headers=[("Cache-Control", "max-age=60")])
        )
        for edge in running.values():
            edge.ask(path)
        paths.append(path)
    do(running, prefix=f"{start}/")
    assert [states(running, p) for p in paths] == [["miss"] * 2, ["miss"] * 2, ["hit"] * 2, ["hit"] * 2]


def test_everything(running: Running) -> None:
    paths = [kept(running) for _ in range(5)]
    assert all(e.purged >= 5 for e in do(running, everything=True, soft=False).edges)
    assert [states(running, p) for p in paths] == [["miss", "miss"]] * 5


def test_all_variants_of_a_url(running: Running) -> None:
    edge = running["edge-fra"]
    path = edge.page(Answer(headers=[("Cache-Control", "max-age=60"), ("Vary", "Foo")]))
    for value in "12":
        edge.ask(path, [("Foo", value)])
        edge.ask(path, [("Foo", value)], host="other.test")
    do(running, urls=(path,), soft=False)
    assert {
        edge.ask(path, [("Foo", v)], host=h).cache for v in "12" for h in ("site.test", "other.test")
    } == {"miss"}


PLUGINS: list[tuple[str, str, str, Headers]] = [
    ("WordPress, Proxy Cache Purge: a page", "PURGE", "{path}", [("X-Purge-Method", "default")]),
    ("WordPress, Proxy Cache Purge: all", "PURGE", "/.*", [("X-Purge-Method", "regex")]),
    (
        "WordPress, Proxy Cache Purge: tags",
        "PURGE",
        "/",
        [("X-Purge-Method", "tags"), ("X-Cache-Tags-Pattern", "p-1|{tag}|t-2")],
    ),
    ("MediaWiki", "PURGE", "{path}", []),
    ("Drupal, purge_purger_http", "BAN", "/", [("Cache-Tags", "other {tag}")]),
    ("Drupal, varnish_purge", "BAN", "/", [("Purge-Cache-Tags", "{tag}")]),
    ("vmod_xkey", "PURGE", "/", [("xkey", "{tag}")]),
    ("vmod_xkey, two headers", "PURGE", "/", [("xkey-purge", "{tag}")]),
    ("a regular expression", "BAN", "{path}$", []),
]


@pytest.mark.parametrize(("name", "method", "target", "headers"), PLUGINS, ids=[p[0] for p in PLUGINS])
def test_conventions_of_plugins(
    running: Running, name: str, method: str, target: str, headers: Headers
) -> None:
    tag = uuid.uuid4().hex
    path, edge = kept(running, ("Cache-Tags", tag)), running["edge-fra"]
    filled = [(n, v.format(tag=tag)) for n, v in headers]
    assert edge.purge(target.format(path=path), filled, method=method).status == 200, name
    assert edge.ask(path).cache == "miss"


@pytest.mark.parametrize("method", ["PURGE", "BAN"])
def test_a_purge_without_the_token_is_refused(running: Running, method: str) -> None:
    path, edge = kept(running), running["edge-fra"]
    for headers in ([], [("X-Purge-Token", "wrong")], [("X-Purge-Token", "")]):
        assert edge.ask(path, headers, method=method).status == 403
    assert edge.ask(path).cache == "hit"
    assert not [r for r in edge.origin.requests[path] if r.method == method]


@pytest.mark.parametrize(
    "what",
    [{"tags": ("a b",)}, {"tags": ("a,b",)}, {"urls": ('/"',)}, {"prefix": "/a\n"}, {}, {"tags": ("",)}],
)
def test_what_cannot_be_purged(what: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(UsageError):
        Purge(**what)  # type: ignore[arg-type]


def test_a_frozen_edge_catches_up(running: Running, tmp_path: Path) -> None:
    """Stopped while a purge runs, it does not come back with what was purged."""
    journal = Journal(tmp_path / "purges.ndjson")
    path, tag = "", uuid.uuid4().hex
    path = kept(running, ("Surrogate-Key", tag))
    pid = children(running["edge-iad"])
    for number in pid:
        os.kill(number, signal.SIGSTOP)
    try:
        report = asyncio.run(
            purge(endpoints(running), TOKEN, Purge(tags=(tag,)), journal=journal, timeout=0.3)
        )
        assert report.failed == ("edge-iad",)
        assert [e.edges for e in journal.pending()] == [("edge-iad",)]
        assert asyncio.run(replay(journal, endpoints(running), TOKEN, timeout=0.2))[0].error
    finally:
        for number in pid:
            os.kill(number, signal.SIGCONT)
    eventually(lambda: asyncio.run(replay(journal, endpoints(running), TOKEN)) and not journal.pending(), 10)
    assert running["edge-iad"].ask(path).cache == "miss"
    assert asyncio.run(replay(journal, endpoints(running), TOKEN)) == ()


def children(edge: RunningEdge) -> list[int]:
    """The manager and the process that answers."""
    manager = edge.process.pid
    return [manager, *map(int, Path(f"/proc/{manager}/task/{manager}/children").read_text().split())]


def test_a_purge_by_tag_is_fast_and_seen_by_reading(running: Running) -> None:
    """Generous limits: this is a test of the mechanism, `bench/edge.py` has the figures."""
    times = []
    for _ in range(20):
        tag = uuid.uuid4().hex
        path = kept(running, ("Surrogate-Key", tag))
        began = time.perf_counter()
        do(running, tags=(tag,), soft=False)
        assert states(running, path) == ["miss", "miss"]
        times.append(time.perf_counter() - began)
    assert sorted(times)[10] < 0.5, times
