"""What the database tier renders, and what it refuses."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from lampstand.engines import for_debian
from lampstand.errors import LampstandError
from lampstand.site import Site
from lampstand.tiers.database import accounts
from lampstand.tiers.database.tier import buffer_pool, data_path, expand, role_file, seed_command
from lampstand.topology import Context, Endpoint, Folder, Instance

SECRETS = {name: f"{name} '\"\\ secret" for name in accounts.SECRET_OF.values()}


@dataclass
class Place:
    root: str = "/var/lib/lampstand/shop-1a2b3c4d"

    def bind(self, instance: str, port: str) -> tuple[str, int]:
        return "127.0.0.1", 20000 + int(instance.rpartition("-")[2])

    def reach(self, instance: str, port: str) -> tuple[str, int]:
        return self.bind(instance, port)

    def folder(self, instance: str, folder: Folder) -> str:
        return f"{self.root}/instances/{instance}/{folder}"

    def release(self, release: str) -> str:
        return release

    def uploads(self) -> str:
        return "/uploads"

    def public_url(self) -> str:
        return "http://127.0.0.1"


def servers(database: Mapping[str, object], root: str = Place.root) -> tuple[Instance, ...]:
    site = Site.model_validate({"database": database})
    return expand(Context(site, Place(root), for_debian("bookworm"), SECRETS, "r1"))


def my_cnf(instance: Instance) -> str:
    return next(f.content for f in instance.files if f.path.endswith("/my.cnf"))


def test_a_primary_and_its_replicas_differ_by_name_number_and_addresses_only() -> None:
    found = servers({"replicas": 2})
    assert [i.name for i in found] == ["database-1", "database-2", "database-3"]
    texts = {
        my_cnf(i)
        .replace(i.name, "NAME")
        .replace(f"2000{i.index}", "PORT")
        .replace(f"server_id = {i.index}", "ID")
        for i in found
    }
    assert len(texts) == 1


def test_roles_are_in_no_file_that_is_hashed() -> None:
    for instance in servers({}):
        assert "read_only = ON" in my_cnf(instance)
        assert "init_rpl_role" not in my_cnf(instance)
        (live,) = instance.live_files
        assert live == role_file(instance, deposed=False)
        assert "SLAVE" in role_file(instance, deposed=True).content


def test_the_same_site_renders_the_same_whatever_its_replicas() -> None:
    """A site that is scaled restarts no server."""
    assert my_cnf(servers({"replicas": 1})[0]) == my_cnf(servers({"replicas": 4})[0])
    assert servers({"replicas": 1})[0].config_hash == servers({"replicas": 4})[0].config_hash


def test_a_single_server_has_no_semi_sync() -> None:
    (single,) = servers({"replicas": 0})
    assert "semi_sync" not in my_cnf(single)
    assert "sync_binlog = 1" in my_cnf(single)


def test_settings_of_the_site_file_come_before_ours() -> None:
    text = my_cnf(servers({"settings": {"innodb_ft_min_token_size": "2", "table_open_cache": "4000"}})[0])
    assert text.index("innodb_ft_min_token_size = 2") < text.index("sync_binlog = 1")
    assert text.index("table_open_cache = 800") < text.index("table_open_cache = 4000")


@pytest.mark.parametrize(
    "key",
    [
        "sync_binlog",
        "rpl-semi-sync-master-timeout",
        "read_only",
        "loose_gtid_strict_mode",
        "datadir",
        "skip-grant-tables",
    ],
)
def test_settings_that_keep_acknowledged_writes_are_not_the_users(key: str) -> None:
    with pytest.raises(LampstandError, match=key):
        servers({"settings": {key: "0"}})


def test_a_socket_path_that_is_too_long_is_refused() -> None:
    with pytest.raises(LampstandError, match="107"):
        servers({}, root="/" + "long" * 30)


def test_passwords_are_in_secret_files_only_and_on_no_command_line() -> None:
    for instance in servers({}):
        for file in instance.files:
            assert file.secret == any(s.split()[0] in file.content for s in SECRETS.values()), file.path
        words = [*instance.processes[0].argv, *instance.prepare[0].argv]
        words += seed_command(
            instance, Endpoint("database-2", "mysql", "h", 1, "mysql"), "/data", "0-1-1", lock=True
        )
        assert not any(s.split()[0] in w for s in SECRETS.values() for w in words)


def test_data_lie_in_a_folder_of_their_own_that_appears_when_it_is_complete() -> None:
    (single,) = servers({"replicas": 0})
    assert data_path(single) == f"{Place.root}/instances/database-1/data/db"


@pytest.mark.parametrize(("memory", "pool"), [(64_000_000, 30), (128_000_000, 61), (2 << 30, 1024)])
def test_half_of_the_memory_is_the_buffer_pool(memory: int, pool: int) -> None:
    assert buffer_pool(memory) == pool << 20
