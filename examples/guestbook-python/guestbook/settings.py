"""The twelve-factor variables, with defaults for a developer's machine."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """What the environment says."""

    database_url: str
    database_replica_url: str
    redis_url: str
    session_redis_url: str
    server: str
    release: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Reads the variables; empty ones count as missing."""
        database = environment.get("DATABASE_URL") or "mysql://guestbook:guestbook@127.0.0.1:3306/guestbook"
        redis = environment.get("REDIS_URL") or "redis://127.0.0.1:6379/0"
        return cls(
            database_url=database,
            database_replica_url=environment.get("DATABASE_REPLICA_URL") or database,
            redis_url=redis,
            session_redis_url=environment.get("SESSION_REDIS_URL") or redis,
            server=environment.get("LAMPSTAND_SERVER") or socket.gethostname(),
            release=environment.get("APP_RELEASE") or "development",
        )
