"""Kafka falls over while the market goes on: what was read from the socket must be in the log afterwards,
once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from producers.publisher import LIMIT_BYTES, Publisher
from producers.session import Session
from schemas import cluster
from schemas.catalogue import STOCK_TRADES
from tidewire import config, kafka
from tidewire.config import Settings
from tidewire.dead_letters import SUFFIX, DeadLetter
from tidewire.stack import LocalStack

pytestmark = pytest.mark.kafka


async def _publisher(settings: Settings, limit: int = LIMIT_BYTES) -> tuple[Publisher, str]:
    topic = settings.tidewire_topic_prefix + STOCK_TRADES
    publisher = Publisher(Session(kafka.client_arguments(settings)), limit=limit)
    await publisher.start([topic], [topic])
    publisher.expect(dict.fromkeys(publisher.partitions(topic), 0))
    return publisher, topic


async def _values(settings: Settings, topic: str) -> dict[int, list[bytes]]:
    consumer = AIOKafkaConsumer(
        topic, **kafka.client_arguments(settings), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        parts = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
        ends = await consumer.end_offsets(parts)
        found: dict[int, list[bytes]] = {p.partition: [] for p in parts}
        while sum(map(len, found.values())) < sum(ends.values()):
            for part, records in (await consumer.getmany(timeout_ms=500)).items():
                found[part.partition] += [record.value for record in records]
        return found
    finally:
        await consumer.stop()


def _assert_once_and_in_order(found: dict[int, list[bytes]], count: int) -> None:
    assert sorted(value for values in found.values() for value in values) == [
        b"%08d" % n for n in range(count)
    ]
    for values in found.values():
        assert values == sorted(values)


@pytest.mark.timeout(180)
async def test_a_broker_killed_with_9_and_started_again_loses_and_repeats_nothing(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, brokers=1)
    try:
        bootstrap = await asyncio.to_thread(stack.start_kafka)
        settings = config.load(_env_file=None, kafka_bootstrap_servers=bootstrap, tidewire_partitions=4)
        await cluster.apply(settings, [STOCK_TRADES])
        publisher, topic = await _publisher(settings)
        add = publisher.adder(topic)
        broker = stack.brokers[0]
        count, down, up = 0, None, None
        started = time.monotonic()
        while up is None or time.monotonic() - up < 2:
            for _ in range(20):
                add(b"S%d" % (count % 50), b"%08d" % count, time.time_ns() // 10**6)
                count += 1
            await asyncio.sleep(0.01)
            if down is None and time.monotonic() - started > 1:
                assert broker.pid is not None
                os.kill(broker.pid, signal.SIGKILL)
                down = time.monotonic()
                starting = asyncio.create_task(_start_later(broker))
            elif down is not None and up is None and starting.done():
                starting.result()
                up = time.monotonic()
                # What cannot be sent is said, and waits in memory.
                assert publisher.buffered_bytes > 0
        await asyncio.wait_for(publisher.flush(), 30)
        assert publisher.trouble is None
        await publisher.stop()
        _assert_once_and_in_order(await _values(settings, topic), count)
    finally:
        await asyncio.to_thread(stack.down)


async def _start_later(broker: Any) -> None:
    await asyncio.sleep(4)
    await asyncio.to_thread(broker.start)


@pytest.fixture
async def trades(settings: Settings) -> Settings:
    await cluster.apply(settings, [STOCK_TRADES])
    return settings


async def test_a_producer_whose_sequence_is_lost_is_replaced_and_sends_only_what_is_missing(
    trades: Settings,
) -> None:
    publisher, topic = await _publisher(trades)
    add, first = publisher.adder(topic), publisher._session._producer
    for number in range(3_000):
        add(b"S%d" % (number % 50), b"%08d" % number, 1)
        if number == 1_000:
            await publisher.flush()
            numbers = publisher._session._producer._txn_manager._sequence_numbers
            for partition in publisher.partitions(topic)[:2]:
                numbers[partition] += 7  # as after a broker that forgot us: out of order, for good
        if number % 100 == 0:
            await asyncio.sleep(0.002)
    await asyncio.wait_for(publisher.flush(), 60)
    assert publisher.trouble is None
    assert publisher._session._producer is not first
    await publisher.stop()
    _assert_once_and_in_order(await _values(trades, topic), 3_000)


async def test_a_batch_whose_answer_was_lost_is_not_written_again(trades: Settings) -> None:
    """Kafka has the batch, we never heard: the batch is compared with the log and only the rest is sent."""
    publisher, topic = await _publisher(trades)
    add = publisher.adder(topic)
    for number in range(10):
        add(b"S", b"%08d" % number, 1)
    await publisher.flush()
    for partition in publisher.partitions(topic):  # we do not know of the ten
        publisher._lane(partition).next_offset = 0
    numbers = publisher._session._producer._txn_manager._sequence_numbers
    for partition in publisher.partitions(topic):
        numbers[partition] += 7
    for number in range(15):
        add(b"S", b"%08d" % number, 1)
    await asyncio.wait_for(publisher.flush(), 60)
    await publisher.stop()
    _assert_once_and_in_order(await _values(trades, topic), 15)


async def test_what_waits_for_kafka_is_bounded_and_the_socket_waits_for_room(trades: Settings) -> None:
    publisher, topic = await _publisher(trades, limit=300_000)
    add = publisher.adder(topic)
    worst = 0
    for number in range(20_000):
        add(b"S%d" % (number % 50), b"%08d" % number, 1)
        worst = max(worst, publisher.buffered_bytes)
        if publisher.full:
            await asyncio.wait_for(publisher.room(), 30)
    await asyncio.wait_for(publisher.flush(), 30)
    await publisher.stop()
    assert 300_000 <= worst < 300_000 + 5 * 140_000  # the limit, and at most one open batch a partition
    _assert_once_and_in_order(await _values(trades, topic), 20_000)


async def test_a_dead_letter_longer_than_a_record_is_kept_in_parts(trades: Settings) -> None:
    publisher, topic = await _publisher(trades)
    value = os.urandom(19 * 1024 * 1024)
    publisher.dead_letter(DeadLetter(topic, -1, -1, b"S", value, "producer", "RecordError", "too long"), 1)
    await asyncio.wait_for(publisher.flush(), 60)
    await publisher.stop()
    parts = [part for values in (await _values(trades, topic + SUFFIX)).values() for part in values]
    assert b"".join(parts) == value
    assert len(parts) == 3


async def test_settling_waits_for_what_was_added_before_and_not_for_what_comes_after(
    trades: Settings,
) -> None:
    """A gap is told once the events before it are in the log; on a busy feed `flush` would never return."""
    publisher, topic = await _publisher(trades)
    add, count = publisher.adder(topic), 0

    async def busy() -> None:
        nonlocal count
        while True:
            for _ in range(50):
                add(b"S%d" % (count % 50), b"%08d" % count, 1)
                count += 1
            await asyncio.sleep(0.001)

    market = asyncio.create_task(busy())
    try:
        for _ in range(5):
            await asyncio.sleep(0.01)
            before = count
            await asyncio.wait_for(publisher.settle(), 20)
            stored = {value for values in (await _values(trades, topic)).values() for value in values}
            assert {b"%08d" % n for n in range(before)} <= stored
    finally:
        market.cancel()
        await asyncio.wait((market,))
    await asyncio.wait_for(publisher.flush(), 30)
    await publisher.stop()
