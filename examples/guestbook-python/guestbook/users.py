"""Names with passwords. A name belongs to the first who logs in with it."""

from werkzeug.security import check_password_hash, generate_password_hash

from guestbook.database import Database
from guestbook.errors import InvalidError
from guestbook.text import clean


class Users:
    """Logs them in."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def log_in(self, name: str, password: str) -> str:
        """The name to be logged in with."""
        name = clean(name, 60, "Your name")
        if not 8 <= len(password.encode()) <= 200:
            raise InvalidError("A password has 8 to 200 characters.")
        known = self._password_hash(name)
        if known is None:
            self._database.write(
                "INSERT INTO users (name, password_hash) VALUES (%s, %s)",
                name,
                generate_password_hash(password),
            )
            known = self._password_hash(name)  # of two who came at the same moment, one was first
        if known is None or not check_password_hash(known, password):
            raise InvalidError("This name is taken and the password is not the right one.")
        return name

    def _password_hash(self, name: str) -> str | None:
        rows = self._database.read_current("SELECT password_hash FROM users WHERE name = %s", name)
        return rows[0]["password_hash"] if rows else None
