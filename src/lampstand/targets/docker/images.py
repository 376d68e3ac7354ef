"""The images of a site: one Dockerfile for each tier, from the same Debian base. The texts are pure.

A tag names the content of what an image is built from, so an image that exists under its tag is the one that is wanted.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import lampstand
from lampstand.engines import BOOKWORM, TRIXIE, Engines, needs_of, packages
from lampstand.errors import LampstandError
from lampstand.files import write_text
from lampstand.releases.package import Source, copy_sources, read_sources, release_id
from lampstand.site import Site
from lampstand.targets.docker.placement import DATA, LOGS, PUBLISHED, RELEASES, SOCKETS, UPLOADS
from lampstand.tiers.web.build import recipe
from lampstand.topology import TierName

_ROOM = Path(__file__).parent / "images"
_CODE = Path(lampstand.__file__).parent
INIT = "lampstand-init"
_ACCOUNTS: Mapping[str, tuple[str, int]] = {
    "balancer": ("www-data", 0), "database": ("mysql", 901), "cache": ("redis", 902), "edge": ("vcache", 903),
}  # fmt: skip
"""Account of each server image and its number; 0 where Debian's base gives it one (base-passwd)."""

_VOLUMES: Mapping[str, tuple[str, ...]] = {
    "database": (DATA,), "cache": (DATA,), "balancer": (RELEASES, UPLOADS), "web": (UPLOADS, PUBLISHED), "edge": (),
}  # fmt: skip
"""Where volumes are mounted: an empty volume takes the owner of the folder that it covers."""


IMPORTED = ("jinja2", "prometheus-client", "pydantic", "pymysql", "redis", "starlette", "uvicorn")
"""The distributions that the controller and the build of a release import; a subset of Lampstand's own dependencies."""

BUILD_ARGUMENTS = ("PIP_INDEX_URL", "COMPOSER_AUTH", "NPM_CONFIG_REGISTRY")
"""Variables of the caller that a build sees, in stages that are not part of the image."""


def _scratch(image: str) -> list[str]:
    """Where memory is mounted: a tmpfs takes the mode of the folder that it covers, whatever its own option says."""
    return [path for path in (LOGS, SOCKETS, DATA) if path not in _VOLUMES[image]]


@dataclass(frozen=True)
class Image:
    """One image and what it is built from."""

    name: str
    tag: str
    files: Mapping[str, str]
    """Small files of the build context, by name; `Dockerfile` is one of them."""
    code: bool = False
    """The context also holds Lampstand itself."""
    source: tuple[Source, ...] = ()
    """The application's files, for the image of the web servers."""


@dataclass(frozen=True)
class Application:
    """The application as it lies in the project's folder."""

    project: Path
    sources: tuple[Source, ...]
    release: str
    commit: str | None = None


def engines_of(base: str) -> Engines:
    """Where the engines lie in images of that base. Raises LampstandError for a base that is no known Debian."""
    for release, engines in (("bookworm", BOOKWORM), ("trixie", TRIXIE)):
        if release in base:
            return engines
    raise LampstandError(
        f"nothing is known about the image {base!r}", "targets.docker.base", "use debian:bookworm-slim"
    )


def read_application(site: Site, project: Path, commit: str | None = None) -> Application:
    """The files that make a release, and its id. Raises LampstandError when there are none."""
    sources = read_sources(project, site.app.uploads)
    if not sources:
        raise LampstandError(
            "the folder has no application", str(project), "put the site file beside the application"
        )
    release = release_id(sources, recipe(site, engines_of(site.targets.docker.base)))
    return Application(project, tuple(sources), release, commit)


def images(
    site: Site, application: Application, code: str, requirements: str, tiers: Iterable[TierName] = ()
) -> dict[str, Image]:
    """The images of a site by name: those of its tiers, and `controller`. Pure.

    `code` is the digest of Lampstand itself, `requirements` what it needs, pinned.
    """
    found = {tier: _server(site, tier) for tier in ("edge", "balancer", "database", "cache") if tier in tiers}
    found["web"] = _web(site, application, requirements)
    found["controller"] = _controller(site, code, requirements)
    return found


def server_packages(site: Site, tier: TierName) -> tuple[str, ...]:
    """Debian packages of the servers of a tier."""
    if tier == "web":
        extra = ("python3",) if site.app.jobs else ()
        return tuple(sorted({*packages(("web", site.app.runtime)), *extra}))
    if tier == "edge" and (site.tls.enabled or site.cdn.visitors is not None):
        # The visitors' entry: nginx, and what its certificates and places need.
        return packages({tier, "balancer", *(needs_of(site) & {"tls", "acme", "places"})})
    # On AWS the gateway checks the certificates of managed Redis.
    return tuple(sorted({*packages((tier,)), *(["ca-certificates"] if tier == "balancer" else [])}))


def _server(site: Site, tier: TierName) -> Image:
    user, number = _ACCOUNTS[tier]
    dockerfile = _render(
        "Dockerfile.server.j2",
        tier=tier,
        base=site.targets.docker.base,
        packages=server_packages(site, tier),
        user=user,
        number=number,
        volumes=_VOLUMES[tier],
        scratch=_scratch(tier),
        version=lampstand.__version__,
    )
    files = {"Dockerfile": dockerfile, INIT: _text(INIT)}
    return Image(tier, _tag(site, tier, _digest(files)), files)


def _web(site: Site, application: Application, requirements: str) -> Image:
    names = {s.path for s in application.sources}
    build = {"ca-certificates", "python3"}
    if site.app.runtime == "python":
        build |= {"python3-venv"}
    if "composer.json" in names and not any(n.startswith("vendor/") for n in names):
        build |= {"composer", "unzip"}
    if "cpanfile" in names:
        build |= {"cpanminus", "make"}
    dockerfile = _render(
        "Dockerfile.web.j2",
        site=site.site,
        base=site.targets.docker.base,
        packages=server_packages(site, "web"),
        build_packages=sorted(build),
        build_args=BUILD_ARGUMENTS,
        volumes=_VOLUMES["web"],
        scratch=_scratch("web"),
        release=application.release,
        revision=application.commit or "",
    )
    files = {
        "Dockerfile": dockerfile,
        INIT: _text(INIT),
        "requirements.txt": requirements,
        "site.json": json.dumps(
            {"site": site.site, "app": site.app.model_dump(mode="json", exclude_unset=True)}, indent=1
        ),
    }
    # The release's id covers the code that builds it (RECIPE): a newer Lampstand alone is no reason to ship again.
    version = f"{application.release}-{_digest({n: files[n] for n in ('Dockerfile', INIT)})[:6]}"
    return Image("web", _tag(site, "web", version), files, True, application.sources)


def _controller(site: Site, code: str, requirements: str) -> Image:
    dockerfile = _render(
        "Dockerfile.controller.j2", base=site.targets.docker.base, version=lampstand.__version__
    )
    files = {"Dockerfile": dockerfile, "requirements.txt": requirements}
    return Image("controller", _tag(site, "controller", _digest(files | {"code": code})), files, True)


def _tag(site: Site, name: str, version: str) -> str:
    registry = site.targets.docker.registry
    own = "web" if registry else f"{site.site}-web"
    return f"{registry or 'lampstand'}/{own if name == 'web' else name}:{version}"


def _digest(files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:12]


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(_ROOM), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip


def _render(template: str, **variables: object) -> str:
    text = _templates().get_template(template).render(**variables)
    return re.sub(r"\n{3,}", "\n\n", text.lstrip("\n"))


def _text(name: str) -> str:
    return (_ROOM / name).read_text("utf-8")


# -- the build context on disk -----------------------------------------------------------------------------------------


def write_context(image: Image, project: Path, folder: Path) -> None:
    """Write what `docker build FOLDER` needs."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in image.files.items():
        write_text(folder / name, text, 0o755 if name == INIT else 0o644)
    if image.code:
        for path in _code_files():
            target = folder / "lampstand" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_CODE / path, target)
            target.chmod(0o644)
    if image.source:
        copy_sources(project, list(image.source), folder / "source")


def code_digest() -> str:
    """The digest of Lampstand's own files, which the controller runs."""
    digest = hashlib.sha256()
    for path in _code_files():
        digest.update(f"{path}\0".encode() + hashlib.sha256((_CODE / path).read_bytes()).digest())
    return digest.hexdigest()[:12]


def _code_files() -> list[str]:
    found: list[str] = []
    for folder, folders, names in os.walk(_CODE):
        folders[:] = [f for f in folders if f != "__pycache__"]
        found += [
            os.path.relpath(os.path.join(folder, n), _CODE) for n in names if not n.endswith((".pyc", ".md"))
        ]
    return sorted(found)


def pinned_requirements(*more: str) -> str:
    """What the controller imports, and what that needs, in exactly the versions that run here, one a line; `more` are
    distributions that a target's own controller imports."""
    wanted: list[str] = [*IMPORTED, *more]
    found: dict[str, str] = {}
    while wanted:
        try:
            distribution = metadata.distribution(wanted.pop())
        except metadata.PackageNotFoundError:
            continue  # needed on other platforms or versions of Python
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        if name in found:
            continue
        found[name] = distribution.version
        needs = [r for r in distribution.requires or () if "extra ==" not in r]
        wanted += re.findall(r"(?m)^[A-Za-z0-9._-]+", "\n".join(needs))
    return "".join(f"{name}=={version}\n" for name, version in sorted(found.items()))
