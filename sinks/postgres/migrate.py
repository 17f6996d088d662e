"""Migrations: numbered SQL files, each applied once, in its own transaction, and never changed afterwards."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import psycopg

from sinks.postgres.connection import Connection, connect
from tidewire.errors import SchemaError, UnreachableError

LOCK = 0x7469_6465  # "tide": all that change tables or partitions take this advisory lock
_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_TABLE = """CREATE TABLE IF NOT EXISTS schema_migrations (
    version int4 PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now())"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, line ends aside (a checkout on Windows is no change)."""
        return hashlib.sha256(self.text.replace("\r\n", "\n").encode()).hexdigest()


def packaged() -> list[Migration]:
    """The migrations that came with this version, in order.

    Raises:
        SchemaError: the numbers are not 1, 2, 3, ...
    """
    found = []
    for entry in files("sinks.postgres").joinpath("migrations").iterdir():
        match = _NAME.fullmatch(entry.name)
        if match:
            found.append(Migration(int(match[1]), entry.name, entry.read_text("utf-8")))
    found.sort(key=lambda m: m.version)
    if [m.version for m in found] != list(range(1, len(found) + 1)):
        raise SchemaError(f"migrations must be numbered 1, 2, 3, ...: {', '.join(m.name for m in found)}")
    return found


def pending(known: Sequence[Migration], applied: Sequence[tuple[int, str, str]]) -> list[Migration]:
    """What is to be applied, given the (version, name, checksum) rows of the database.

    Raises:
        SchemaError: an applied file was changed since, or the database is newer than this version.
    """
    by_version = {m.version: m for m in known}
    for version, name, checksum in applied:
        migration = by_version.get(version)
        if migration is None:
            raise SchemaError(
                f"the database has migration {name}, which this version of tidewire does not know: "
                "it was used with a newer version. Upgrade tidewire, or use another database."
            )
        if migration.checksum != checksum:
            raise SchemaError(
                f"migration {migration.name} was changed after it had been applied to this database. "
                "Restore the file and put the change into a new migration."
            )
    done = {version for version, _, _ in applied}
    return [m for m in known if m.version not in done]


def apply(url: str, migrations: Sequence[Migration] | None = None) -> list[str]:
    """Bring the database up to date; returns the names of the files applied now.

    Several processes may call it at once: one works, the others wait for it.

    Raises:
        SchemaError: see `pending`; or PostgreSQL refuses a migration.
        UnreachableError: PostgreSQL does not answer.
    """
    with connect(url) as connection:
        return apply_to(connection, packaged() if migrations is None else migrations)


def apply_to(connection: Connection, migrations: Sequence[Migration]) -> list[str]:
    """`apply` on an open connection."""
    connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
    try:
        connection.execute(_TABLE)
        applied = connection.execute("SELECT version, name, checksum FROM schema_migrations").fetchall()
        todo = pending(migrations, applied)
        for migration in todo:
            _apply_one(connection, migration)
        return [m.name for m in todo]
    except (psycopg.ProgrammingError, psycopg.NotSupportedError) as error:
        raise SchemaError(f"PostgreSQL refuses the tables of tidewire: {error}") from error
    except psycopg.OperationalError as error:
        raise UnreachableError(f"PostgreSQL was lost while its tables were made: {error}") from error
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))


def _apply_one(connection: Connection, migration: Migration) -> None:
    with connection.transaction():
        connection.execute(migration.text.encode())  # as bytes: no placeholders are looked for
        connection.execute(
            "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
            (migration.version, migration.name, migration.checksum),
        )
