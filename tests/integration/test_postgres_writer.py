"""The transaction against a real PostgreSQL. Lost otherwise: a record, its neighbours, or the count of it."""

from __future__ import annotations

import io
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import fastavro
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from schemas import examples
from schemas.catalogue import schema
from schemas.codec import Version
from sinks.postgres import migrate
from sinks.postgres.batches import Batch, Feed, prepare
from sinks.postgres.offsets import Log, Place
from sinks.postgres.spans import Span
from sinks.postgres.tables import TABLES, TRADES
from sinks.postgres.writer import FencedError, Writer
from tidewire.columns import Decoder, as_blocks
from tidewire.errors import PoisonLimitError

pytestmark = pytest.mark.postgres

ID = 77
DAY = 1_381_104_000_000_000_000  # 2013-10-07 UTC, ns
FEEDS = [Feed(f"x.{t.topic}", t, Decoder([Version(ID, t.stem, schema(t.stem))])) for t in TABLES]
TOPIC = f"x.{TRADES.topic}"
PARSED = {t.stem: fastavro.parse_schema(schema(t.stem)) for t in TABLES}


@pytest.fixture
def database(database_url: str) -> str:
    assert migrate.apply(database_url) == [m.name for m in migrate.packaged()]
    return database_url


@pytest.fixture
def open_writer(database: str) -> Iterator[Callable[..., Writer]]:
    writers: list[Writer] = []

    def make(limit: int = 100) -> Writer:
        writers.append(Writer(database, "group", limit, threading.Event()))
        return writers[-1]

    yield make
    for writer in writers:
        writer.close()


def trade(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "symbol": f"S{number % 3}",
        "ts": DAY + number * 1_001,
        "id": number,
        "exchange": "V",
        "price": 1 + number / 7,
        "size": 100,
        "conditions": ["@", "I"],
        "tape": "B",
        "extra": None,
        "received_ts": DAY,
        "source": "ws",
        "owner_epoch": 1,
        "event_id": number.to_bytes(8, "big"),
    } | changes


def encode(stem: str, record: dict[str, Any]) -> bytes:
    out = io.BytesIO(b"\0" + ID.to_bytes(4, "big"))
    out.seek(5)
    fastavro.schemaless_writer(out, PARSED[stem], record)
    return out.getvalue()


def span(values: list[tuple[bytes, bytes]], start: int = 0, topic: str = TOPIC, partition: int = 0) -> Span:
    records = [
        SimpleNamespace(offset=start + i, timestamp=1, key=key, value=value, headers=[])
        for i, (key, value) in enumerate(values)
    ]
    return Span(topic, partition, "id", start, start).extend(as_blocks(records))


def trades(records: list[dict[str, Any]], start: int = 0, partition: int = 0) -> Batch:
    values = [(r["symbol"].encode(), encode("stock_trade", r)) for r in records]
    return prepare(FEEDS, [span(values, start, partition=partition)])


def place(writer: Writer, topic: str = TOPIC, partition: int = 0) -> Place:
    return writer.place({(topic, partition): Log("id", 0, 1 << 40)})[topic, partition]


def query(url: str, text: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(text.encode()).fetchall()


def moment(ns: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ns // 1000)


# -- content -------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
INT8 = st.integers(-(2**63), 2**63 - 1)
TRADE = st.builds(
    lambda ts, id, price, size, conditions, extra, symbol: trade(
        0, ts=ts, id=id, price=price, size=size, conditions=conditions, extra=extra, symbol=symbol
    ),
    st.integers(DAY, DAY + 2 * 86_400 * 10**9),
    INT8,
    st.floats(allow_nan=False, allow_infinity=False),
    INT8,
    st.lists(TEXT, max_size=3),
    st.none() | TEXT,
    TEXT,
)


@given(batches=st.lists(st.lists(TRADE, min_size=1, max_size=20), min_size=1, max_size=3))
@hypothesis_settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_rows_equal_those_of_plain_inserts(
    database: str, open_writer: Callable[..., Writer], batches: list[list[dict[str, Any]]]
) -> None:
    """Lost otherwise: a value that columns and binary COPY change on the way."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS naive")
        connection.execute("CREATE TABLE naive (LIKE trades INCLUDING ALL)")
        connection.execute("TRUNCATE trades, kafka_offsets")
        names = ", ".join(TRADES.names)
        insert = f"INSERT INTO naive ({names}) VALUES ({', '.join(['%s'] * 15)}) ON CONFLICT DO NOTHING"
        writer, start, applied, duplicates = open_writer(), 0, 0, 0
        place(writer)
        for records in batches:
            for i, r in enumerate(records):
                row = (
                    *(r["symbol"], moment(r["ts"]), r["ts"] % 1000, r["id"], r["exchange"], r["price"]),
                    *(r["size"], r["conditions"], r["tape"], r["extra"], r["received_ts"], r["source"]),
                    *(r["event_id"], 0, start + i),
                )
                connection.execute(insert.encode(), row)
            counts = writer.write(trades(records, start))[TOPIC]
            applied, duplicates = applied + counts.applied, duplicates + counts.duplicates
            start += len(records)
        keys = "symbol, ts, ts_nanos, trade_id, exchange, price, size, conditions, tape, extra, source"
        ours = connection.execute(f"SELECT {keys} FROM trades".encode()).fetchall()
        theirs = connection.execute(f"SELECT {keys} FROM naive".encode()).fetchall()
    if duplicates == 0:  # which of two equal keys in one batch stays is nobody's promise
        assert Counter(map(str, ours)) == Counter(map(str, theirs))
    assert len(ours) == len(theirs) == applied
    assert applied + duplicates == start


@pytest.mark.parametrize("feed", FEEDS[3:], ids=lambda feed: feed.table.name)
def test_crypto_comes_out_of_postgresql_as_it_went_in(
    database: str, open_writer: Callable[..., Writer], feed: Feed
) -> None:
    """Lost otherwise: fractions of a coin, or the nanoseconds of a trade."""
    table = feed.table
    made = [record for record, _ in zip(examples.records(schema(table.stem), 5), range(20), strict=False)]
    for n, record in enumerate(made):
        record |= {"ts": DAY + n * 1_001, "revision": n, "event_id": n.to_bytes(8, "big")}
        record |= {name: 0.1 + n / 7 for name, value in record.items() if isinstance(value, float)}
        record |= {"id": n} if "id" in record else {}
        record |= {"owner_epoch": 1}
    values = [(r["symbol"].encode(), encode(table.stem, r)) for r in made]
    writer = open_writer()
    place(writer, feed.topic)
    assert writer.write(prepare(FEEDS, [span(values, topic=feed.topic)]))[feed.topic].applied == 20
    stored = query(database, f"SELECT {', '.join(table.names)} FROM {table.name} ORDER BY k_offset")
    names = {"trade_id": "id", "bar_interval": "interval"}
    for n, (row, record) in enumerate(zip(stored, made, strict=True)):
        place_of = {"k_part": 0, "k_offset": n, "ts": moment(record["ts"]), "ts_nanos": record["ts"] % 1000}
        values_of = record | place_of
        assert row == tuple(values_of[names.get(name, name)] for name in table.names)


# -- duplicates, fences, lost connections --------------------------------------------------------------------


def test_what_is_read_again_is_counted_and_not_stored_again(
    database: str, open_writer: Callable[..., Writer]
) -> None:
    writer = open_writer()
    place(writer)
    writer.write(trades([trade(i) for i in range(100)]))
    counts = writer.write(trades([trade(i) for i in range(50, 150)], start=100))[TOPIC]
    assert (counts.applied, counts.duplicates) == (50, 50)
    assert query(database, "SELECT count(*), count(DISTINCT trade_id) FROM trades") == [(150, 150)]


def test_a_sink_that_lost_its_partition_stores_nothing(
    database: str, open_writer: Callable[..., Writer]
) -> None:
    zombie, heir = open_writer(), open_writer()
    place(zombie)
    assert place(heir).offset == 0
    heir.write(trades([trade(i) for i in range(10)]))
    with pytest.raises(FencedError):
        zombie.write(trades([trade(i) for i in range(100, 105)]))
    assert query(database, "SELECT count(*) FROM trades WHERE trade_id >= 100") == [(0,)]
    assert place(zombie).offset == 10


def test_a_backend_killed_in_the_middle_of_a_transaction_costs_nothing(
    database: str, open_writer: Callable[..., Writer]
) -> None:
    writer = open_writer()
    place(writer)
    writer.write(trades([trade(i) for i in range(10)]))
    with psycopg.connect(database) as lock:
        lock.execute("LOCK TABLE trades_20131007 IN ACCESS EXCLUSIVE MODE")  # COPY waits here
        batch = trades([trade(i) for i in range(10, 20)], start=10)
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(writer.write(batch)))
        thread.start()
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'COPY%'"
        deadline = time.monotonic() + 10
        killed = 0
        while killed < 3 and time.monotonic() < deadline:
            for (pid,) in query(database, waiting):
                killed += query(database, f"SELECT pg_terminate_backend({pid}, 2000)") == [(True,)]
        assert killed == 3
    thread.join(20)
    assert results[0][TOPIC].applied == 10
    assert query(database, "SELECT count(*), count(DISTINCT k_offset) FROM trades") == [(20, 20)]
    assert query(database, "SELECT next_offset FROM kafka_offsets") == [(20,)]


def test_a_commit_whose_answer_was_lost_is_recognised(
    database: str, open_writer: Callable[..., Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer()
    place(writer)
    whole = writer._transaction
    calls = []

    def cut(*args: Any) -> Any:
        result = whole(*args)
        calls.append(result)
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(writer, "_transaction", cut)
    assert writer.write(trades([trade(i) for i in range(10)]))[TOPIC].applied == 10
    assert len(calls) == 1
    assert query(database, "SELECT count(*) FROM trades") == [(10,)]


def test_a_dropped_partition_is_made_again(database: str, open_writer: Callable[..., Writer]) -> None:
    writer = open_writer()
    place(writer)
    writer.write(trades([trade(1)]))
    with psycopg.connect(database) as connection:
        connection.execute("DROP TABLE trades_20131007")
    assert writer.write(trades([trade(2)], start=1))[TOPIC].applied == 1
    assert query(database, "SELECT count(*) FROM dead_letters") == [(0,)]


# -- bad rows ------------------------------------------------------------------------------------------------


def test_exactly_the_bad_records_are_given_up_with_their_bytes(
    database: str, open_writer: Callable[..., Writer]
) -> None:
    long = random.Random(1).randbytes(4500).hex()
    records = [trade(i) for i in range(2000)]
    bad = {
        13: trade(13, price=float("nan")),
        14: trade(14, price=float("inf")),
        77: trade(77, tape="a\0b"),
        500: trade(500, symbol=long),  # larger than an index entry may be
        501: trade(501, ts=0),
        502: trade(502, ts=2**63 - 1),
        1999: trade(1999, conditions=["\0"]),
    }
    values = [
        (r["symbol"].encode(), encode("stock_trade", r))
        for r in (bad.get(i, r) for i, r in enumerate(records))
    ]
    values[900] = (b"S0", values[900][1][:15])  # corrupt
    values[901] = (b"S1", b"\0\0\0\0\x01" + values[901][1][5:])  # an unknown schema id
    writer = open_writer()
    place(writer)
    counts = writer.write(prepare(FEEDS, [span(values)]))[TOPIC]
    given_up = {*bad, 900, 901}
    assert (counts.applied, counts.duplicates, counts.dead) == (2000 - len(given_up), 0, len(given_up))
    stored = {row[0] for row in query(database, "SELECT k_offset FROM trades")}
    assert stored == set(range(2000)) - given_up
    letters = query(database, "SELECT k_offset, key, value, reason <> '' FROM dead_letters")
    assert {row[0]: row[1:] for row in letters} == {o: (*values[o], True) for o in given_up}


def test_a_stream_of_poison_stops_the_sink_and_gives_nothing_up(
    database: str, open_writer: Callable[..., Writer]
) -> None:
    writer = open_writer(limit=20)
    place(writer)
    poisoned = [trade(i, tape="\0" if i % 2 else "A") for i in range(100)]
    with pytest.raises(PoisonLimitError):
        writer.write(trades(poisoned))
    assert query(database, "SELECT count(*) FROM trades") == [(0,)]
    assert query(database, "SELECT count(*) FROM dead_letters") == [(0,)]
    assert query(database, "SELECT next_offset FROM kafka_offsets") == [(0,)]


def test_poison_in_small_batches_stops_it_as_well(database: str, open_writer: Callable[..., Writer]) -> None:
    writer = open_writer(limit=20)
    place(writer)
    for start in range(0, 20, 5):
        writer.write(trades([trade(i, price=float("nan")) for i in range(5)], start=start))
    with pytest.raises(PoisonLimitError, match="TIDEWIRE_SINK_DEAD_LETTERS"):
        writer.write(trades([trade(1, price=float("nan"))], start=20))
    assert query(database, "SELECT count(*) FROM dead_letters") == [(20,)]
