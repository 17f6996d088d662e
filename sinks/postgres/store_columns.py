"""Rows of hot tables into PostgreSQL: COPY straight in, or through staging once there are duplicates."""

from __future__ import annotations

from psycopg import errors, sql

from sinks.postgres.connection import Connection
from sinks.postgres.copying import Data
from sinks.postgres.tables import Table
from tidewire.metrics import POSTGRES_COPIES

MERGES = 5
"""Batches of a table that are merged after a duplicate before COPY goes straight in again."""


def store(
    connection: Connection, merges: dict[str, int], table: Table, data: Data, count: int, whole: bool
) -> int:
    """Store the `count` rows of one COPY BINARY stream, or none; returns how many were new.

    `merges` counts the batches of each table that are still to be merged. `whole`: not a part of a batch in
    which a bad row is being looked for.

    Raises:
        psycopg.Error: PostgreSQL refuses a row, or is away.
    """
    if merges.get(table.name, 0) <= 0:
        try:
            with connection.transaction():
                _copy(connection, table.name, table, data)
            POSTGRES_COPIES.labels("direct" if whole else "isolate").inc()
            return count
        except errors.UniqueViolation:
            merges[table.name] = MERGES
    merges[table.name] -= whole
    with connection.transaction():
        new = _merge(connection, table, data)
    POSTGRES_COPIES.labels("merge" if whole else "isolate").inc()
    return new


def stage(connection: Connection, table: str) -> str:
    """An empty staging table like `table`, made when it is first needed; returns its name.

    Not at the start of a session: at each commit of a transaction that used any of them PostgreSQL truncates
    all that there are, 1.7 ms each.
    """
    name = f"staging_{table}"
    # With the CHECKs: a row that breaks one is then named by COPY's line number.
    make = "CREATE TEMP TABLE IF NOT EXISTS {} (LIKE {} INCLUDING CONSTRAINTS) ON COMMIT DELETE ROWS"
    connection.execute(sql.SQL(make).format(sql.Identifier(name), sql.Identifier(table)))
    connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)))  # of an earlier part
    return name


def _copy(connection: Connection, into: str, table: Table, data: Data) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, table.names))
    command = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(into), names)
    with connection.cursor() as cursor, cursor.copy(command) as copy:
        copy.write(data)


def _merge(connection: Connection, table: Table, data: Data) -> int:
    """Copy into the staging table, insert what the table lacks; returns how many rows that was."""
    staging = stage(connection, table.name)
    _copy(connection, staging, table, data)
    names = sql.SQL(", ").join(map(sql.Identifier, table.names))
    insert = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} ON CONFLICT DO NOTHING").format(
        sql.Identifier(table.name), names, names, sql.Identifier(staging)
    )
    return connection.execute(insert).rowcount
