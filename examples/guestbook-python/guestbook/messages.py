"""The messages in the database."""

import re
from dataclasses import dataclass
from datetime import datetime

from guestbook.database import Database, Row
from guestbook.errors import InvalidError
from guestbook.text import clean

PAGE = 20
BIGGEST_ID = 2**63 - 1
KEY = re.compile(r"[A-Za-z0-9._:-]{8,100}")


@dataclass(frozen=True)
class Message:
    """One entry of the book."""

    id: int
    author: str
    body: str
    picture: str | None
    created_at: datetime


@dataclass(frozen=True)
class Written:
    """What became of a message that was sent."""

    id: int
    replayed: bool

    @property
    def url(self) -> str:
        """Where it is shown."""
        return f"/messages/{self.id}"


class Messages:
    """Reads and writes them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def latest(self, before: int | None = None) -> list[Message]:
        """The newest first; only those older than `before` where given."""
        rows = self._database.read(
            "SELECT id, author, body, picture, created_at FROM messages WHERE id < %s ORDER BY id DESC LIMIT %s",
            min(before or BIGGEST_ID, BIGGEST_ID),
            PAGE,
        )
        return [Message(**row) for row in rows]

    def find(self, number: int) -> Message | None:
        """One message.

        A replica may be a moment behind the visitor who has just written: the writer is asked before saying "no".
        """
        sql = "SELECT id, author, body, picture, created_at FROM messages WHERE id = %s"
        rows = self._database.read(sql, number) or self._database.read_current(sql, number)
        return Message(**rows[0]) if rows else None

    def add(self, key: str, author: str, body: str, picture: str | None) -> Written:
        """Writes a message once, however often it is sent with the same key."""
        key = key.strip(' "')  # the header's standard form is a quoted string
        if not KEY.fullmatch(key):
            raise InvalidError("A message needs an Idempotency-Key of 8 to 100 letters, digits or ._:-", 400)
        content: Row = {
            "author": clean(author, 60, "Your name"),
            "body": clean(body, 1000, "Your message"),
            "picture": picture,
        }
        changed = self._database.write(
            "INSERT INTO messages (author, body, picture, idempotency_key) VALUES (%s, %s, %s, %s)",
            *content.values(),
            key,
        )
        row = self._database.read_current(
            "SELECT id, author, body, picture FROM messages WHERE idempotency_key = %s", key
        )[0]
        number = row.pop("id")
        if row != content:
            raise InvalidError("This Idempotency-Key was used for another message.")
        return Written(number, replayed=changed is None)
