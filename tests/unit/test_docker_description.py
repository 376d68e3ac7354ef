"""What a container's first process is told."""

from lampstand.targets.docker.description import description_file, encoded, log_files
from tests.docker_support import RELEASE, paper
from tests.web_support import golden

SITE: dict[str, object] = {"app": {"uploads": ["public/pictures"], "env": {"TWO": "a\nb%c"}}}


def test_the_descriptions_are_the_golden_ones() -> None:
    topology = paper(SITE).topology
    for name in ("web-1", "database-1", "gateway-1"):
        golden(
            f"docker/{name}.processes", description_file(topology.by_name[name], ["public/pictures"]).content
        )


def test_values_stay_on_their_line() -> None:
    assert encoded("a\nb%c\t") == "a%0ab%25c%09"
    text = description_file(paper(SITE).topology.by_name["web-1"]).content
    assert "env TWO=a%0ab%25c\n" in text


def test_it_holds_passwords_so_it_is_a_secret() -> None:
    file = description_file(paper(SITE).topology.by_name["web-1"])
    assert file.secret
    assert file.path == "/etc/lampstand/web-1/processes"


def test_every_log_that_a_configuration_names_is_linked() -> None:
    topology = paper(SITE).topology
    assert [p.rpartition("/")[2] for p in log_files(topology.by_name["web-1"])] == [
        "access.log", "error.log", "php-fpm.log", "php.log",
    ]  # fmt: skip
    assert log_files(topology.by_name["cache-1"]) == ["/var/log/lampstand/cache-1/redis.log"]
    assert log_files(topology.by_name["database-1"]) == []


def test_web_servers_alone_publish_their_release() -> None:
    topology = paper(SITE).topology
    publishing = {i.name for i in topology.instances if "\npublish " in description_file(i).content}
    assert publishing == {"web-1", "web-2"}
    assert f"publish /srv/lampstand/releases/{RELEASE} /srv/lampstand/shared {RELEASE} 604800\n" in (
        description_file(topology.by_name["web-1"], keep=604800.0).content
    )
