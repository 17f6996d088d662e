"""The rows of PostgreSQL in the same canonical columns, by COPY."""

from __future__ import annotations

import io
from collections.abc import Mapping

import polars as pl
import psycopg
from psycopg import sql

from tidewire.config import Settings
from tidewire.errors import ConfigError, UnreachableError
from verify.content import LISTS, Channel, with_canonical_extra, with_canonical_numbers

Connection = psycopg.Connection[tuple[object, ...]]

_NULL = r"\N"
_NANOSECONDS = "(extract(epoch FROM ts) * 1000000)::int8 * 1000 + ts_nanos"


def connect(settings: Settings) -> Connection:
    """A connection to the settings' database.

    Raises:
        ConfigError: none is named and no local stack has been filled in.
        UnreachableError: the server does not answer.
    """
    if settings.database_url is None:
        raise ConfigError(["DATABASE_URL is not set and no local stack runs: `tidewire stack up`"])
    try:
        return psycopg.connect(settings.database_url.get_secret_value(), autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        raise UnreachableError(
            f"PostgreSQL does not answer: {str(error).strip()}. "
            "Check DATABASE_URL, or unset it to use the local stack (`tidewire stack up`)."
        ) from error


def read(connection: Connection, channel: Channel) -> pl.DataFrame:
    """All rows of a channel's table: content columns, `k_part`, `k_offset`. No table: no rows.

    Raises:
        UnreachableError: the server went away.
    """
    shape = pl.Schema([*channel.shape.items(), ("k_part", pl.Int64()), ("k_offset", pl.Int64())])
    if not exists(connection, channel.table):
        return pl.DataFrame(schema=shape)
    columns = sql.SQL(", ").join(_column(channel, name) for name in shape)
    command = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT csv, NULL '\\N', ENCODING 'UTF8')").format(
        columns, sql.Identifier(channel.table)
    )
    text = io.BytesIO()
    try:
        with connection.cursor() as cursor, cursor.copy(command) as copy:
            for part in copy:
                text.write(part)
    except psycopg.OperationalError as error:
        raise UnreachableError(f"PostgreSQL went away while it was read: {error}") from error
    return _frame(text, shape)


def _frame(text: io.BytesIO, shape: pl.Schema) -> pl.DataFrame:
    if not text.tell():
        return pl.DataFrame(schema=shape)
    text.seek(0)
    frame = pl.read_csv(text, has_header=False, schema=shape, null_values=_NULL, empty_string_is_null=False)
    return with_canonical_extra(with_canonical_numbers(frame))


def _column(channel: Channel, name: str) -> sql.Composable:
    if name == "ts":
        return sql.SQL(_NANOSECONDS)
    if name in LISTS:
        return sql.SQL("array_to_string({}, E'\\x1f')").format(sql.Identifier(name))
    column = sql.Identifier(channel.renamed.get(name, name))
    if channel.content.get(name) is pl.Boolean:
        return sql.SQL("{}::text").format(column)  # COPY itself would write t and f
    return column


def exists(connection: Connection, table: str) -> bool:
    """Whether the table is there."""
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (f"public.{table}",)).fetchone()
    return bool(row and row[0])


def kept_from(connection: Connection, channel: Channel) -> int | None:
    """Event time (ns since 1970 UTC) before which rows of a channel may have been dropped on purpose.

    To be asked after the rows were read: the sink says it before it drops.
    """
    if not exists(connection, "retention"):
        return None
    query = "SELECT extract(epoch FROM kept_from)::int8 FROM retention WHERE table_name = %s"
    row = connection.execute(query, (channel.table,)).fetchone()
    return int(str(row[0])) * 1_000_000_000 if row else None


def unpublished_letters(
    connection: Connection,
) -> list[tuple[str, int, int, str, str, str]]:
    """The sink's dead letters not yet in Kafka: topic, partition, offset, stage, error, reason."""
    if not exists(connection, "dead_letters"):
        return []
    rows = connection.execute(
        "SELECT topic, part, k_offset, stage, error, reason FROM dead_letters WHERE published_at IS NULL"
    )
    return [(str(t), int(str(p)), int(str(o)), str(s), str(e), str(r)) for t, p, o, s, e, r in rows]


def stored_offsets(connection: Connection) -> Mapping[tuple[str, int], int]:
    """(topic, partition) -> the next offset that the sink will write; empty before its first start."""
    if not exists(connection, "kafka_offsets"):
        return {}
    rows = connection.execute("SELECT topic, part, max(next_offset) FROM kafka_offsets GROUP BY 1, 2")
    return {(str(topic), int(str(part))): int(str(after)) for topic, part, after in rows}
