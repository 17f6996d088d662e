"""Follows control.subscriptions and tells each feed what is wanted of it, while it runs.

The topic is compacted and has one partition; it is read from its beginning at each start, by a consumer
without a group, and nothing is told before its end is reached. So a restart asks for what is wanted now, not
for what was wanted on the way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiokafka.structs import ConsumerRecord

from producers.interest import Entry, Interest
from producers.log_follow import LogFollower
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
        self._codec, self._feeds, self._clock = codec, feeds, clock
        name = Catalogue(settings.tidewire_topic_prefix, 1).name(SUBSCRIPTIONS)
        # Whatever goes wrong, the feeds go on with what was wanted last.
        self._log = LogFollower(
            kafka.client_arguments(settings), (name,), poll_seconds=sweep_seconds, away=(Exception,)
        )
        self._interest = Interest()
        self._told: dict[str, tuple[Wanted, Urgent]] = {}

    async def run(self) -> None:
        """Work until cancelled; Kafka's absence is waited out, with what was wanted last."""
        await self._log.run(self._take)

    async def _take(self, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            SUBSCRIPTION_ENTRIES.labels(self._put(record)).inc()
        if not self._log.behind:
            await self._tell()

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
