"""Real Redis servers with the rendered configuration: roles, what survives a restart, who may do what."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping

import pytest
import redis
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, OutOfMemoryError, ReadOnlyError

from lampstand.errors import LampstandError, TimedOutError
from lampstand.observed import CacheFacts
from lampstand.tiers.cache import roles
from lampstand.tiers.cache.probe import CacheProber, probe
from lampstand.tiers.cache.tier import expand
from lampstand.topology import Context, Instance
from tests.integration.local.launch import Running, context, ground, launch
from tests.support import eventually

PASSWORDS = {"cache": 'pass " word\\$', "sessions": "it's #1 pass", "cache_admin": 'ad"min\\ pass'}


class Group:
    """Running servers of one site."""

    def __init__(self, described: Context, running: Mapping[str, Running]) -> None:
        self.secrets = described.secrets
        self.running = running

    def instance(self, name: str) -> Instance:
        return self.running[name].instance

    def facts(self, name: str) -> CacheFacts:
        return asyncio.run(probe(self.instance(name), self.secrets))

    def promote(self, name: str) -> None:
        asyncio.run(roles.promote(self.instance(name), self.secrets.__getitem__, deadline=5))

    def follow(self, name: str, primary: str) -> None:
        asyncio.run(
            roles.follow(self.instance(name), self.instance(primary), self.secrets.__getitem__, deadline=5)
        )
        eventually(lambda: self.facts(name).link_up)

    def client(self, name: str) -> redis.Redis:
        """As the application."""
        instance = self.instance(name)
        return redis.Redis(
            port=instance.endpoints[0].port, password=self.secrets[instance.kind], socket_timeout=5
        )

    def restart(self, name: str) -> None:
        """As a power cut and whatever starts servers again would."""
        self.running[name].kill()
        self.running[name].start(self.instance(name).processes[0])
        eventually(lambda: self.facts(name).answered)


@contextlib.contextmanager
def group(kind: str, site: Mapping[str, object] | None = None) -> Iterator[Group]:
    with ground() as place, contextlib.ExitStack() as stack:
        described = context(place, site or {}, **PASSWORDS)
        chosen = [i for i in expand(described) if i.kind == kind]
        made = Group(described, {i.name: stack.enter_context(launch(i, place)) for i in chosen})
        for instance in chosen:
            eventually(lambda name=instance.name: made.facts(name).answered)
        yield made


@pytest.fixture
def sessions() -> Iterator[Group]:
    with group("sessions") as made:
        yield made


@pytest.fixture
def cache() -> Iterator[Group]:
    with group("cache") as made:
        yield made


def test_every_server_starts_as_a_replica_of_nobody(sessions: Group) -> None:
    for name in ("sessions-1", "sessions-2"):
        facts = sessions.facts(name)
        assert (facts.role, facts.source, facts.link_up) == ("slave", "", False)
        with sessions.client(name) as client, pytest.raises(ReadOnlyError):
            client.set("a", 1)


def test_roles_may_be_given_again_and_again(sessions: Group) -> None:
    for _ in range(2):
        sessions.promote("sessions-1")
        sessions.follow("sessions-2", "sessions-1")
    assert sessions.facts("sessions-1").role == "master"
    assert sessions.facts("sessions-2").source == sessions.instance("sessions-1").endpoints[0].address
    with sessions.client("sessions-1") as client, sessions.client("sessions-2") as replica:
        client.set("a", 1)
        assert client.execute_command("WAIT", 1, 3000) == 1
        assert replica.get("a") == b"1"
    one, two = sessions.facts("sessions-1"), sessions.facts("sessions-2")
    assert one.replication_id == two.replication_id
    assert one.offset
    assert two.offset


def test_a_restarted_primary_is_no_primary_and_empties_no_replica(cache: Group) -> None:
    cache.promote("cache-1")
    cache.follow("cache-2", "cache-1")
    with cache.client("cache-1") as client:
        client.set("page", "value")
        client.execute_command("WAIT", 1, 3000)
    cache.restart("cache-1")  # comes back with nothing
    assert cache.facts("cache-1").role == "slave"
    eventually(lambda: cache.facts("cache-2").link_up is False)
    time_to_try = time.monotonic() + 2.5  # the replica tries to follow once a second
    while time.monotonic() < time_to_try:
        with cache.client("cache-2") as client:
            assert client.get("page") == b"value"
        assert cache.facts("cache-2").link_up is False
    cache.promote("cache-2")
    cache.follow("cache-1", "cache-2")
    with cache.client("cache-1") as client:
        assert client.get("page") == b"value"


def test_sessions_outlive_a_power_cut(sessions: Group) -> None:
    sessions.promote("sessions-1")
    with sessions.client("sessions-1") as client:
        client.set("session", "logged in")
    eventually(lambda: "0" in _pending(sessions, "sessions-1"))
    sessions.restart("sessions-1")
    with sessions.client("sessions-1") as client:
        assert client.get("session") == b"logged in"
    sessions.promote("sessions-1")
    with sessions.client("sessions-1") as client:
        assert client.set("session", "still") is True


def _pending(made: Group, name: str) -> str:
    """Buffered bytes of the append-only file; 0 when all is with the kernel."""
    with made.client(name) as client:
        return str(client.info("persistence").get("aof_buffer_length", 0))


def test_without_replicas_one_server_is_enough() -> None:
    with group("sessions", {"sessions": {"replicas": 0}}) as single:
        assert list(single.running) == ["sessions-1"]
        single.promote("sessions-1")
        with single.client("sessions-1") as client:
            assert client.set("a", 1) is True


def test_a_full_cache_evicts_and_full_sessions_refuse() -> None:
    for kind in ("cache", "sessions"):
        with group(kind, {kind: {"memory": "4MiB", "replicas": 0}}) as small:
            small.promote(f"{kind}-1")
            with small.client(f"{kind}-1") as client:
                write = lambda client=client: [client.set(f"k{n}", "x" * 10_000) for n in range(1000)]  # noqa: E731
                if kind == "cache":
                    write()
                    assert client.info("stats")["evicted_keys"] > 0
                else:
                    with pytest.raises(OutOfMemoryError):
                        write()
                    assert client.get("k0") is not None


@pytest.mark.parametrize(
    "words",
    [
        "CONFIG GET *",
        "CONFIG SET dir /tmp",
        "REPLICAOF NO ONE",
        "SHUTDOWN NOSAVE",
        "ACL LIST",
        "BGSAVE",
        "MONITOR",
        "FLUSHALL",
    ],
)
def test_the_application_cannot_change_the_server(sessions: Group, words: str) -> None:
    with sessions.client("sessions-1") as client, pytest.raises(NoPermissionError):
        client.execute_command(*words.split())


def test_the_application_may_use_its_data(cache: Group) -> None:
    cache.promote("cache-1")
    with cache.client("cache-1") as client:
        client.set("a", 1)
        assert client.keys("*") == [b"a"]
        assert client.info()["redis_version"]
        assert client.eval("return redis.call('GET', 'a')", 0) == b"1"
        assert client.flushdb() is True


def test_passwords_are_asked_for_and_are_not_on_the_command_line(sessions: Group) -> None:
    instance = sessions.instance("sessions-1")
    with (
        redis.Redis(port=instance.endpoints[0].port, socket_timeout=5) as nobody,
        pytest.raises(AuthenticationError),
    ):
        nobody.get("a")
    argv = " ".join(instance.processes[0].argv)
    assert not any(word in argv for word in PASSWORDS.values())
    assert all(file.secret and file.mode == 0o600 for file in instance.files)
    assert PASSWORDS["sessions"] not in instance.files[0].content


def test_a_deposed_primary_takes_no_writes_and_sends_its_clients_away(sessions: Group) -> None:
    sessions.promote("sessions-1")
    with sessions.client("sessions-1") as client:
        client.set("a", 1)
        asyncio.run(roles.depose(sessions.instance("sessions-1"), sessions.secrets.__getitem__, deadline=5))
        with pytest.raises(ReadOnlyError):
            client.set("a", 2)
        assert client.get("a") == b"1"


def test_the_prober_keeps_its_connection_and_bounds_its_time(sessions: Group) -> None:
    instance = sessions.instance("sessions-1")
    pid = sessions.running["sessions-1"].children["redis"].pid

    async def story() -> None:
        prober = CacheProber(sessions.secrets.__getitem__)
        try:
            for _ in range(5):
                assert (await prober.ask(instance)).answered
            assert await _connections(prober, instance) == 1
            os.kill(pid, signal.SIGSTOP)
            begun = time.monotonic()
            frozen = await prober.ask(instance)
            assert time.monotonic() - begun < instance.probe.timeout + 0.3
            assert (frozen.answered, frozen.error) == (False, "does not answer within 0.5 s")
            os.kill(pid, signal.SIGCONT)
            assert (await prober.ask(instance)).answered
            sessions.running["sessions-1"].kill()
            assert (await prober.ask(instance)).error
            dead = await prober.ask(instance)
            assert (dead.answered, dead.error) == (False, "refuses connections")
        finally:
            await prober.close()

    asyncio.run(story())


async def _connections(prober: CacheProber, instance: Instance) -> int:
    """Connections the server has had as clients, but for the one that asks."""
    client = Redis(
        port=instance.endpoints[0].port,
        username="lampstand",
        password=PASSWORDS["cache_admin"],
        single_connection_client=True,
    )
    async with client:
        return len([c for c in await client.client_list() if c["cmd"] == "info"])


def test_a_server_that_is_gone_or_frozen_takes_no_role(sessions: Group) -> None:
    running = sessions.running["sessions-1"]
    refused: Callable[[float], None] = lambda seconds: asyncio.run(  # noqa: E731
        roles.promote(running.instance, sessions.secrets.__getitem__, deadline=seconds)
    )
    os.kill(running.children["redis"].pid, signal.SIGSTOP)
    with pytest.raises(TimedOutError, match="REPLICAOF"):
        refused(0.3)
    running.kill()
    with pytest.raises(LampstandError, match="REPLICAOF"):
        refused(0.3)
