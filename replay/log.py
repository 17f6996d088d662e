"""Topics from one offset to another as whole record batches, in large pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas import admin
from tidewire.columns import Block, as_blocks, read_blocks
from tidewire.config import Settings
from tidewire.errors import SchemaError, UnreachableError
from tidewire.kafka import reading

PIECE = 32_768
"""Records of a partition that are handed on together: a fold's fixed cost then no longer counts."""
_PARTITION_BYTES = 1 << 20
_FETCH_BYTES = 64 << 20
_PATIENCE = 60.0
"""Seconds without a single record before a read is given up."""


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets of a partition: from `begin` on, those before `end`."""

    begin: int
    end: int

    @property
    def records(self) -> int:
        """How many there are at most (fewer where a topic is compacted)."""
        return max(0, self.end - self.begin)


Spans = Mapping[TopicPartition, Span]


@dataclass(frozen=True, slots=True)
class Piece:
    """Blocks of one partition that follow each other. Records from offset `end` on do not belong to it."""

    at: TopicPartition
    blocks: list[Block]
    end: int


def consumer(settings: Settings, group: str | None = None) -> AbstractAsyncContextManager[AIOKafkaConsumer]:
    """A consumer of no group that fetches much at once; `group`: one whose offsets it may ask for.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    return reading(
        settings, group_id=group, max_partition_fetch_bytes=_PARTITION_BYTES, fetch_max_bytes=_FETCH_BYTES
    )


async def spans(
    settings: Settings, topics: Iterable[str], until_ns: int | None = None, since_ns: int | None = None
) -> dict[TopicPartition, Span]:
    """All of every partition of the topics as they are now, or what was received from `since_ns` on and
    before `until_ns`.

    Raises:
        SchemaError: a topic does not exist.
        UnreachableError: Kafka does not answer.
    """
    wanted = list(topics)
    async with admin.connect(settings) as cluster:
        found = await cluster.topics(wanted)
    if missing := [name for name in wanted if name not in found]:
        raise SchemaError(f"no such topic: {', '.join(missing)}. `tidewire topics list` shows the catalogue.")
    places = [TopicPartition(t.name, number) for t in found.values() for number in range(t.partitions)]
    async with consumer(settings) as client:
        await client._client.set_topics(set(wanted))  # all leaders at once, not one by one
        begins = await client.beginning_offsets(places)
        ends = await client.end_offsets(places)
        if since_ns is not None:
            begins = ends | await _received_from(client, places, since_ns)
        if until_ns is not None:
            ends |= await _received_from(client, places, until_ns)
    return {at: Span(begins[at], ends[at]) for at in places}


async def _received_from(
    client: AIOKafkaConsumer, places: Iterable[TopicPartition], ns: int
) -> dict[TopicPartition, int]:
    """Where each partition goes on at this time; left out: nothing came since."""
    found = await client.offsets_for_times(dict.fromkeys(places, ns // 1_000_000))
    return {at: place.offset for at, place in found.items() if place is not None}


async def read(settings: Settings, wanted: Spans, piece: int = PIECE) -> AsyncIterator[Piece]:
    """What the spans hold, a partition's pieces in order; CRCs are checked.

    Raises:
        UnreachableError: Kafka stopped answering before the end.
        SchemaError: a record batch is damaged.
    """
    read_blocks({at.topic for at in wanted})
    held: dict[TopicPartition, list[Block]] = {at: [] for at in wanted}
    async with aclosing(_fetched(settings, wanted)) as fetched:
        async for at, values, done in fetched:
            held[at] += as_blocks(values)
            for blocks in _pieces(held[at], piece, done):
                yield Piece(at, blocks, wanted[at].end)


async def records(settings: Settings, wanted: Spans) -> AsyncIterator[Any]:
    """The same one by one, as aiokafka's ConsumerRecords: for topics of few records that no one reads whole.

    Raises:
        UnreachableError: Kafka stopped answering before the end.
        SchemaError: a record batch is damaged.
    """
    async with aclosing(_fetched(settings, wanted)) as fetched:
        async for at, values, _ in fetched:
            for record in values:
                if record.offset < wanted[at].end:
                    yield record


async def _fetched(
    settings: Settings, wanted: Spans
) -> AsyncGenerator[tuple[TopicPartition, list[Any], bool], None]:
    """Partition, what was fetched of it, and whether that was all."""
    left = {at for at, span in wanted.items() if span.records}
    if not left:
        return
    async with consumer(settings) as client:
        await client._client.set_topics({at.topic for at in left})
        client.assign(sorted(left))
        for at in left:
            client.seek(at, wanted[at].begin)
        while left:
            for at, values in (await some(client, left)).items():
                done = await client.position(at) >= wanted[at].end
                if done:
                    client.pause(at)
                    left.discard(at)
                yield at, values, done


async def some(
    client: AIOKafkaConsumer, left: Iterable[TopicPartition]
) -> Mapping[TopicPartition, list[Any]]:
    """What has come of these partitions, once anything has.

    Raises:
        UnreachableError: nothing came for a long while.
        SchemaError: a record batch is damaged.
    """
    try:
        async with asyncio.timeout(_PATIENCE):
            while True:
                found: Mapping[TopicPartition, list[Any]] = await client.getmany(*left, timeout_ms=1000)
                if found:
                    return found
    except TimeoutError:
        raise UnreachableError(
            f"Kafka has sent nothing for {_PATIENCE:.0f} s: {', '.join(_shown(at) for at in sorted(left))}"
        ) from None
    except KafkaError as error:
        raise SchemaError(f"the log cannot be read: {error}") from error


def _pieces(held: list[Block], size: int, everything: bool) -> Iterable[list[Block]]:
    """Takes pieces of `size` records off what is held; the rest, too, if `everything`."""
    taken: list[Block] = []
    count = 0
    for block in held:
        taken.append(block)
        count += block.count
        if count >= size:
            yield taken
            taken, count = [], 0
    if everything and taken:
        yield taken
        taken = []
    held[:] = taken


def _shown(at: TopicPartition) -> str:
    return f"{at.topic} partition {at.partition}"
