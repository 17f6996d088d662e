"""The producer service: Alpaca's stock, crypto and news streams into Kafka."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack

from producers import channel, contact, credentials, side_by_side, warm_start
from producers.alpaca_stream import AlpacaStream
from producers.announce import Announcer, small_producer
from producers.connection import Connection
from producers.contact import START_SECONDS
from producers.feed import Feed
from producers.intake import Intake
from producers.plans import Plan, plans
from producers.publisher import Publisher
from producers.session import Session
from producers.wishes import Wishes
from schemas.catalogue import CONNECTIONS, SUBSCRIPTIONS, Catalogue
from schemas.codec import Codec, load_codec
from tidewire import kafka, service
from tidewire.clock import NS_PER_SECOND, Clock, now_ns
from tidewire.config import Settings
from tidewire.dead_letters import SUFFIX
from tidewire.health import Health


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
        self._feeds: list[Feed] = []
        self._publisher: Publisher | None = None

    def details(self) -> Mapping[str, object]:
        """For /health: the stock feed at the top, every feed under its name in `feeds`."""
        if not self._feeds or self._publisher is None:
            return {"websocket_connected": False, "subscribed_symbols": [], "reconnect_attempts": 0,
                    "last_message_time": None, "feeds": {}}  # fmt: skip
        return {
            **self._feeds[0].details(),
            "feeds": {feed.name: feed.details() for feed in self._feeds},
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
            await self._assemble(ending, publisher, keys)
            watcher = asyncio.create_task(self._watch(health, publisher))
            try:
                await side_by_side.run(self._feeds, stop)
            finally:
                watcher.cancel()

    async def _assemble(self, ending: AsyncExitStack, publisher: Publisher, keys: tuple[str, str]) -> None:
        settings, codec = self._settings, load_codec(self._settings)
        # Seconds since 1970: greater at every start, until leases hand out epochs.
        epoch = self._clock() // NS_PER_SECOND
        chosen = plans(settings)
        encoders = {plan: plan.encoder(codec, epoch) for plan in chosen}
        topics = [self._name(t) for e in encoders.values() for t in channel.topics(e)]
        letters = [self._name(t) for e in encoders.values() for t in channel.dead_letters(e)]
        control = [self._name(CONNECTIONS), self._name(SUBSCRIPTIONS)]
        await contact.check_topics(settings, [*topics, *(topic + SUFFIX for topic in letters), *control])
        await publisher.start(topics, letters)
        publisher.expect(
            await warm_start.recall(
                kafka.client_arguments(settings),
                codec,
                [tail for encoder in encoders.values() for tail in encoder.tails()],
                lambda topic: publisher.partitions(self._name(topic)),
            )
        )
        teller = await ending.enter_async_context(small_producer(settings))
        announcers: list[Announcer] = []
        ending.push_async_callback(self._last_words, publisher, announcers)
        for plan, encoder in encoders.items():
            announcer = Announcer(settings, codec, teller, plan.name, owner_epoch=epoch, clock=self._clock)
            announcer.start()
            announcers.append(announcer)
            self._feeds.append(self._feed(plan, encoder, publisher, announcer, keys))
        self._follow_wishes(ending, codec, chosen)

    def _feed(
        self,
        plan: Plan,
        encoder: channel.Encoder,
        publisher: Publisher,
        announcer: Announcer,
        keys: tuple[str, str],
    ) -> Feed:
        return Feed(
            plan,
            AlpacaStream(plan.url, *keys),
            Intake(plan.label, encoder, publisher, self._name),
            publisher,
            Connection(random.random),
            announcer.state,
            self._clock,
        )

    def _follow_wishes(self, ending: AsyncExitStack, codec: Codec, chosen: Iterable[Plan]) -> None:
        open_feeds = {
            plan.open_as: (plan.channels, feed.want)
            for plan, feed in zip(chosen, self._feeds, strict=True)
            if plan.open_as is not None
        }
        if open_feeds:
            wishes = asyncio.create_task(Wishes(self._settings, codec, open_feeds, self._clock).run())
            ending.push_async_callback(_end, wishes)

    async def _watch(self, health: Health, publisher: Publisher) -> None:
        while True:
            health.ready(publisher.trouble or side_by_side.reason(self._feeds))
            for feed in self._feeds:
                feed.tell()
            await asyncio.sleep(0.1)

    async def _last_words(self, publisher: Publisher, announcers: Iterable[Announcer]) -> None:
        await asyncio.gather(
            contact.flush(publisher, "producer"), *(announcer.stop() for announcer in announcers)
        )


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))
