"""A topic's records as they stand, for tests that say what must be in the log."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.codec import load_codec
from tidewire import kafka
from tidewire.config import Settings


async def held(settings: Settings, topic: str) -> list[Any]:
    """Every record of a topic (by its name in the catalogue), partition by partition in their order."""
    name = settings.tidewire_topic_prefix + topic
    consumer = AIOKafkaConsumer(
        name,
        **kafka.client_arguments(settings),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    try:
        parts = [TopicPartition(name, p) for p in consumer.partitions_for_topic(name) or ()]
        ends = await consumer.end_offsets(parts)
        records: list[Any] = []
        while len(records) < sum(ends.values()):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                records += batch
        return records
    finally:
        await consumer.stop()


async def decoded(settings: Settings, topic: str) -> list[dict[str, Any]]:
    """The same as the codec reads them."""
    codec = load_codec(settings)
    return [codec.decode(record.value)[1] for record in await held(settings, topic)]
