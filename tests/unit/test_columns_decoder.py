"""Columns against fastavro: if these fail, records reach PostgreSQL and the table wrong, or not at all."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.catalogue import schema, stems
from schemas.codec import Version
from tests.unit import columns_batches as batches
from tests.unit.columns_batches import block, record
from tidewire.columns import Block, Decoder, as_blocks, records_at
from tidewire.errors import SchemaError

ID = 4711
INT64 = st.integers(-(2**63), 2**63 - 1)
TRADES = [Version(ID, "stock_trade", schema("stock_trade"))]
TEXT = st.text(st.characters(codec="utf-8"), max_size=6)


def _values(kind: Any) -> st.SearchStrategy[Any]:
    if isinstance(kind, list):
        return st.none() | _values(kind[1])
    if isinstance(kind, dict):
        if kind["type"] == "enum":
            return st.sampled_from(kind["symbols"])
        if kind["type"] == "array":
            return st.lists(_values(kind["items"]), max_size=3)
        if kind["type"] == "record":
            return _fields(kind)
        if kind.get("logicalType") == "decimal":
            return st.integers(1 - 10**38, 10**38 - 1).map(lambda n: Decimal(f"{n}E-18"))
        return _values(kind["type"])
    plain: dict[str, st.SearchStrategy[Any]] = {
        "string": TEXT,
        "bytes": st.binary(max_size=9),
        "long": INT64,
        "int": st.integers(-(2**31), 2**31 - 1),
        "double": st.floats(allow_nan=False),
        "boolean": st.booleans(),
    }
    return plain[kind]


def _fields(of: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({f["name"]: _values(f["type"]) for f in of["fields"]})


def encode(stem: str, record: dict[str, Any], schema_id: int = ID) -> bytes:
    return batches.encode(schema(stem), record, schema_id)


def trade(number: int, symbol: str = "AAPL") -> dict[str, Any]:
    fields = {"symbol": symbol, "ts": 10**18 + number, "id": number, "exchange": "V", "price": 1.25 + number}
    more = {"size": 100, "conditions": ["@", "I"][: number % 3], "tape": "C", "received_ts": 10**18}
    rest = {"extra": None if number % 2 else "{}", "source": "ws", "owner_epoch": 1, "event_id": b"12345678"}
    return fields | more | rest


def sound(offset: int) -> Any:
    return record(offset, b"AAPL", encode("stock_trade", trade(offset)))


@pytest.mark.parametrize("stem", stems())
def test_every_schema_of_the_catalogue_decodes_as_fastavro_does(stem: str) -> None:
    """All columns: nulls, lists, lists of records, enums, bytes, decimals of 38 digits, extreme numbers."""
    fields = schema(stem)["fields"]
    key = next(f["name"] for f in fields if f["type"] == "string")
    decoder = Decoder([Version(ID, stem, schema(stem))], key)

    @settings(max_examples=4)
    @given(st.lists(_fields(schema(stem)), min_size=1, max_size=8))
    def check(records: list[dict[str, Any]]) -> None:
        sent = [record(i, r[key].encode(), encode(stem, r)) for i, r in enumerate(records)]
        decoded = decoder([block(sent)])
        assert decoded.refused == []
        assert decoded.frame.to_dicts() == records
        assert decoded.frame.columns == [f["name"] for f in fields]
        assert decoded.offsets.tolist() == list(range(len(records)))
        assert not decoded.bisected

    check()


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ({"type": "map", "values": "long"}, "the type map"),
        (["null", "string", "long"], "a union of 3 types"),
        (["null", {"type": "enum", "name": "E", "symbols": ["a"]}], "an enum in a union"),
        ({"type": "long", "logicalType": "timestamp-micros"}, "the logical type timestamp-micros of long"),
        ("Elsewhere", "the type Elsewhere"),
    ],
)
def test_a_type_that_cannot_be_read_in_columns_is_named(kind: Any, named: str) -> None:
    """A developer who gives a hot topic such a field learns it at the start, not from wrong rows."""
    fields = [{"name": "symbol", "type": "string"}, {"name": "odd", "type": kind}]
    with pytest.raises(SchemaError, match=rf"R\.odd cannot be read in columns: it is {named}"):
        Decoder([Version(ID, "r", {"type": "record", "name": "R", "fields": fields})])


@pytest.mark.parametrize("compression", [0, 1, 2, 3, 4], ids=["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_compression_is_read(compression: int) -> None:
    decoder = Decoder(TRADES)
    decoded = decoder([block([sound(i) for i in range(50)], compression)])
    assert decoded.frame["id"].to_list() == list(range(50))
    assert not decoded.bisected


BROKEN = {
    "unknown schema id": lambda i: record(i, b"AAPL", encode("stock_trade", trade(i), 7)),
    "not Confluent wire format": lambda i: record(i, b"AAPL", b"{}"),
    "no value": lambda i: record(i, b"AAPL", None),
    "no key": lambda i: record(i, None, encode("stock_trade", trade(i))),
    "key is not UTF-8": lambda i: record(i, b"\xff", encode("stock_trade", trade(i))),
    "key differs from symbol": lambda i: record(i, b"IBM", encode("stock_trade", trade(i))),
    "value does not decode as stock_trade": lambda i: record(
        i, b"AAPL", encode("stock_trade", trade(i))[:-11]
    ),
    "value has 1 bytes after the stock_trade": lambda i: record(
        i, b"AAPL", encode("stock_trade", trade(i)) + b"\0"
    ),
    "value has 3 bytes after": lambda i: record(i, b"AAPL", encode("stock_trade", trade(i)) + b"\0\0\0"),
}


@pytest.mark.parametrize("reason", list(BROKEN))
@pytest.mark.parametrize("at", [0, 20, 39])
def test_a_broken_record_costs_only_itself_and_says_why(reason: str, at: int) -> None:
    """At the start, in the middle and at the end of a batch: the neighbours come out whole."""
    records = [sound(100 + i) for i in range(40)]
    records[at] = BROKEN[reason](100 + at)
    decoded = Decoder(TRADES)([block(records[:25]), block(records[25:])])
    assert [(r.offset, r.key, r.value) for r in decoded.refused] == [
        (100 + at, records[at].key, records[at].value)
    ]
    assert decoded.refused[0].reason.startswith(reason)
    good = [100 + i for i in range(40) if i != at]
    assert decoded.offsets.tolist() == good
    assert decoded.frame["id"].to_list() == good


@pytest.mark.parametrize("zeros", [1, 2, 3, 13])
@pytest.mark.parametrize("neighbours", [0, 1, 30])
@pytest.mark.parametrize("compression", [0, 4])
def test_zeros_behind_a_value_are_seen_wherever_it_stands(
    zeros: int, neighbours: int, compression: int
) -> None:
    """Alone, last and first: a zero reads as a record's count of headers, so it is the easiest to miss."""
    bad = record(neighbours, b"AAPL", encode("stock_trade", trade(neighbours)) + bytes(zeros))
    before, after = (
        [sound(i) for i in range(neighbours)],
        [sound(neighbours + 1 + i) for i in range(neighbours)],
    )
    for records in ([*before, bad], [bad, *after], [*before, bad, *after]):
        decoded = Decoder(TRADES)([block(records, compression)])
        assert [r.offset for r in decoded.refused] == [neighbours]
        assert decoded.refused[0].reason == f"value has {zeros} bytes after the stock_trade"
        assert decoded.offsets.tolist() == [r.offset for r in records if r is not bad]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=8), st.data())
def test_a_records_fate_never_depends_on_its_neighbours(bodies: list[bytes], data: st.DataObject) -> None:
    """A replay has other batches; it must refuse the same records, or a table and PostgreSQL would differ."""
    header = b"\0" + ID.to_bytes(4, "big")
    whole = encode("stock_trade", trade(1))
    values = [data.draw(st.sampled_from([whole, header + body, whole + body])) for body in bodies]
    records = [record(i, b"AAPL", value) for i, value in enumerate(values)]
    decoder = Decoder(TRADES, columns=("symbol", "ts", "price"))
    together = decoder([block(records)])
    alone = [decoder([block([r])]) for r in records]
    assert together.offsets.tolist() == [int(d.offsets[0]) for d in alone if len(d.offsets)]
    assert [(r.offset, r.reason) for r in together.refused] == [
        (r.offset, r.reason) for d in alone for r in d.refused
    ]
    assert together.frame.equals(pl.concat(d.frame for d in alone))


@pytest.mark.parametrize("broken", [False, True])
def test_a_fetch_that_begins_inside_a_batch_does_not_repeat_what_was_before(broken: bool) -> None:
    records = [sound(10 + i) for i in range(10)]
    if broken:
        records[2] = BROKEN["unknown schema id"](12)  # before the start: somebody else's business
        records[7] = BROKEN["unknown schema id"](17)
    decoded = Decoder(TRADES)([block(records, start=14), block([sound(20)])])
    assert decoded.offsets.tolist() == [14, 15, 16, *([] if broken else [17]), 18, 19, 20]
    assert [r.offset for r in decoded.refused] == ([17] if broken else [])


def test_headers_and_holes_of_compaction_are_accepted() -> None:
    """Hot topics carry neither, but a foreign producer may; its records count all the same."""
    records = [sound(5), record(9, b"AAPL", encode("stock_trade", trade(9)), [("trace", b"1")]), sound(30)]
    decoded = Decoder(TRADES)([block(records)])
    assert decoded.offsets.tolist() == [5, 9, 30]
    assert decoded.frame["id"].to_list() == [5, 9, 30]
    assert decoded.bisected


def test_a_batch_that_cannot_be_unpacked_is_refused_whole_with_its_bytes() -> None:
    good = block([sound(i) for i in range(5)], compression=1)
    raw = bytes(good.raw[:61]) + b"no gzip at all"
    bad = Block(5, 5, 9, 5, 1, memoryview(raw))
    decoded = Decoder(TRADES)([good, bad])
    assert decoded.offsets.tolist() == [0, 1, 2, 3, 4]
    assert [(r.offset, r.value) for r in decoded.refused] == [(5, raw)]
    assert "5-9 cannot be unpacked" in decoded.refused[0].reason


def test_nothing_left_gives_an_empty_frame_with_its_columns() -> None:
    """The sink makes COPY bytes of the frame; it must not stumble over a batch of refused records."""
    decoder = Decoder(TRADES)
    empty = decoder([block([BROKEN["unknown schema id"](0)])])
    assert empty.frame.schema == decoder([block([sound(0)])]).frame.schema
    assert len(empty.offsets) == 0


def test_plain_consumer_records_become_the_same_columns() -> None:
    """With another aiokafka the fetcher is not replaced: the results must be the same."""
    records = [sound(7), sound(8), BROKEN["no value"](11), sound(12)]
    decoder = Decoder(TRADES)
    blocks = as_blocks(records)
    assert (blocks[0].base, blocks[0].start, blocks[0].last, blocks[0].count) == (7, 7, 12, 4)
    decoded, expected = decoder(blocks), decoder([block(records)])
    assert decoded.frame.equals(expected.frame)
    assert decoded.refused == expected.refused
    assert np.array_equal(decoded.offsets, expected.offsets)
    assert as_blocks(blocks) == blocks


def test_a_record_can_be_found_again_by_its_offset() -> None:
    """Dead letters of the fold keep the bytes that were in Kafka."""
    blocks = [block([sound(i) for i in range(5)]), block([sound(i) for i in range(5, 9)], compression=3)]
    found = records_at(blocks, [3, 6])
    assert [(r.offset, r.value) for r in found] == [(3, sound(3).value), (6, sound(6).value)]
