"""Without these a number too large for its column is stored as another one: COPY BINARY wraps around."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import examples
from schemas.catalogue import schema
from sinks.postgres import columns
from sinks.postgres.arrays import text_arrays
from sinks.postgres.tables import OFFSET, PARTITION, TABLES, Table

DAY = 1_381_104_000_000_000_000  # 2013-10-07 UTC, ns
BITS = {"smallint": 16, "integer": 32, "bigint": 64}
"""PostgreSQL's integers."""
AVRO_BITS = {"int": 32, "long": 64}


def integer_columns() -> list[tuple[Table, str, str]]:
    return [(t, c.name, c.kind) for t in TABLES for c in t.columns if c.kind in BITS]


@pytest.mark.parametrize(
    ("table", "name", "kind"), integer_columns(), ids=lambda value: getattr(value, "name", value)
)
def test_no_integer_of_a_record_is_wider_than_its_column(table: Table, name: str, kind: str) -> None:
    """So nothing that can be in a record or be its place in Kafka wraps around; ts_nanos is a remainder."""
    column = next(c for c in table.columns if c.name == name)
    (source,) = column.value.meta.root_names()
    if name == "ts_nanos":
        ends = pl.DataFrame({"ts": [-(2**63), -1, 999, 2**63 - 1]})
        assert ends.select(column.value).to_series().is_between(0, 999).all()
        return
    fields = {f["name"]: f["type"] for f in schema(table.stem)["fields"]}
    given_bits = {PARTITION: 32, OFFSET: 64}.get(source) or AVRO_BITS[fields[source]]
    assert BITS[kind] >= given_bits
    kinds = {32: pl.Int32, 64: pl.Int64}
    most = 2 ** (given_bits - 1)
    ends = pl.DataFrame({source: pl.Series([-most, most - 1], dtype=kinds[given_bits])})
    assert ends.select(column.value).to_series().to_list() == [-most, most - 1]


@pytest.mark.parametrize(
    ("table", "name", "kind"), integer_columns(), ids=lambda value: getattr(value, "name", value)
)
def test_a_column_that_is_narrower_than_what_comes_is_refused_value_by_value(
    table: Table, name: str, kind: str
) -> None:
    """If a column is ever made smaller than its field, what does not fit is given up alone."""
    if name == "ts_nanos":
        return
    narrow = narrowed(table, name)
    records = frame(table, 5)
    source = next(c for c in table.columns if c.name == name).value.meta.root_names()[0]
    large = 2**15  # one more than a smallint holds
    numbers = pl.Series(source, [0, large, 2**15 - 1, -large - 1, -large], dtype=records.schema[source])
    rows, rejected = columns.shape(narrow, records.with_columns(numbers))
    assert sorted(rows.get_column(name).to_list()) == [-large, 0, 2**15 - 1]
    assert columns.fits(narrow, rows) == []
    assert [r.reason for r in rejected] == [f"{name} is out of the range of smallint"] * 2
    if source not in (OFFSET, PARTITION):
        assert [r.offset for r in rejected] == [101, 103]


def narrowed(table: Table, name: str) -> Table:
    made = [columns_of(c) if c.name == name else c for c in table.columns]
    return Table(table.name, table.topic, table.stem, tuple(made))


def columns_of(column: Any) -> Any:
    return type(column)(column.name, "smallint", column.value)


def frame(table: Table, count: int) -> pl.DataFrame:
    made = [r for r, _ in zip(examples.records(schema(table.stem), 5), range(count), strict=False)]
    for n, record in enumerate(made):
        record |= {key: 1.0 for key, value in record.items() if isinstance(value, float)}
        record |= {"ts": DAY + n}
    return pl.DataFrame(made, infer_schema_length=None).with_columns(
        pl.Series(PARTITION, np.zeros(count, np.int32)), pl.Series(OFFSET, np.arange(100, 100 + count))
    )


TEXTS = st.lists(st.lists(st.text(st.characters(codec="utf-8"), max_size=300), max_size=4), max_size=12)


@given(TEXTS, st.integers(0, 12), st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_lists_become_the_bytes_that_postgresql_documents(
    lists: list[list[str]], start: int, size: int
) -> None:
    """Of parts of columns too: those are what a bad row is looked for in."""
    column = pl.Series("conditions", lists, dtype=pl.List(pl.String)).slice(start, size)
    assert text_arrays(column).to_pylist() == [naive(texts) for texts in lists[start : start + size]]


def naive(texts: list[str]) -> bytes:
    if not texts:
        return b"".join(n.to_bytes(4, "big") for n in (0, 0, 25))
    head = b"".join(n.to_bytes(4, "big") for n in (1, 0, 25, len(texts), 1))
    items = [text.encode() for text in texts]
    return head + b"".join(len(item).to_bytes(4, "big") + item for item in items)


@given(st.lists(st.tuples(st.text("AB", max_size=12), st.integers(0, 10**18)), max_size=40))
@settings(max_examples=60, deadline=None)
def test_sorting_keeps_every_row_and_the_order_of_a_symbols_rows(rows: list[tuple[str, int]]) -> None:
    given_rows = pl.DataFrame(rows, schema={"symbol": pl.String, "n": pl.Int64}, orient="row")
    ordered = columns.by_symbol(given_rows).rows()
    for symbol in {symbol for symbol, _ in rows}:
        assert [row for row in ordered if row[0] == symbol] == [row for row in rows if row[0] == symbol]
    assert len(ordered) == len(rows)


def test_rows_stand_in_the_order_of_the_primary_key() -> None:
    """PostgreSQL takes up to twice as long for another order."""
    symbols = ["SPY", "AAPL", "MSFT", "AAPL", "SPY"]
    ordered = columns.by_symbol(pl.DataFrame({"symbol": symbols, "n": range(5)})).rows()
    assert ordered == [("AAPL", 1), ("AAPL", 3), ("MSFT", 2), ("SPY", 0), ("SPY", 4)]


def test_only_rows_of_days_that_are_kept_stay() -> None:
    table = TABLES[0]
    rows, _ = columns.shape(table, frame(table, 3).with_columns(ts=pl.Series([DAY - 1, DAY, DAY + 1])))
    stay, past = columns.kept(rows, date(2013, 10, 7))
    assert (stay.height, past) == (2, 1)
    assert columns.kept(rows, None)[1] == 0
