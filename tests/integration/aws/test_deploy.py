"""`lampstand deploy -t aws` on a terminal, against stand-ins (stand_in.py): docs/aws.md shows what is seen."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parents[3]
QUESTION = "Go on? [Y/n]: "
SITE = """\
site: shop
app: {health: /healthz}
targets:
  aws: {region: eu-central-1}
"""
WITHIN = 150.0
"""Seconds for everything; it takes 15 on a machine with two processors that has nothing else to do."""


def terminal(folder: Path, *words: str) -> str:
    """What a person sees who says yes to every question."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.aws.stand_in", *words],
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        # A dumb terminal shows no moving line; what stays is the same.
        env={**os.environ, "TERM": "dumb", "COLUMNS": "200", "PYTHONPATH": f"{HERE}/src:{HERE}"},
    )
    os.close(theirs)
    seen, end = "", time.monotonic() + WITHIN
    try:
        while time.monotonic() < end:
            if not select.select([ours], [], [], 1.0)[0]:
                continue
            try:
                seen += os.read(ours, 65536).decode()
            except OSError:  # EIO: nobody holds the other end any more
                break
            if seen.endswith(QUESTION):
                os.write(ours, b"y\n")
        assert running.wait(max(0.1, end - time.monotonic())) == 0, seen
    finally:
        running.kill()
        running.wait(10)
        os.close(ours)
    return seen.replace("\r\n", "\n")


def without_chance(text: str) -> Sequence[str]:
    """The lines, without what differs from one time to the next: releases, seconds, dates of the day."""
    text = re.sub(r"\b[0-9a-f]{12}\b", "RELEASE", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:]+Z", "NOW", text)
    text = re.sub(r"\b\d+(\.\d+)? s\b", "N s", text)
    return [re.sub(r" +", " ", line).strip() for line in text.splitlines() if line.strip()]


@pytest.mark.timeout(200)
def test_the_document_shows_what_is_seen(tmp_path: Path) -> None:
    (tmp_path / "lampstand.yaml").write_text(SITE)
    (tmp_path / "index.php").write_text("<?php echo 'one';\n")
    (tmp_path / "new.php").write_text("<?php echo 'two';\n")
    seen = terminal(
        tmp_path, "deploy", "-t", "aws", "--", "!", "mv", "new.php", "index.php", "--", "deploy", "-t", "aws", "--",
        "releases", "-t", "aws",
    )  # fmt: skip
    if kept := os.environ.get("LAMPSTAND_KEEP_TERMINAL"):
        Path(kept).write_text(seen)
    shown = (HERE / "docs/aws.md").read_text().partition("## A first deploy")[2].partition("```text\n")[2]
    assert without_chance(shown.partition("```")[0]) == without_chance(seen)
