"""Without these a record could reach its row changed, or a newer state be replaced by an older one."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.catalogue import GAPS, TOPICS, schema, stems
from schemas.codec import Codec, Version
from schemas.fills import fills
from sinks.postgres.record_columns import TOPIC_ID, RecordTable, Source
from sinks.postgres.record_tables import (
    FILLS,
    NEWS,
    ORDERS,
    RECORD_TABLES,
    SNAPSHOT_POSITIONS,
    SOURCES,
    WATCHLIST_SCORES,
)
from sinks.postgres.records import Entry, RecordFeed, entry, newest, read, row
from sinks.postgres.spans import Span
from sinks.postgres.tables import OFFSET, PARTITION
from tidewire.columns import as_blocks

CODEC = Codec([Version(100 + n, stem, schema(stem)) for n, stem in enumerate(stems())])
PLACE = {PARTITION: 3, OFFSET: 77, TOPIC_ID: "id"}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BY_STEM = {source.stem: source for source in SOURCES}

INT8 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=5)
MONEY = st.integers(-(10**38) + 1, 10**38 - 1).map(lambda n: Decimal(f"{n}e-18"))


def strategy(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of an Avro type as fastavro decodes it."""
    if isinstance(kind, list):
        return st.one_of(*map(strategy, kind))
    if isinstance(kind, dict) and kind["type"] == "record":
        return st.fixed_dictionaries({f["name"]: strategy(f["type"]) for f in kind["fields"]})
    if isinstance(kind, dict) and kind["type"] == "array":
        return st.lists(strategy(kind["items"]), max_size=2)
    if isinstance(kind, dict) and kind["type"] == "enum":
        return st.sampled_from(kind["symbols"])
    if isinstance(kind, dict):
        return MONEY if kind.get("logicalType") == "decimal" else strategy(kind["type"])
    return {
        "null": st.none(), "boolean": st.booleans(), "int": st.integers(-(2**31), 2**31 - 1), "long": INT8,
        "double": st.floats(), "string": TEXT, "bytes": st.binary(max_size=8),
    }[kind]  # fmt: skip


RECORDS = {stem: strategy(schema(stem)) for stem in BY_STEM}


def naive(table: RecordTable, record: dict[str, Any]) -> tuple[Any, ...] | None:
    """The row, a column at a time; None: must be refused."""
    made = {}
    for column in table.columns:
        name = {"k_part": PARTITION, "k_offset": OFFSET, "k_topic_id": TOPIC_ID}.get(column.name, column.name)
        value = record["ts"] % 1000 if name == "ts_nanos" else record[name]
        if name == "ts":
            value = EPOCH + timedelta(microseconds=value // 1000)
        if "\0" in str(value) or (isinstance(value, float) and not math.isfinite(value)):
            return None
        if column.kind == "jsonb":
            if "\\x00" in repr(value).replace("\\\\", ""):
                return None
            value = [{k: as_text(v) for k, v in item.items()} for item in value]
        elif isinstance(value, list) and not all(map(good, value)):
            return None
        made[column.name] = value
    return tuple(made.values())


def good(item: Any) -> bool:
    return math.isfinite(item) if isinstance(item, float) else "\0" not in item


def as_text(value: Any) -> Any:
    if not isinstance(value, Decimal):
        return value
    whole, _, rest = f"{value:f}".partition(".")
    rest = rest.rstrip("0")
    return f"{whole}.{rest}" if rest else whole


def opened(table: RecordTable, made: tuple[Any, ...]) -> tuple[Any, ...]:
    kinds = [column.kind for column in table.columns]
    return tuple(json.loads(v) if k == "jsonb" else v for k, v in zip(kinds, made, strict=True))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_every_record_becomes_its_row_or_is_refused_with_a_reason(source: Source) -> None:
    @given(RECORDS[source.stem])
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    def check(record: dict[str, Any]) -> None:
        placed = record | PLACE
        expected = naive(source.table, placed)
        if expected is None:
            with pytest.raises(ValueError, match=f"^({'|'.join(source.table.names)}) "):
                row(source.table, placed)
        else:
            assert opened(source.table, row(source.table, placed)) == expected

    check()


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_every_field_of_the_schema_reaches_a_table(source: Source) -> None:
    """Lost otherwise: what the broker said, for whoever asks PostgreSQL."""
    fields = {field["name"] for field in schema(source.stem)["fields"]}
    stored = {name for table in source.tables for name in table.names}
    missing = fields - stored - {"owner_epoch"}
    assert missing == ({"positions"} if source.table.name == "account_snapshots" else set())


def test_keys_are_columns_and_states_come_from_compacted_topics() -> None:
    compacted = {topic.name for topic in TOPICS if topic.compacted}
    for table in RECORD_TABLES:
        assert set(table.key) <= set(table.names)
    for source in SOURCES:
        # A gap's table shows where it stands; its topic keeps the way there as well.
        assert source.table.current == (source.topic in compacted or source.topic == GAPS)


# -- the rows of parts ---------------------------------------------------------------------------------------


def example(stem: str, **changes: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"null": None, "string": "", "boolean": False, "long": 0, "double": 0.5}

    def value(kind: Any) -> Any:
        if isinstance(kind, list):
            return value(kind[0])
        if isinstance(kind, dict):
            fixed = {"array": [], "enum": "ws", "bytes": Decimal(1)}
            return fixed[kind["type"]]
        return b"12345678" if kind == "bytes" else empty[kind]

    return {f["name"]: value(f["type"]) for f in schema(stem)["fields"]} | changes


def leg(order_id: str, quantity: int) -> dict[str, Any]:
    numbers = {
        "cumulative_quantity": Decimal(quantity),
        "quantity": Decimal(quantity),
        "price": Decimal("1.25"),
    }
    names = {
        "order_id": order_id,
        "execution_id": "x" + order_id,
        "symbol": "SPY250117C00500000",
        "side": "buy",
    }
    return names | numbers | {"position_quantity": None, "ts": 5}


def test_each_leg_is_a_fill_and_a_cancel_is_none() -> None:
    two = example("trade_update", event="fill", account="a", legs=[leg("l1", 1), leg("l2", 2)]) | PLACE
    made = entry(BY_STEM["trade_update"], two)
    names = FILLS.names
    found = [dict(zip(names, one, strict=True)) for one in made.parts[0]]
    assert [(f["order_id"], f["quantity"], f["kind"]) for f in found] == [
        ("l1", 1, "fill"),
        ("l2", 2, "fill"),
    ]
    assert [f["event_id"] for f in found] == [fill.event_id for fill in fills(two)]
    assert entry(BY_STEM["trade_update"], example("trade_update", event="canceled") | PLACE).parts == ((),)


def test_a_fill_that_does_not_say_what_it_filled_is_refused() -> None:
    with pytest.raises(ValueError, match="without quantity or price"):
        entry(BY_STEM["trade_update"], example("trade_update", event="fill", side="buy") | PLACE)


def test_the_positions_of_a_snapshot_keep_their_place_and_its_account() -> None:
    position = example_position("A"), example_position("A")
    made = entry(
        BY_STEM["account_snapshot"], example("account_snapshot", account="a", positions=position) | PLACE
    )
    found = [dict(zip(SNAPSHOT_POSITIONS.names, one, strict=True)) for one in made.parts[0]]
    assert [(f["ordinal"], f["account"], f["symbol"]) for f in found] == [(0, "a", "A"), (1, "a", "A")]


def example_position(symbol: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("market_value", "cost_basis", "current_price"))
    return nothing | {
        "symbol": symbol,
        "asset_class": "",
        "quantity": Decimal(1),
        "average_price": Decimal(2),
    }


# -- reading spans -------------------------------------------------------------------------------------------


def span(values: Sequence[tuple[int, bytes | None]], partition: int = 0) -> Span:
    records = [SimpleNamespace(offset=o, timestamp=1, key=b"k", value=v, headers=[]) for o, v in values]
    return Span("t", partition, "id", values[0][0], values[0][0]).extend(as_blocks(records))


def feed(stem: str) -> RecordFeed:
    return RecordFeed("t", BY_STEM[stem], CODEC)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"), st.sampled_from(["ok", "nan", "cut", "other", "null"]), st.integers(1, 5)
        ),
        min_size=1,
        max_size=12,
    )
)
def test_counts_add_up_and_the_newest_sound_record_of_a_key_is_kept(plan: list[tuple[str, str, int]]) -> None:
    """Holes between the offsets, as compaction leaves them, are no records and cost none."""
    values, offset, sound = [], 100, dict[str, int]()
    for symbol, kind, step in plan:
        offset += step
        good = example("watchlist_score", symbol=symbol, score=float("nan") if kind == "nan" else 0.5)
        value: bytes | None = CODEC.encode("watchlist_score", good)
        if kind == "other":
            value = CODEC.encode("news", example("news"))
        if kind == "ok":
            sound[symbol] = offset
        values.append((offset, None if kind == "null" else value[:-1] if kind == "cut" and value else value))
    found = read(feed("watchlist_score"), [span(values)])
    kinds = [kind for _, kind, _ in plan]
    kept = found.entries
    assert found.count == len(plan)
    assert kept.tombstones == kinds.count("null")
    assert len(found.dead) == sum(kinds.count(kind) for kind in ("nan", "cut", "other"))
    assert len(kept.entries) + kept.superseded == kinds.count("ok")
    assert {e.row[WATCHLIST_SCORES.names.index("symbol")]: e.offset for e in kept.entries} == sound
    assert all(d.reason and (d.offset, d.value) in values for d in found.dead)


def test_a_record_without_a_value_is_a_tombstone_only_where_the_topic_is_compacted() -> None:
    found = read(feed("news"), [span([(5, None), (6, CODEC.encode("news", example("news")))])])
    assert [(d.offset, d.value) for d in found.dead] == [(5, None)]
    assert "tombstone" in found.dead[0].reason
    assert [e.offset for e in found.entries.entries] == [6]


def test_a_batch_that_cannot_be_unpacked_is_given_up_whole_and_counted_as_one() -> None:
    broken = span([(5, CODEC.encode("news", example("news")))])
    raw = bytearray(broken.blocks[0].raw)
    raw[22] |= 1  # says gzip, is none
    block = type(broken.blocks[0])(5, 5, 9, 1, 1, memoryview(bytes(raw)))
    found = read(feed("news"), [Span("t", 0, "id", 5, 5).extend([block])])
    assert (found.count, len(found.dead), found.dead[0].value) == (1, 1, bytes(raw))
    assert "offsets 5-9" in found.dead[0].reason


ENTRIES = st.lists(
    st.builds(
        lambda key, partition, offset, ts: Entry(partition, offset, ts, ("a", key)),
        st.sampled_from("xyz"),
        st.integers(0, 1),
        st.integers(0, 99),
        st.integers(0, 3),
    ),
    max_size=12,
)


@given(ENTRIES)
def test_of_one_partition_the_greatest_offset_stays(entries: list[Entry]) -> None:
    one_partition = [e for e in entries if e.partition == 0]
    kept = newest(ORDERS, one_partition)
    expected = {e.row: max(o.offset for o in one_partition if o.row == e.row) for e in one_partition}
    assert {e.row: e.offset for e in kept} == expected
    both = newest(ORDERS, entries)
    assert sorted(e.row for e in both) == sorted({e.row for e in entries})
    assert NEWS.key == ("provider", "id", "revision")
