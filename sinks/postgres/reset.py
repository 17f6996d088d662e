"""Taking away everything that the migrations made: an empty database for a demonstration or a test."""

from __future__ import annotations

from sinks.postgres.connection import connect
from sinks.postgres.migrate import LOCK
from sinks.postgres.record_tables import RECORD_TABLES
from sinks.postgres.tables import TABLES

_VIEWS = (
    *("bars_latest", "crypto_bars_latest", "fills_effective", "pending_orders", "open_positions"),
    *("news_latest", "trades_final"),
)
_TABLES = (
    *(table.name for table in TABLES),
    *(table.name for table in RECORD_TABLES),
    *("gateway_links", "gateway_sessions", "gateway_users"),
    *("order_results_outbox", "order_attempts", "order_intents_ledger", "executor_owners", "kill_switch"),
    *("kafka_offsets", "dead_letters", "retention", "schema_migrations"),
)


def drop_all(url: str) -> None:
    """Drop tidewire's tables and views, with all rows. Nothing else in the database is touched.

    Raises:
        UnreachableError: PostgreSQL does not answer.
    """
    with connect(url) as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        for view in _VIEWS:
            connection.execute(f"DROP VIEW IF EXISTS {view}".encode())
        for table in _TABLES:
            connection.execute(f"DROP TABLE IF EXISTS {table}".encode())
        connection.execute("DROP FUNCTION IF EXISTS new_york_day(timestamptz)")
