"""Processes that outlive Lampstand: started, found again, signalled and buried, with real programs."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lampstand.errors import LampstandError
from lampstand.targets.local import processes
from lampstand.targets.local.processes import Handle, Record
from lampstand.topology import Process

SLEEP = Process("sleep", ("/bin/sleep", "300"), account="nobody")


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    tmp_path.chmod(0o755)
    found = Record(tmp_path, "sleep")
    yield found
    asyncio.run(processes.kill(found))


def until(good: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def spawn(record: Record, process: Process = SLEEP) -> int:
    asyncio.run(processes.spawn(record, process, record.pid_file.with_suffix(".log")))
    found = record.find()
    assert found is not None
    return found.pid


def test_it_lives_in_a_session_of_its_own_under_its_account(record: Record) -> None:
    pid = spawn(record)
    assert os.getsid(pid) in record.sessions()
    assert os.getsid(pid) != os.getsid(0)
    if os.geteuid() == 0:
        assert Path(f"/proc/{pid}").stat().st_uid != 0


def test_a_started_program_is_known_also_without_our_record(record: Record) -> None:
    pid = spawn(record)
    record.json_file.unlink()
    found = record.find()
    assert found is not None
    assert found.pid == pid


def test_a_stale_record_never_names_a_stranger(record: Record) -> None:
    stranger = subprocess.Popen(["/bin/sleep", "300"], start_new_session=True)
    try:
        value = {"pid": stranger.pid, "ticks": 1, "session": stranger.pid, "boot": processes.boot_id()}
        record.json_file.write_text(json.dumps(value))
        assert record.find() is None
        asyncio.run(processes.stop(record, signal.SIGTERM, 1.0))
        assert stranger.poll() is None
        record.pid_file.write_text(str(stranger.pid))
        os.utime(record.pid_file, (1, 1))
        assert record.find() is None
        asyncio.run(processes.kill(record))
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_record_of_another_boot_means_nothing(record: Record) -> None:
    spawn(record)
    value = json.loads(record.json_file.read_text())
    mine = dict(value)
    record.pid_file.unlink()
    record.json_file.write_text(json.dumps(value | {"boot": "another"}))
    assert record.find() is None
    record.json_file.write_text(json.dumps(mine))


def test_what_does_not_end_is_killed_and_frozen_processes_end(record: Record) -> None:
    stubborn = Process(
        "sleep", ("/bin/sh", "-c", "trap '' TERM; echo trapped; while :; do sleep 1; done"), account="nobody"
    )
    spawn(record, stubborn)
    until(lambda: "trapped" in record.pid_file.with_suffix(".log").read_text())
    assert asyncio.run(processes.stop(record, signal.SIGTERM, 0.2)) is False
    assert record.find() is None
    pid = spawn(record)
    os.kill(pid, signal.SIGSTOP)
    assert asyncio.run(processes.stop(record, signal.SIGTERM, 5.0)) is True


def test_workers_of_a_dead_leader_are_killed_too(record: Record) -> None:
    pid = spawn(record, Process("sleep", ("/bin/sh", "-c", "sleep 300 & sleep 301 & wait"), account="nobody"))
    session = os.getsid(pid)
    until(lambda: len(processes.members([session])) == 3)
    os.kill(pid, signal.SIGKILL)
    until(lambda: record.find() is None)
    assert len(processes.members([session])) == 2
    asyncio.run(processes.kill(record))
    assert processes.members([session]) == []


def test_workers_of_a_program_with_a_session_of_its_own_are_killed_too(record: Record) -> None:
    program = "import os, time; os.setsid(); os.fork(); time.sleep(300)"
    pid = spawn(record, Process("sleep", ("/usr/bin/python3", "-c", program), account="nobody"))
    until(lambda: len(processes.members([pid])) == 2)
    os.kill(pid, signal.SIGKILL)
    until(lambda: record.find() is None)
    asyncio.run(processes.kill(record))
    assert processes.members([pid]) == []


def test_a_death_is_seen_at_once(record: Record) -> None:
    pid = spawn(record)

    async def scenario() -> float:
        found = record.find()
        assert found is not None
        handle = Handle.of(found)
        assert handle is not None
        begun = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        assert await handle.wait(5.0)
        handle.close()
        return time.monotonic() - begun

    assert asyncio.run(scenario()) < 1.0


def test_output_and_environment(record: Record) -> None:
    os.environ["LEAKED_FROM_THE_SHELL"] = "1"
    try:
        odd = "quotes ' \" $HOME ünïcode"
        spawn(
            record,
            Process("sleep", ("/bin/sh", "-c", "env; sleep 300"), account="nobody", env=(("ODD", odd),)),
        )
    finally:
        del os.environ["LEAKED_FROM_THE_SHELL"]
    log = record.pid_file.with_suffix(".log")
    until(lambda: "ODD=" in log.read_text())
    assert f"ODD={odd}\n" in log.read_text()
    assert "LEAKED" not in log.read_text()


def test_programs_that_fail_hang_or_do_not_exist() -> None:
    assert asyncio.run(processes.run_once(["/bin/echo", "hello"])) == "hello\n"
    for argv, said in (
        (["/bin/sh", "-c", "echo why; exit 3"], "exit code 3:\nwhy"),
        (["/nowhere/at-all"], "no such program"),
        (["/bin/sleep", "300"], "did not end within"),
    ):
        with pytest.raises(LampstandError, match=said):
            asyncio.run(processes.run_once(argv, deadline=0.3))
