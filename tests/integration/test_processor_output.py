"""The processor's producer: if it forgets where a topic's leader is, the worker stands still."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import TopicPartition

from processors.columns.output import Output, new_producer, track
from schemas import cluster
from schemas.catalogue import STOCK_FEATURES, STOCK_TRADES
from tidewire.config import Settings

pytestmark = pytest.mark.kafka


async def test_looking_up_another_topic_does_not_strand_what_is_queued(settings: Settings) -> None:
    """A commit writes the changelog for the first time while feature records are on their way."""
    await cluster.apply(settings, only=[STOCK_TRADES, STOCK_FEATURES])
    features = settings.tidewire_topic_prefix + STOCK_FEATURES
    producer = new_producer(settings)
    await producer.start()
    try:
        await track(producer, [features])
        await producer.client.add_topic(settings.tidewire_topic_prefix + STOCK_TRADES)
        # Looked at here, as a send would look the leader up again; what is queued already cannot.
        assert producer.client.cluster.leader_for_partition(TopicPartition(features, 1)) is not None
        output = Output(producer)
        for _ in range(3):
            sending = output.send(features, 1, [(b"AAPL", b"1"), (b"IBM", b"2")])
            assert await asyncio.wait_for(sending, 20) == 2
        await asyncio.wait_for(output.settle(), 20)
    finally:
        await producer.stop()
