"""Which schema ids the newest records of the topics carry: a log with ids of two kinds cannot be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas import lock
from schemas.codec import Codec, header_id
from tidewire.config import Settings
from tidewire.errors import RecordError
from tidewire.kafka import client_arguments, start

_WAIT_MS = 500
_ROUNDS = 6


async def newest_ids(settings: Settings, partitions: Mapping[str, int]) -> dict[str, set[int]]:
    """The schema ids of the newest records of topics given with their partition counts.

    What is no record of ours says nothing about ids and is left out.
    """
    consumer = AIOKafkaConsumer(**client_arguments(settings), enable_auto_commit=False)
    await start(consumer)
    try:
        found: dict[str, set[int]] = {}
        waiting = await _seek_to_newest(consumer, partitions)
        for _ in range(_ROUNDS):
            if not waiting:
                break
            for partition, records in (await consumer.getmany(timeout_ms=_WAIT_MS)).items():
                waiting.discard(partition)
                found.setdefault(partition.topic, set()).update(_ids(record.value for record in records))
        return found
    finally:
        await consumer.stop()


def mixtures(codec: Codec, found: Mapping[str, set[int]]) -> list[str]:
    """Topics whose newest records have ids of the other kind, registry or lock file, than the codec's."""
    local = codec.local
    other = "SCHEMA_REGISTRY_URL is not set" if local else "SCHEMA_REGISTRY_URL is set"
    problems = []
    for topic, ids in sorted(found.items()):
        foreign = {schema_id for schema_id in ids - codec.ids if lock.is_local(schema_id) != local}
        if foreign:
            problems.append(
                f"{topic} holds records with schema id {min(foreign)} of "
                f"{'a registry' if local else 'lock.json'}, but {other}: one topic cannot have both. "
                f"{'Set' if local else 'Unset'} it, or take another TIDEWIRE_TOPIC_PREFIX"
            )
    return problems


async def _seek_to_newest(consumer: AIOKafkaConsumer, counts: Mapping[str, int]) -> set[TopicPartition]:
    partitions = [TopicPartition(topic, n) for topic, count in counts.items() for n in range(count)]
    if not partitions:
        return set()
    consumer.assign(partitions)
    first = await consumer.beginning_offsets(partitions)
    end = await consumer.end_offsets(partitions)
    filled = {partition for partition in partitions if end[partition] > first[partition]}
    if filled:
        consumer.assign(filled)
        for partition in filled:
            consumer.seek(partition, end[partition] - 1)
    return filled


def _ids(values: Iterable[bytes | None]) -> set[int]:
    found = set()
    for value in values:
        try:
            found.add(header_id(value))
        except RecordError:
            continue
    return found
