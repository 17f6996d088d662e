"""Reading the end of a partition: to know what the log holds before adding to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from tidewire import kafka


@asynccontextmanager
async def reader(
    client_arguments: Mapping[str, Any], *, wait_ms: int = 100
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer without a group; stopped at the end. A fetch may wait `wait_ms` if there is nothing."""
    consumer = AIOKafkaConsumer(
        **client_arguments, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=wait_ms
    )
    try:
        await kafka.start(consumer)
        yield consumer
    finally:
        await consumer.stop()


async def ends(consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """The offset after the last record of each partition."""
    found: dict[TopicPartition, int] = await consumer.end_offsets(list(partitions))
    return found


async def read(
    consumer: AIOKafkaConsumer, spans: Mapping[TopicPartition, tuple[int, int]]
) -> dict[TopicPartition, list[ConsumerRecord]]:
    """The records of [start, end) of each partition, in order; those that retention has removed are left
    out.
    """
    records: dict[TopicPartition, list[ConsumerRecord]] = {p: [] for p in spans}
    left = {p for p, (start, end) in spans.items() if start < end}
    if not left:  # an assignment just before the end makes aiokafka's fetcher swallow its cancellation
        return records
    consumer.assign(list(left))
    for partition in left:
        consumer.seek(partition, spans[partition][0])
    while left:
        for partition, batch in (await consumer.getmany(*left, timeout_ms=500)).items():
            records[partition].extend(r for r in batch if r.offset < spans[partition][1])
        for partition in list(left):
            if await consumer.position(partition) >= spans[partition][1]:
                left.discard(partition)
    return records
