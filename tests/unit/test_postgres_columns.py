"""Without these a value could reach PostgreSQL changed, or one bad row could cost its neighbours."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.catalogue import schema
from sinks.postgres import columns, partitions
from sinks.postgres.tables import OFFSET, PARTITION, TABLES, TRADES, Table

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SANE = st.integers(columns.EARLIEST_NS, columns.LATEST_NS - 1)
TIMES = st.one_of(SANE, st.integers(-(2**63), 2**63 - 1))
INT8 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=6)

TRADE = st.fixed_dictionaries(
    {
        "symbol": TEXT,
        "ts": TIMES,
        "id": INT8,
        "exchange": TEXT,
        "price": st.floats(),
        "size": INT8,
        "conditions": st.lists(TEXT, max_size=3),
        "tape": TEXT,
        "extra": st.none() | TEXT,
        "received_ts": INT8,
        "source": st.sampled_from(["ws", "rest", "replay"]),
        "owner_epoch": INT8,
        "event_id": st.binary(max_size=8),
    }
)
TYPES: dict[str, Any] = {
    "symbol": pl.String,
    "ts": pl.Int64,
    "id": pl.Int64,
    "exchange": pl.String,
    "price": pl.Float64,
    "size": pl.Int64,
    "conditions": pl.List(pl.String),
    "tape": pl.String,
    "extra": pl.String,
    "received_ts": pl.Int64,
    "source": pl.Categorical,
    "owner_epoch": pl.Int64,
    "event_id": pl.Binary,
}


def located(records: list[dict[str, Any]]) -> pl.DataFrame:
    frame = pl.DataFrame(records, schema=TYPES)
    return frame.with_columns(
        pl.Series(PARTITION, np.full(len(records), 3, np.int32)),
        pl.Series(OFFSET, np.arange(100, 100 + len(records), dtype=np.int64)),
    )


def naive(record: dict[str, Any], offset: int) -> tuple[Any, ...] | None:
    """The row of a trade, worked out one value at a time; None: must be refused."""
    if not columns.EARLIEST_NS <= record["ts"] < columns.LATEST_NS or not math.isfinite(record["price"]):
        return None
    micros, nanos = divmod(record["ts"], 1000)
    moment = EPOCH + timedelta(microseconds=micros)
    head = (record["symbol"], moment, nanos, record["id"], record["exchange"], record["price"])
    tail = (record["size"], record["conditions"], record["tape"], record["extra"], record["received_ts"])
    return (*head, *tail, record["source"], record["event_id"], 3, offset)


@given(st.lists(TRADE, min_size=1, max_size=30))
@settings(deadline=None)
def test_every_record_becomes_its_row_or_is_refused_with_a_reason(records: list[dict[str, Any]]) -> None:
    rows, rejected = columns.shape(TRADES, located(records))
    expected = {100 + i: naive(record, 100 + i) for i, record in enumerate(records)}
    assert {row[-1]: row for row in rows.iter_rows()} == {o: r for o, r in expected.items() if r is not None}
    assert {(r.partition, r.offset) for r in rejected} == {(3, o) for o, r in expected.items() if r is None}
    assert all(r.reason for r in rejected)
    assert columns.fits(TRADES, rows) == []


@given(st.lists(TRADE, min_size=1, max_size=10))
@settings(deadline=None)
def test_the_copy_stream_holds_every_value(records: list[dict[str, Any]]) -> None:
    rows, _ = columns.shape(TRADES, located(records))
    assert read_copy(TRADES, columns.encode(rows)) == rows.rows()


@pytest.mark.parametrize(
    ("ts", "fine"),
    [
        (columns.EARLIEST_NS - 1, False),
        (columns.EARLIEST_NS, True),
        (columns.LATEST_NS - 1, True),
        (columns.LATEST_NS, False),
        (0, False),
        (2**63 - 1, False),
        (-(2**63), False),
    ],
)
def test_absurd_times_are_refused_at_their_exact_bounds(ts: int, fine: bool) -> None:
    record = {
        "symbol": "A", "ts": ts, "id": 1, "exchange": "V", "price": 1.0, "size": 1, "conditions": [],
        "tape": "A", "extra": None, "received_ts": 1, "source": "ws", "owner_epoch": 1, "event_id": b"12",
    }  # fmt: skip
    rows, rejected = columns.shape(TRADES, located([record]))
    assert (rows.height, len(rejected)) == ((1, 0) if fine else (0, 1))
    if not fine:
        assert "1990" in rejected[0].reason


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_field_of_the_schema_reaches_its_table(table: Table) -> None:
    used = {name for column in table.columns for name in column.value.meta.root_names()}
    fields = {field["name"] for field in schema(table.stem)["fields"]}
    assert fields - used == {"owner_epoch"}
    assert used - fields == {PARTITION, OFFSET}


def test_a_narrower_column_than_the_record_is_noticed_before_copy() -> None:
    rows, _ = columns.shape(TRADES, located([]))
    wrong = rows.with_columns(pl.col("k_part").cast(pl.Int64), pl.col("size").cast(pl.Float64))
    assert [problem.split()[0] for problem in columns.fits(TRADES, wrong)] == ["size", "k_part"]


def test_days_are_those_of_utc() -> None:
    moments = [datetime(2013, 10, 7, 23, 59, 59, 999_999, tzinfo=UTC), datetime(2013, 10, 8, tzinfo=UTC)]
    frame = pl.DataFrame({"ts": moments}, schema={"ts": pl.Datetime("us", "UTC")})
    assert [partitions.name("trades", day) for day in partitions.days(frame)] == [
        "trades_20131007",
        "trades_20131008",
    ]
    assert len({table.name for table in TABLES}) == 8


def read_copy(table: Table, data: bytes) -> list[tuple[Any, ...]]:
    """COPY BINARY as PostgreSQL's documentation describes it, in plain Python."""
    assert data[:19] == b"PGCOPY\n\xff\r\n\0" + bytes(8)
    position, rows = 19, []
    while (fields := struct.unpack_from(">h", data, position)[0]) != -1:
        assert fields == len(table.columns)
        position += 2
        row = []
        for column in table.columns:
            size = struct.unpack_from(">i", data, position)[0]
            position += 4
            row.append(None if size == -1 else value(column.kind, data[position : position + size]))
            position += max(size, 0)
        rows.append(tuple(row))
    assert position + 2 == len(data)
    return rows


def value(kind: str, raw: bytes) -> Any:
    numbers = {"smallint": ">h", "integer": ">i", "bigint": ">q", "double precision": ">d"}
    if kind in numbers:
        return struct.unpack(numbers[kind], raw)[0]
    if kind == "timestamp with time zone":
        return datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=struct.unpack(">q", raw)[0])
    if kind == "text[]":
        return array(raw)
    return raw.decode() if kind == "text" else raw


def array(raw: bytes) -> list[str]:
    dimensions, _, oid = struct.unpack_from(">iii", raw)
    assert oid == 25, "text"
    if not dimensions:
        return []
    length, position, items = struct.unpack_from(">i", raw, 12)[0], 20, []
    for _ in range(length):
        size = struct.unpack_from(">i", raw, position)[0]
        items.append(raw[position + 4 : position + 4 + size].decode())
        position += 4 + size
    return items
