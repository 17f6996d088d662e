"""Single records of the log by their coordinates, thousands of them: each partition is gone through once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, TopicPartition

from processors.exits.coordinates import Coordinates
from replay.log import some
from schemas import admin
from tidewire.columns import as_blocks, read_blocks, records_at
from tidewire.config import Settings
from tidewire.kafka import reading

RETENTION, NO_TOPIC, BEYOND, HOLE = (
    "out of retention",
    "no such topic",
    "beyond the end of the log",
    "no record at this offset",
)
"""Why a record cannot be had. The first two are no contradiction: the log of then is gone."""
_PIECE_BYTES = 1 << 16
_NEAR = 2_000
"""Offsets: what is nearer is read on to, what is farther is sought."""


@dataclass(slots=True)
class Looked:
    """Values of the records that are there, and of the others why they are not."""

    values: dict[Coordinates, bytes | None] = field(default_factory=dict)
    lost: dict[Coordinates, str] = field(default_factory=dict)


async def lookup(
    settings: Settings,
    wanted: Collection[Coordinates],
    told: Callable[[int], object] = lambda records: None,
) -> Looked:
    """Fetch these records; `told` how many are done.

    Raises:
        UnreachableError: Kafka does not answer, or stopped to.
        SchemaError: a record batch is damaged.
    """
    found = Looked()
    topics = {at.topic for at in wanted}
    async with admin.connect(settings) as cluster:
        known = await cluster.topics(topics)
    left: dict[TopicPartition, list[int]] = {}
    for at in sorted(set(wanted)):
        there = known.get(at.topic)
        if there is None or at.partition >= there.partitions:
            found.lost[at] = NO_TOPIC
        else:
            left.setdefault(TopicPartition(at.topic, at.partition), []).append(at.offset)
    if left:
        read_blocks(topics)
        async with reading(settings, max_partition_fetch_bytes=_PIECE_BYTES) as client:
            await _read(client, left, found, told)
    return found


async def _read(
    client: AIOKafkaConsumer,
    left: dict[TopicPartition, list[int]],
    found: Looked,
    told: Callable[[int], object],
) -> None:
    await client._client.set_topics({at.topic for at in left})
    begins = await client.beginning_offsets(list(left))
    ends = await client.end_offsets(list(left))
    for at in list(left):
        left[at] = _there(at, left[at], begins, ends, found)
        if not left[at]:
            del left[at]
    client.assign(sorted(left))
    for at, offsets in left.items():
        client.seek(at, offsets[0])
    while left:
        for at, values in (await some(client, sorted(left))).items():
            blocks = as_blocks(values)
            last = blocks[-1].last
            offsets = left[at]
            passed = offsets[: bisect_right(offsets, last)]
            records = {record.offset: record.value for record in records_at(blocks, passed)}
            for offset in passed:
                place = Coordinates(at.topic, at.partition, offset)
                if offset in records:
                    found.values[place] = None if records[offset] is None else bytes(records[offset])
                else:
                    found.lost[place] = HOLE
            left[at] = offsets[len(passed) :]
            _go_on(client, at, left, last)
        told(len(found.values) + len(found.lost))


def _there(
    at: TopicPartition,
    offsets: list[int],
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    found: Looked,
) -> list[int]:
    """Those that Kafka still has."""
    for offset in offsets:
        place = Coordinates(at.topic, at.partition, offset)
        if offset < begins[at]:
            found.lost[place] = RETENTION
        elif offset >= ends[at]:
            found.lost[place] = BEYOND
    return [offset for offset in offsets if begins[at] <= offset < ends[at]]


def _go_on(
    client: AIOKafkaConsumer, at: TopicPartition, left: dict[TopicPartition, list[int]], last: int
) -> None:
    if not left[at]:
        del left[at]
        client.pause(at)
    elif left[at][0] > last + _NEAR:
        client.seek(at, left[at][0])
