"""The whole sink between a real Kafka and PostgreSQL. Lost otherwise: records at every kill or restart."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from typing import Any

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from psycopg import conninfo, sql

from schemas import cluster
from schemas.catalogue import STOCK_BARS, STOCK_QUOTES, STOCK_TRADES
from schemas.codec import Codec, load_codec
from sinks.postgres import app, connection, migrate, outbox
from tests.integration.sink_process import TOPICS, count, produce, rows, running, start_process, until
from tidewire.config import Settings
from tidewire.kafka import client_arguments

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

DAY = 1_381_104_000_000_000_000  # 2013-10-07 UTC, ns
COMMON = {"extra": None, "received_ts": DAY, "source": "ws", "owner_epoch": 1}


@pytest.fixture
async def topics(settings: Settings) -> Settings:
    await cluster.apply(settings, only=TOPICS)
    return settings


def trade(n: int) -> dict[str, Any]:
    head = {"symbol": f"S{n % 17}", "ts": DAY + n * 1_001, "id": n, "exchange": "V", "price": 1 + n / 7}
    return head | COMMON | {"size": n, "conditions": ["@"], "tape": "B", "event_id": n.to_bytes(8, "big")}


def quote(n: int) -> dict[str, Any]:
    sides = {
        f"{s}_{f}": v for s in ("bid", "ask") for f, v in (("exchange", "V"), ("price", 2.5), ("size", n))
    }
    head = {"symbol": f"S{n % 17}", "ts": DAY + n * 1_001, "conditions": [], "tape": "B"}
    return head | sides | COMMON | {"event_id": n.to_bytes(8, "big")}


def bar(n: int) -> dict[str, Any]:
    prices = dict.fromkeys(("open", "high", "low", "close", "vwap"), n / 3)
    head = {"symbol": "A", "ts": DAY + n * 60 * 10**9, "interval": "minute", "revision": 0}
    return head | prices | COMMON | {"volume": n, "trade_count": n, "event_id": n.to_bytes(8, "big")}


def encoded(codec: Codec, stem: str, records: list[dict[str, Any]]) -> list[tuple[str, bytes]]:
    return [(r["symbol"], codec.encode(stem, r)) for r in records]


async def test_every_record_of_three_topics_once_whenever_the_process_is_killed(topics: Settings) -> None:
    codec, chance = load_codec(topics), random.Random(7)
    total, corrupt = 12_000, {100, 9_000}
    trades = encoded(codec, "stock_trade", [trade(n) for n in range(total)])
    for n in corrupt:
        trades[n] = (trades[n][0], trades[n][1][:-3])
    sending = asyncio.create_task(produce(topics, STOCK_TRADES, trades))
    await produce(topics, STOCK_QUOTES, encoded(codec, "stock_quote", [quote(n) for n in range(2_000)]))
    await produce(topics, STOCK_BARS, encoded(codec, "stock_bar", [bar(n) for n in range(50)]))
    process = start_process(topics)
    try:
        for part in range(1, 4):
            await until(lambda part=part: count(topics, "trades") >= total * part // 6)  # type: ignore[misc]
            await asyncio.sleep(chance.random() / 50)
            process.kill()
            process.wait()
            process = start_process(topics)
        await sending
        await until(lambda: count(topics, "trades") + count(topics, "dead_letters") == total)
        await until(lambda: (count(topics, "quotes"), count(topics, "bars")) == (2_000, 50))
        letters = await dead_letters(topics, STOCK_TRADES, len(corrupt))
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        process.kill()
        process.wait()
    expected = {(f"S{n % 17}", n, 1 + n / 7, n) for n in range(total) if n not in corrupt}
    assert set(rows(topics, "SELECT symbol, trade_id, price, size FROM trades")) == expected
    assert count(topics, "trades") == len(expected)
    quotes = {(f"S{n % 17}", 2.5, n, n) for n in range(2_000)}
    assert set(rows(topics, "SELECT symbol, bid_price, bid_size, ask_size FROM quotes")) == quotes
    bars = {("minute", 0, n / 3, n) for n in range(50)}
    assert set(rows(topics, "SELECT bar_interval, revision, vwap, volume FROM bars")) == bars
    assert {value for value, _ in letters} == {trades[n][1] for n in corrupt}
    assert all(headers["stage"] == b"sink" and headers["reason"] for _, headers in letters)
    published = "SELECT count(*) FROM dead_letters WHERE published_at IS NOT NULL"
    await until(lambda: rows(topics, published) == [(len(corrupt),)])


async def dead_letters(settings: Settings, topic: str, at_least: int) -> list[tuple[bytes, dict[str, bytes]]]:
    name = settings.tidewire_topic_prefix + topic + ".dlq"
    consumer = AIOKafkaConsumer(**client_arguments(settings), auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(name, part) for part in range(4)])
        found: list[tuple[bytes, dict[str, bytes]]] = []
        deadline = time.monotonic() + 20
        while len(found) < at_least and time.monotonic() < deadline:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [(record.value, dict(record.headers)) for record in records]
        return found
    finally:
        await consumer.stop()


async def test_a_letter_too_large_for_its_topic_does_not_hold_up_the_others(settings: Settings) -> None:
    topic = settings.tidewire_topic_prefix + "x"
    admin = AIOKafkaAdminClient(**client_arguments(settings))
    await admin.start()
    small = {"max.message.bytes": "2000"}
    await admin.create_topics([NewTopic(topic + ".dlq", 1, 1, topic_configs=small)])
    await admin.close()
    url = connection.url(settings)
    migrate.apply(url)
    insert = """INSERT INTO dead_letters (sink_group, topic, part, k_offset, cluster_topic_id, kafka_ms,
        value, stage, error, reason) VALUES ('g', %s, 0, %s, '', 0, %s, 'sink', 'e', 'r')"""
    with psycopg.connect(url) as database:
        for offset, size in enumerate((10, 5_000, 20)):
            database.execute(insert.encode(), (topic, offset, bytes(size)))
    wake, stop = asyncio.Event(), asyncio.Event()
    stop.set()
    await outbox.relay(settings, url, "g", wake, stop)
    state = "SELECT k_offset, published_at IS NOT NULL, publish_error IS NULL FROM dead_letters ORDER BY 1"
    assert rows(settings, state) == [(0, True, True), (1, False, False), (2, True, True)]


async def test_a_topic_made_again_is_read_from_its_beginning(topics: Settings) -> None:
    """Lost otherwise: the first records of the new topic, up to the offset stored for the old one."""
    codec, name = load_codec(topics), topics.tidewire_topic_prefix + STOCK_TRADES
    await produce(topics, STOCK_TRADES, encoded(codec, "stock_trade", [trade(n) for n in range(100)]))
    async with running(topics):
        await until(lambda: count(topics, "trades") == 100)
    admin = AIOKafkaAdminClient(**client_arguments(topics))
    await admin.start()
    await admin.delete_topics([name])
    await admin.close()
    await cluster.apply(topics, only=[STOCK_TRADES])
    await produce(topics, STOCK_TRADES, encoded(codec, "stock_trade", [trade(n) for n in range(90, 400)]))
    async with running(topics) as (sink, _):
        await until(lambda: _rows(sink).get(name, {}).get("applied") == 300)
        assert _rows(sink)[name]["duplicates"] == 10
    stored = "SELECT sum(next_offset), count(DISTINCT cluster_topic_id) FROM kafka_offsets"
    assert rows(topics, f"{stored} WHERE topic = '{name}'") == [(310, 1)]


async def test_a_postgresql_that_goes_away_is_waited_for(topics: Settings, postgres_url: str) -> None:
    codec = load_codec(topics)
    database = sql.Identifier(str(conninfo.conninfo_to_dict(connection.url(topics))["dbname"]))
    async with running(topics) as (sink, health):
        await until(lambda: health.not_ready is None)
        with psycopg.connect(postgres_url, autocommit=True) as server:
            server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(database))
            ours = "FROM pg_stat_activity WHERE datname = %s"
            name = conninfo.conninfo_to_dict(connection.url(topics))["dbname"]
            server.execute(f"SELECT pg_terminate_backend(pid, 2000) {ours}".encode(), (name,))
            await produce(topics, STOCK_TRADES, encoded(codec, "stock_trade", [trade(n) for n in range(500)]))
            await until(lambda: (health.not_ready or "").startswith("PostgreSQL"))
            server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(database))
        await until(lambda: count(topics, "trades") == 500)
        await until(lambda: health.not_ready is None)
        await until(lambda: sink.details()["rows_written"] == 500)
        assert sink.details()["lag"] == {topics.tidewire_topic_prefix + topic: 0 for topic in TOPICS}


async def test_two_sinks_share_the_partitions(topics: Settings) -> None:
    codec = load_codec(topics)
    async with running(topics) as (one, first), running(topics) as (two, second):
        await until(lambda: first.not_ready is None and second.not_ready is None)
        await until(lambda: all(_lag(sink) for sink in (one, two)))
        values = encoded(codec, "stock_trade", [trade(n) for n in range(3_000)])
        for start in range(0, 3_000, 1_000):
            await produce(topics, STOCK_TRADES, values[start : start + 1_000])
        await until(lambda: count(topics, "trades") == 3_000)
        await until(lambda: _written(one) + _written(two) == 3_000)
        assert min(_written(one), _written(two)) > 0
    assert rows(topics, "SELECT count(DISTINCT trade_id) FROM trades") == [(3_000,)]


def _lag(sink: app.Sink) -> dict[str, int]:
    lag = sink.details().get("lag", {})
    assert isinstance(lag, dict)
    return lag


def _rows(sink: app.Sink) -> dict[str, dict[str, int]]:
    found = sink.details().get("rows", {})
    assert isinstance(found, dict)
    return found


def _written(sink: app.Sink) -> int:
    return int(str(sink.details()["rows_written"]))


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"database_url": "postgresql://ann:hunter2@127.0.0.1:1/x"}, 4, ["PostgreSQL", "127.0.0.1:1"]),
        ({"kafka_bootstrap_servers": "127.0.0.1:1"}, 4, ["Kafka", "127.0.0.1:1"]),
        ({}, 6, ["no such topics", "tidewire topics apply"]),
    ],
)
def test_what_is_missing_at_the_start_is_named(
    settings: Settings,
    change: dict[str, Any],
    code: int,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(app, "PATIENCE", 0.2)
    # Validated again, so that a password is the secret that it would be.
    wrong = Settings.model_validate({**dict(settings), **change})
    assert app.main(wrong) == code
    message = capsys.readouterr().err.splitlines()[-1]
    assert all(word in message for word in words), message
    assert "hunter2" not in message
