"""What only PHP has: sessions in Redis, front controller and .htaccess, uploads, settings, odd names, memory."""

import contextlib
import os
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lampstand.engines import discover
from lampstand.tiers.web import quoting
from lampstand.tiers.web.build import link_uploads
from lampstand.tiers.web.tier import expand
from lampstand.topology import Endpoint, File, Instance, Process
from tests.integration.local.launch import Ground, Running, answers, context, ground, launch
from tests.integration.local.web_apps import write_application
from tests.support import eventually

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=40)
QUOTED = (
    TEXT
    | st.text("aZ '\"\\$`{}[]()<>*?;#&|%=~!\t", max_size=12)
    | st.sampled_from(["${HOME}", "\\${A}", "%{x}e"])
)


@contextmanager
def serving(
    place: Ground,
    files: Mapping[str, str] | None = None,
    app: Mapping[str, object] | None = None,
    site: Mapping[str, object] | None = None,
    **secrets: str,
) -> Iterator[tuple[Running, httpx.Client]]:
    """web-1 with the test application and more files, answering, and a client of it."""
    release = place.root / "releases" / "r1"
    section = {**write_application("php", release), **(app or {})}
    for name, text in (files or {}).items():
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_text(text)
    ready = context(place, {**(site or {}), "app": section}, **secrets)
    link_uploads(ready.site, release, place.root / "uploads")
    for folder, _, _ in os.walk(release):
        Path(folder).chmod(0o755)
    with (
        launch(next(iter(expand(ready))), place) as running,
        httpx.Client(base_url=running.url(), timeout=20) as client,
    ):
        eventually(lambda: answers(running.url()))
        yield running, client


def redis(place: Ground, password: str) -> Instance:
    """A plain Redis where the gateway's endpoint of the sessions would be."""
    host, port = place.bind("gateway-1", "sessions")
    path = f"{place.folder('redis-1', 'etc')}/redis.conf"
    text = f"bind {host}\nport {port}\nrequirepass {password}\nsave ''\n"
    process = Process("redis", (discover().redis_server.path, path), "redis")
    return Instance(
        "redis-1", "cache", "sessions", (process,), (File(path, text, 0o600, secret=True),),
        endpoints=(Endpoint("redis-1", "redis", host, port, "redis"),),
    )  # fmt: skip


def test_sessions_are_in_redis_and_a_second_server_has_them() -> None:
    password = "odd&pass=word%41?"
    with ground() as place, launch(redis(place, password), place):
        site: dict[str, object] = {"sessions": {"lifetime": "2h"}}
        with serving(place, site=site, sessions=password) as (running, client):
            assert client.get("/session?add=a").json() == ["a"]
            cookie = client.get("/session?add=b").request.headers["Cookie"]
            other = next(i for i in expand(_context_of(place, site, password)) if i.name == "web-2")
            with launch(other, place) as second:
                eventually(lambda: answers(second.url()))
                answer = httpx.get(f"{second.url()}/session?add=c", headers={"Cookie": cookie})
                assert answer.json() == ["a", "b", "c"]
            sid = cookie.partition("=")[2]
            ttl = _redis(place, password, "ttl", f"session:{sid}")
            assert 7100 < int(ttl) <= 7200
            assert password not in "".join(f.content for f in running.instance.files)


def _context_of(place: Ground, site: Mapping[str, object], password: str):  # noqa: ANN202
    return context(place, {**site, "app": {"root": "public"}}, sessions=password)


def _redis(place: Ground, password: str, *words: str) -> str:
    _, port = place.bind("gateway-1", "sessions")
    argv = (discover().redis_cli.path, "-p", str(port), *words)
    return subprocess.run(
        argv, env={"REDISCLI_AUTH": password}, capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()


def test_requests_of_one_session_do_not_lose_each_others_changes() -> None:
    with (
        ground() as place,
        launch(redis(place, "pw"), place),
        serving(place, sessions="pw") as (running, client),
    ):
        client.get("/session?add=start")
        cookies = dict(client.cookies)

        def add(number: int) -> None:
            httpx.get(f"{running.url()}/session?add={number}", cookies=cookies, timeout=20)

        askers = [threading.Thread(target=add, args=(n,)) for n in range(6)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        assert sorted(client.get("/session?add=end").json()) == sorted(["start", *map(str, range(6)), "end"])


def test_every_url_that_is_no_file_goes_to_the_front_controller() -> None:
    files = {
        "public/page.php": "<?php echo 'page ', $_SERVER['PATH_INFO'] ?? '';",
        "public/style.css": "body {}",
    }
    with ground() as place, serving(place, files) as (_, client):
        assert client.get("/some/page?x=1").json()["uri"] == "/some/page?x=1"
        assert client.get("/missing.php").json()["uri"] == "/missing.php"
        assert client.get("/page.php").text == "page "
        assert client.get("/page.php/a/b").text == "page /a/b"
        assert client.get("/style.css").text == "body {}"
        assert client.get("/style.css").headers["Content-Type"] == "text/css"
        assert "Apache/" not in client.get("/style.css").headers["Server"]
        assert "X-Powered-By" not in client.get("/page.php").headers


def test_htaccess_files_of_applications_work() -> None:
    htaccess = """
        <IfModule mod_rewrite.c>
        RewriteEngine On
        RewriteRule ^old/(.*)$ /page.php?from=$1 [L,QSA]
        </IfModule>
        php_value memory_limit 64M
        Header set X-From-Htaccess yes
    """
    files = {
        "public/.htaccess": htaccess,
        "public/page.php": "<?php echo $_GET['from'];",
        "public/private/.htaccess": "Order deny,allow\nDeny from all\n",
        "public/private/x.txt": "secret",
    }
    with ground() as place, serving(place, files) as (_, client):
        answer = client.get("/old/shoes")
        assert answer.text == "shoes"
        assert answer.headers["X-From-Htaccess"] == "yes"
        assert client.get("/private/x.txt").status_code == 403
        assert client.get("/.htaccess").status_code == 404


def test_what_visitors_uploaded_never_runs() -> None:
    with ground() as place:
        shared = place.root / "uploads/public/pictures"
        shared.mkdir(parents=True)
        for name in ("evil.php", "evil.PHP", "evil.phtml", "evil.jpg.php"):
            (shared / name).write_text("<?php echo 'it ran';")
        (shared / ".htaccess").write_text("SetHandler application/x-httpd-php\nOptions +Indexes\n")
        (shared / "cat.jpg").write_text("meow")
        for path in (place.root / "uploads/public", shared):
            path.chmod(0o755)
        with serving(place, app={"uploads": ["public/pictures"]}) as (_, client):
            for name in ("evil.php", "evil.PHP", "evil.phtml", "evil.jpg.php", "evil.php/x.jpg"):
                assert client.get(f"/pictures/{name}").status_code in (403, 404), name
            assert client.get("/pictures/cat.jpg").text == "meow"
            assert "it ran" not in client.get("/pictures/").text


def test_redirects_to_a_folder_keep_https() -> None:
    with ground() as place, serving(place, {"public/shop/index.php": "<?php echo 'shop';"}) as (_, client):
        headers = {"X-Forwarded-Proto": "https", "Host": "shop.example.com"}
        answer = client.get("/shop?q=1", headers=headers)
        assert (answer.status_code, answer.headers["Location"]) == (301, "https://shop.example.com/shop/?q=1")
        server = client.get("/x", headers=headers).json()["server"]
        assert (server["SERVER_PORT"], server["REQUEST_SCHEME"]) == ("443", "https")
        assert client.get("/shop/").text == "shop"


def test_settings_of_php_ini_arrive() -> None:
    wanted = {"memory_limit": "96M", "date.timezone": "Europe/Berlin", "error_reporting": "E_ALL & ~E_NOTICE"}
    with ground() as place, serving(place, app={"php_ini": wanted}) as (_, client):
        ini = client.get("/").json()["ini"]
        assert ini["memory_limit"] == "96M"
        assert ini["date.timezone"] == "Europe/Berlin"
        assert ini["error_reporting"] == str(32767 & ~8)
        assert ini["opcache.validate_timestamps"] == "0"
        assert int(ini["post_max_size"]) == int(ini["upload_max_filesize"]) == 64 * 2**20


def test_folders_with_any_name() -> None:
    name = r"""odd 'q" $HOME ${PATH} [x] {y} * \b é;#&|`%41"""
    with ground(name) as place:
        release = place.root / "releases" / "r1"
        app = {"root": f"{name}/public", "uploads": [f"{name}/public/up"]}
        (release / name / "public").mkdir(parents=True)
        source = (release / "public/index.php", release / name / "public/index.php")
        write_application("php", release)
        source[0].rename(source[1])
        with serving(place, {f"{name}/public/a b.php": "<?php echo __DIR__;"}, app) as (_, client):
            assert client.get("/a%20b.php").text == str(release / name / "public")
            assert client.get("/else").json()["uri"] == "/else"


def test_no_request_waits_behind_a_slow_one_while_a_process_is_free() -> None:
    with ground() as place, serving(place, site={"web": {"processes": 8}}) as (running, client):
        slow = f"{running.url()}/slow?seconds=60"

        def ask() -> None:
            with contextlib.suppress(httpx.TransportError):  # the server is gone before the answer comes
                httpx.get(slow, timeout=90)

        askers = [threading.Thread(target=ask) for _ in range(7)]
        for asker in askers:
            asker.start()
        eventually(lambda: Path(place.folder("web-1", "data"), "slow").exists())
        assert (
            client.get("/").status_code == 200
        )  # the eighth process; it would take a minute behind a slow one
        assert all(asker.is_alive() for asker in askers)
        running.kill()
        for asker in askers:
            asker.join()


def test_a_server_is_small() -> None:
    with ground() as place, serving(place, site={"web": {"processes": 8}}) as (running, _):
        workers = [p for p in running.pids() if "pool web-1" in Path(f"/proc/{p}/cmdline").read_text()]
        assert len(workers) == 8
        rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in running.pids()]
        sizes = [int(size) for text in rollups for size in re.findall(r"^Pss: +(\d+)", text, re.MULTILINE)]
        assert sum(sizes) < 60 * 1024, f"{sum(sizes)} kB"


def test_sockets_and_passwords_are_closed_to_others() -> None:
    with ground() as place, serving(place) as (running, _):
        socket_mode = Path(place.folder("web-1", "run"), "php.sock").stat().st_mode & 0o777
        assert socket_mode == 0o600
        command_lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in running.pids()]
        assert not any("of-the-test" in line for line in command_lines)


# Quoting, against the engines' own parsers


@given(text=QUOTED)
@settings(max_examples=60, deadline=None)
def test_any_value_survives_php_ini(text: str) -> None:
    # user_agent is a setting without meaning of its own, so PHP gives back what it read.
    php = discover().php.path
    with ground() as place:
        path = place.root / "php.ini"
        path.write_text(f"user_agent = {quoting.ini(text)}\n", "utf-8")
        done = subprocess.run(
            (php, "-n", "-c", str(path), "-r", "echo ini_get('user_agent');"),
            capture_output=True, check=True, timeout=10,
        )  # fmt: skip
        assert done.stdout.decode() == text


@given(text=QUOTED.filter(lambda t: t.strip() == t and t.strip("./") and "/" not in t))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_any_folder_survives_apache(text: str) -> None:
    engine = discover().apache
    with ground() as place:
        root, conf = place.root / f"d{text}", place.root / "apache.conf"
        root.mkdir()
        lines = [
            "Define lampstand_dollar $",
            f"ServerRoot {quoting.apache(str(place.root))}",
            f"LoadModule mpm_event_module {quoting.apache(engine.modules + '/mod_mpm_event.so')}",
            f"DocumentRoot {quoting.apache(str(root))}",
            "ServerName x",
            f"ErrorLog {quoting.apache(str(place.root / 'error.log'))}",
        ]
        conf.write_text("\n".join(lines) + "\n", "utf-8")
        argv = (engine.path, "-f", str(conf), "-t", "-D", "DUMP_RUN_CFG")
        done = subprocess.run(argv, capture_output=True, env={"PATH": "/bin"}, check=False, timeout=10)
        assert done.returncode == 0, done.stderr
        assert f'Main DocumentRoot: "{root}"' in done.stdout.decode()


@given(text=QUOTED)
@settings(max_examples=40, deadline=None)
def test_any_text_survives_perl(text: str) -> None:
    done = subprocess.run(
        (discover().perl.path, "-e", f"print {quoting.perl(text)}"),
        capture_output=True,
        check=True,
        timeout=10,
    )
    assert done.stdout.decode() == text


def test_a_changed_setting_is_checked_before_it_is_used() -> None:
    with ground() as place:
        release = place.root / "releases/r1"
        app = write_application("php", release)
        instance = next(iter(expand(context(place, {"app": app}))))
        broken = replace(instance.files[0], content=instance.files[0].content + "\nNoSuchDirective On\n")
        with (
            pytest.raises(AssertionError, match="NoSuchDirective"),
            launch(replace(instance, files=(broken, *instance.files[1:])), place),
        ):
            pass
