"""Facts, needs and installation of engines, without looking at the machine."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from lampstand import engines
from lampstand.engines import BOOKWORM, REQUIREMENTS, TRIXIE, Engine, Engines, Missing, Need, Requirement
from lampstand.engines.discover import LOOKUPS
from lampstand.engines.facts import NAMES, parse_version
from lampstand.engines.needs import parse_requirements
from lampstand.errors import EngineMissingError, ExitCode

ALL: frozenset[Need] = frozenset(r.need for r in REQUIREMENTS)
ROOT = Path(__file__).parents[2]


def with_packages(found: Engines, names: frozenset[str]) -> Engines:
    return replace(found, packages=names)


INSTALLED = frozenset(r.package for r in REQUIREMENTS)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1.22.1", (1, 22, 1)), ("10.11", (10, 11)), ("8.2.36-1~deb12u1", (8, 2)), ("", ()), ("x", ())],
)
def test_versions_compare_as_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_version(text) == numbers


def test_every_required_engine_is_a_field_and_can_be_looked_up() -> None:
    required = {r.engine for r in REQUIREMENTS if r.engine}
    assert required <= set(NAMES)
    assert {"php", "php_fpm", *LOOKUPS} == set(NAMES)


def test_no_package_name_carries_a_version() -> None:
    """php8.2-fpm exists in one release only."""
    for requirement in REQUIREMENTS:
        assert not re.search(r"\d\.\d", requirement.package), requirement


@pytest.mark.parametrize("release", [BOOKWORM, TRIXIE])
def test_both_releases_have_everything(release: Engines) -> None:
    assert all(release[name] for name in NAMES)
    assert engines.missing(with_packages(release, INSTALLED), ALL) == ()


def test_releases_differ_where_php_does() -> None:
    assert BOOKWORM.php_fpm.path == "/usr/sbin/php-fpm8.2"
    assert TRIXIE.php_fpm.path == "/usr/sbin/php-fpm8.4"
    assert engines.for_debian("trixie", "aarch64").vmod_xkey.path.startswith("/usr/lib/aarch64-linux-gnu/")


def test_an_engine_is_true_when_it_is_there() -> None:
    assert not Engines().nginx
    assert BOOKWORM["nginx"] is BOOKWORM.nginx
    with pytest.raises(KeyError):
        BOOKWORM["packages"]


def test_a_site_needs_its_language_and_no_other() -> None:
    assert engines.site_needs("php") == {"host", "php", "edge", "balancer", "web", "database", "cache"}
    assert engines.site_needs("perl", ["web"]) == {"host", "perl", "web"}
    assert "php-fpm" not in engines.packages(engines.site_needs("python"))
    assert engines.packages(["cache", "cache"]) == ("redis-server", "redis-tools")


def test_an_absent_engine_is_missing() -> None:
    bare = BOOKWORM.with_engines({"varnishd": Engine()})
    assert [str(m) for m in engines.missing(bare, ["edge"])] == ["varnish (edge): not found"]


def test_an_old_engine_is_missing_and_says_what_is_needed() -> None:
    old = BOOKWORM.with_engines({"varnishd": Engine("/usr/sbin/varnishd", "6.5.1")})
    (found,) = engines.missing(old, ["edge"])
    assert found.why == "/usr/sbin/varnishd is version 6.5.1, at least 7.1 is needed"


def test_an_engine_without_a_version_will_do() -> None:
    silent = BOOKWORM.with_engines({"varnishd": Engine("/usr/sbin/varnishd")})
    assert engines.missing(silent, ["edge"]) == ()


def test_packages_count_only_where_there_is_dpkg() -> None:
    assert engines.missing(BOOKWORM, ["php"]) == ()
    (found,) = engines.missing(with_packages(BOOKWORM, INSTALLED - {"php-gd"}), ["php"])
    assert (found.requirement.package, found.why) == ("php-gd", "not installed")


def test_what_is_missing_is_installed_by_one_command() -> None:
    lacking = engines.missing(Engines(packages=frozenset()), ["cache", "edge"])
    (command,) = engines.install_plan(lacking, as_root=False)
    script = Path(command[2])
    assert command[:2] == ("sudo", "sh")
    assert script.is_file()
    assert command[3:] == engines.packages(["cache", "edge"])
    assert engines.install_plan(lacking, as_root=True) == (command[1:],)
    assert engines.install_plan((), as_root=True) == ()


def test_requiring_says_what_is_missing_and_how_to_mend_it() -> None:
    engines.require(BOOKWORM, engines.site_needs("php"))
    with pytest.raises(EngineMissingError) as caught:
        engines.require(Engines(), ["cache"])
    assert caught.value.exit_code is ExitCode.ENGINE_MISSING
    assert "redis-server (cache): not found" in caught.value.what
    assert caught.value.mend is not None
    assert "redis-server redis-tools" in caught.value.mend


def test_a_row_that_is_no_requirement_is_refused() -> None:
    assert parse_requirements("# note\n\nedge - varnish -\n") == (Requirement("edge", "", "varnish", ""),)
    for row in ("edge varnishd varnish", "no-such-need - varnish -"):
        with pytest.raises(ValueError, match=r"debian\.txt:1"):
            parse_requirements(row)


def test_missing_reads_as_a_sentence() -> None:
    assert (
        str(Missing(Requirement("edge", "", "varnish", ""), "not installed"))
        == "varnish (edge): not installed"
    )


@pytest.mark.parametrize("script", ["bin/setup", "bin/up", "bin/test", "src/lampstand/engines/install.sh"])
def test_scripts_are_posix_shell(script: str) -> None:
    """dash, Debian's /bin/sh, reads them; so does an ordinary user, who may run them."""
    path = ROOT / script
    subprocess.run(["/bin/sh", "-n", str(path)], check=True)
    assert path.stat().st_mode & 0o055 == 0o055


def test_locks_name_no_registry() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock"):
        lines = (ROOT / lock).read_text("utf-8").splitlines()
        assert not any("://" in line or line.startswith("-") for line in lines)
        pinned = sum("==" in line.partition(";")[0] for line in lines)
        assert pinned == sum(line.strip().startswith("--hash=") and not line.endswith("\\") for line in lines)
