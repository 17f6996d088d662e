"""Taking away everything that the migrations made: an empty database for a demonstration or a test."""

from __future__ import annotations

from sinks.postgres.connection import connect
from sinks.postgres.migrate import LOCK

_TABLES = ("trades", "quotes", "bars", "kafka_offsets", "dead_letters", "schema_migrations")
_GATEWAY = ("gateway_links", "gateway_sessions", "gateway_users")


def drop_all(url: str) -> None:
    """Drop tidewire's tables and views, with all rows. Nothing else in the database is touched.

    Raises:
        UnreachableError: PostgreSQL does not answer.
    """
    with connect(url) as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute("DROP VIEW IF EXISTS bars_latest")
        for table in (*_TABLES, *_GATEWAY):
            connection.execute(f"DROP TABLE IF EXISTS {table}".encode())
