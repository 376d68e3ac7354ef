"""The database tier: MariaDB with GTID and semi-synchronous replication, one primary and its replicas."""
