"""`python -m guestbook.migrate`, the release step: runs once per deploy, before traffic, and again without harm."""

import os
import sys
from pathlib import Path

import pymysql

from guestbook.database import Database
from guestbook.errors import UnavailableError
from guestbook.settings import Settings

MIGRATIONS = Path(__file__).parent.parent / "migrations"


def main() -> int:
    """The exit code: 1 and one line where the database cannot be migrated."""
    url = Settings.from_environment(os.environ).database_url
    try:
        migrate(Database(url, url))
    except (UnavailableError, pymysql.MySQLError) as error:
        print(f"migrate: {error}", file=sys.stderr)
        return 1
    return 0


def migrate(database: Database) -> None:
    """Applies each file of migrations/ that was not applied before."""
    # Two deploys at once: the second waits for the first.
    if database.read_current("SELECT GET_LOCK('guestbook.migrate', 9) AS got")[0]["got"] != 1:
        raise UnavailableError("another migration has been running for more than 9 s")
    database.write(
        "CREATE TABLE IF NOT EXISTS migrations ("
        " name VARCHAR(100) CHARACTER SET ascii NOT NULL PRIMARY KEY,"
        " applied_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP) ENGINE=InnoDB"
    )
    applied = {row["name"] for row in database.read_current("SELECT name FROM migrations")}
    for file in sorted(MIGRATIONS.glob("*.sql")):
        if file.name not in applied:
            database.write(file.read_text())
            database.write("INSERT INTO migrations (name) VALUES (%s)", file.name)
            print(f"migrate: applied {file.name}")
    database.read_current("SELECT RELEASE_LOCK('guestbook.migrate')")
    print("migrate: done")


if __name__ == "__main__":
    raise SystemExit(main())
