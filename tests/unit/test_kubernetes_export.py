"""The folder for kustomize."""

from pathlib import Path

import pytest
import yaml

from lampstand.targets.kubernetes.export import export_files, write_export, yaml_text
from lampstand.targets.kubernetes.manifests import release_job, render
from tests.kubernetes_support import SITES, paper


@pytest.mark.parametrize("site", SITES.values())
def test_the_folder_holds_what_up_applies(site: dict[str, object]) -> None:
    there = paper(site)
    files = export_files(there.topology, there.project)
    kustomization = yaml.safe_load(files["kustomization.yaml"])
    assert set(kustomization["resources"]) == {n for n in files if n.endswith(".yaml")} - {
        "kustomization.yaml"
    }
    written = [d for name in kustomization["resources"] for d in yaml.safe_load_all(files[name])]
    job = release_job(there.topology, there.project)
    wanted = [*render(there.topology, there.project), *([job] if job else [])]
    order = [(m["kind"], m["metadata"]["name"]) for m in wanted]
    assert sorted(written, key=lambda d: order.index((d["kind"], d["metadata"]["name"]))) == wanted


def test_files_with_passwords_are_their_owner_s(tmp_path: Path) -> None:
    there = paper(SITES["full"])
    (tmp_path / "gone.yaml").write_text("# The site shop, written by Lampstand: changes are lost.\n")
    (tmp_path / "mine.yaml").write_text("# my own\n")
    names = write_export(tmp_path, there.topology, there.project)
    assert {p.name for p in tmp_path.iterdir()} == {*names, "mine.yaml"}
    modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
    assert modes["secrets.yaml"] == modes["web.yaml"] == 0o600
    assert modes["services.yaml"] == 0o644
    assert "lampstand/shop-web:0123456789ab" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    "text", ["a\nb\n", "a\nb", " leading\n", "trailing \nx\n", "tab\t\n", "\x1f\n", "\n", "a\n\n\n", "é\n"]
)
def test_texts_come_back_as_they_were(text: str) -> None:
    assert yaml.safe_load(yaml_text([{"data": {"file": text}}])) == {"data": {"file": text}}
