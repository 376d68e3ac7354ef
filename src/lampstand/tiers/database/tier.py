"""Expands the database of a Site: `database-1` … `database-(1+replicas)`, equal but for name, number and addresses.

Which of them is the primary is no configuration: the controller decides it at run time (`controller/failover.py`).
"""

import shlex
from collections.abc import Sequence
from posixpath import basename, join

from pymysql.converters import escape_string

from lampstand.errors import LampstandError
from lampstand.tiers.database import accounts
from lampstand.tiers.database.replication import APPLIERS
from lampstand.tiers.templates import add_filter, render
from lampstand.topology import Context, Endpoint, File, Instance, Preparation, Probe, Process

KIND = "database"
PORT = "mysql"
_ACCOUNT = "mysql"
_SOCKET_LIMIT = 107
"""Bytes of a path that fit into `sockaddr_un` (unix(7)), without the final zero."""
RESERVED_CONNECTIONS = 24
"""Connections beyond the application's: replicas, probes, recoveries, backups, the operator."""

_OURS = (
    "bind_address", "binlog_do_db", "binlog_format", "binlog_ignore_db", "binlog_row", "datadir", "gtid_", "init_file",
    "init_rpl_role", "innodb_doublewrite", "innodb_flush_log_at", "innodb_flush_method", "log_bin", "log_slave_updates",
    "pid_file", "port", "read_only", "relay_log", "replicate_", "rpl_semi_sync_", "server_id", "skip_",
    "slave_net_timeout", "slave_skip_errors", "socket", "sync_binlog", "tmpdir",
)  # fmt: skip
"""Beginnings of the settings that a site file may not have: they keep acknowledged writes safe, or are the target's."""

add_filter("database", "sql", lambda text: f"'{escape_string(text)}'")
add_filter("database", "sh", shlex.quote)


def buffer_pool(memory: int) -> int:
    """Bytes of InnoDB's buffer pool in a server that is meant to use `memory` bytes: half, in whole MiB.

    The rest is the server itself (about 45 MiB, see README.md), its connections and their sorts and temporary tables.
    """
    mebibyte = 1 << 20
    return max(memory // 2 // mebibyte, 16) * mebibyte


def expand(context: Context) -> tuple[Instance, ...]:
    """Every database server of the site. Pure.

    Raises LampstandError when the path of a server's unix socket would be longer than the kernel allows, and for a
    setting of the site file that is not the user's to set.
    """
    for key in context.site.database.settings:
        if key.replace("-", "_").removeprefix("loose_").startswith(_OURS):
            raise LampstandError(
                f"`{key}` is set by Lampstand: acknowledged writes or addresses depend on it",
                f"database.settings.{key}",
                "remove it from the site file",
            )
    return tuple(_server(context, index) for index in range(1, context.site.database.replicas + 2))


def role_file(instance: Instance, *, deposed: bool) -> File:
    """What a database server does at its next start with transactions that its binary log has and InnoDB had not yet
    committed when it was killed. It commits them: acknowledged ones are among them. Only a deposed primary drops them
    (`init_rpl_role=SLAVE`), because its successor has every acknowledged one and the rest would make it diverge.
    """
    return File(instance.live_files[0].path, _role(deposed))


def _role(deposed: bool) -> str:
    return f"[mariadbd]\ninit_rpl_role = {'SLAVE' if deposed else 'MASTER'}\n"


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
    datadir, my_cnf, accounts_sql = join(data, "db"), join(etc, "my.cnf"), join(etc, "accounts.sql")
    role_cnf, admin_cnf = join(etc, "role.cnf"), join(etc, "admin.cnf")
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
        role_cnf=role_cnf,
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
    paths = {
        "my_cnf": my_cnf,
        "admin_cnf": admin_cnf,
        "accounts_sql": accounts_sql,
        "datadir": datadir,
        "tmpdir": tmpdir,
    }
    return Instance(
        name=name,
        tier="database",
        kind=KIND,
        index=index,
        processes=(
            Process(
                name="mariadbd",
                argv=("/bin/sh", join(etc, "start")),
                account=_ACCOUNT,
                stop_seconds=30.0,
                check=(mariadbd, f"--defaults-file={my_cnf}", "--help", "--verbose"),
            ),
        ),
        files=(
            File(my_cnf, configuration),
            # Read once, by the preparation: passwords that change later are not this file's to change.
            File(
                accounts_sql,
                render(KIND, "accounts.sql.j2", database=database.name, names=accounts, passwords=passwords),
                mode=0o600,
                secret=True,
                on_change="reload",
            ),
            File(
                admin_cnf,
                render(KIND, "admin.cnf.j2", names=accounts, password=passwords[accounts.ADMIN]),
                mode=0o600,
                secret=True,
                on_change="reload",
            ),
            *(
                File(
                    join(etc, name),
                    render(KIND, f"{name}.sh.j2", engines=context.engines, **paths),
                    mode=0o755,
                )
                for name in ("prepare", "start", "seed", "unacknowledged")
            ),
        ),
        live_files=(File(role_cnf, _role(deposed=False)),),
        folders=(tmpdir,),
        prepare=(
            Preparation(
                creates=datadir,
                argv=("/bin/sh", join(etc, "prepare")),
                account=_ACCOUNT,
            ),
        ),
        endpoints=(context.endpoint(name, PORT, "mysql"),),
        probe=Probe(
            "mysql", endpoint=PORT, interval=1.0, timeout=1.0, rises=1, falls=2, lag_limit=database.lag_limit
        ),
        memory=database.memory,
    )


def seed_command(
    instance: Instance, donor: Endpoint, donor_data: str, state: str, *, lock: bool
) -> tuple[str, ...]:
    """The command that fills the empty data folder of a stopped server with a copy of another, where both lie.

    `state` is the donor's history, asked before. Without `lock` commits of the donor are not held for a moment: for a
    donor whose commits wait already.
    """
    script = _script(instance, "seed")
    return ("/bin/sh", script, donor.host, str(donor.port), donor_data, state, "yes" if lock else "no")


def unacknowledged_command(instance: Instance, after: str, logs: Sequence[str]) -> tuple[str, ...]:
    """The command that writes the transactions of its binary logs after `after` into a file beside its tables."""
    return ("/bin/sh", _script(instance, "unacknowledged"), after, *logs)


def _script(instance: Instance, name: str) -> str:
    return next(f.path for f in instance.files if basename(f.path) == name)
