"""How often the guestbook was opened. Lives in the cache: after a restart the count may begin again."""

import secrets

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from guestbook.errors import UnavailableError

KEY = "guestbook:visits"


def redis_from(url: str) -> "Redis":
    """A pool of connections that opens one again once when it was lost."""
    return Redis.from_url(
        url, decode_responses=True, socket_connect_timeout=1, socket_timeout=2, retry=Retry(NoBackoff(), 1)
    )


class Visits:
    """The count."""

    def __init__(self, url: str) -> None:
        self._redis = redis_from(url)

    def count(self) -> int | None:
        """None where the cache does not answer: a page without a number is better than no page."""
        try:
            return int(self._redis.get(KEY) or 0)
        except RedisError:
            return None

    def add(self) -> int:
        """One more; the new number."""
        try:
            return int(self._redis.incr(KEY))
        except RedisError as error:
            raise UnavailableError(f"cache: {error}") from error

    def works(self) -> bool:
        """True when the cache takes a value and gives it back."""
        value = secrets.token_hex(8)
        try:
            self._redis.set(f"guestbook:health:{value}", value, ex=10)
            return self._redis.get(f"guestbook:health:{value}") == value
        except RedisError as error:
            raise UnavailableError(f"cache: {error}") from error
