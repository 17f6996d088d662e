"""A reader that was late once, against a real Kafka."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tidewire.config import Settings
from tidewire.kafka import client_arguments, fetch_only_when_read

pytestmark = pytest.mark.kafka

_FETCH_SECONDS = 5.0
"""So long a fetch may wait at the broker when nothing comes."""


async def test_reader_that_was_late_once_gets_the_next_record_at_once(settings: Settings) -> None:
    """Without this a gateway that stood still for a tenth of a second would show what comes next half a
    second late: its next fetch would have left without the partition that it had not read."""
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
    try:
        place = TopicPartition(topic, 0)
        consumer.assign([place, TopicPartition(topic, 1)])
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
    finally:
        await consumer.stop()
        await producer.stop()
