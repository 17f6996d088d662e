"""Follows topics without a consumer group: all that they hold, then what comes. Waits out Kafka's absence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition

from producers import log_tail
from tidewire import kafka, log

POLL_SECONDS = 0.5
_WAIT_MS = 500
PAUSE_SECONDS = 1.0
"""How long to wait before Kafka is asked again."""
AWAY: tuple[type[Exception], ...] = (KafkaError, OSError)
"""What is raised while Kafka is away."""

_log = log.get("log-follow")

Take = Callable[[Sequence[ConsumerRecord]], Awaitable[None]]
"""Takes the next records, in the order of each partition; called with none when `poll_seconds` are over."""


class LogFollower:
    """Follows all partitions of `topics`: from their beginning, or only what comes from now on (`from_end`).

    After every loss of Kafka it goes on where it was: records count as read once `take` has returned.
    """

    def __init__(
        self,
        client_arguments: Mapping[str, Any],
        topics: Sequence[str],
        *,
        from_end: bool = False,
        poll_seconds: float = POLL_SECONDS,
        pause_seconds: float = PAUSE_SECONDS,
        away: tuple[type[Exception], ...] = AWAY,
    ) -> None:
        self._arguments, self._topics, self._from_end = client_arguments, topics, from_end
        self._poll_ms, self._pause, self._away = int(poll_seconds * 1000), pause_seconds, away
        self._consumer: AIOKafkaConsumer | None = None
        self._moved = asyncio.Condition()
        self.positions: dict[TopicPartition, int] = {}
        """The next offset of each partition."""
        self.behind = True
        """Whether there is more to read of what the log held when Kafka was reached last."""
        self.caught_up = asyncio.Event()
        """Set once all has been read that was there at the start."""
        self.away: str | None = "not reached yet"
        """Why nothing can be read at the moment; None: it can."""

    async def run(self, take: Take) -> None:
        """Follow until cancelled; Kafka's absence is waited out."""
        await self.patiently(lambda: self.follow(take))

    async def catch_up(self, take: Take) -> None:
        """Read what the log holds now, then return; Kafka's absence is waited out."""
        await self.patiently(lambda: self.follow(take, to_end=True))

    async def patiently(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Attempt it until it ends by itself, again after each time that Kafka was away."""
        while True:
            try:
                return await attempt()
            except self._away as error:
                self.away = f"Kafka: {error!r}"
                _log.warning("not readable at the moment", topics=self._topics, error=repr(error))
            await asyncio.sleep(self._pause)

    async def follow(self, take: Take, *, to_end: bool = False) -> None:
        """Follow while Kafka is there, or until nothing is left to read (`to_end`).

        Raises:
            KafkaError, OSError: Kafka is away; and whatever `take` raises.
        """
        async with log_tail.reader(self._arguments, wait_ms=_WAIT_MS) as consumer:
            kafka.fetch_only_when_read(consumer)
            try:
                ends = await self._open(consumer)
                records: list[ConsumerRecord] = []
                while True:
                    await self._pass(consumer, ends, records, take)
                    if to_end and not self.behind:
                        return
                    found = await consumer.getmany(timeout_ms=self._poll_ms)
                    records = [record for batch in found.values() for record in batch]
            finally:
                self._consumer, self.behind = None, True

    async def read_to_end(self) -> None:
        """Wait until all is taken that stands in the log now; while Kafka is away that may be long."""
        while True:
            async with self._moved:
                await self._moved.wait_for(lambda: self._consumer is not None)
            try:
                if (consumer := self._consumer) is not None:
                    return await self.reached(await log_tail.ends(consumer, list(self.positions)))
            except AWAY:
                await asyncio.sleep(self._pause)

    async def reached(self, ends: Mapping[TopicPartition, int]) -> None:
        """Wait until all records below these offsets are taken."""
        async with self._moved:
            await self._moved.wait_for(
                lambda: all(self.positions.get(p, 0) >= end for p, end in ends.items())
            )

    async def _open(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
        """Go to where reading goes on; returns where the partitions end now."""
        numbers = {topic: await consumer._client._wait_on_metadata(topic) for topic in self._topics}
        partitions = [TopicPartition(topic, n) for topic, found in numbers.items() for n in sorted(found)]
        starts, ends = await consumer.beginning_offsets(partitions), await log_tail.ends(consumer, partitions)
        consumer.assign(
            partitions
        )  # nothing waits from here to the seeks: no fetch leaves with other offsets
        for partition in partitions:
            first = ends[partition] if self._from_end else starts[partition]
            at = self.positions.setdefault(partition, first)
            consumer.seek(partition, max(at, starts[partition]))
        self._consumer, self.away = consumer, None
        return ends

    async def _pass(
        self,
        consumer: AIOKafkaConsumer,
        ends: Mapping[TopicPartition, int],
        records: list[ConsumerRecord],
        take: Take,
    ) -> None:
        """Hand records on; what is not a record (a batch's end, what compaction took) is passed over."""
        positions = {partition: await consumer.position(partition) for partition in ends}
        self.behind = any(positions[partition] < end for partition, end in ends.items())
        await take(records)
        async with self._moved:
            self.positions.update(positions)
            self._moved.notify_all()
        if not self.behind:
            self.caught_up.set()
