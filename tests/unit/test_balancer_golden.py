"""The rendered configuration of balancer, gateway, cache and sessions, for three sites, as text.

`LAMPSTAND_GOLDEN=write` writes the texts instead of comparing; the difference is then for the reader of the change.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from lampstand.engines import BOOKWORM, TRIXIE
from lampstand.site import Site
from lampstand.tiers.balancer import tier as balancer
from lampstand.tiers.cache import tier as cache
from lampstand.topology import SECRETS, Context, Folder, Instance

GOLDEN = Path(__file__).parents[1] / "golden"

SITES: dict[str, dict[str, object]] = {
    "minimal": {"site": "shop", "app": {"root": "public"}},
    "python": {
        "site": "shop",
        "app": {
            "runtime": "python",
            "entry": "shop.wsgi:application",
            "static": [
                {"match": "/static/*", "folder": "staticfiles"},
                {"match": "/media/*", "folder": "media"},
            ],
            "uploads": "media",
        },
        "cdn": {"edges": []},
        "database": {"replicas": 0},
        "cache": {"replicas": 0},
        "sessions": {"replicas": 0},
    },
    "everything": {
        "site": "shop",
        "app": {"root": 'pub"lic $HOME', "uploads": ['pub"lic $HOME/uploads']},
        "balancer": {
            "servers": 2,
            "processes": 4,
            "connections": 16384,
            "body_limit": "1GiB",
            "header_limit": "64KiB",
            "timeouts": {"connect": "500ms", "read": "5m"},
            "rate_limit": {
                "per_client": "50/s",
                "connections": 40,
                "paths": [{"match": ["/login", "/wp-*.php"], "per_client": "10/m", "burst": 0}],
                "exempt": "10.0.0.0/8",
            },
            "gzip": False,
            "trusted": ["198.51.100.0/24"],
            "allow": ["192.0.2.0/24", "2001:db8::/32"],
            "deny": ["192.0.2.66"],
            "memory": "128MB",
        },
        "web": {"servers": 3},
        "cache": {"memory": "512MB", "replicas": 2},
    },
}


class Everywhere:
    """A Placement with folders and ports that never change."""

    def bind(self, instance: str, port: str) -> tuple[str, int]:
        return "127.0.0.1", 20_000 + sum(map(ord, f"{instance}/{port}"))

    def reach(self, instance: str, port: str) -> tuple[str, int]:
        return self.bind(instance, port)

    def folder(self, instance: str, folder: Folder) -> str:
        return f"/var/lib/lampstand/shop/instances/{instance}/{folder}"

    def release(self, release: str) -> str:
        return f"/var/lib/lampstand/shop/releases/{release}"

    def uploads(self) -> str:
        return "/var/lib/lampstand/shop/uploads"

    def public_url(self) -> str:
        return "http://127.0.0.1:20000"


def context(name: str) -> Context:
    secrets = {secret: f"{secret}-password" for secret in SECRETS}
    return Context(Site.model_validate(SITES[name]), Everywhere(), BOOKWORM, secrets, "r1")


def texts(instances: Iterable[Instance]) -> str:
    """Commands and files of some instances, one after the other."""
    parts: list[str] = []
    for instance in instances:
        for process in instance.processes:
            parts.append(f"===== {instance.name}: {' '.join(process.argv)}")
            parts.append(
                f"account {process.account}, {process.stop_signal.name} for {process.stop_seconds:g} s"
            )
        parts += [f"----- {f.path} {f.mode:o} {f.on_change}\n{f.content}" for f in instance.files]
        parts += [f"----- {f.path} live\n{f.content}" for f in instance.live_files]
    return "\n".join(parts)


def compare(path: Path, text: str) -> None:
    if os.environ.get("LAMPSTAND_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", SITES)
def test_balancer(name: str) -> None:
    compare(GOLDEN / "balancer" / f"{name}.txt", texts(balancer.expand(context(name))))


@pytest.mark.parametrize("name", SITES)
def test_cache(name: str) -> None:
    compare(GOLDEN / "cache" / f"{name}.txt", texts(cache.expand(context(name))))


@pytest.mark.parametrize("name", SITES)
def test_instances_have_what_others_ask_of_them(name: str) -> None:
    described = context(name)
    found = {i.name: i for i in (*balancer.expand(described), *cache.expand(described))}
    assert len([i for i in found.values() if i.kind == "balancer"]) == described.site.balancer.servers
    for instance in found.values():
        assert instance.endpoint(instance.probe.endpoint)
        assert all(need in found or need.startswith(("web-", "database-")) for need in instance.needs)
    gateway = found["gateway-1"]
    assert [(e.name, e.protocol) for e in gateway.endpoints] == [
        ("writer", "mysql"), ("reader", "mysql"), ("cache", "redis"), ("sessions", "redis"), ("status", "tcp"),
    ]  # fmt: skip
    assert gateway.needs[: 1 + described.site.database.replicas][-1].startswith("database-")


def test_only_live_files_name_servers() -> None:
    """Whoever serves changes no hash: roles and health are not the configuration's business."""
    described = context("everything")
    (first, *_) = balancer.expand(described)
    addresses = [f"127.0.0.1:{described.placement.reach(f'web-{n}', 'http')[1]}" for n in (1, 2, 3)]
    assert not any(a in f.content for a in addresses for f in first.files)
    assert all(f.on_change == "reload" for f in first.files)


def test_secrets_are_in_secret_files_only() -> None:
    for instance in (*balancer.expand(context("minimal")), *cache.expand(context("minimal"))):
        for file in (*instance.files, *instance.live_files):
            assert file.secret == ("password" in file.content and "_admin-password" in file.content)
            assert not file.secret or file.mode == 0o600


def test_older_redis_gets_no_directive_it_does_not_know() -> None:
    from dataclasses import replace

    old = BOOKWORM.with_engines({"redis_server": replace(BOOKWORM.redis_server, version="6.2.7")})
    described = replace(context("minimal"), engines=old)
    assert all("shutdown-timeout" not in i.files[0].content for i in cache.expand(described))
    newer = replace(context("minimal"), engines=TRIXIE)
    assert all("shutdown-timeout" in i.files[0].content for i in cache.expand(newer))
