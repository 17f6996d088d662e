"""Every record of a topic as it stands, decoded: to ask afterwards what was written when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.codec import load_codec
from tidewire.config import Settings
from tidewire.kafka import client_arguments


async def records(settings: Settings, topic: str) -> AsyncIterator[tuple[float, dict[str, Any]]]:
    """The records up to the topic's end of now, tombstones left out, each with the time that its writer gave
    it (ms since 1970); a partition's in their order. `topic`: without the prefix."""
    codec, name = load_codec(settings), settings.tidewire_topic_prefix + topic
    reader = AIOKafkaConsumer(**client_arguments(settings), auto_offset_reset="earliest")
    await reader.start()
    try:
        numbers = await reader._client._wait_on_metadata(name)
        reader.assign([TopicPartition(name, number) for number in numbers])
        ends = await reader.end_offsets(reader.assignment())
        while any([await reader.position(tp) < end for tp, end in ends.items()]):
            for found in (await reader.getmany(timeout_ms=100)).values():
                for record in found:
                    if record.value is not None:
                        yield float(record.timestamp), dict(codec.decode(record.value)[1])
    finally:
        await reader.stop()
