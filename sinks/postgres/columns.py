"""Decoded columns -> table-shaped columns -> the bytes of COPY BINARY, without a Python object a row.

Binary COPY stores what it is given: a number too large for its column wraps around, NaN passes. So values
are judged here, in columns, before PostgreSQL sees them; a row that fails is refused alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
from pgpq import ArrowToPostgresBinaryEncoder

from sinks.postgres.arrays import text_arrays
from sinks.postgres.tables import OFFSET, PARTITION, Column, Table

EARLIEST_NS = 631_152_000_000_000_000
"""1990-01-01 UTC: earlier event times are mistakes (a unit, a zero), and would each make a partition."""
LATEST_NS = 4_102_444_800_000_000_000
"""2100-01-01 UTC."""

_ROWS_AT_ONCE = 8192
"""Rows that pgpq encodes at once: its buffer then stays in the processor's cache."""
_INTEGERS = {"smallint": pl.Int16, "integer": pl.Int32, "bigint": pl.Int64}
_NO_WIDER = {
    "smallint": (pl.Int16,),
    "integer": (pl.Int16, pl.Int32),
    "bigint": (pl.Int16, pl.Int32, pl.Int64),
}


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that the table must not get, by its coordinates, and why."""

    partition: int
    offset: int
    reason: str


def shape(table: Table, records: pl.DataFrame) -> tuple[pl.DataFrame, list[Rejected]]:
    """Table-shaped rows, and the rows that must not be stored.

    `records` has the decoded columns and `_partition` (Int32) and `_offset` (Int64).
    """
    rejected: list[Rejected] = []
    faults = _faults(table, records.schema)
    if not records.select(pl.all_horizontal([~fault.any() for fault in faults.values()]).all()).item():
        bad = pl.any_horizontal(list(faults.values()))
        first = pl.coalesce([pl.when(fault).then(pl.lit(text)) for text, fault in faults.items()])
        rows = records.filter(bad).select(PARTITION, OFFSET, first.alias("reason"))
        rejected = [Rejected(*row) for row in rows.iter_rows()]
        records = records.filter(~bad)
    rows = records.select([_cast(column, records.schema).alias(column.name) for column in table.columns])
    return rows, rejected


def kept(rows: pl.DataFrame, kept_from: date | None) -> tuple[pl.DataFrame, int]:
    """The rows from a day (UTC) on, and how many are older. None: all."""
    if kept_from is None or not rows.height:
        return rows, 0
    fine = pl.col("ts") >= datetime(kept_from.year, kept_from.month, kept_from.day, tzinfo=UTC)
    if rows.select(fine.all()).item():
        return rows, 0
    young = rows.filter(fine)
    return young, rows.height - young.height


def by_symbol(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows sorted by symbol, stable.

    The order is that of the primary keys, as a symbol's records come in the order of their time, or nearly:
    such a COPY costs PostgreSQL 20 to 45 % less.

    By 16 bits of each symbol's hash and the place of these in the order of the symbols, which costs a third
    of comparing the symbols; two symbols that share the bits stand mixed at the place of one of them.
    """
    if rows.height < 2:
        return rows
    rows = rows.rechunk()
    symbols = rows.get_column("symbol")
    bits = (symbols.hash().to_numpy() >> np.uint64(48)).astype(np.uint16)
    where = np.full(1 << 16, -1, np.int64)
    where[bits] = np.arange(rows.height)
    found = np.flatnonzero(where >= 0)
    rank = np.zeros(1 << 16, np.uint16)
    rank[found[symbols.gather(where[found]).arg_sort().to_numpy()]] = np.arange(len(found))
    return rows[pl.Series(rank[bits].argsort(kind="stable").astype(np.uint32))]


def _cast(column: Column, schema: pl.Schema) -> pl.Expr:
    if column.kind in _INTEGERS and not _fits_by_type(column, schema):
        return column.value.cast(_INTEGERS[column.kind])
    return column.value


def _faults(table: Table, schema: pl.Schema) -> dict[str, pl.Expr]:
    """What is wrong with a row -> where it is so."""
    time = pl.col("ts")
    faults = {"ts is not within 1990..2099": (time < EARLIEST_NS) | (time >= LATEST_NS)}
    for column in table.columns:
        if column.kind == "double precision":
            faults[f"{column.name} is NaN or infinite"] = ~column.value.is_finite()
        elif column.kind in _INTEGERS and not _fits_by_type(column, schema):
            within = column.value.cast(_INTEGERS[column.kind], strict=False).is_not_null()
            faults[f"{column.name} is out of the range of {column.kind}"] = ~within
    return faults


def _fits_by_type(column: Column, schema: pl.Schema) -> bool:
    """Whether no value of the record's field can be out of the column's range."""
    if column.name == "ts_nanos":
        return True  # a remainder
    (field,) = column.value.meta.root_names()
    return schema[field] in _NO_WIDER[column.kind]


def fits(table: Table, rows: pl.DataFrame) -> list[str]:
    """Columns whose type in the frame is not the one that COPY will write; empty when all is well."""
    kinds = {
        "text": pl.String,
        "text[]": pl.List(pl.String),
        "bytea": pl.Binary,
        "double precision": pl.Float64,
        "timestamp with time zone": pl.Datetime("us", "UTC"),
        **_INTEGERS,
    }
    return [
        f"{column.name} is {rows.schema[column.name]}, COPY wants {column.kind}"
        for column in table.columns
        if rows.schema[column.name] != kinds[column.kind]
    ]


def encode(rows: pl.DataFrame) -> bytes:
    """The rows as one COPY BINARY stream, header and trailer included."""
    return b"".join(_pieces(rows))


def _pieces(rows: pl.DataFrame) -> Iterator[bytes]:
    # The oldest Arrow layout: pgpq does not read string views in lists.
    arrow = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    for number, (name, kind) in enumerate(rows.schema.items()):
        if kind == pl.List(pl.String) and rows.height:
            arrow = arrow.set_column(number, name, text_arrays(rows.get_column(name)))
    encoder = ArrowToPostgresBinaryEncoder(arrow.schema)
    yield encoder.write_header()
    for batch in arrow.to_batches(max_chunksize=_ROWS_AT_ONCE):
        yield encoder.write_batch(batch)
    yield encoder.finish()
