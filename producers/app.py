"""The producer service: Alpaca's stock stream into Kafka."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping

from aiokafka.admin import AIOKafkaAdminClient

from producers import credentials, warm_start
from producers.alpaca_stream import AlpacaStream
from producers.connection import Connection
from producers.encoder import Encoder
from producers.entrance import Bars, Window
from producers.feed import Feed
from producers.intake import DEAD_LETTERS, TOPICS, Intake
from producers.publisher import Publisher
from producers.session import Session
from producers.subscriptions import CHANNELS, TEST_CHANNELS, Subscriptions
from schemas.catalogue import STOCK_BARS, STOCK_CORRECTIONS, STOCK_QUOTES, STOCK_TRADES, Catalogue
from schemas.codec import load_codec
from tidewire import kafka, log, service
from tidewire.clock import NS_PER_SECOND, Clock, now_ns
from tidewire.config import Settings
from tidewire.dead_letters import SUFFIX
from tidewire.errors import SchemaError, UnreachableError
from tidewire.health import Health

START_SECONDS = 30.0
"""How long a start waits for Kafka."""
FLUSH_SECONDS = 2.5
"""How long a stop waits for Kafka's acknowledgements."""

_log = log.get("producer")


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
        self._feed: Feed | None = None
        self._publisher: Publisher | None = None

    def details(self) -> Mapping[str, object]:
        """For /health."""
        if self._feed is None or self._publisher is None:
            return {"websocket_connected": False, "subscribed_symbols": [], "reconnect_attempts": 0,
                    "last_message_time": None}  # fmt: skip
        buffered = {
            "buffered_bytes": self._publisher.buffered_bytes,
            "kafka": self._publisher.trouble or "ok",
        }
        return {**self._feed.details(), **buffered}

    async def run(self, health: Health, stop: asyncio.Event) -> None:
        """The body of the service.

        Raises:
            ConfigError, UnreachableError, SchemaError, RefusedError: see the messages.
        """
        key, secret = credentials.keys(self._settings)
        await self._check(stop)
        if stop.is_set():
            return
        publisher = self._publisher = Publisher(Session(kafka.client_arguments(self._settings)))
        try:
            self._feed = feed = await self._assemble(publisher, key, secret)
            watcher = asyncio.create_task(self._watch(health, feed, publisher))
            try:
                await feed.run(stop)
            finally:
                watcher.cancel()
                await self._flush(publisher)
        finally:
            await publisher.stop()

    async def _check(self, stop: asyncio.Event) -> None:
        deadline = asyncio.get_running_loop().time() + self._start_seconds
        while not stop.is_set():
            try:
                await kafka.check_reachable(self._settings)
                return
            except UnreachableError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(1)

    async def _check_topics(self, topics: Iterable[str]) -> None:
        # By the list of all topics: asking for one by its name creates it where Kafka is set so.
        admin = AIOKafkaAdminClient(**kafka.client_arguments(self._settings))
        try:
            await admin.start()
            missing = sorted(set(topics) - set(await admin.list_topics()))
        finally:
            await admin.close()
        if missing:
            raise SchemaError(f"no such topic: {', '.join(missing)}; `tidewire topics apply` creates them")

    async def _assemble(self, publisher: Publisher, key: str, secret: str) -> Feed:
        settings = self._settings
        name = Catalogue(settings.tidewire_topic_prefix, 1).name
        codec, window, bars = load_codec(settings), Window(), Bars()
        topics, dead_letters = [name(t) for t in TOPICS], [name(t) for t in DEAD_LETTERS]
        await self._check_topics([*topics, *(topic + SUFFIX for topic in dead_letters)])
        await publisher.start(topics, dead_letters)
        events = [
            p for t in (STOCK_TRADES, STOCK_QUOTES, STOCK_CORRECTIONS) for p in publisher.partitions(name(t))
        ]
        publisher.expect(
            await warm_start.recall(
                kafka.client_arguments(settings),
                codec,
                window,
                bars,
                events=events,
                bar_partitions=publisher.partitions(name(STOCK_BARS)),
            )
        )
        # Seconds since 1970: greater at every start, until leases hand out epochs.
        epoch = self._clock() // NS_PER_SECOND
        encoder = Encoder(codec, window, bars, owner_epoch=epoch)
        channels = TEST_CHANNELS if settings.tidewire_feed == "test" else CHANNELS
        return Feed(
            settings.tidewire_feed,
            settings.stream_url,
            AlpacaStream(settings.stream_url, key, secret),
            Intake(settings.tidewire_feed, encoder, publisher, name),
            publisher,
            Subscriptions(settings.symbols, channels),
            Connection(random.random),
            self._clock,
        )

    async def _watch(self, health: Health, feed: Feed, publisher: Publisher) -> None:
        while True:
            health.ready(publisher.trouble or feed.lost)
            await asyncio.sleep(0.1)

    async def _flush(self, publisher: Publisher) -> None:
        try:
            await asyncio.wait_for(publisher.flush(), FLUSH_SECONDS)
        except TimeoutError:
            _log.error(
                "stopped before Kafka took everything: these bytes are lost", bytes=publisher.buffered_bytes
            )
