"""Reads alpaca.gaps for one feed: first what it holds, then what comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition

from producers import log_tail
from schemas.codec import Codec
from schemas.gaps import Board, Gap
from tidewire import log
from tidewire.errors import RecordError

_PAUSE_SECONDS = 2.0
_POLL_MS = 500
_BESIDE_NS = 3_600 * 10**9  # closed gaps are kept for an hour of event time before the newest

_log = log.get("gaps")

News = Callable[[AIOKafkaConsumer, Gap], Awaitable[None]]
"""Told of a new state, with a consumer to read other partitions with."""


class Follower:
    """The board of one feed's gaps, kept up to date. `partitions` are those of alpaca.gaps."""

    def __init__(
        self,
        client_arguments: Mapping[str, Any],
        codec: Codec,
        partitions: Iterable[TopicPartition],
        feed: str,
    ) -> None:
        self._arguments, self._codec, self._feed = client_arguments, codec, feed
        self._next = dict.fromkeys(partitions, 0)
        self.board = Board()

    async def catch_up(self) -> None:
        """Read what the topic holds now; Kafka's absence is waited out."""
        while True:
            try:
                async with log_tail.reader(self._arguments) as consumer:
                    ends = await log_tail.ends(consumer, self._next)
                    await self._assign(consumer)
                    while any(self._next[p] < end for p, end in ends.items()):
                        await self._take(consumer)
                    return
            except (KafkaError, OSError) as error:
                _log.warning("alpaca.gaps is not readable", error=repr(error))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def run(self, news: News) -> None:
        """Follow the topic until cancelled."""
        while True:
            try:
                async with (
                    log_tail.reader(self._arguments) as consumer,
                    log_tail.reader(self._arguments) as other,
                ):
                    await self._assign(consumer)
                    while True:
                        for gap in await self._take(consumer):
                            await news(other, gap)
            except (KafkaError, OSError) as error:
                _log.warning("alpaca.gaps is not readable", error=repr(error))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _assign(self, consumer: AIOKafkaConsumer) -> None:
        consumer.assign(list(self._next))
        starts = await consumer.beginning_offsets(list(self._next))
        for partition, start in starts.items():
            self._next[partition] = max(start, self._next[partition])
            consumer.seek(partition, self._next[partition])

    async def _take(self, consumer: AIOKafkaConsumer) -> list[Gap]:
        """The next states of the feed's gaps that say something new."""
        found: list[Gap] = []
        for partition, records in (await consumer.getmany(timeout_ms=_POLL_MS)).items():
            found += [gap for record in records if (gap := self._gap(record)) is not None]
            self._next[partition] = records[-1].offset + 1
        new = [gap for gap in found if self.board.put(gap)]
        for gap in new:
            if gap.until_ts is not None:
                self.board.forget(gap.until_ts - _BESIDE_NS)
        return new

    def _gap(self, record: ConsumerRecord) -> Gap | None:
        try:
            stem, content = self._codec.decode(record.value)
        except RecordError:  # not ours to judge: whoever stores the topic dead-letters it
            return None
        return Gap.of(content) if stem == "gap" and content["feed"] == self._feed and content["id"] else None
