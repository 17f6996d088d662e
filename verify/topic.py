"""A topic from its beginning to the end that it had when asked, in columns, with partition and offset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas import admin
from tidewire.columns import Decoded, Decoder, Refused, Version, blocks
from tidewire.config import Settings
from tidewire.fence import Fence
from tidewire.kafka import reading
from verify.content import Channel, canonical

FETCH_BYTES = 4 << 20
_ADDED = ("received_ts", "event_id")
_ORIGIN = ("source", "owner_epoch")
_PATIENCE = 60.0
"""Seconds without a single record before a read is given up."""


@dataclass(frozen=True, slots=True)
class TopicContent:
    """All events of one topic: content columns plus `k_part`, `k_offset` and `by_rest` (whether it came over
    REST), and what could not be read.
    """

    events: pl.DataFrame
    refused: list[tuple[int, Refused]] = field(default_factory=list)
    stale: int = 0
    """Records of an owner that had been replaced: nobody folds or stores them; they are not in `events`."""
    repaired: int = 0
    """Those of the events that came over REST."""

    @property
    def records(self) -> int:
        """All records, readable or not."""
        return self.events.height + len(self.refused)


def consumer(settings: Settings) -> AbstractAsyncContextManager[AIOKafkaConsumer]:
    """A plain consumer without a group.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    return reading(settings, max_partition_fetch_bytes=FETCH_BYTES)


Ends = Mapping[TopicPartition, int]
"""The offset after the last record of each partition."""


async def ends(settings: Settings, names: Iterable[str]) -> dict[str, Ends]:
    """Where each partition of the topics ends now; no entries for a topic that does not exist.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    wanted = list(names)
    found = await places(settings, wanted)
    async with consumer(settings) as client:
        await _track(client, found)
        offsets = dict(await client.end_offsets(found)) if found else {}
    return {name: {tp: end for tp, end in offsets.items() if tp.topic == name} for name in wanted}


async def _track(client: AIOKafkaConsumer, found: Iterable[TopicPartition]) -> None:
    """Learn the leaders of all topics at once; asked for offsets, aiokafka would learn them one by one."""
    await client._client.set_topics({tp.topic for tp in found})


async def places(settings: Settings, names: Iterable[str]) -> list[TopicPartition]:
    """Every partition of those of the topics that exist.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    async with admin.connect(settings) as cluster:
        found = await cluster.topics(names)
    return [TopicPartition(t.name, p) for t in found.values() for p in range(t.partitions)]


async def whole(
    client: AIOKafkaConsumer, until: Ends, begins: Ends | None = None
) -> AsyncIterator[tuple[TopicPartition, list[Any]]]:
    """Everything that the consumer yields from the beginning of each partition (or from `begins`) until the
    given ends.

    Raises:
        UnreachableError: Kafka stopped answering before the end.
    """
    await _track(client, until)
    if begins is None:
        begins = await client.beginning_offsets(list(until)) if until else {}
    left = {tp for tp, end in until.items() if begins[tp] < end}
    client.assign(sorted(left))
    for tp in left:
        client.seek(tp, begins[tp])
    while left:
        fetched = await asyncio.wait_for(_some(client, sorted(left)), _PATIENCE)
        for tp, values in fetched.items():
            yield tp, values
            if await client.position(tp) >= until[tp]:
                client.pause(tp)
                left.discard(tp)


async def _some(client: AIOKafkaConsumer, left: Sequence[TopicPartition]) -> dict[TopicPartition, list[Any]]:
    while True:
        fetched: dict[TopicPartition, list[Any]] = await client.getmany(*left, timeout_ms=1000)
        if fetched:
            return fetched


async def decoded(
    settings: Settings,
    topic: str,
    decoder: Decoder,
    until: Ends | None = None,
) -> AsyncIterator[tuple[int, Decoded]]:
    """The topic's records in columns, some at a time, with their partition, up to the ends."""
    blocks.read_blocks([topic])
    stops = (await ends(settings, [topic]))[topic] if until is None else until
    async with consumer(settings) as client:
        async for tp, values in whole(client, stops):
            batch = decoder(blocks.as_blocks(values))
            yield tp.partition, _before(batch, stops[tp])


def _before(batch: Decoded, end: int) -> Decoded:
    if not len(batch.offsets) or int(batch.offsets[-1]) < end:
        refused = [r for r in batch.refused if r.offset < end]
        return Decoded(batch.frame, batch.offsets, refused)
    wanted = batch.offsets < end
    refused = [r for r in batch.refused if r.offset < end]
    return Decoded(batch.frame.filter(pl.Series(wanted)), batch.offsets[wanted], refused)


async def read(
    settings: Settings,
    channel: Channel,
    versions: Callable[[str], Sequence[Version]],
    until: Ends | None = None,
) -> TopicContent:
    """All events of a channel's topic.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    wanted = [*channel.columns, *_ADDED, *_ORIGIN]
    decoder = Decoder(versions(channel.stem), channel.record_key, wanted)
    parts: list[pl.DataFrame] = [_located(decoder([]).frame, channel, 0, [])]
    refused: list[tuple[int, Refused]] = []
    fences: dict[int, Fence] = {}
    stale = repaired = 0
    async for partition, batch in decoded(
        settings, settings.tidewire_topic_prefix + channel.topic, decoder, until
    ):
        refused += [(partition, r) for r in batch.refused]
        if not batch.frame.height:
            continue
        fence = fences.setdefault(partition, Fence())
        kept, offsets, dropped = _owned(batch, fence)
        stale += dropped
        repaired += int((kept["source"] == "rest").sum())
        parts.append(_located(kept, channel, partition, offsets))
    return TopicContent(pl.concat(parts), refused, stale, repaired)


def _owned(batch: Decoded, fence: Fence) -> tuple[pl.DataFrame, Any, int]:
    """The rows and offsets without those of a stale owner, and how many these were."""
    mask = fence.stale_rows(batch.frame["owner_epoch"].to_numpy(), batch.frame["source"])
    if mask is None:
        return batch.frame, batch.offsets, 0
    return batch.frame.filter(pl.Series(~mask)), batch.offsets[~mask], int(mask.sum())


def _located(frame: pl.DataFrame, channel: Channel, partition: int, offsets: Any) -> pl.DataFrame:
    by_rest = frame.select(pl.col("source").cast(pl.String) == "rest").to_series().alias("by_rest")
    return canonical(channel, frame.drop(*_ORIGIN)).with_columns(
        by_rest,
        pl.lit(partition, pl.Int64).alias("k_part"),
        pl.Series("k_offset", offsets, dtype=pl.Int64),
        pl.col("received_ts").cast(pl.Int64),
    )
