"""Reads alpaca.gaps for one feed: first what it holds, then what comes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord

from producers import log_tail
from producers.log_follow import LogFollower
from schemas.codec import Codec
from schemas.gaps import Board, Gap
from tidewire.errors import RecordError

_BESIDE_NS = 3_600 * 10**9  # closed gaps are kept for an hour of event time before the newest

News = Callable[[AIOKafkaConsumer, Gap], Awaitable[None]]
"""Told of a new state, with a consumer to read other partitions with."""


class Follower:
    """The board of one feed's gaps, kept up to date. `topic` is alpaca.gaps."""

    def __init__(self, client_arguments: Mapping[str, Any], codec: Codec, topic: str, feed: str) -> None:
        self._arguments, self._codec, self._feed = client_arguments, codec, feed
        self._log = LogFollower(client_arguments, (topic,))
        self.board = Board()

    async def catch_up(self) -> None:
        """Read what the topic holds now; Kafka's absence is waited out."""

        async def take(records: Sequence[ConsumerRecord]) -> None:
            self._take(records)

        await self._log.catch_up(take)

    async def run(self, news: News) -> None:
        """Follow the topic until cancelled."""

        async def follow() -> None:
            async with log_tail.reader(self._arguments) as other:

                async def take(records: Sequence[ConsumerRecord]) -> None:
                    for gap in self._take(records):
                        await news(other, gap)

                await self._log.follow(take)

        await self._log.patiently(follow)

    def _take(self, records: Sequence[ConsumerRecord]) -> list[Gap]:
        """The next states of the feed's gaps that say something new."""
        found = [gap for record in records if (gap := self._gap(record)) is not None]
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
