"""Names of the accounts and of Lampstand's own schema inside every database server."""

from typing import Final

APP: Final = "app"
"""Account of the application: everything on its own database, nothing elsewhere."""
ADMIN: Final = "lampstand_admin"
"""Account of recoveries, backups and the operator."""
REPLICATION: Final = "lampstand_replication"
"""Account with which replicas connect to the primary."""
CHECK: Final = "lampstand_check"
"""Account of the probes: may read states and write the heartbeat, and is bound by `read_only` like the application."""

SCHEMA: Final = "lampstand"
"""Lampstand's own schema, beside the application's: heartbeats, and the terms in which servers were primary."""

SECRET_OF: Final = {
    APP: "database_app",
    ADMIN: "database_admin",
    REPLICATION: "database_replication",
    CHECK: "database_check",
}
"""Account -> name of its password among `lampstand.topology.SECRETS`."""
