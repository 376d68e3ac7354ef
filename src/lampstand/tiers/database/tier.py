"""Expands the database of a Site: `database-1` … `database-(1+replicas)`, equal but for name, number and addresses.

Which of them is the primary is nobody's configuration: the controller decides it at run time (`controller/failover.py`).
"""

from posixpath import join

from pymysql.converters import escape_string

from lampstand.errors import LampstandError
from lampstand.tiers.database import accounts
from lampstand.tiers.database.replication import APPLIERS
from lampstand.tiers.templates import add_filter, render
from lampstand.topology import Context, File, Instance, Preparation, Probe, Process

KIND = "database"
PORT = "mysql"
_ACCOUNT = "mysql"
_SOCKET_LIMIT = 107
"""Bytes of a path that fit into `sockaddr_un` (unix(7)), without the final zero."""
RESERVED_CONNECTIONS = 24
"""Connections beyond the application's: replicas, probes, recoveries, backups, the operator."""

add_filter("database", "sql", lambda text: f"'{escape_string(text)}'")


def buffer_pool(memory: int) -> int:
    """Bytes of InnoDB's buffer pool in a server that is meant to use `memory` bytes: half, in whole MiB.

    The rest is the server itself (about 45 MiB, see README.md), its connections and their sorts and temporary tables.
    """
    mebibyte = 1 << 20
    return max(memory // 2 // mebibyte, 16) * mebibyte


def expand(context: Context) -> tuple[Instance, ...]:
    """Every database server of the site. Pure.

    Raises LampstandError when the path of a server's unix socket would be longer than the kernel allows.
    """
    return tuple(_server(context, index) for index in range(1, context.site.database.replicas + 2))


def data_path(instance: Instance) -> str:
    """The folder of a database server's tables and logs: what `prepare` makes."""
    return instance.prepare[0].creates


def _server(context: Context, index: int) -> Instance:
    name = f"{KIND}-{index}"
    database = context.site.database
    etc, data, run = (context.placement.folder(name, folder) for folder in ("etc", "data", "run"))
    socket = join(run, "mysql.sock")
    if len(socket.encode()) > _SOCKET_LIMIT:
        raise LampstandError(
            f"the path of its unix socket has {len(socket.encode())} bytes; {_SOCKET_LIMIT} are possible",
            f"{name} {socket}",
            "use a state folder with a shorter path",
        )
    host, port = context.placement.bind(name, PORT)
    datadir, my_cnf, system_sql = join(data, "db"), join(etc, "my.cnf"), join(etc, "accounts.sql")
    # Of its own: a server that starts deletes what looks like left-over temporary tables, its neighbour's included.
    tmpdir = join(data, "tmp")
    mariadbd = context.engines.mariadbd.path
    configuration = render(
        KIND,
        "my.cnf.j2",
        name=name,
        index=index,
        host=host,
        port=port,
        datadir=datadir,
        tmpdir=tmpdir,
        run=run,
        socket=socket,
        replicas=database.replicas,
        pool=buffer_pool(database.memory),
        connections=database.max_connections,
        reserved=RESERVED_CONNECTIONS,
        appliers=APPLIERS,
        settings=database.settings,
    )
    passwords = {account: context.secrets[secret] for account, secret in accounts.SECRET_OF.items()}
    return Instance(
        name=name,
        tier="database",
        kind=KIND,
        index=index,
        processes=(
            Process(
                name="mariadbd",
                # --defaults-file must come first (mariadbd(8)).
                argv=(mariadbd, f"--defaults-file={my_cnf}"),
                account=_ACCOUNT,
                stop_seconds=30.0,
                check=(mariadbd, f"--defaults-file={my_cnf}", "--help", "--verbose"),
            ),
        ),
        files=(
            File(my_cnf, configuration),
            # Read once, by the preparation: passwords that change later are not this file's to change.
            File(
                system_sql,
                render(KIND, "accounts.sql.j2", database=database.name, names=accounts, passwords=passwords),
                mode=0o600,
                secret=True,
                on_change="reload",
            ),
            File(join(etc, "prepare"), render(KIND, "prepare.sh.j2"), mode=0o755),
            File(join(etc, "seed"), render(KIND, "seed.sh.j2"), mode=0o755),
        ),
        folders=(tmpdir,),
        prepare=(
            Preparation(
                creates=datadir,
                argv=("/bin/sh", join(etc, "prepare"), mariadbd, my_cnf, system_sql, datadir),
                account=_ACCOUNT,
            ),
        ),
        endpoints=(context.endpoint(name, PORT, "mysql"),),
        probe=Probe("mysql", endpoint=PORT, interval=1.0, timeout=1.0, rises=1, falls=2),
        memory=database.memory,
    )
