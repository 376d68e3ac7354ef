"""Where a release comes from, and what is served of those that do not serve any more."""

import os
import subprocess
from pathlib import Path

import pytest

from lampstand.errors import LampstandError
from lampstand.releases.assets import Assets, static_files
from lampstand.releases.origin import changed, committed, working
from lampstand.releases.package import MANIFEST, read_sources
from lampstand.releases.store import Store
from lampstand.site import Site


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    project = tmp_path / "repository/site"
    project.mkdir(parents=True)
    (project / "index.php").write_text("one")
    (project / "run").write_text("#!/bin/sh\n")
    (project / "run").chmod(0o755)
    (project / ".gitignore").write_text("ignored\n")
    (tmp_path / "repository/elsewhere.txt").write_text("not of the site")
    git(tmp_path / "repository", "init", "-q")
    return project


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "add", "-A", ".")
    git(folder, "commit", "-qm", "x")


def names(folder: Path) -> list[str]:
    return [s.path for s in read_sources(folder)]


def test_what_is_committed_is_the_release(checkout: Path) -> None:
    commit(checkout)
    (checkout / "index.php").write_text("two")
    (checkout / "new.php").write_text("new")
    (checkout / "ignored").write_text("x")
    (checkout.parent / "elsewhere.txt").write_text("changed, and not of the site")
    with committed(checkout) as origin:
        assert names(origin.folder) == [".gitignore", "index.php", "run"]
        assert (origin.folder / "index.php").read_text() == "one"
        assert os.access(origin.folder / "run", os.X_OK)
        assert sorted(Path(p).name for p in origin.left_out) == ["index.php", "new.php"]
        assert origin.commit
        assert len(origin.commit) == 12
        kept = origin.folder
    assert not kept.exists()
    assert working(checkout).commit == f"{origin.commit}-dirty"


def test_the_same_content_is_the_same_release_whether_committed_or_not(checkout: Path) -> None:
    commit(checkout)
    with committed(checkout) as origin:
        assert [(s.path, s.mode, s.digest) for s in read_sources(origin.folder)] == [
            (s.path, s.mode, s.digest) for s in read_sources(checkout)
        ]
    assert changed(checkout) == ()
    assert not (working(checkout).commit or "").endswith("-dirty")


def test_nothing_committed_is_refused(checkout: Path) -> None:
    with pytest.raises(LampstandError, match="nothing of this folder is committed"), committed(checkout):
        pass
    (checkout.parent / "elsewhere.txt").write_text("committed")
    git(checkout.parent, "add", "elsewhere.txt")
    git(checkout.parent, "commit", "-qm", "x")
    with pytest.raises(LampstandError, match="--dirty"), committed(checkout):
        pass


def test_a_folder_without_git_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "index.php").write_text("x")
    with committed(tmp_path) as origin:
        assert (origin.folder, origin.commit, origin.left_out) == (tmp_path, None, ())
    assert working(tmp_path).commit is None


def made(root: Path, release: str, *paths: str) -> Path:
    for path in (MANIFEST, *paths):
        file = root / release / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{path} of {release}" if path != MANIFEST else "{}")
    return root / release


SITE = Site.model_validate(
    {
        "site": "shop",
        "app": {
            "root": "public",
            "static": [{"match": "/static/*", "folder": "built"}, "*.css", "*.png"],
        },
    }
)


def test_only_what_visitors_may_fetch_is_an_asset(tmp_path: Path) -> None:
    release = made(
        tmp_path, "a", "public/a.css", "public/deep/er.png", "public/index.php", "public/a.css.bak", "public/notes.txt",
        "public/.hidden/x.css", "built/app.js", "built/.secret", "src/private.css",
    )  # fmt: skip
    (release / "public/link.css").symlink_to("a.css")
    assert sorted(set(static_files(SITE, release))) == ["built/app.js", "public/a.css", "public/deep/er.png"]


def test_assets_stay_for_their_time(tmp_path: Path) -> None:
    releases = tmp_path / "releases"
    old, new = (
        made(releases, "old", "public/old.css", "public/both.css"),
        made(releases, "new", "public/both.css"),
    )
    assets = Assets(tmp_path / "assets", tmp_path / "assets.json")
    assets.keep(SITE, [old, new], 1000.0, last=0.0)
    found = tmp_path / "assets/public"
    assert (found / "old.css").samefile(old / "public/old.css")
    assert (found / "both.css").read_text() == "public/both.css of new"
    assets.keep(SITE, [new], 2000.0, last=900.0)
    assert (found / "old.css").exists()
    assets.keep(SITE, [new], 3000.0, last=1500.0)
    assert not (found / "old.css").exists()
    assert (found / "both.css").exists()
    assert (tmp_path / "assets").stat().st_mode & 0o777 == found.stat().st_mode & 0o777 == 0o755
    assets.keep(SITE, [], 9000.0, last=8000.0)
    assert list((tmp_path / "assets").iterdir()) == []


def test_the_store_lists_finds_and_prunes(tmp_path: Path) -> None:
    store = Store(tmp_path / "releases", tmp_path / "uploads")
    assert store.all() == []
    for number, name in enumerate(("aaaa1", "aaaa2", "bbbb")):
        made(store.folder, name, "index.php")
        os.utime(store.folder / name / MANIFEST, ns=(number, number))
    (store.folder / "halfmade").mkdir()
    store.released("aaaa1").touch()
    assert store.all() == ["bbbb", "aaaa2", "aaaa1"]
    assert store.find("b") == "bbbb"
    for wrong in ("aaaa", "c", ""):
        with pytest.raises(LampstandError):
            store.find(wrong)
    assert store.prune(["aaaa2"], 1, {"aaaa2"}) == ["bbbb", "aaaa1"]
    assert store.all() == ["aaaa2"]
    assert not store.released("aaaa1").exists()
    with pytest.raises(LampstandError, match="no such release"):
        store.manifest("bbbb")
