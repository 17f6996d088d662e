"""Rows of low-rate tables into PostgreSQL: COPY of events straight in, the state of things through staging.

COPY in text, unlike the binary one of the hot tables, has PostgreSQL judge every type and range.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import LiteralString

from psycopg import errors, sql

from sinks.postgres.connection import Connection
from sinks.postgres.record_columns import RecordTable, Source
from sinks.postgres.records import Entry, Row
from sinks.postgres.store_columns import MERGES, stage
from tidewire.metrics import POSTGRES_COPIES

# Which of two rows is newer: see records.newest. A replay meets its own offset and changes nothing.
_NEWER = """CASE WHEN t.k_topic_id = {new}.k_topic_id AND t.k_part = {new}.k_part
    THEN {new}.k_offset > t.k_offset
    ELSE ({new}.ts, {new}.ts_nanos) >= (t.ts, t.ts_nanos) END"""


def store(
    connection: Connection, merges: dict[str, int], source: Source, entries: Sequence[Entry], whole: bool
) -> int:
    """Store the rows of these entries, or none; returns how many entries were new.

    `merges` and `whole` are those of store_columns.py. Entries of a table of states have different keys.

    Raises:
        psycopg.Error: PostgreSQL refuses a row, or is away.
    """
    table = source.table
    if not table.current and merges.get(table.name, 0) <= 0:
        try:
            with connection.transaction():
                for into, rows in _rows(source, entries):
                    _copy(connection, into.name, into, rows)
            POSTGRES_COPIES.labels("direct" if whole else "isolate").inc()
            return len(entries)
        except errors.UniqueViolation:
            merges[table.name] = MERGES
    if not table.current:
        merges[table.name] -= whole
    with connection.transaction():
        new = [_merge(connection, into, rows) for into, rows in _rows(source, entries)]
    POSTGRES_COPIES.labels("merge" if whole else "isolate").inc()
    return new[0]


def _rows(source: Source, entries: Sequence[Entry]) -> Iterator[tuple[RecordTable, list[Row]]]:
    yield source.table, [entry.row for entry in entries]
    for n, part in enumerate(source.parts):
        rows = [row for entry in entries for row in entry.parts[n]]
        if rows:
            yield part.table, rows


def _copy(connection: Connection, into: str, table: RecordTable, rows: Sequence[Row]) -> None:
    command = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(into), _names(table))
    with connection.cursor() as cursor, cursor.copy(command) as copy:
        for row in rows:
            copy.write_row(row)


def _merge(connection: Connection, table: RecordTable, rows: Sequence[Row]) -> int:
    """Copy into the staging table, then insert what is new; returns how many rows were written."""
    _copy(connection, stage(connection, table.name), table, rows)
    written = connection.execute(_insert(table)).rowcount
    if table.voids is not None:
        connection.execute(_void(table, table.voids))
    return written


@cache
def _names(table: RecordTable) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, table.names))


@cache
def _insert(table: RecordTable) -> sql.Composed:
    insert = sql.SQL("INSERT INTO {} AS t ({}) SELECT {} FROM {} ON CONFLICT ").format(
        sql.Identifier(table.name), _names(table), _names(table), sql.Identifier(f"staging_{table.name}")
    )
    if not table.current:
        return insert + sql.SQL("DO NOTHING")
    changes = sql.SQL(", ").join(
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name))
        for name in table.names
        if name not in table.key
    )
    key = sql.SQL(", ").join(map(sql.Identifier, table.key))
    newer = sql.SQL(_NEWER).format(new=sql.Identifier("excluded"))
    return insert + sql.SQL("({}) DO UPDATE SET {} WHERE {}").format(key, changes, newer)


@cache
def _void(table: RecordTable, voids: LiteralString) -> sql.Composed:
    newer = sql.SQL(_NEWER).format(new=sql.Identifier("s"))
    return sql.SQL("DELETE FROM {} AS t USING {} AS s WHERE {} AND {}").format(
        sql.Identifier(table.name), sql.Identifier(f"staging_{table.name}"), sql.SQL(voids), newer
    )
