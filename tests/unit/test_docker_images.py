"""The Dockerfiles on paper."""

import re
import subprocess
from pathlib import Path

import pytest

from lampstand.errors import LampstandError
from lampstand.releases.package import Source
from lampstand.site import Site
from lampstand.targets.docker.images import (
    INIT,
    Application,
    Image,
    code_digest,
    engines_of,
    images,
    pinned_requirements,
    write_context,
)
from tests.web_support import golden

TIERS = ("edge", "balancer", "database", "cache")


def made(site: dict[str, object], *paths: str, release: str = "0123456789ab") -> dict[str, Image]:
    model = Site.model_validate({"site": "shop", **site})
    sources = tuple(Source(path, 0o644, "0" * 64) for path in paths or ("index.php",))
    return images(model, Application(Path("/nowhere"), sources, release), "c0de", "jinja2==3.1\n", TIERS)


def test_the_dockerfiles_are_the_golden_ones() -> None:
    for name, image in made({}).items():
        golden(
            f"docker/Dockerfile.{name}", re.sub(r'version="[^"]*"$', 'version="V"', image.files["Dockerfile"])
        )


@pytest.mark.parametrize("image", made({}).values(), ids=lambda i: i.name)
def test_every_stage_begins_with_the_base_or_a_stage_before(image: Image) -> None:
    stages = {"debian:bookworm-slim"}
    for line in image.files["Dockerfile"].splitlines():
        if line.startswith("FROM "):
            words = line.split()
            assert words[1] in stages
            stages.add(words[-1])


@pytest.mark.parametrize("image", made({}).values(), ids=lambda i: i.name)
def test_nothing_is_used_that_old_engines_or_builders_do_not_know(image: Image) -> None:
    text = image.files["Dockerfile"]
    assert "# syntax=" not in text
    assert "<<" not in text
    assert "--mount" not in text
    assert "start-interval" not in text
    assert "--chmod" not in text


@pytest.mark.parametrize("image", made({}).values(), ids=lambda i: i.name)
def test_the_last_stage_has_an_account_a_health_check_and_labels(image: Image) -> None:
    last = image.files["Dockerfile"].rpartition("\nFROM ")[2]
    user = re.findall(r"^USER (.*)$", last, re.MULTILINE)
    assert user
    assert user[-1] != "root"
    assert "HEALTHCHECK" in last
    assert "org.opencontainers.image.title" in last
    assert "ENTRYPOINT" in last


def test_accounts_have_numbers_that_do_not_change() -> None:
    found = made({})
    assert "--uid 901 " in found["database"].files["Dockerfile"]
    assert "--uid 902 " in found["cache"].files["Dockerfile"]


def test_tags_follow_the_content() -> None:
    first, second = made({}), made({}, release="ba9876543210")
    assert first["web"].tag != second["web"].tag
    assert first["web"].tag.startswith("lampstand/shop-web:0123456789ab-")
    assert {n: i.tag for n, i in first.items() if n != "web"} == {
        n: i.tag for n, i in second.items() if n != "web"
    }
    fewer = made({"web": {"servers": 7}, "database": {"replicas": 0}})
    assert {n: i.tag for n, i in first.items()} == {n: i.tag for n, i in fewer.items()}, (
        "numbers are in no image"
    )


def test_a_registry_names_all_images() -> None:
    found = made({"targets": {"docker": {"registry": "registry.example.com/shop"}}})
    assert found["web"].tag.startswith("registry.example.com/shop/web:")
    assert found["edge"].tag.startswith("registry.example.com/shop/edge:")


def test_composer_and_cpanm_are_there_while_building_only() -> None:
    text = made({}, "index.php", "composer.json")["web"].files["Dockerfile"]
    before, _, after = text.partition("AS build\n")
    assert "      composer \\" in after.partition("\nFROM ")[0]
    assert "composer \\" not in before
    assert "composer \\" not in made({}, "composer.json", "vendor/autoload.php")["web"].files["Dockerfile"]
    assert (
        "cpanminus"
        in made({"app": {"runtime": "perl", "entry": "app.psgi"}}, "cpanfile")["web"].files["Dockerfile"]
    )


def test_an_unknown_base_is_refused() -> None:
    assert engines_of("debian:trixie-slim").php.version == "8.4"
    with pytest.raises(LampstandError, match=r"alpine:3\.20"):
        engines_of("alpine:3.20")


def test_requirements_are_pinned_and_hold_what_they_need() -> None:
    lines = dict(line.split("==") for line in pinned_requirements().splitlines())
    assert {"pydantic", "pydantic-core", "pymysql", "uvicorn", "h11"} <= lines.keys()
    assert "typer" not in lines


def test_a_context_holds_the_code_without_what_python_makes_of_it(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project/index.php").write_text("<?php")
    image = made({})["web"]
    write_context(image, tmp_path / "project", tmp_path / "context")
    names = {
        str(p.relative_to(tmp_path / "context")) for p in (tmp_path / "context").rglob("*") if p.is_file()
    }
    assert {"Dockerfile", "lampstand-init", "site.json", "source/index.php", "lampstand/topology.py"} <= names
    assert "lampstand/tiers/database/my.cnf.j2" in names
    assert not any("__pycache__" in n or n.endswith(".pyc") for n in names)
    assert code_digest() == code_digest()


def test_the_first_process_is_a_program() -> None:
    for name, image in made({}).items():
        if name != "controller":
            done = subprocess.run(
                ["perl", "-c"], input=image.files[INIT], text=True, capture_output=True, check=False
            )
            assert done.returncode == 0, f"{name}: {done.stderr}"
