"""A real nginx with the rendered configuration of the gateway, in front of TCP servers and of real Redis servers."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest
import redis

from lampstand.controller.problems import Memory, View
from lampstand.controller.routes import routes
from lampstand.observed import Health, Observed, ObservedInstance, State
from lampstand.tiers.balancer import live, tier
from lampstand.tiers.balancer.live import Server
from lampstand.tiers.balancer.reload import reload_nginx, workers
from lampstand.tiers.cache import roles
from lampstand.tiers.cache.tier import expand as expand_cache
from lampstand.topology import Context, Instance, Topology
from tests.integration.local.balancer_backend import route
from tests.integration.local.launch import Ground, Running, context, ground, launch
from tests.support import eventually, free_port


@dataclass
class Teller:
    """A TCP server that says its name and then sends back what it gets."""

    name: str
    port: int

    @property
    def server(self) -> Server:
        return Server(self.name, "127.0.0.1", self.port)


@contextlib.contextmanager
def teller(name: str) -> Iterator[Teller]:
    listening = socket.create_server(("127.0.0.1", 0), backlog=100)

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.sendall(f"{name}\n".encode())
            while data := connection.recv(1000):
                connection.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield Teller(name, listening.getsockname()[1])
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


class Gateway:
    """A running gateway."""

    def __init__(self, running: Running) -> None:
        self.running = running

    @property
    def instance(self) -> Instance:
        return self.running.instance

    @property
    def master(self) -> int:
        return self.running.children["nginx"].pid

    def port(self, name: str) -> int:
        return self.instance.endpoint(name).port

    def turn(self, *, drop: bool = False, **servers: list[Server]) -> None:
        """Other servers behind the ports, effective when this returns."""
        ports = [(port, servers.get(port, [])) for port, _ in tier.GATEWAY_PORTS]
        route(self.instance, live.gateway_routes(ports))
        asyncio.run(reload_nginx(self.master, drop_old_connections=drop))

    def connect(self, name: str) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port(name)), 5)

    def who(self, name: str) -> str:
        """The name of the server behind a port, empty when the connection is closed."""
        with self.connect(name) as connection:
            return connection.recv(100).decode().strip()


@contextlib.contextmanager
def gateway(described: Context) -> Iterator[Gateway]:
    instance = next(i for i in tier.expand(described) if i.kind == "gateway")
    assert isinstance(described.placement, Ground)
    with launch(instance, described.placement) as running:
        made = Gateway(running)
        eventually(lambda: made.who("status"))
        yield made


@pytest.fixture
def alone() -> Iterator[Gateway]:
    with ground() as place, gateway(context(place, {})) as made:
        yield made


def test_without_a_server_a_connection_is_closed_at_once(alone: Gateway) -> None:
    begun = time.monotonic()
    for port in ("writer", "reader", "cache", "sessions"):
        assert alone.who(port) == ""
    assert time.monotonic() - begun < 1.0


def test_each_port_leads_to_its_servers_and_the_status_port_tells_which_routes_count(alone: Gateway) -> None:
    with teller("database-1") as one, teller("database-2") as two, teller("database-3") as three:
        before = alone.who("status")
        alone.turn(writer=[one.server], reader=[two.server, three.server])
        assert alone.who("writer") == "database-1"
        assert {alone.who("reader") for _ in range(20)} == {"database-2", "database-3"}
        assert alone.who("cache") == ""
        assert alone.who("status") != before
        assert alone.who("status") in next(iter(written(alone.instance)))


def written(instance: Instance) -> list[str]:
    return [open(file.path).read() for file in instance.live_files]


def test_a_reader_that_refuses_is_gone_round(alone: Gateway) -> None:
    with teller("database-2") as two:
        alone.turn(reader=[two.server, Server("database-3", "127.0.0.1", free_port())])
        assert {alone.who("reader") for _ in range(20)} == {"database-2"}


def test_other_routes_leave_connections_alone(alone: Gateway) -> None:
    with teller("database-1") as one, teller("database-2") as two:
        alone.turn(writer=[one.server], reader=[two.server])
        with alone.connect("writer") as kept:
            assert kept.recv(100) == b"database-1\n"
            alone.turn(writer=[one.server], reader=[one.server])
            alone.turn(writer=[one.server], reader=[two.server])
            kept.sendall(b"still here")
            assert kept.recv(100) == b"still here"
            eventually(lambda: len(workers(alone.master).leaving) == 1)
        eventually(lambda: not workers(alone.master).leaving)


def test_a_failover_ends_sessions_with_the_old_primary_also_those_of_older_routes(alone: Gateway) -> None:
    with teller("database-1") as one, teller("database-2") as two:
        alone.turn(writer=[one.server])
        with alone.connect("writer") as oldest:
            assert oldest.recv(100) == b"database-1\n"
            alone.turn(writer=[one.server], reader=[two.server])
            with alone.connect("writer") as old:
                assert old.recv(100) == b"database-1\n"
                alone.turn(writer=[two.server], drop=True)
                for session in (oldest, old):
                    session.settimeout(2)
                    with contextlib.suppress(ConnectionResetError):
                        assert session.recv(100) == b""
        assert alone.who("writer") == "database-2"
        assert not workers(alone.master).leaving


def test_no_new_connection_reaches_the_old_primary_once_the_reload_returned(alone: Gateway) -> None:
    with teller("database-1") as one, teller("database-2") as two:
        for number in range(10):
            now = (one, two)[number % 2]
            alone.turn(writer=[now.server], drop=number % 4 > 1)
            assert [alone.who("writer") for _ in range(10)] == [now.name] * 10


# -- with the routes of the controller, over real Redis servers --------------------------------------------------------


def seen(instance: Instance, state: State = State.RUNNING, health: Health = Health.GOOD) -> ObservedInstance:
    return ObservedInstance(instance.name, instance.kind, state, health=health)


def test_sessions_move_to_the_replica_and_stay_logged_in() -> None:
    with ground() as place, contextlib.ExitStack() as stack:
        described = context(place, {"database": {"replicas": 0}})
        servers = list(expand_cache(described))
        running = {i.name: stack.enter_context(launch(i, place)) for i in servers}
        front = stack.enter_context(gateway(described))
        topology = Topology("site", (front.instance, *servers))
        by_name = topology.by_name

        def turn(primaries: Mapping[str, str], *, drop: bool = False) -> None:
            observed = Observed(0.0, {i.name: seen(i) for i in servers})
            files = routes(View(topology, observed, Memory(primaries=primaries), 0.0))[front.instance.name]
            route(front.instance, files[0].content)
            asyncio.run(reload_nginx(front.master, drop_old_connections=drop))

        def do(action: Callable[[], object]) -> None:
            eventually(lambda: action() or True)

        secret = described.secrets.__getitem__
        for kind in ("cache", "sessions"):
            first, second = by_name[f"{kind}-1"], by_name[f"{kind}-2"]
            eventually(
                lambda first=first: (
                    socket.create_connection((first.endpoints[0].host, first.endpoints[0].port)).close()
                    or True
                )
            )
            asyncio.run(roles.promote(first, secret, deadline=5))
            asyncio.run(roles.follow(second, first, secret, deadline=5))
        turn({"cache": "cache-1", "sessions": "sessions-1"})
        with redis.Redis(
            port=front.port("sessions"), password=described.secrets["sessions"], socket_timeout=5
        ) as store:
            store.set("session", "logged in")
            assert store.execute_command("WAIT", 1, 3000) == 1
            running["sessions-1"].kill()
            asyncio.run(roles.promote(by_name["sessions-2"], secret))
            turn({"cache": "cache-1", "sessions": "sessions-2"}, drop=True)
            do(lambda: store.set("after", "failover"))
            assert store.get("session") == b"logged in"
        with redis.Redis(
            port=front.port("cache"), password=described.secrets["cache"], socket_timeout=5
        ) as cache:
            assert cache.set("a", "b")
