"""Each guestbook, on one application server with real engines behind it."""

import os
import re
import secrets
from collections.abc import Callable

import pytest

from tests.integration.examples import guestbook_contract as contract
from tests.integration.examples.conftest import Running
from tests.integration.examples.guestbook_contract import Guestbook, write
from tests.integration.examples.servers import background, wait_until

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(guestbook: Running, check: Callable[[Guestbook], None]) -> None:
    check(guestbook.site)


def test_tags_and_vary_on_pages(guestbook: Running) -> None:
    with guestbook.site.client() as client:
        assert client.get("/").headers["Surrogate-Key"] == "guestbook messages"
        assert "Cookie" in client.get("/").headers["Vary"]
        url = write(client, "tagged").json()["url"]
        assert client.get(url).headers["Surrogate-Key"] == f"guestbook message-{url.rsplit('/', 1)[1]}"


def test_migrations_may_run_again(guestbook: Running) -> None:
    tables = guestbook.engines.execute(f"SHOW TABLES FROM {guestbook.database}")
    assert "applied" not in guestbook.run("migrate")
    assert guestbook.engines.execute(f"SHOW TABLES FROM {guestbook.database}") == tables
    guestbook.engines.execute(f"DELETE FROM {guestbook.database}.migrations")  # an interrupted first run
    assert "applied 001_messages.sql" in guestbook.run("migrate")


def test_migrations_say_in_one_line_why_they_failed(guestbook: Running) -> None:
    """The release step's output is what its owner sees when a deploy stops."""
    nowhere = guestbook.attempt("migrate", DATABASE_URL="mysql://someone:hidden@127.0.0.1:1/none")
    assert nowhere.returncode == 1
    assert nowhere.stdout == ""
    assert re.fullmatch(r"migrate: [^\n]+\n", nowhere.stderr)
    assert "hidden" not in nowhere.stderr


def test_lost_connections_are_opened_again(guestbook: Running) -> None:
    """What a failover does to connections that live longer than a request; a write is not executed twice."""
    with guestbook.site.client() as client:
        for _ in range(12):  # every process has a connection
            assert client.get("/").status_code == 200
        accounts = f"('{guestbook.database}', '{guestbook.database}_read')"
        find = f"SELECT id FROM information_schema.processlist WHERE user IN {accounts}"
        for (number,) in guestbook.engines.execute(find):
            guestbook.engines.execute(f"KILL CONNECTION {number}")
        body = secrets.token_hex(8)
        for _ in range(12):
            assert client.get("/").status_code == 200
            assert write(client, body, key=f"key-{body}").status_code == 201
        count = f"SELECT COUNT(*) FROM {guestbook.database}.messages WHERE body = '{body}'"
        assert guestbook.engines.execute(count) == [(1,)]


def test_a_server_that_was_restarted_is_found_again(guestbook: Running) -> None:
    with guestbook.site.client() as client:
        url = write(client, "before").json()["url"]
        guestbook.engines.mariadb.stop()
        try:
            for path in [url, "/", "/login"]:
                answer = client.get(path)
                assert answer.status_code == (200 if path == "/login" else 503), path
            assert client.get(url).headers["Retry-After"]
            assert "no-store" in client.get(url).headers["Cache-Control"]
            assert write(client, "during").status_code == 503
            health = client.get("/healthz")
            assert health.status_code == 503
            assert health.json()["failing"] == ["database"]
            assert guestbook.engines.password not in health.text
        finally:
            guestbook.engines.mariadb.start()
        assert client.get(url).status_code == 200
        assert client.get("/healthz").status_code == 200


def test_a_read_only_writer_is_not_healthy(guestbook: Running) -> None:
    """A deposed primary still answers; writes go to its successor with the next connection."""
    with guestbook.site.client() as client:
        guestbook.engines.execute("SET GLOBAL read_only = 1")
        try:
            health = client.get("/healthz")
            assert health.status_code == 503
            assert health.json()["checks"]["database"] == "read-only"
            assert write(client, "not here").status_code == 503
            assert client.get("/").status_code == 200
        finally:
            guestbook.engines.execute("SET GLOBAL read_only = 0")
        assert write(client, "here").status_code == 201


def test_pages_live_without_the_cache(guestbook: Running) -> None:
    with guestbook.site.client() as client:
        guestbook.engines.cache.stop()
        try:
            assert client.get("/").status_code == 200
            assert client.post("/visits").status_code == 503
            health = client.get("/healthz")
            assert health.status_code == 503
            assert health.json()["failing"] == ["cache"]
        finally:
            guestbook.engines.cache.start()
        assert client.post("/visits").status_code == 200
        assert client.get("/healthz").status_code == 200


def test_pages_live_without_the_session_store(guestbook: Running) -> None:
    with guestbook.site.client() as client:
        name = contract.log_in(client)
        guestbook.engines.sessions.stop()
        try:
            page = client.get("/")
            assert page.status_code == 200
            assert page.headers["Cache-Control"] == "private, no-store"
            assert name not in page.text.split("<main>")[0]
            assert client.get("/sign").status_code == 503
            with guestbook.site.client() as stranger:
                assert stranger.get("/").status_code == 200
                assert write(stranger, "no session needed").status_code == 201
        finally:
            guestbook.engines.sessions.start()
        contract.log_in(client)


def test_reads_go_through_the_replicas_door(guestbook: Running) -> None:
    """The reader's account may not write, the writer's account sees no page view."""
    engines = guestbook.engines
    with guestbook.site.client() as client:
        url = write(client, "who reads me?").json()["url"]
        engines.execute(f"ALTER USER {guestbook.database}@`127.0.0.1` ACCOUNT LOCK")
        try:
            find = f"SELECT id FROM information_schema.processlist WHERE user = '{guestbook.database}'"
            for (number,) in engines.execute(find):
                engines.execute(f"KILL CONNECTION {number}")
            assert client.get("/").status_code == 200
            assert client.get(url).status_code == 200
        finally:
            engines.execute(f"ALTER USER {guestbook.database}@`127.0.0.1` ACCOUNT UNLOCK")


def test_worker_and_nightly_of_php(start: Callable[[str], Running]) -> None:
    guestbook = start("php")
    author = f"Regular {secrets.token_hex(4)}"
    with guestbook.site.client() as client:
        for number in range(3):
            assert write(client, f"again {number}", author=author).status_code == 201
        assert write(client, "very old", author="Old").status_code == 201
        database = guestbook.database
        guestbook.engines.execute(
            f"UPDATE {database}.messages SET created_at = UTC_TIMESTAMP() - INTERVAL 2 YEAR WHERE body = 'very old'"
        )
        with background(guestbook.commands["worker"], guestbook.release, guestbook.environment) as worker:
            count = f"SELECT messages FROM {database}.authors WHERE author = '{author}'"
            wait_until(lambda: guestbook.engines.execute(count) == [(3,)], "the worker counts")
            worker.terminate()
            assert worker.wait(10) == 0
        uploads = guestbook.release / "public" / "uploads"
        (uploads / f"{'0' * 40}.png").touch()
        os.utime(uploads / f"{'0' * 40}.png", (0, 0))
        printed = guestbook.run("nightly")
        assert "deleted 1 messages older than 365 days and 1 unused pictures" in printed
