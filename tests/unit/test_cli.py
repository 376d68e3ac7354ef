"""The command line itself: help, options on both sides of a verb, exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

LAMPSTAND = [sys.executable, "-I", "-m", "lampstand"]


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAMPSTAND, *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def test_help_and_version() -> None:
    help_ = call("--help")
    assert help_.returncode == 0
    for verb in (
        "up",
        "down",
        "plan",
        "status",
        "logs",
        "exec",
        "db",
        "redis",
        "scale",
        "deploy",
        "rollback",
        "drill",
        "doctor",
    ):
        assert f"  {verb} " in help_.stdout
    assert call("--version").stdout.startswith("lampstand ")


def test_help_imports_no_engine_room() -> None:
    script = "import sys, lampstand.cli; print([m for m in sys.modules if m.startswith(('pydantic', 'rich', 'httpx'))])"
    assert (
        subprocess.run(
            [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


@pytest.mark.parametrize("arguments", [("-C", "PROJECT", "config"), ("config", "-C", "PROJECT")])
def test_common_options_stand_before_or_after_the_verb(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "index.php").write_text("<?php\n")
    (tmp_path / "lampstand.yaml").write_text("site: shop\n")
    done = call(*(str(tmp_path) if a == "PROJECT" else a for a in arguments))
    assert done.returncode == 0, done.stderr
    assert "site: shop" in done.stdout


def test_wrong_words_end_with_2() -> None:
    assert call("no-such-verb").returncode == 2
    assert call("status", "-C", "/nowhere/at/all").returncode == 2
    assert "Traceback" not in call("status", "-C", "/nowhere/at/all").stderr


def test_explain_knows_every_problem() -> None:
    done = call("explain", "--json")
    assert done.returncode == 0
    assert "database-primary-dead" in done.stdout
    assert call("explain", "nothing").returncode == 2


def test_drills_are_listed() -> None:
    assert "primary-kill" in call("drill", "list").stdout
