"""What doctor says of certificates: real ones, made by openssl(1)."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lampstand.tiers.edge.certificates import Finding, examine

NAMES = ("shop.test", "www.shop.test")


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def make(
    folder: Path, name: str, issuer: str | None, *, authority: bool, names: tuple[str, ...] = ()
) -> Path:
    """A certificate for 30 days, signed by another of the folder, or by itself."""
    key, found = folder / f"{name}.key", folder / f"{name}.pem"
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
    openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", folder / "request")
    extensions = [f"basicConstraints=critical,CA:{str(authority).upper()}"]
    if names:
        extensions.append("subjectAltName=" + ",".join(f"DNS:{n}" for n in names))
    (folder / "extensions").write_text("\n".join(extensions))
    by = (
        ["-signkey", key]
        if issuer is None
        else ["-CA", folder / f"{issuer}.pem", "-CAkey", folder / f"{issuer}.key"]
    )
    openssl("x509", "-req", "-in", folder / "request", *by, "-CAcreateserial", "-days", "30", "-extfile",
            folder / "extensions", "-out", found)  # fmt: skip
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("certificates")
    make(root, "root", None, authority=True)
    middle = make(root, "middle", "root", authority=True)
    leaf = make(root, "leaf", "middle", authority=False, names=NAMES)
    (root / "full.pem").write_text(leaf.read_text() + middle.read_text())
    return root


def said(folder: Path, certificate: str, **more: object) -> list[Finding]:
    arguments = {"names": NAMES, "authority": folder / "root.pem", **more}
    return list(examine(folder / certificate, folder / "leaf.key", **arguments))  # type: ignore[arg-type]


def test_all_is_well(folder: Path) -> None:
    ending, chain = said(folder, "full.pem")
    assert (ending.outcome, chain.outcome) == ("good", "good")
    assert "CN=leaf" in ending.text
    assert "29 days" in ending.text


@pytest.mark.parametrize(("days", "outcome"), [(10, "good"), (20, "warning"), (31, "bad")])
def test_the_end(folder: Path, days: int, outcome: str) -> None:
    assert said(folder, "full.pem", now=datetime.now(UTC) + timedelta(days=days))[0].outcome == outcome


def test_a_chain_without_its_middle(folder: Path) -> None:
    chain = said(folder, "leaf.pem")[-1]
    assert chain.outcome == "warning"
    assert "unable to get local issuer certificate" in chain.text


def test_an_authority_that_nobody_trusts(folder: Path) -> None:
    assert said(folder, "full.pem", authority=None)[-1].outcome == "warning"


def test_another_key_another_name_and_nothing(folder: Path) -> None:
    wrong_key = list(examine(folder / "full.pem", folder / "root.key", NAMES, authority=folder / "root.pem"))
    assert [f.outcome for f in wrong_key] == ["good", "bad", "good"]
    (bad,) = [f for f in said(folder, "full.pem", names=("other.test",)) if f.outcome == "bad"]
    assert "other.test" in bad.text
    assert [f.outcome for f in said(folder, "absent.pem")] == ["bad"]
    assert [f.outcome for f in said(folder, "leaf.key")] == ["bad"]
