"""What belongs into a release, and how it is named."""

from pathlib import Path

import pytest

from lampstand.errors import LampstandError
from lampstand.releases.package import copy_sources, read_sources, release_id


def make(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return root


def names(root: Path, *uploads: str) -> list[str]:
    return [s.path for s in read_sources(root, uploads)]


def test_history_builds_and_secrets_stay_out(tmp_path: Path) -> None:
    make(
        tmp_path, "index.php", ".git/config", "node_modules/a/b.js", ".env", ".env.local", "lib/__pycache__/a.pyc",
        "lampstand.secrets", ".venv/bin/python", "lib/x.php",
    )  # fmt: skip
    assert names(tmp_path) == ["index.php", "lib/x.php"]


def test_ignore_file_and_uploads(tmp_path: Path) -> None:
    make(
        tmp_path,
        "index.php",
        "storage/uploads/a.png",
        "storage/keep.txt",
        "tmp/x",
        "a/tmp/y",
        "notes.md",
        "a/notes.md",
    )
    (tmp_path / ".lampstandignore").write_text("# comment\n\n/tmp/\nnotes.md\n")
    assert names(tmp_path, "storage/uploads") == [
        ".lampstandignore",
        "a/tmp/y",
        "index.php",
        "storage/keep.txt",
    ]


@pytest.mark.parametrize(
    "name", ["it's", "two words", "ünïcode-文", "$(touch pwned)", '"; rm -rf /', "new\nline", "-rf"]
)
def test_odd_names_are_names(tmp_path: Path, name: str) -> None:
    source = make(tmp_path / "source", "index.php")
    (source / name.replace("/", "_")).write_text("x")
    copy_sources(source, read_sources(source), tmp_path / "copy")
    assert (tmp_path / "copy" / name.replace("/", "_")).read_text() == "x"


def test_the_name_follows_content_mode_links_and_recipe(tmp_path: Path) -> None:
    make(tmp_path, "a", "b")
    first = release_id(read_sources(tmp_path), "r")
    assert release_id(read_sources(tmp_path), "r") == first
    assert release_id(read_sources(tmp_path), "other") != first
    (tmp_path / "a").chmod(0o755)
    second = release_id(read_sources(tmp_path), "r")
    (tmp_path / "b").unlink()
    (tmp_path / "b").symlink_to("a")
    assert len({first, second, release_id(read_sources(tmp_path), "r")}) == 3


def test_links_that_lead_out_or_in_circles_are_refused(tmp_path: Path) -> None:
    project = make(tmp_path / "p", "index.php")
    (project / "out").symlink_to("/etc/passwd")
    with pytest.raises(LampstandError, match="out of the project"):
        read_sources(project)
    (project / "out").unlink()
    (project / "x").symlink_to("y")
    (project / "y").symlink_to("x")
    with pytest.raises(LampstandError, match="circle"):
        read_sources(project)
