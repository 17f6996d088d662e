"""Several processors on a real Kafka: they share the partitions, and each stands by for another.

If these fail, a machine that dies takes a table with it for half a minute, or a rebalance, a worker that
stood still or a changelog that Kafka refused leaves volumes and VWAPs wrong for good.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from processors.app import APP_ID
from schemas import cluster
from schemas.catalogue import STOCK_QUOTES, STOCK_TRADES
from schemas.codec import Codec, load_codec
from tests.integration.processor_market import (
    SYMBOLS,
    a_quote,
    a_trade,
    assert_equal,
    is_healthy,
    last_features,
    naive,
)
from tests.integration.processor_process import (
    NEEDED,
    PARTITION_OF,
    PARTITIONS,
    Feeder,
    Worker,
    offsets,
    read_all,
    until_folded,
    worker,
)
from tidewire.config import Settings
from tidewire.kafka import client_arguments

pytestmark = pytest.mark.kafka

CHANGELOG = f"{APP_ID}-features-changelog"


class Market:
    """Trades and quotes that are sent piece by piece, and remembered for the naive fold."""

    def __init__(self, settings: Settings, codec: Codec, producer: AIOKafkaProducer) -> None:
        self._codec, self._feeder, self._chance = codec, Feeder(settings, producer), random.Random(11)
        self.trades: list[dict[str, Any]] = []
        self.quotes: list[dict[str, Any]] = []

    async def send(self, count: int, size: int = 50) -> None:
        """So many trades and as many quotes, in batches of `size` records."""
        trades = [a_trade(len(self.trades) + i, self._chance) for i in range(count)]
        quotes = [a_quote(len(self.quotes) + i, self._chance) for i in range(count)]
        self.trades, self.quotes = self.trades + trades, self.quotes + quotes
        encode = self._codec.encode
        await self._feeder.send(STOCK_TRADES, [(t["symbol"], encode("stock_trade", t)) for t in trades], size)
        await self._feeder.send(STOCK_QUOTES, [(q["symbol"], encode("stock_quote", q)) for q in quotes], size)

    async def flow(self, stop: asyncio.Event) -> None:
        """Send until told to stop."""
        while not stop.is_set():
            await self.send(200)
            await asyncio.sleep(0.05)

    def truth(self) -> dict[str, dict[str, Any]]:
        return naive(self.trades, self.quotes)


@pytest.fixture
def codec(settings: Settings) -> Codec:
    return load_codec(settings)


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    await cluster.apply(settings, only=NEEDED)
    client = AIOKafkaProducer(**client_arguments(settings), enable_idempotence=True)
    await client.start()
    yield client
    await client.stop()


@pytest.fixture
def market(settings: Settings, codec: Codec, producer: AIOKafkaProducer) -> Market:
    return Market(settings, codec, producer)


def served(settings: Settings, health: dict[str, Any]) -> list[int]:
    """The partitions of trades that a worker folds, once it is ready."""
    topic = settings.tidewire_topic_prefix + STOCK_TRADES
    return sorted(health.get("partitions", {}).get(topic, [])) if is_healthy(health) else []


async def until_shared(settings: Settings, one: Worker, other: Worker) -> None:
    """Each serves two partitions and follows the other two to their end."""

    def half(health: dict[str, Any]) -> bool:
        ours, standby = served(settings, health), health.get("standby", {}).get("features", {})
        theirs = {str(p) for p in PARTITIONS} - {str(p) for p in ours}
        return len(ours) == 2 and standby.keys() == theirs and not any(standby.values())

    first = await one.until(half)
    second = await other.until(half)
    assert sorted(served(settings, first) + served(settings, second)) == PARTITIONS


async def until_alone(settings: Settings, running: Worker) -> dict[str, Any]:
    """It serves every partition and has folded all that there is."""
    health = await running.until(lambda h: served(settings, h) == PARTITIONS)
    await until_folded(settings, running)
    return health


async def test_a_killed_workers_table_is_served_from_its_standbys_memory(
    settings: Settings, codec: Codec, market: Market
) -> None:
    """Two workers share the partitions; after kill -9 of one, the other reads no changelog anew."""
    with ExitStack() as stack:
        one = stack.enter_context(worker(settings))
        await one.until(is_healthy)
        for _ in range(5):  # several commits: a changelog that is longer than the table
            await market.send(200)
            await until_folded(settings, one)
        other = stack.enter_context(worker(settings))
        await until_shared(settings, one, other)
        await market.send(200)
        await until_folded(settings, one, other)
        await until_shared(settings, one, other)
        before = (await asyncio.to_thread(other.get, "/health"))["read"]["features"]
        one.process.kill()
        one.process.wait()
        feeding = asyncio.create_task(market.send(400))
        health = await other.until(lambda h: served(settings, h) == PARTITIONS)
        taken = health["read"]["features"]["served"] - before["served"]
        await feeding
        assert (await until_alone(settings, other))["keys"] == len(SYMBOLS)
    changelog = len(await read_all(settings, CHANGELOG))
    assert before["standby"] > 0
    assert taken <= 2 * len(SYMBOLS) < changelog  # at most the last commits, never the changelog
    assert_equal(await last_features(settings, codec), market.truth())


async def test_tables_stay_exact_while_workers_join_leave_stand_still_and_die_amid_the_flow(
    settings: Settings, codec: Codec, market: Market
) -> None:
    """A rebalance in the middle of batches loses no acknowledgement; one taken for dead writes nothing."""
    with ExitStack() as stack:
        one = stack.enter_context(worker(settings))
        await one.until(is_healthy)
        stop = asyncio.Event()
        flowing = asyncio.create_task(market.flow(stop))
        other = stack.enter_context(worker(settings))
        await other.until(lambda h: len(served(settings, h)) == 2)
        other.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(other.process.wait, 30) == 0
        await one.until(lambda h: served(settings, h) == PARTITIONS)
        other = stack.enter_context(worker(settings))
        await other.until(lambda h: len(served(settings, h)) == 2)
        other.process.send_signal(signal.SIGSTOP)
        await one.until(lambda h: served(settings, h) == PARTITIONS)
        other.process.send_signal(signal.SIGCONT)
        await one.until(lambda h: len(served(settings, h)) == 2)
        await other.until(lambda h: len(served(settings, h)) == 2)
        other.process.kill()
        other.process.wait()
        await one.until(lambda h: served(settings, h) == PARTITIONS)
        stop.set()
        await flowing
        await market.send(200)  # of every symbol: one that stood still may have repeated an older vector
        await until_alone(settings, one)
    with worker(settings) as fresh:  # what the changelog holds, not what somebody remembers
        await market.send(50)
        await until_alone(settings, fresh)
    assert_equal(await last_features(settings, codec), market.truth())
    assert await read_all(settings, STOCK_TRADES + ".dlq") == []


async def test_older_rows_behind_ours_are_overwritten(
    settings: Settings, codec: Codec, producer: AIOKafkaProducer, market: Market
) -> None:
    """A former owner that stood still between its check and its write puts old rows behind the new ones."""
    topic = settings.tidewire_topic_prefix + CHANGELOG
    with worker(settings) as running:
        await running.until(is_healthy)
        await market.send(200)
        await until_folded(settings, running)
        old = await read_all(settings, CHANGELOG)
        await market.send(200)
        await until_folded(settings, running)
        for record in old:
            await producer.send_and_wait(topic, record.value, record.key, record.partition)
        await market.send(5)
        await until_folded(settings, running)
        running.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(running.process.wait, 30) == 0
        touched = {PARTITION_OF(t["symbol"].encode(), PARTITIONS, PARTITIONS) for t in market.trades[-5:]}
        assert running.log.read_text().count("another process wrote to our changelog") >= len(touched)
    newest = {r.key: r.offset for r in await read_all(settings, CHANGELOG) if r.partition in touched}
    stale = {(r.key, r.value) for r in old}
    last = {r.key: r.value for r in await read_all(settings, CHANGELOG) if r.partition in touched}
    assert newest
    assert not [
        key for key, value in last.items() if key in map(str.encode, SYMBOLS) and (key, value) in stale
    ]


async def test_older_rows_behind_the_last_ones_do_not_count_even_if_nobody_wrote_since(
    settings: Settings, codec: Codec, producer: AIOKafkaProducer, market: Market
) -> None:
    """The owner dies, then the former one wakes: the next would go on from rows older than its offsets."""
    topic = settings.tidewire_topic_prefix + CHANGELOG
    with worker(settings) as running:
        await running.until(is_healthy)
        await market.send(200)
        await until_folded(settings, running)
        old = await read_all(settings, CHANGELOG)
        await market.send(200)
        await until_folded(settings, running)
    for record in old:
        if record.key in map(str.encode, SYMBOLS):
            await producer.send_and_wait(topic, record.value, record.key, record.partition)
    with worker(settings) as running:
        await market.send(200)
        await until_alone(settings, running)
    assert_equal(await last_features(settings, codec), market.truth())
    newest = {r.key: r.value for r in await read_all(settings, CHANGELOG)}
    assert not [r for r in old if r.key in map(str.encode, SYMBOLS) and newest[r.key] == r.value]


async def test_older_rows_are_written_over_while_nothing_comes(
    settings: Settings, codec: Codec, producer: AIOKafkaProducer, market: Market
) -> None:
    """Compaction keeps the newest record of a key: an idle owner would lose the row that counts."""
    topic = settings.tidewire_topic_prefix + CHANGELOG
    with worker(settings) as running:
        await running.until(is_healthy)
        await market.send(200)
        await until_folded(settings, running)
        right = {r.key: r.value for r in await read_all(settings, CHANGELOG)}
        for record in await read_all(settings, CHANGELOG):
            if record.key in map(str.encode, SYMBOLS):
                await producer.send_and_wait(topic, b"\0" * len(record.value), record.key, record.partition)
        async with asyncio.timeout(90):
            while {r.key: r.value for r in await read_all(settings, CHANGELOG)} != right:
                await asyncio.sleep(0.2)


async def test_a_changelog_that_kafka_refuses_stops_the_worker_before_anything_is_committed(
    settings: Settings, codec: Codec, market: Market
) -> None:
    """Faust only logs it: the offsets would be committed and the records gone at the next start."""
    topic = settings.tidewire_topic_prefix + CHANGELOG
    with worker(settings) as running:
        await running.until(is_healthy)
        await market.send(100)
        await until_folded(settings, running)
        before = await committed(settings)
        await asyncio.to_thread(alter, settings, topic, "20")
        await market.send(100)
        assert await asyncio.to_thread(running.process.wait, 60) != 0
        text = running.log.read_text()
    assert "MessageSizeTooLarge" in text
    assert "Nothing is lost" in text
    assert await committed(settings) == before
    await asyncio.to_thread(alter, settings, topic, "1048588")
    with worker(settings) as running:
        await until_alone(settings, running)
    assert_equal(await last_features(settings, codec), market.truth())


async def committed(settings: Settings) -> dict[TopicPartition, int]:
    """Of the processor's group, for its inputs."""
    return (await offsets(settings))[0]


def alter(settings: Settings, topic: str, largest: str) -> None:
    """Set the size of the largest record batch that a topic takes."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    entry = ConfigEntry("max.message.bytes", largest, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(30)
