"""When a reader asks Kafka for more, against a real one: it was late once; records come an instant apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tidewire.config import Settings
from tidewire.kafka import client_arguments, fetch_in_order, fetch_only_when_read, pace_fetches

pytestmark = pytest.mark.kafka

_FETCH_SECONDS = 5.0
"""So long a fetch may wait at the broker when nothing comes."""


@asynccontextmanager
async def _reading(settings: Settings) -> AsyncIterator[tuple[AIOKafkaProducer, AIOKafkaConsumer, str]]:
    """A producer and a reader of two partitions of a new topic; a fetch of nothing lasts five seconds."""
    topic = f"{settings.tidewire_topic_prefix}late"
    admin = AIOKafkaAdminClient(**client_arguments(settings))
    await admin.start()
    await admin.create_topics([NewTopic(topic, 2, 1)])
    await admin.close()
    producer = AIOKafkaProducer(**client_arguments(settings))
    consumer = AIOKafkaConsumer(
        **client_arguments(settings), enable_auto_commit=False, auto_offset_reset="earliest",
        fetch_max_wait_ms=int(_FETCH_SECONDS * 1000),
    )  # fmt: skip
    await producer.start()
    await consumer.start()
    fetch_only_when_read(consumer)
    consumer.assign([TopicPartition(topic, 0), TopicPartition(topic, 1)])
    try:
        yield producer, consumer, topic
    finally:
        await consumer.stop()
        await producer.stop()


async def test_reader_that_was_late_once_gets_the_next_record_at_once(settings: Settings) -> None:
    """Without this a gateway that stood still for a tenth of a second would show what comes next half a
    second late: its next fetch would have left without the partition that it had not read."""
    async with _reading(settings) as (producer, consumer, topic):
        place = TopicPartition(topic, 0)
        await producer.send_and_wait(topic, b"first", partition=0)
        while place not in consumer._fetcher._records:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)  # unread for three times as long as aiokafka waits
        assert [r.value for r in (await consumer.getmany())[place]] == [b"first"]
        sent = time.monotonic()
        await producer.send_and_wait(topic, b"second", partition=0)
        found = await consumer.getmany(timeout_ms=2 * int(_FETCH_SECONDS * 1000))
        assert [r.value for r in found[place]] == [b"second"]
        assert time.monotonic() - sent < _FETCH_SECONDS / 2


async def test_paced_reader_asks_once_for_what_comes_together_and_has_a_lone_record_at_once(
    settings: Settings,
) -> None:
    """Without the pace a processor would ask for each record of a busy stream by itself, and fall behind;
    with a minimum of bytes instead, an order's only event would wait for company."""
    pace = 1.0
    async with _reading(settings) as (producer, consumer, topic):
        pace_fetches(consumer, lambda _: pace)
        lone = time.monotonic()
        await producer.send_and_wait(topic, b"lone", partition=1)
        assert await consumer.getmany(timeout_ms=2 * int(_FETCH_SECONDS * 1000))
        answered = time.monotonic()
        assert answered - lone < pace
        for number in range(30):
            await producer.send_and_wait(topic, b"%d" % number, partition=number % 2)
        sent = time.monotonic()
        values, answers = list[bytes](), 0
        while len(values) < 30:
            found = await consumer.getmany(timeout_ms=2 * int(_FETCH_SECONDS * 1000))
            values += [record.value for records in found.values() for record in records]
            answers += 1
        assert sorted(values) == sorted(b"%d" % number for number in range(30))
        # The first answer is the question's that was under way; then one a pace, all that has come in it.
        assert answers <= 2 + (max(sent, answered + pace) - answered) / pace


async def test_what_is_to_be_read_first_is_in_the_first_answer(settings: Settings) -> None:
    """A rule that is read after the prices of an hour's outage would not know how high they had been, and its
    trailing stop would sell too late."""
    prefix = settings.tidewire_topic_prefix
    rules, prices = f"{prefix}rules", f"{prefix}prices"
    admin = AIOKafkaAdminClient(**client_arguments(settings))
    await admin.start()
    await admin.create_topics([NewTopic(rules, 2, 1), NewTopic(prices, 2, 1)])
    await admin.close()
    producer = AIOKafkaProducer(**client_arguments(settings))
    await producer.start()
    for partition in (0, 1):
        await producer.send_and_wait(rules, b"rule", partition=partition)
        for _ in range(4):
            await producer.send_and_wait(prices, b"p" * 50_000, partition=partition)
    await producer.stop()
    for _ in range(6):  # in whatever order aiokafka would ask
        consumer = AIOKafkaConsumer(
            **client_arguments(settings), enable_auto_commit=False, auto_offset_reset="earliest",
            fetch_max_bytes=100_000,
        )  # fmt: skip
        await consumer.start()
        fetch_in_order(consumer, [rules, prices])
        consumer.assign([TopicPartition(topic, n) for topic in (prices, rules) for n in (0, 1)])
        await consumer.seek_to_beginning()
        answer: dict[TopicPartition, list[Any]] = {}
        while not answer:
            answer = await consumer.getmany(timeout_ms=1_000)
        await consumer.stop()
        assert {place.partition for place in answer if place.topic == rules} == {0, 1}
        assert sum(len(found) for place, found in answer.items() if place.topic == prices) < 8
