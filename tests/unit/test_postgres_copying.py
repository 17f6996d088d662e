"""Without these the native encoder could store other rows than the reference, or name the wrong record."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.postgres import columns, copying
from sinks.postgres.native import library
from sinks.postgres.tables import TABLES, Table

TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
INT8 = st.integers(-(2**63), 2**63 - 1)
MICROS = st.integers(columns.EARLIEST_NS // 1000, columns.LATEST_NS // 1000 - 1)
KINDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "text": (pl.String, TEXT),
    "text[]": (pl.List(pl.String), st.lists(TEXT, max_size=3)),
    "bytea": (pl.Binary, st.binary(max_size=20)),
    "double precision": (pl.Float64, st.floats()),
    "timestamp with time zone": (pl.Datetime("us", "UTC"), MICROS),
    "smallint": (pl.Int16, st.integers(-(2**15), 2**15 - 1)),
    "integer": (pl.Int32, st.integers(-(2**31), 2**31 - 1)),
    "bigint": (pl.Int64, INT8),
}


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """As `make setup` does it; nothing when it was done."""
    library.LIBRARY.build()
    assert library.functions() is not None


def tables() -> st.SearchStrategy[tuple[Table, list[pl.DataFrame]]]:
    return st.sampled_from(TABLES).flatmap(lambda table: st.tuples(st.just(table), st.lists(frames(table))))


def frames(table: Table) -> st.SearchStrategy[pl.DataFrame]:
    values = {}
    for column in table.columns:
        value = KINDS[column.kind][1]
        if column.name == "symbol":
            value = st.sampled_from(["", "A", "B", "AB", "AAPL240119C00100000", "AAPL240119C00100001", "Ä"])
        values[column.name] = value | st.none() if column.name in ("extra", "tape", "source") else value
    schema = {column.name: KINDS[column.kind][0] for column in table.columns}
    rows = st.lists(st.fixed_dictionaries(values), max_size=6)
    return rows.map(lambda made: pl.DataFrame(made, schema=schema))


def reference(rows: pl.DataFrame) -> pl.DataFrame:
    """By symbol as bytes compare, those of one symbol as they came."""
    keys = [symbol.encode() for symbol in rows.get_column("symbol")]
    return rows[sorted(range(rows.height), key=keys.__getitem__)]


@given(tables(), st.data())
@settings(max_examples=60, deadline=None)
def test_the_native_encoder_writes_what_the_reference_writes(
    made: tuple[Table, list[pl.DataFrame]], data: st.DataObject
) -> None:
    """Rows of several partitions, whole, and in the parts in which a bad row is looked for."""
    table, parts = made
    rows = pl.concat([pl.DataFrame(schema=schema_of(table)), *parts], rechunk=False)
    if rows.height > 2 and data.draw(st.booleans()):
        rows = rows.filter(
            pl.Series(data.draw(st.lists(st.booleans(), min_size=rows.height, max_size=rows.height)))
        )
    if rows.height > 1:
        rows = rows.slice(data.draw(st.integers(0, rows.height - 1)))
    copy, expected = copying.encoded(rows), reference(rows)
    assert isinstance(copy, copying._Native)
    assert bytes(copy.data(0, rows.height)) == columns.encode(expected)
    start = data.draw(st.integers(0, rows.height))
    stop = data.draw(st.integers(start, rows.height))
    assert bytes(copy.data(start, stop)) == columns.encode(expected.slice(start, stop - start))
    places = expected.select("k_part", "k_offset").rows()
    assert [copy.place(row) for row in range(rows.height)] == places


def schema_of(table: Table) -> dict[str, Any]:
    return {column.name: KINDS[column.kind][0] for column in table.columns}


def many() -> pl.DataFrame:
    rows = 5000
    schema = schema_of(TABLES[0])
    made = {name: pl.Series(name, [None] * rows, dtype=kind) for name, kind in schema.items()}
    made["conditions"] = pl.Series(
        "conditions", [["@", "an item of more than twelve bytes"], []] * (rows // 2)
    )
    made["symbol"] = pl.Series("symbol", [f"S{n * 7919 % 1213}" for n in range(rows)])
    made["k_part"] = pl.Series("k_part", np.zeros(rows, np.int32))
    made["k_offset"] = pl.Series("k_offset", np.arange(rows))
    return pl.DataFrame(made)


def test_many_symbols_come_in_the_order_of_the_primary_key() -> None:
    """PostgreSQL takes up to twice as long for another order."""
    rows = many()
    copy = copying.encoded(rows)
    assert bytes(copy.data(0, rows.height)) == columns.encode(reference(rows))


def test_without_the_library_the_same_records_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine for which it was not built stores the same, slower, and names the same records."""
    rows = many()
    native = copying.encoded(rows)
    monkeypatch.setattr(library, "functions", lambda: None)
    plain = copying.encoded(rows)
    assert len(plain.data(0, 5000)) == len(native.data(0, 5000))
    assert {plain.place(n) for n in range(5000)} == {native.place(n) for n in range(5000)}
    assert bytes(plain.data(7, 8)) == columns.encode(rows.filter(pl.col("k_offset") == plain.place(7)[1]))


def test_a_library_of_another_source_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else an update without a build would run old code on new columns."""
    other = replace(library.LIBRARY, folder=tmp_path / "updated")
    shutil.copytree(library.LIBRARY.folder, other.folder)
    assert other.open() is not None
    with other.sources[0].open("a") as source:
        source.write("\n")
    monkeypatch.setattr(library, "LIBRARY", other)
    assert library.functions.__wrapped__() is None
