"""Where the processor's consumer goes on after a rebalance: what was fetched and made void is read again."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, OffsetAndMetadata, TopicPartition

from processors.columns.fetching import seek_back
from schemas import cluster
from schemas.catalogue import STOCK_FEATURES, STOCK_QUOTES, STOCK_TRADES
from tidewire.config import Settings
from tidewire.kafka import client_arguments

pytestmark = pytest.mark.kafka

TOPICS = (STOCK_TRADES, STOCK_QUOTES, STOCK_FEATURES)


async def test_partitions_that_nobody_has_committed_yet_are_read_from_their_beginning_again(
    settings: Settings,
) -> None:
    """Processors that joined together on a new log passed over the first records of a partition, for good."""
    await cluster.apply(settings, only=TOPICS)
    trades, quotes, other = (TopicPartition(settings.tidewire_topic_prefix + topic, 1) for topic in TOPICS)
    producer = AIOKafkaProducer(**client_arguments(settings))
    await producer.start()
    try:
        for tp in (trades, quotes, other):
            for number in range(5):
                await producer.send_and_wait(tp.topic, str(number).encode(), partition=tp.partition)
    finally:
        await producer.stop()
    group = settings.tidewire_topic_prefix + "seek"
    consumer = AIOKafkaConsumer(
        **client_arguments(settings), group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign([trades, quotes, other])
        seen = 0
        while seen < 15:
            seen += sum(map(len, (await consumer.getmany(timeout_ms=1_000)).values()))
        await consumer.commit({quotes: OffsetAndMetadata(3, "")})
        await seek_back(consumer, {trades.topic, quotes.topic})
        positions = [await consumer.position(tp) for tp in (trades, quotes, other)]
        again = await consumer.getmany(timeout_ms=1_000)
    finally:
        await consumer.stop()
    assert positions == [0, 3, 5]
    assert again, "what is behind the positions must come"
    assert [record.offset for record in again.get(trades, [])] in ([], [0, 1, 2, 3, 4])
