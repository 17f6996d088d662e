"""Many partitions read side by side and handed on in the total order; few records of each are held."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from replay.inputs import Entries, Item
from replay.log import Span, some
from replay.order import Key, Lane, Merge
from tidewire.columns import Block, as_blocks, read_blocks
from tidewire.config import Settings
from tidewire.kafka import reading

PIECE_BYTES = 1 << 18
"""Fetched of a partition at once."""
_MOST = 20_000
"""Records of a partition that wait; beyond that it is not read further until others have come as far."""


@dataclass(frozen=True, slots=True)
class Source:
    """A partition to be read. `read`: topic, blocks and end -> entries, called in the order of the blocks."""

    lane: Lane
    span: Span
    read: Callable[[str, Sequence[Block], int], Entries]


async def merged(
    settings: Settings,
    sources: Mapping[TopicPartition, Source],
    at_hand: Mapping[Lane, Entries],
    told: Callable[[int], object] = lambda records: None,
    piece_bytes: int = PIECE_BYTES,
) -> AsyncGenerator[tuple[Key, Item], None]:
    """Everything in the total order; `at_hand` are lanes that need not be read. `told` how many are read.

    Raises:
        UnreachableError: Kafka stopped answering before the end.
        SchemaError: a record batch is damaged.
    """
    merge: Merge[Item] = Merge([*(source.lane for source in sources.values()), *at_hand])
    for lane, entries in at_hand.items():
        merge.push(lane, entries)
        merge.finish(lane)
    left = {at for at, source in sources.items() if source.span.records}
    for at in sources.keys() - left:
        merge.finish(sources[at].lane)
    done = 0
    if left:
        read_blocks({at.topic for at in left})
        async with reading(settings, max_partition_fetch_bytes=piece_bytes) as client:
            await client._client.set_topics({at.topic for at in left})
            client.assign(sorted(left))
            for at in left:
                client.seek(at, sources[at].span.begin)
            while left:
                open_ = _open(client, left, sources, merge)
                for at, values in (await some(client, open_)).items():
                    source, blocks = sources[at], as_blocks(values)
                    merge.push(source.lane, source.read(at.topic, blocks, source.span.end))
                    done += sum(block.last + 1 - block.start for block in blocks)
                    if await client.position(at) >= source.span.end:
                        client.pause(at)
                        left.discard(at)
                        merge.finish(source.lane)
                told(done)
                for entry in merge.take():
                    yield entry
    for entry in merge.take():
        yield entry


def _open(
    client: AIOKafkaConsumer,
    left: set[TopicPartition],
    sources: Mapping[TopicPartition, Source],
    merge: Merge[Item],
) -> list[TopicPartition]:
    """The partitions to be read now: what is far ahead of the others waits for them."""
    full = {at for at in left if merge.held(sources[at].lane) > _MOST}
    for at in left:
        if at in full and at not in client.paused():
            client.pause(at)
        elif at not in full and at in client.paused():
            client.resume(at)
    return sorted(left - full)
