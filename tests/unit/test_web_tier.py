"""The web tier on paper: instances, golden texts, and what must not be in them."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from signal import SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH

import pytest

from lampstand.errors import LampstandError
from lampstand.tiers.web.tier import PHP_HEADER_LIMIT, expand, trusted_networks
from lampstand.topology import Instance
from tests.web_support import Paper, golden, paper_context

SITES: dict[str, dict[str, object]] = {
    "php": {
        "app": {
            "root": "public",
            "uploads": ["public/pictures"],
            "env": {"APP_ENV": "production"},
            "php_ini": {"memory_limit": "256M", "error_reporting": "E_ALL & ~E_NOTICE"},
            "jobs": {"nightly": {"schedule": "0 3 * * *", "run": "php bin/nightly.php"}},
            "workers": {"mail": {"run": "php bin/worker.php", "count": 2}},
        }
    },
    "python": {
        "app": {"runtime": "python", "entry": "shop.wsgi:application"},
        "web": {"servers": 1, "threads": 4},
    },
    "perl": {"app": {"runtime": "perl", "entry": "app.psgi"}, "web": {"servers": 1, "max_requests": 0}},
}


def instances(site: dict[str, object], place: Paper | None = None, surge: int = 0) -> list[Instance]:
    return list(expand(paper_context(site, place, surge=surge)))


@pytest.mark.parametrize("name", SITES)
def test_the_rendered_files_are_those_of_the_golden_folder(name: str) -> None:
    for instance in instances(SITES[name]):
        if instance.name in ("web-1", "scheduler-1", "worker-mail-1"):
            for file in instance.files:
                if not file.path.endswith("scheduler.py"):
                    golden(f"web/{name}/{instance.name}/{Path(file.path).name}", file.content)
            lines = [f"{p.name}: {' '.join(p.argv)}\n" for p in instance.processes]
            environment = [f"  {k}={v}\n" for k, v in instance.processes[0].env]
            golden(f"web/{name}/{instance.name}/processes", "".join([*lines, *environment]))


def test_instances_come_in_order_with_stable_names() -> None:
    names = [i.name for i in instances(SITES["php"])]
    assert names == ["web-1", "web-2", "worker-mail-1", "worker-mail-2", "scheduler-1"]
    assert [i.kind for i in instances(SITES["php"])] == ["web", "web", "worker", "worker", "scheduler"]
    assert [i.name for i in instances({}, surge=1)] == ["web-1", "web-2", "web-3"]


def test_apache_starts_last_and_so_stops_first_and_each_stops_gracefully() -> None:
    php = instances(SITES["php"])[0]
    assert [p.name for p in php.processes] == ["php-fpm", "apache"]
    assert [p.stop_signal for p in php.processes] == [SIGQUIT, SIGWINCH]
    assert [p.reload for p in php.processes] == [SIGUSR2, SIGUSR1]
    assert all(p.stop_seconds == 35 for p in php.processes)
    assert instances(SITES["python"])[0].processes[0].stop_signal is SIGTERM
    assert instances(SITES["perl"])[0].processes[0].stop_signal is SIGQUIT


@pytest.mark.parametrize("name", SITES)
def test_no_password_is_in_a_file_or_an_argument(name: str) -> None:
    for instance in instances(SITES[name]):
        for text in (*(f.content for f in instance.files), *(a for p in instance.processes for a in p.argv)):
            assert "<sessions>" not in text
            assert "<database_app>" not in text
            assert "%3Csessions%3E" not in text


def test_a_change_of_the_settings_reloads_and_a_release_restarts() -> None:
    before = instances({})[0]
    bigger = instances({"balancer": {"body_limit": "1GiB"}})[0]
    assert bigger.restart_hash == before.restart_hash
    assert bigger.config_hash != before.config_hash
    other = next(iter(expand(replace(paper_context({}), releases={"web-1": "r2"}))))
    assert other.release == "r2"
    assert other.restart_hash != before.restart_hash


def test_the_probe_asks_what_the_site_file_says() -> None:
    site: dict[str, object] = {
        "app": {"health": "/healthz"},
        "web": {"health": {"interval": "5s", "falls": 4}},
    }
    probe = instances(site)[0].probe
    assert asdict(probe) | {"path": "/healthz", "interval": 5.0, "falls": 4} == asdict(probe)
    assert instances({})[0].probe.path == "/"


def test_headers_that_php_would_not_get_are_refused() -> None:
    assert f"LimitRequestFieldSize {PHP_HEADER_LIMIT}\n" in instances({})[0].files[0].content
    assert "LimitRequestFieldSize 32768\n" in instances(SITES["python"])[0].files[0].content


def test_only_this_machine_is_believed_where_only_it_can_connect() -> None:
    assert trusted_networks("127.0.0.1") == ("127.0.0.0/8", "::1/128")
    assert "10.0.0.0/8" in trusted_networks("0.0.0.0")
    apache = instances({}, place=Paper(address="0.0.0.0"))[0].files[0].content
    assert "Listen 0.0.0.0:8080\n" in apache
    assert "Listen [::1]:8080\n" in instances({}, place=Paper(address="::1"))[0].files[0].content


@pytest.mark.parametrize("bad", ["/srv/line\nbreak", "/srv/nul\0", "/srv/escape\x1b"])
def test_a_folder_that_no_configuration_file_can_name_is_an_error(bad: str) -> None:
    with pytest.raises(LampstandError, match="cannot be written"):
        instances({}, place=Paper(top=bad))


def test_php_below_a_question_mark_is_an_error_and_python_is_not() -> None:
    with pytest.raises(LampstandError, match="runs no PHP below"):
        instances({}, place=Paper(top="/srv/what?"))
    assert instances(SITES["python"], place=Paper(top="/srv/what?"))


def test_commands_run_without_a_shell_unless_they_are_written_for_one() -> None:
    workers = {
        "plain": "php 'a b.php' --x=1",
        "shell": 'echo "$HOME" | cat',
        "list": {"run": ["run it", "--all"]},
    }
    by_name = {
        i.name: i.processes[0].argv for i in instances({"app": {"workers": workers}}) if i.kind == "worker"
    }
    assert by_name == {
        "worker-plain-1": ("/usr/bin/env", "php", "a b.php", "--x=1"),
        "worker-shell-1": ("/usr/bin/env", "/bin/sh", "-c", 'echo "$HOME" | cat'),
        "worker-list-1": ("/usr/bin/env", "run it", "--all"),
    }


def test_the_scheduler_runs_without_lampstand() -> None:
    scheduler = instances(SITES["php"])[-1]
    program, jobs = scheduler.files[:2]
    assert scheduler.processes[0].argv == ("/usr/bin/python3", "-I", program.path, jobs.path)
    assert "lampstand." not in program.content
    assert json.loads(jobs.content)["nightly"]["hours"] == [3]


def test_many_processes_get_many_connections() -> None:
    assert "MaxRequestWorkers 256\n" in instances({})[0].files[0].content
    assert "MaxRequestWorkers 1024\n" in instances({"web": {"processes": 500}})[0].files[0].content


def test_a_thousand_servers_expand_in_linear_time() -> None:
    assert len(instances({"web": {"servers": 1000}})) == 1000
