"""What runs beside the web servers, for real: the scheduler with its jobs, and workers."""

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lampstand.tiers.web import scheduler
from lampstand.tiers.web.scheduler import Job
from lampstand.tiers.web.tier import expand
from lampstand.topology import Instance
from tests.integration.local.launch import Ground, context, ground, launch
from tests.support import eventually

MINUTE = "* * * * *"
EVERY_MINUTE = {
    "minutes": range(60), "hours": range(24), "days": range(1, 32), "months": range(1, 13), "weekdays": range(7),
    "either_day": False,
}  # fmt: skip


def beside(place: Ground, app: dict[str, object], kind: str) -> Instance:
    """The first instance of a kind of a PHP site."""
    (place.root / "releases/r1").mkdir(mode=0o755, exist_ok=True)
    return next(i for i in expand(context(place, {"app": app})) if i.kind == kind)


def test_a_job_runs_at_its_minute_in_the_environment_of_the_application() -> None:
    run = """printf '%s|%s|%s\\n' "$PWD" "$LAMPSTAND_SERVER" "$ODD"; exit 3"""
    app: dict[str, object] = {"jobs": {"now": {"schedule": MINUTE, "run": run}}, "env": {"ODD": "a 'b\" $c"}}
    with ground() as place, launch(beside(place, app, "scheduler"), place) as running:
        # The next minute comes within 60 s; there is no other way to see a clock do its work.
        eventually(lambda: "ended" in running.output("scheduler"), 75)
        out = running.output("scheduler")
        assert f"{place.release('r1')}|scheduler-1|a 'b\" $c\n" in out
        assert "now: ended: exit 3 after" in out
        stamp = datetime.strptime(out.split("\n")[-2][:20], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        assert abs(datetime.now(UTC).timestamp() - stamp.timestamp()) < 5
        running.signal("scheduler", signal.SIGTERM)
        assert running.children["scheduler"].wait(5) == 0


def test_a_job_that_runs_too_long_is_ended_and_never_overlaps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loop itself with real programs, and minutes that are given instead of waited for."""
    monkeypatch.setattr(scheduler, "GRACE", 0.3)
    deaf = ("/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    commands = {"long": ("/bin/sleep", "30"), "deaf": deaf, "none": ("/nowhere/none",)}
    loop = scheduler.Scheduler("unused")
    loop.jobs = {
        name: Job.read(name, {"run": run, "timeout": 0.5, **EVERY_MINUTE}) for name, run in commands.items()
    }
    now = datetime.now(UTC)
    loop.cycle(set(), now + timedelta(minutes=1))
    loop.cycle(set(), now + timedelta(minutes=2))

    def over() -> bool:
        loop.cycle(set(), now)
        return not loop.runs

    eventually(over, 10)
    out = capsys.readouterr().out
    assert out.count("long: started") == out.count("deaf: started") == 1
    assert "long: still running, left out this time" in out
    assert "long: longer than 0.5 s, ending it" in out
    assert "long: ended: killed by SIGTERM" in out
    assert "deaf: ended: killed by SIGKILL" in out
    assert "none: cannot be started: [Errno 2]" in out


def test_jobs_are_read_again_and_stopping_waits_for_what_runs() -> None:
    app: dict[str, object] = {"jobs": {"one": {"schedule": "0 0 29 2 *", "run": "true"}}}
    with ground() as place, launch(beside(place, app, "scheduler"), place) as running:
        eventually(lambda: "1 jobs: one" in running.output("scheduler"))
        path = Path(place.folder("scheduler-1", "etc"), "jobs.json")
        path.write_text(path.read_text().replace('"one"', '"two"'))
        running.signal("scheduler", signal.SIGHUP)
        eventually(lambda: "1 jobs: two" in running.output("scheduler"))
        running.stop()
        assert running.children["scheduler"].returncode == 0
        assert "stopping, 0 jobs still running" in running.output("scheduler")


def test_a_worker_runs_in_the_release_and_ends_when_asked() -> None:
    run = """trap 'echo bye; exit 0' TERM; echo "$LAMPSTAND_SERVER in $PWD"; while :; do sleep 0.05; done"""
    app: dict[str, object] = {"workers": {"mail": {"run": run, "stop_timeout": "5s"}}}
    with ground() as place, launch(beside(place, app, "worker"), place) as running:
        eventually(lambda: f"worker-mail-1 in {place.release('r1')}\n" in running.output("worker"))
        running.stop()
        assert running.output("worker").endswith("bye\n")
        assert running.children["worker"].returncode == 0


def test_php_workers_have_the_settings_of_the_site_file() -> None:
    code = 'echo ini_get("memory_limit"), " ", getenv("DB_HOST"), "\\n";'
    app: dict[str, object] = {
        "workers": {"mail": {"run": ["php", "-r", code]}},
        "php_ini": {"memory_limit": "77M"},
    }
    with ground() as place, launch(beside(place, app, "worker"), place) as running:
        eventually(lambda: "77M 127.0.0.1" in running.output("worker"))
