"""Low-rate records against a real PostgreSQL. Lost otherwise: an order's end, a fill, a newer state."""

from __future__ import annotations

import json
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import dict_row

from schemas import examples
from schemas.catalogue import schema, stems
from schemas.codec import Codec, Version
from schemas.fills import fills
from sinks.postgres import migrate
from sinks.postgres.batches import Batch, prepare
from sinks.postgres.offsets import Log, Place
from sinks.postgres.record_tables import RECORD_TABLES, SOURCES
from sinks.postgres.records import RecordFeed
from sinks.postgres.spans import Span
from sinks.postgres.writer import Counts, Writer
from tidewire.columns import as_blocks

pytestmark = pytest.mark.postgres

CODEC = Codec([Version(100 + n, stem, schema(stem)) for n, stem in enumerate(stems())])
FEEDS = [RecordFeed(f"x.{source.topic}", source, CODEC) for source in SOURCES]
BY_STEM = {feed.source.stem: feed for feed in FEEDS}
NOW = 1_700_000_000_123_456_789
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Line:
    """One writer and where each topic's partition 0 goes on."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.writer = Writer(url, "group", 100, threading.Event())
        self.next: dict[str, int] = {}

    def place(self, stem: str, topic_id: str = "id", beginning: int = 0) -> Place:
        topic = BY_STEM[stem].topic
        place = self.writer.place({(topic, 0): Log(topic_id, beginning, 1 << 40)})[topic, 0]
        self.next[stem] = place.offset
        return place

    def batch(self, stem: str, values: list[bytes | None], topic_id: str = "id", step: int = 1) -> Batch:
        topic, expected = BY_STEM[stem].topic, self.next[stem]
        records = [
            SimpleNamespace(offset=expected + i * step, timestamp=1, key=b"k", value=value, headers=[])
            for i, value in enumerate(values)
        ]
        span = Span(topic, 0, topic_id, expected, expected).extend(as_blocks(records))
        self.next[stem] = span.next
        return prepare(FEEDS, [span])

    def write(self, stem: str, records: list[dict[str, Any]], **options: Any) -> Counts:
        values: list[bytes | None] = [CODEC.encode(stem, record) for record in records]
        return self.send(stem, values, **options)

    def send(self, stem: str, values: list[bytes | None], **options: Any) -> Counts:
        if stem not in self.next:
            self.place(stem)
        return self.writer.write(self.batch(stem, values, **options))[BY_STEM[stem].topic]

    def rows(self, text: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(text.encode()).fetchall()

    def dicts(self, text: str) -> list[dict[str, Any]]:
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            return connection.execute(text.encode()).fetchall()


@pytest.fixture(scope="module")
def url(postgres_url: str) -> Iterator[str]:
    """One database for all of these tests: making one costs more than most of them."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}".encode())
        own = urlsplit(postgres_url)._replace(path=f"/{name}").geturl()
        migrate.apply(own)
        yield own
        server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def line(url: str) -> Iterator[Line]:
    names = [*(table.name for table in RECORD_TABLES), "kafka_offsets", "dead_letters"]
    with psycopg.connect(url) as connection:
        connection.execute("; ".join(f"DELETE FROM {name}" for name in names).encode())
    line = Line(url)
    yield line
    line.writer.close()


def update(number: int, event: str = "new", **changes: Any) -> dict[str, Any]:
    nothing = {f["name"]: None for f in schema("trade_update")["fields"]}
    text = dict.fromkeys(("symbol", "asset_class", "order_type", "order_class", "time_in_force"), "")
    return nothing | text | {
        "account": "a", "ts": NOW + number, "event": event, "order_id": f"o{number}", "side": "buy",
        "status": event, "cumulative_quantity": Decimal(0), "legs": [], "extended_hours": False,
        "received_ts": NOW, "source": "ws", "owner_epoch": 1, "event_id": number.to_bytes(8, "big"),
    } | changes  # fmt: skip


def fill(number: int, event: str = "fill", **changes: Any) -> dict[str, Any]:
    numbers = {"quantity": Decimal(10), "price": Decimal("1.5"), "cumulative_quantity": Decimal(number)}
    return update(number, event, **({"execution_id": f"x{number}"} | numbers | changes))


def order(status: str, ts: int = NOW, **changes: Any) -> dict[str, Any]:
    nothing = {f["name"]: None for f in schema("portfolio_order")["fields"]}
    text = dict.fromkeys(("symbol", "side", "order_type", "order_class", "time_in_force"), "")
    return nothing | text | {
        "account": "a", "order_id": "o", "ts": ts, "status": status, "filled_quantity": Decimal(0),
        "submitted_ts": NOW, "received_ts": NOW, "source": "ws", "event_id": b"12345678",
    } | changes  # fmt: skip


# -- content -------------------------------------------------------------------------------------------------


def test_any_record_comes_out_of_postgresql_as_it_went_in(line: Line) -> None:
    """Lost otherwise: digits of money, nanoseconds, or text that COPY reads differently."""
    for feed in FEEDS:
        stem, table = feed.source.stem, feed.source.table
        endless = enumerate(examples.records(schema(stem), 7))
        made = [one_of_many(record, n) for n, record in islice(endless, 40)]
        refused = sum(1 for record in made if stem == "trade_update" and not sound(record))
        counts = line.write(stem, made)
        assert (counts.applied, counts.dead) == (len(made) - refused, refused), stem
        for row in line.dicts(f"SELECT * FROM {table.name}"):
            record = made[row["k_offset"]]
            assert (row["ts_nanos"], row["k_part"]) == (record["ts"] % 1000, 0)
            for name in set(table.names) - {"ts_nanos", "k_part", "k_offset", "k_topic_id"}:
                assert row[name] == expected(record, name), (table.name, name)
        assert len(line.rows(f"SELECT FROM {table.name}")) == counts.applied


def one_of_many(record: dict[str, Any], number: int) -> dict[str, Any]:
    """With a key of its own and hostile text, without numbers that are refused (see the unit tests)."""
    hostile = 'tab\t line\r\n \\N \\. \\0 {"a",b} NULL \'; DROP TABLE news; -- \u202e \U0001f642'
    record |= {"event_id": number.to_bytes(8, "big"), "source": "ws"}
    record |= {"owner_epoch": 1} if "owner_epoch" in record else {}
    for name, value in record.items():
        if isinstance(value, float):
            record[name] = 0.1 + number
        if isinstance(value, list) and value and isinstance(value[0], float):
            record[name] = [0.1, 1e16, -0.0, 5e-324][: len(value)]
    for name in {"account", "order_id", "id", "symbol", "headline"} & record.keys():
        record[name] = f"{hostile}{number}"
    if "event" in record:
        record |= {"event": ("new", "fill", "trade_bust")[number % 3], "side": "sell"}
    return record


def sound(record: dict[str, Any]) -> bool:
    try:
        fills(record)
    except ValueError:
        return False
    return True


def expected(record: dict[str, Any], name: str) -> Any:
    value = record[name]
    if name == "ts":
        return EPOCH + timedelta(microseconds=value // 1000)
    if name in ("legs", "orders"):
        return [{k: json_value(v) for k, v in item.items()} for item in value]
    return value


def json_value(value: Any) -> Any:
    if not isinstance(value, Decimal):
        return value
    text = f"{value:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def test_the_positions_and_orders_of_a_snapshot_are_kept_with_it(line: Line) -> None:
    made = next(r for r in examples.records(schema("account_snapshot"), 3) if len(r["positions"]) > 1)
    assert line.write("account_snapshot", [made, made]).duplicates == 1
    found = line.dicts("SELECT * FROM snapshot_positions ORDER BY ordinal")
    assert len(found) == len(made["positions"])
    for row, position in zip(found, made["positions"], strict=True):
        assert (row["event_id"], row["account"]) == (made["event_id"], made["account"])
        assert {name: row[name] for name in position} == position
    assert len(line.dicts("SELECT orders FROM account_snapshots")[0]["orders"]) == len(made["orders"])


# -- orders and fills ----------------------------------------------------------------------------------------


def test_a_cancel_or_expiry_removes_the_pending_order_and_a_rejection_keeps_its_reason(line: Line) -> None:
    """A10. Lost otherwise: an order that is gone would be shown as pending for ever."""
    ends = ("canceled", "expired", "rejected", "filled", "replaced")
    names = [*ends, "accepted", "partially_filled", "done_for_day"]
    line.write("portfolio_order", [order("new", order_id=name) for name in names])
    assert len(line.rows("SELECT FROM pending_orders")) == len(names)
    changes = [order(n, order_id=n, reason="no money" if n == "rejected" else None) for n in names]
    assert line.write("portfolio_order", changes).applied == len(names)
    left = line.rows("SELECT order_id FROM pending_orders ORDER BY 1")
    assert left == [("accepted",), ("done_for_day",), ("partially_filled",)]
    assert line.rows("SELECT reason FROM orders WHERE status = 'rejected'") == [("no money",)]
    rejection = update(1, "rejected", reason="insufficient buying power")
    line.write("trade_update", [rejection])
    assert line.rows("SELECT event, reason FROM order_events") == [("rejected", rejection["reason"])]


def test_a_busted_fill_is_gone_and_a_corrected_one_is_as_corrected(line: Line) -> None:
    line.write("trade_update", [fill(n) for n in (1, 2, 3, 4)])
    assert len(line.rows("SELECT FROM fills_effective")) == 4
    revisions = [
        fill(11, "trade_bust", previous_execution_id="x1", execution_id=None),
        fill(12, "trade_correct", previous_execution_id="x2", quantity=Decimal(7)),
        fill(13, "trade_correct", previous_execution_id="x3", quantity=Decimal(8)),
        fill(14, "trade_correct", previous_execution_id="x13", quantity=Decimal(9)),
        fill(15, "trade_correct", previous_execution_id="x2", quantity=Decimal(6)),  # the later one counts
        fill(16, "trade_correct", previous_execution_id="x16-unknown", quantity=Decimal(99)),
        fill(17, "trade_correct", previous_execution_id="x4", execution_id="x4", quantity=Decimal(5)),
        fill(18, "trade_correct", previous_execution_id="x4", execution_id="x4", quantity=Decimal(4)),
        fill(19, "trade_bust", previous_execution_id="x1", account="another"),
    ]
    line.write("trade_update", revisions)
    found = line.rows("SELECT execution_id, quantity FROM fills_effective ORDER BY 1")
    assert found == [("x14", 9), ("x15", 6), ("x4", 4)]
    assert len(line.rows("SELECT FROM fills")) == 13


def test_an_event_that_comes_again_is_a_duplicate_also_in_its_fills(line: Line) -> None:
    assert line.write("trade_update", [fill(1), update(2)]).applied == 2
    counts = line.write("trade_update", [fill(1), fill(3), fill(3)])
    assert (counts.applied, counts.duplicates) == (1, 2)
    assert line.rows("SELECT count(*), count(DISTINCT event_id) FROM fills") == [(2, 2)]


# -- states --------------------------------------------------------------------------------------------------


def test_states_never_go_back_whatever_is_read_again_and_however_it_is_cut(line: Line) -> None:
    """The log's order decides: a position's ts goes back when a fill follows a younger mark."""
    chance = random.Random(5)
    log = [
        order("new", ts=NOW + chance.randrange(50), order_id=f"o{chance.randrange(6)}", reason=str(n))
        for n in range(200)
    ]
    line.place("portfolio_order")
    at, reached = 0, 0
    while at < len(log):
        size = chance.randrange(1, 40)
        counts = line.write("portfolio_order", log[at : at + size])
        read = len(log[at : at + size])
        assert counts.applied + counts.duplicates + counts.superseded == read
        reached = max(reached, at + read)
        newest = {record["order_id"]: record["reason"] for record in log[:reached]}
        assert dict(line.rows("SELECT order_id, reason FROM orders")) == newest
        at += read
        if chance.random() < 0.4:  # somebody set the offsets back
            at = max(0, at - 50)
            with psycopg.connect(line.url) as connection:
                connection.execute("UPDATE kafka_offsets SET next_offset = %s", (at,))
            assert line.place("portfolio_order").offset == at


def test_a_topic_made_again_replaces_states_unless_they_are_older(line: Line) -> None:
    line.write("portfolio_order", [order("new"), order("new", order_id="p"), order("accepted", NOW + 5)])
    line.place("portfolio_order", "other")
    again = [order("filled", NOW + 4), order("filled", NOW + 9, order_id="p")]
    counts = line.write("portfolio_order", again, topic_id="other")
    assert (counts.applied, counts.duplicates) == (1, 1)
    assert line.rows("SELECT order_id, status FROM orders ORDER BY 1") == [("o", "accepted"), ("p", "filled")]


def test_each_epoch_of_a_position_is_a_row_and_only_the_last_is_open(line: Line) -> None:
    made = next(examples.records(schema("portfolio_position"), 2)) | {"account": "a", "symbol": "A"}
    states = [(1, 5), (1, 0), (2, -3), (2, -4)]
    records = [made | {"epoch": epoch, "quantity": Decimal(quantity)} for epoch, quantity in states]
    counts = line.write("portfolio_position", records)
    assert (counts.applied, counts.superseded) == (2, 2)
    assert line.rows("SELECT epoch, quantity FROM positions ORDER BY 1") == [(1, 0), (2, -4)]
    assert line.rows("SELECT epoch FROM open_positions") == [(2,)]


def test_tombstones_and_holes_are_passed_and_the_rows_stay(line: Line) -> None:
    assert line.place("portfolio_order", beginning=40).offset == 40
    good = CODEC.encode("portfolio_order", order("new"))
    counts = line.send("portfolio_order", [good, None, None], step=7)
    assert (counts.applied, counts.tombstones, counts.dead) == (1, 2, 0)
    assert line.send("portfolio_order", [None]).tombstones == 1
    assert line.rows("SELECT status, k_offset FROM orders") == [("new", 40)]
    assert line.rows("SELECT next_offset FROM kafka_offsets") == [(56,)]


# -- bad rows ------------------------------------------------------------------------------------------------


def test_a_record_that_postgresql_refuses_is_given_up_and_its_neighbours_are_stored(line: Line) -> None:
    long = random.Random(1).randbytes(4500).hex()  # larger than an index entry may be
    records = [fill(n) for n in range(300)]
    bad: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
        7: lambda r: r | {"order_id": long},
        8: lambda r: r | {"reason": "a\0b"},
        150: lambda r: r | {"symbol": long},  # only the row of fills
        299: lambda r: r | {"quantity": None},
    }
    values: list[bytes | None] = [
        CODEC.encode("trade_update", bad.get(n, dict)(r)) for n, r in enumerate(records)
    ]
    values[20] = values[20][:-2] if values[20] else None
    values[21] = CODEC.encode("portfolio_order", order("new"))
    values[22] = None
    given_up = {*bad, 20, 21, 22}
    counts = line.send("trade_update", values)
    assert (counts.applied, counts.duplicates, counts.dead) == (300 - len(given_up), 0, len(given_up))
    for table in ("order_events", "fills"):
        assert {n for (n,) in line.rows(f"SELECT k_offset FROM {table}")} == set(range(300)) - given_up
    letters = line.rows("SELECT k_offset, value, reason <> '' FROM dead_letters")
    assert {offset: rest for offset, *rest in letters} == {n: [values[n], True] for n in given_up}


def test_a_state_that_postgresql_refuses_costs_only_itself(line: Line) -> None:
    long = random.Random(1).randbytes(4500).hex()
    records = [order("new", order_id=f"o{n}") for n in range(50)] + [order("new", order_id=long)]
    counts = line.write("portfolio_order", records)
    assert (counts.applied, counts.dead) == (50, 1)
    assert line.rows("SELECT k_offset FROM dead_letters") == [(50,)]


def test_the_tables_own_checks_refuse_scores_that_are_no_numbers(line: Line) -> None:
    with pytest.raises(errors.CheckViolation):
        line.rows("INSERT INTO watchlist_scores VALUES ('A', now(), 0, 'NaN', 1, 1, 1, 'ws', '', 0, 0, '')")


# -- market data of crypto, news -----------------------------------------------------------------------------


def test_the_newest_revision_of_an_article_is_shown(line: Line) -> None:
    made = next(examples.records(schema("news"), 4)) | {"provider": "p", "id": "1"}
    line.write("news", [made | {"revision": n, "headline": str(n)} for n in (1, 3, 2)])
    assert line.rows("SELECT headline FROM news_latest") == [("3",)]
    assert line.rows("SELECT count(*) FROM news") == [(3,)]
    assert json.dumps(line.rows("SELECT symbols FROM news_latest")[0][0]) == json.dumps(made["symbols"])
