"""Follows control.subscriptions and tells each feed what is wanted of it, while it runs.

The topic is compacted and has one partition; it is read from its beginning at each start, by a consumer
without a group, and nothing is told before its end is reached. So a restart asks for what is wanted now, not
for what was wanted on the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from producers import log_tail
from producers.interest import Entry, Interest
from producers.subscriptions import Urgent, Wanted
from schemas.catalogue import SUBSCRIPTIONS, Catalogue
from schemas.codec import Codec
from tidewire import kafka, log
from tidewire.clock import Clock
from tidewire.config import Settings
from tidewire.errors import RecordError
from tidewire.metrics import SUBSCRIPTION_ENTRIES

SWEEP_SECONDS = 2.0
"""So often expired entries are looked for."""
_PAUSE_SECONDS = 2.0

_log = log.get("wishes")

Want = Callable[[Wanted, Urgent], Awaitable[None]]


class Wishes:
    """`feeds` gives, by the name of a feed in the topic, its channels and whom to tell."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        feeds: Mapping[str, tuple[tuple[str, ...], Want]],
        clock: Clock,
        *,
        sweep_seconds: float = SWEEP_SECONDS,
    ) -> None:
        self._arguments, self._codec, self._feeds = kafka.client_arguments(settings), codec, feeds
        name = Catalogue(settings.tidewire_topic_prefix, 1).name(SUBSCRIPTIONS)
        self._partition = TopicPartition(name, 0)
        self._clock, self._sweep_seconds = clock, sweep_seconds
        self._interest = Interest()
        self._told: dict[str, tuple[Wanted, Urgent]] = {}

    async def run(self) -> None:
        """Work until cancelled; Kafka's absence is waited out, with what was wanted last."""
        while True:
            try:
                async with log_tail.reader(self._arguments) as consumer:
                    await self._follow(consumer)
            except Exception as error:  # whatever it is, the feeds go on with what was wanted last
                _log.warning("control.subscriptions is not readable", error=repr(error))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        self._interest = Interest()
        consumer.assign([self._partition])
        await consumer.seek_to_beginning(self._partition)
        end = (await log_tail.ends(consumer, [self._partition]))[self._partition]
        while await consumer.position(self._partition) < end:
            await self._take(consumer)
        while True:
            await self._tell()
            await self._take(consumer)

    async def _take(self, consumer: AIOKafkaConsumer) -> None:
        found = await consumer.getmany(self._partition, timeout_ms=int(self._sweep_seconds * 1000))
        for record in found.get(self._partition, ()):
            SUBSCRIPTION_ENTRIES.labels(self._put(record)).inc()

    async def _tell(self) -> None:
        now = self._clock()
        SUBSCRIPTION_ENTRIES.labels("expired").inc(self._interest.sweep(now))
        for feed, (_, want) in self._feeds.items():
            told = self._interest.wanted(feed, now), self._interest.urgent(feed, now)
            if told != self._told.get(feed, ({}, {})):
                self._told[feed] = told
                await want(*told)

    def _put(self, record: ConsumerRecord) -> str:
        """Take one record over; returns what it was, as the metric says it."""
        key = record.key or b""
        if record.value is None:
            self._interest.put(key, None)
            return "released"
        try:
            stem, content = self._codec.decode(record.value)
            if stem != "subscription":
                raise RecordError(f"a {stem} record")
        except RecordError as error:
            # The former entry of the key goes: its holder meant to replace it, and will renew it.
            self._interest.put(key, None)
            _log.warning("unreadable subscription", offset=record.offset, reason=str(error))
            return "unreadable"
        entry = Entry.of(content)
        if entry.channel not in self._feeds.get(entry.feed, ((), None))[0]:
            self._interest.put(key, None)
            _log.debug("nobody here offers this", feed=entry.feed, channel=entry.channel)
            return "unknown"
        self._interest.put(key, entry)
        return "held"
