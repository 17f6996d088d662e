"""The producer service: Alpaca's streams of market data and news into Kafka, each feed by one owner."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack

from producers import channel, contact, credentials
from producers.announce import small_producer
from producers.companions import Ground
from producers.contact import START_SECONDS
from producers.lease import Leases
from producers.owned_feed import OwnedFeed
from producers.plans import Plan, plans
from producers.publisher import Publisher
from producers.session import Session
from producers.side_by_side import SideBySide
from producers.wishes import Wishes
from schemas.catalogue import CONNECTIONS, GAPS, LEASES, SUBSCRIPTIONS, Catalogue
from schemas.codec import Codec, load_codec
from tidewire import kafka, service
from tidewire.clock import Clock, now_ns
from tidewire.config import Settings
from tidewire.dead_letters import SUFFIX
from tidewire.endings import end
from tidewire.health import Health

GROUP = "tidewire-producer"
"""The consumer group (without the topics' prefix) that shares out the feeds."""


def main(settings: Settings, *, start_seconds: float = START_SECONDS) -> int:
    """Run until SIGINT or SIGTERM; returns the exit code."""
    producer = Producer(settings, start_seconds=start_seconds)
    return service.run("producer", settings, producer.run, producer.details)


class Producer:
    """The parts of the service and their order of start and end."""

    def __init__(
        self, settings: Settings, *, clock: Clock = now_ns, start_seconds: float = START_SECONDS
    ) -> None:
        self._settings, self._clock, self._start_seconds = settings, clock, start_seconds
        self._name = Catalogue(settings.tidewire_topic_prefix, 1).name
        self._feeds: list[OwnedFeed] = []
        self._publisher: Publisher | None = None
        self._leases: Leases | None = None

    def details(self) -> Mapping[str, object]:
        """For /health: the stock feed at the top, every feed under its name in `feeds`."""
        if self._leases is None or self._publisher is None:
            return {"websocket_connected": False, "subscribed_symbols": [], "reconnect_attempts": 0,
                    "last_message_time": None, "feeds": {}}  # fmt: skip
        feeds = {f.plan.name: f.details(self._leases.owner(f.plan.name)) for f in self._feeds}
        return {
            **next(iter(feeds.values())),
            "feeds": feeds,
            "buffered_bytes": self._publisher.buffered_bytes,
            "kafka": self._publisher.trouble or "ok",
        }

    async def run(self, health: Health, stop: asyncio.Event) -> None:
        """The body of the service.

        Raises:
            ConfigError, UnreachableError, SchemaError, RefusedError: see the messages.
        """
        keys = credentials.keys(self._settings)
        await contact.reach(self._settings, stop, self._start_seconds)
        if stop.is_set():
            return
        publisher = self._publisher = Publisher(Session(kafka.client_arguments(self._settings)))
        async with AsyncExitStack() as ending:
            ending.push_async_callback(publisher.stop)
            feeds, leases = await self._assemble(ending, publisher, keys)
            watcher = asyncio.create_task(self._watch(health, publisher, feeds, leases))
            try:
                await leases.run(stop)
            finally:
                watcher.cancel()

    async def _assemble(
        self, ending: AsyncExitStack, publisher: Publisher, keys: tuple[str, str]
    ) -> tuple[SideBySide, Leases]:
        settings, codec = self._settings, load_codec(self._settings)
        chosen = plans(settings)
        await self._open_topics(publisher, codec, chosen)
        teller = await ending.enter_async_context(small_producer(settings))
        ending.push_async_callback(contact.flush, publisher, "producer")
        ground = Ground(settings, codec, publisher, teller, keys, self._clock)
        self._feeds = [OwnedFeed(plan, ground) for plan in chosen]
        feeds = SideBySide(self._feeds)
        names = [plan.name for plan in chosen]
        leases = Leases(settings, codec, teller, GROUP, names, feeds.run, clock=self._clock)
        self._leases = leases
        self._follow_wishes(ending, codec)
        return feeds, leases

    async def _open_topics(self, publisher: Publisher, codec: Codec, chosen: Iterable[Plan]) -> None:
        encoders = [plan.encoder(codec, 0) for plan in chosen]  # for the names of their topics alone
        topics = [self._name(t) for e in encoders for t in channel.topics(e)]
        letters = [self._name(t) for e in encoders for t in channel.dead_letters(e)]
        control = [self._name(t) for t in (CONNECTIONS, SUBSCRIPTIONS, LEASES, GAPS)]
        needed = [*topics, *(topic + SUFFIX for topic in letters), *control]
        await contact.check_topics(self._settings, needed)
        await publisher.start(topics, letters)

    def _follow_wishes(self, ending: AsyncExitStack, codec: Codec) -> None:
        open_feeds = {f.plan.open_as: (f.plan.channels, f.want) for f in self._feeds if f.plan.open_as}
        if open_feeds:
            wishes = asyncio.create_task(Wishes(self._settings, codec, open_feeds, self._clock).run())
            ending.push_async_callback(end, wishes)

    async def _watch(self, health: Health, publisher: Publisher, feeds: SideBySide, leases: Leases) -> None:
        while True:
            starting = "starting a feed" if leases.ours and not leases.owned else None
            health.ready(publisher.trouble or leases.trouble or feeds.reason() or starting)
            for feed in self._feeds:
                feed.tell()
            await asyncio.sleep(0.1)
