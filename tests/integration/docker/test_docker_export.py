"""What is left when one walks away from Lampstand: a Compose project, images that anybody can build."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import httpx
import pytest

from lampstand.targets.docker import builder
from lampstand.targets.docker.engine import DockerCli
from tests.integration.docker.conftest import ROOT, DockerSite, make_site, run
from tests.support import eventually

pytestmark = pytest.mark.timeout(600)  # the first test also waits for the images


def test_the_exported_project_works_with_compose_alone(engine: str, tmp_path: Path) -> None:
    assert engine
    site = make_site(tmp_path)
    folder = tmp_path / "walked-away"
    site.lampstand("export", "docker", "--to", str(folder))
    shutil.rmtree(site.project)
    compose = ("docker", "compose", "--progress", "plain")
    run(*compose, "config", "--quiet", cwd=folder)
    try:
        run(*compose, "up", "--detach", "--wait", "--wait-timeout", "300", cwd=folder, timeout=580)
        port = run(*compose, "port", "edge-fra", "8080", cwd=folder).strip().rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}/", timeout=10).status_code == 200
        # Its controller decides here too.
        first = run("docker", "exec", f"{site.name}-controller", "cat", "/site/memory.json")
        primary = first.partition('"database": "')[2].partition('"')[0]
        run("docker", "kill", f"{site.name}-{primary}")

        def another() -> bool:
            now = run("docker", "exec", f"{site.name}-controller", "cat", "/site/memory.json")
            return now.partition('"database": "')[2].partition('"')[0] not in ("", primary)

        eventually(another, 60, 0.2)
    finally:
        run(*compose, "down", "--volumes", "--timeout", "3", cwd=folder)
        for tag in run("docker", "images", "-q", f"lampstand/{site.name}-web").split():
            run("docker", "rmi", "--force", tag)


def test_images_build_without_buildkit_too(engine: str, tmp_path: Path) -> None:
    assert engine
    site = make_site(tmp_path)
    folder = tmp_path / "out"
    site.lampstand("export", "docker", "--to", str(folder))
    tag = f"lampstand-test/{site.name}"
    run(
        "docker",
        "build",
        "--tag",
        tag,
        str(folder / "images/cache"),
        env={"DOCKER_BUILDKIT": "0"},
        timeout=300,
    )
    assert run("docker", "run", "--rm", "--entrypoint", "redis-server", tag, "--version").startswith(
        "Redis server v=7"
    )
    run("docker", "rmi", "--force", tag)


def test_the_same_input_makes_the_same_files(engine: str, tmp_path: Path) -> None:
    assert engine
    site = make_site(tmp_path)
    folder = tmp_path / "out"
    site.lampstand("export", "docker", "--to", str(folder))
    cli = DockerCli("x", folder)
    tags = [f"lampstand-test/{site.name}:{number}" for number in (1, 2)]
    for tag in tags:
        run("docker", "build", "--no-cache", "--tag", tag, str(folder / "images/cache"), timeout=300)
    first, second = (asyncio.run(builder.lists(cli, tag, None)).files for tag in tags)
    for tag in tags:
        run("docker", "rmi", "--force", tag)
    assert len(first) > 1000
    assert first == second


def test_the_scripts_that_make_an_engine_are_executable() -> None:
    for name in ("engine.sh", "base-image.sh"):
        assert os.access(ROOT / "tests/testbed/docker" / name, os.X_OK)


def test_the_packages_of_an_image_are_listed_beside_it(site: DockerSite, tmp_path: Path) -> None:
    cli = DockerCli("x", tmp_path)
    tag = site.inspect("cache-1", "{{.Config.Image}}")
    found = asyncio.run(builder.lists(cli, tag, tmp_path / "cache"))
    assert found.sbom is not None
    document = json.loads(found.sbom.read_text())
    assert document["bomFormat"] == "CycloneDX"
    names = {component["name"] for component in document["components"]}
    assert {"redis-server", "libc6"} <= names
    assert "usr/bin/redis-server" in found.files
    assert len(found.digest) == 64
