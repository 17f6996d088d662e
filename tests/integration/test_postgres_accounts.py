"""The account side, news and crypto between a real Kafka and PostgreSQL, with kills and compaction."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from schemas import admin, catalogue, cluster, examples
from schemas.catalogue import schema
from schemas.codec import Codec, load_codec
from sinks.postgres import connection, migrate
from sinks.postgres.columns import EARLIEST_NS
from sinks.postgres.record_tables import SOURCES
from sinks.postgres.tables import CRYPTO_BARS, CRYPTO_QUOTES, CRYPTO_TRADES
from tests.integration.sink_process import TOPICS, count, produce, rows, running, start_process, until
from tidewire.config import Settings
from tidewire.kafka import client_arguments

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

HOT = (CRYPTO_TRADES, CRYPTO_QUOTES, CRYPTO_BARS)
EVENTS = 1_000
"""Records of each topic of events."""
STATES = 2_000
"""Records of each topic of states, of 40 keys."""
CORRUPT = {7, 700}
DAY = EARLIEST_NS + 86_400 * 10**9


@pytest.fixture
async def topics(settings: Settings) -> Settings:
    await cluster.apply(settings, only=TOPICS)
    return settings


def record(stem: str, base: Mapping[str, Any], number: int) -> tuple[str, dict[str, Any]]:
    """Record `number` of a topic with its Kafka key; `received_ts` tells it from all others."""
    made = dict(base) | {"event_id": number.to_bytes(8, "big"), "received_ts": number, "source": "ws"}
    made["owner_epoch"] = 1
    name = f"k{number % 40}"
    for field in {"account", "symbol", "order_id", "provider"} & made.keys():
        made[field] = name
    made |= {field: 0.5 for field, value in base.items() if isinstance(value, float)}
    for field, value in base.items():
        if isinstance(value, list) and all(isinstance(item, float) for item in value):
            made[field] = [0.5] * len(value)
    if stem.startswith("crypto_"):
        made |= {"ts": DAY + number * 1_001, "revision": number} | ({"id": number} if "id" in made else {})
    if stem == "gap":
        made["id"] = name
    if stem == "portfolio_position":
        quantity = 0 if number < 1_000 else number  # an epoch is over when the next one begins
        made |= {"epoch": number // 1_000, "quantity": Decimal(quantity)}
    if stem == "trade_update":
        made |= {"event": "fill", "side": "buy", "legs": [], "quantity": Decimal(1), "price": Decimal(number)}
    if stem == "news":
        made |= {"id": str(number), "headline": f"\U0001f642 {number} \t\\N"}
    return name, made


def log_of(codec: Codec, stem: str, total: int) -> list[tuple[str, bytes | None]]:
    known = {f["name"] for f in schema(stem)["fields"]}
    bases = [base for base, _ in zip(examples.records(schema(stem), 9), range(20), strict=False)]
    found: list[tuple[str, bytes | None]] = []
    for number in range(total):
        key, made = record(stem, bases[number % 20], number)
        found.append((key, codec.encode(stem, {k: v for k, v in made.items() if k in known})))
    return found


async def test_every_record_of_all_topics_once_whenever_the_process_is_killed(topics: Settings) -> None:
    """Lost otherwise: an order, a fill or a position, at every kill of the sink."""
    codec, chance = load_codec(topics), random.Random(3)
    states = [source for source in SOURCES if source.table.current]
    events = [source for source in SOURCES if not source.table.current]
    stems = {table.topic: (table.stem, EVENTS) for table in HOT}
    stems |= {source.topic: (source.stem, EVENTS) for source in events}
    stems |= {source.topic: (source.stem, STATES) for source in states}
    logs = {topic: log_of(codec, stem, total) for topic, (stem, total) in stems.items()}
    for number in CORRUPT:
        key, value = logs[catalogue.TRADE_UPDATES][number]
        logs[catalogue.TRADE_UPDATES][number] = (key, value[:-3] if value else None)

    async def send(start: float, stop: float) -> None:
        for topic, log in logs.items():
            await produce(topics, topic, log[int(len(log) * start) : int(len(log) * stop)])

    process = start_process(topics)
    sending = asyncio.create_task(send(0, 0.5))
    try:
        for share in (0.1, 0.4):
            await until(lambda share=share: count(topics, "order_events") >= EVENTS * share)  # type: ignore[misc]
            await asyncio.sleep(chance.random() / 50)
            process.kill()
            process.wait()
            process = start_process(topics)
        await sending
        await send(0.5, 1)
        done = (
            f"SELECT sum(next_offset) FROM kafka_offsets WHERE topic LIKE '{topics.tidewire_topic_prefix}%'"
        )
        total = sum(map(len, logs.values()))
        await until(lambda: rows(topics, done) == [(total,)], 60)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        process.kill()
        process.wait()
    whole = set(range(EVENTS))
    for table in (*(fed.name for fed in HOT), *(source.table.name for source in events)):
        found = [number for (number,) in rows(topics, f"SELECT received_ts FROM {table}")]
        assert len(found) == len(set(found)), table
        assert set(found) == (whole - CORRUPT if table == "order_events" else whole), table
    assert rows(topics, "SELECT count(*), sum(price) FROM fills") == [
        (EVENTS - len(CORRUPT), sum(whole - CORRUPT))
    ]
    assert {int(h.split()[1]) for (h,) in rows(topics, "SELECT headline FROM news_latest")} == whole
    last = set(range(STATES - 40, STATES))
    for source in states:
        table = source.table.name
        if table != "positions":
            assert {n for (n,) in rows(topics, f"SELECT received_ts FROM {table}")} == last, table
    epochs = {n for n in range(STATES) if n % 1_000 >= 960}
    assert {n for (n,) in rows(topics, "SELECT received_ts FROM positions")} == epochs
    assert rows(topics, "SELECT count(*) FROM dead_letters") == [(len(CORRUPT),)]


# -- compaction ----------------------------------------------------------------------------------------------


async def offsets_of(settings: Settings, topic: str) -> list[int]:
    """The offsets that are left in a topic of one partition."""
    consumer = AIOKafkaConsumer(**client_arguments(settings), auto_offset_reset="earliest")
    await consumer.start()
    try:
        tp = TopicPartition(settings.tidewire_topic_prefix + topic, 0)
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        found: list[int] = []
        while await consumer.position(tp) < end:
            for some in (await consumer.getmany(tp, timeout_ms=500)).values():
                found += [one.offset for one in some]
        return found
    finally:
        await consumer.stop()


async def test_what_compaction_and_retention_took_out_is_no_gap(settings: Settings) -> None:
    """Lost otherwise: everything behind the first hole, or a sink that waits for offsets that are gone."""
    one = settings.model_copy(update={"tidewire_partitions": 1})
    await cluster.apply(one, only=TOPICS)
    codec, orders = load_codec(one), catalogue.PORTFOLIO_ORDERS
    quickly = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.001", "max.compaction.lag.ms": "200"}
    async with admin.connect(one) as kafka:
        await kafka.alter({one.tidewire_topic_prefix + orders: quickly})
    log = log_of(codec, "portfolio_order", 120)
    await produce(one, orders, log[:100])
    await produce(one, orders, [("k5", None)])
    await produce(one, catalogue.NEWS, log_of(codec, "news", 50))
    client = AIOKafkaAdminClient(**client_arguments(one))
    await client.start()
    news = TopicPartition(one.tidewire_topic_prefix + catalogue.NEWS, 0)
    await client.delete_records({news: RecordsToDelete(before_offset=30)})
    await client.close()
    left: list[int] = []
    for attempt in range(60):  # a record now and then rolls the segment; the cleaner comes every 15 s
        await produce(one, orders, [log[100 + attempt % 20]])
        left = await offsets_of(one, orders)
        if len(left) < 100:
            break
        await asyncio.sleep(0.5)
    assert left[0] > 0, "Kafka did not compact"
    migrate.apply(connection.url(one))
    async with running(one) as (sink, _):
        end = left[-1] + 1
        name = one.tidewire_topic_prefix + orders
        stored = f"SELECT next_offset FROM kafka_offsets WHERE topic = '{name}'"
        await until(lambda: rows(one, stored) == [(end,)] and count(one, "news") == 20)
        await produce(one, orders, [log[119]])
        await until(lambda: rows(one, stored) == [(end + 1,)])
        counts: Any = sink.details()["rows"]
        assert counts[name]["tombstones"] == 1
        assert 41 <= sum(counts[name].values()) <= len(left) + 1  # the cleaner may have come once more
        await until(lambda: not any(dict(sink.details()["lag"]).values()))  # type: ignore[call-overload]
    assert rows(one, "SELECT min(received_ts), count(*) FROM news") == [(30, 20)]
    assert count(one, "orders") == 40 - (5 not in {n % 40 for n in left if n != 100 and n < 100})
