"""Folders of uploads: made, and filled once with what the project has."""

from pathlib import Path

from lampstand.targets.local.shared import make_folders


def test_what_the_project_has_is_copied_once(tmp_path: Path) -> None:
    own = tmp_path / "project" / "public" / "pictures"
    own.mkdir(parents=True)
    (own / "cat.png").write_bytes(b"cat")
    uploads = tmp_path / "uploads"
    make_folders(tmp_path / "project", uploads, ("public/pictures", "files"))
    shared = uploads / "public" / "pictures"
    assert (shared / "cat.png").read_bytes() == b"cat"
    assert (uploads / "files").is_dir()

    (shared / "cat.png").unlink()
    (own / "dog.png").write_bytes(b"dog")
    make_folders(tmp_path / "project", uploads, ("public/pictures", "files"))
    assert not list(shared.iterdir()), (
        "what a visitor deleted stays deleted; later files of the project are not taken"
    )


def test_a_copy_that_was_broken_off_is_made_again(tmp_path: Path) -> None:
    own = tmp_path / "project" / "files"
    own.mkdir(parents=True)
    (own / "a").write_text("whole")
    uploads = tmp_path / "uploads"
    (uploads / ".files.part").mkdir(parents=True)
    (uploads / ".files.part" / "a").write_text("hal")
    make_folders(tmp_path / "project", uploads, ("files",))
    assert (uploads / "files" / "a").read_text() == "whole"
    assert not (uploads / ".files.part").exists()
