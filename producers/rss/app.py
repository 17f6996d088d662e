"""The RSS service: feeds of news -> alpaca.news."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from aiohttp import ClientSession, DummyCookieJar
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition

from producers import contact, log_tail
from producers.contact import START_SECONDS
from producers.publisher import Publisher
from producers.rss.desk import HOLD_NS, RECALL_NS, Desk, Waiting
from producers.rss.feeds import Feed
from producers.rss.quality import Quality
from producers.session import Session
from producers.stamp import Stamp
from schemas import event_id
from schemas.catalogue import NEWS, NEWS_FRAMES, Catalogue
from schemas.codec import Codec, load_codec
from tidewire import kafka, log, service
from tidewire.clock import NS_PER_MS, NS_PER_SECOND, Clock, now_ns
from tidewire.config import Settings
from tidewire.dead_letters import SUFFIX, DeadLetter
from tidewire.endings import end
from tidewire.errors import RecordError
from tidewire.health import Health
from tidewire.metrics import RSS_ARTICLES

NO_FEEDS = "no RSS feeds: name them in TIDEWIRE_RSS_URLS"
_TURN_SECONDS = 0.25
_PAUSE_SECONDS = 2.0

_log = log.get("rss")


def main(settings: Settings, *, start_seconds: float = START_SECONDS) -> int:
    """Run until SIGINT or SIGTERM; returns the exit code."""
    rss = Rss(settings, start_seconds=start_seconds)
    return service.run("rss", settings, rss.run, rss.details)


class Rss:
    """Watches the feeds that the settings name. One process is enough, and more than one would repeat."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock = now_ns,
        start_seconds: float = START_SECONDS,
        hold_ns: int = HOLD_NS,
    ) -> None:
        self._settings, self._clock, self._start_seconds = settings, clock, start_seconds
        name = Catalogue(settings.tidewire_topic_prefix, 1).name
        self._news, self._frames = name(NEWS), name(NEWS_FRAMES)
        self._quality = Quality()
        self._desk = Desk(self._quality, hold_ns=hold_ns)
        self._feeds: list[Feed] = []
        self._publisher: Publisher | None = None
        self._recalled = asyncio.Event()
        self._trouble: str | None = None

    def details(self) -> Mapping[str, object]:
        """For /health: each feed by its host, and how RSS compares with the other sources."""
        publisher = self._publisher
        return {
            "feeds": [
                {"host": feed.host, "trouble": feed.trouble, "last_reached": _shown(feed.seen_ns)}
                for feed in self._feeds
            ],
            "waiting_articles": self._desk.waiting,
            "compared_with_other_sources": self._quality.details(),
            "buffered_bytes": 0 if publisher is None else publisher.buffered_bytes,
            "kafka": (publisher.trouble if publisher else None) or self._trouble or "ok",
        }

    async def run(self, health: Health, stop: asyncio.Event) -> None:
        """The body of the service.

        Raises:
            ConfigError, UnreachableError, SchemaError: see the messages.
        """
        if not self._settings.tidewire_rss_urls:
            _log.warning(NO_FEEDS)
            health.ready()
            await stop.wait()
            return
        await contact.reach(self._settings, stop, self._start_seconds)
        if stop.is_set():
            return
        topics = (self._news, self._news + SUFFIX, self._frames + SUFFIX)
        await contact.check_topics(self._settings, topics)
        codec = load_codec(self._settings)
        publisher = self._publisher = Publisher(Session(kafka.client_arguments(self._settings)))
        async with AsyncExitStack() as ending:
            ending.push_async_callback(publisher.stop)
            await publisher.start((self._news,), (self._news, self._frames))
            ending.push_async_callback(contact.flush, publisher, "rss")
            session = ClientSession(cookie_jar=DummyCookieJar())
            await ending.enter_async_context(session)
            letters = _Letters(publisher, self._clock)
            self._feeds = [
                Feed(
                    url, session, self._desk, self._clock,
                    lambda host, raw, why: letters.add(self._news, host, raw, why),
                    lambda host, raw, why: letters.add(self._frames, host, raw, why),
                )
                for url in self._settings.tidewire_rss_urls
            ]  # fmt: skip
            await self._work(codec, publisher, health, stop)

    async def _work(self, codec: Codec, publisher: Publisher, health: Health, stop: asyncio.Event) -> None:
        # Seconds since 1970, as every writer without a lease.
        stamp = Stamp(codec, owner_epoch=self._clock() // NS_PER_SECOND, source="rss")
        partitions = publisher.partitions(self._news)
        tasks: list[asyncio.Task[object]] = [
            asyncio.create_task(self._follow_forever(codec, partitions, publisher)),
            asyncio.create_task(self._look_forever()),
            asyncio.create_task(self._publish_forever(stamp, publisher, health)),
            asyncio.create_task(stop.wait()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end(*tasks)
            # What waits for its twin is published rather than forgotten.
            self._publish(self._desk.due(), stamp, publisher)

    async def _look_forever(self) -> None:
        await self._recalled.wait()
        async with asyncio.TaskGroup() as looking:
            for feed in self._feeds:
                looking.create_task(feed.run(self._settings.tidewire_rss_seconds))

    # -- what the log holds

    async def _follow_forever(
        self, codec: Codec, partitions: list[TopicPartition], publisher: Publisher
    ) -> None:
        position: dict[TopicPartition, int] = {}
        while True:
            try:
                async with log_tail.reader(kafka.client_arguments(self._settings)) as consumer:
                    await self._follow(consumer, codec, partitions, position, publisher)
            except (KafkaError, OSError, AssertionError, TypeError) as error:  # see session.py for the last
                self._trouble = f"alpaca.news cannot be read: {error!r}"
                _log.warning("alpaca.news cannot be read", error=repr(error))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _follow(
        self,
        consumer: AIOKafkaConsumer,
        codec: Codec,
        partitions: list[TopicPartition],
        position: dict[TopicPartition, int],
        publisher: Publisher,
    ) -> None:
        consumer.assign(partitions)
        ends = await log_tail.ends(consumer, partitions)
        if not self._recalled.is_set():
            since = (self._clock() - RECALL_NS) // NS_PER_MS
            found = await consumer.offsets_for_times(dict.fromkeys(partitions, since))
            position |= {p: ends[p] if at is None else at.offset for p, at in found.items()}
            publisher.expect(ends)
        for partition, offset in position.items():
            consumer.seek(partition, offset)
        self._trouble = None
        while True:
            if not self._recalled.is_set() and all(position[p] >= ends[p] for p in partitions):
                self._recalled.set()
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    self._hear(codec, record)
            for partition in partitions:
                position[partition] = await consumer.position(partition)

    def _hear(self, codec: Codec, record: ConsumerRecord) -> None:
        try:
            stem, content = codec.decode(record.value)
        except RecordError:  # not ours to judge: whoever reads the topic dead-letters it
            return
        if stem == "news":
            copies = self._desk.heard(content, live=self._recalled.is_set())
            RSS_ARTICLES.labels("copy").inc(len(copies))

    # -- into the log

    async def _publish_forever(self, stamp: Stamp, publisher: Publisher, health: Health) -> None:
        while True:
            await publisher.room()
            self._publish(self._desk.due(self._clock()), stamp, publisher)
            silent = [feed.trouble for feed in self._feeds if feed.trouble]
            all_silent = "; ".join(silent) if len(silent) == len(self._feeds) else None
            health.ready(publisher.trouble or self._trouble or all_silent)
            await asyncio.sleep(_TURN_SECONDS)

    def _publish(self, due: list[Waiting], stamp: Stamp, publisher: Publisher) -> None:
        add = publisher.adder(self._news)
        for waiting in due:
            content = waiting.content
            stamp.received = waiting.article.received_ts
            event = event_id.news_id(content["provider"], content["id"], content["revision"])
            try:
                value = stamp.record("news", content, event)
            except (
                RecordError
            ) as error:  # articles.py checks everything; should it not, only this one is lost
                raw = repr(content).encode("utf-8", "backslashreplace")
                _Letters(publisher, self._clock).add(self._news, content["provider"], raw, error.reason)
                RSS_ARTICLES.labels("refused").inc()
                continue
            add(content["id"].encode(), value, stamp.received // NS_PER_MS)
            RSS_ARTICLES.labels("published").inc()


class _Letters:
    """What cannot be an article, kept with its bytes."""

    def __init__(self, publisher: Publisher, clock: Clock) -> None:
        self._publisher, self._clock = publisher, clock

    def add(self, topic: str, host: str, raw: bytes, why: str) -> None:
        letter = DeadLetter(topic, -1, -1, host.encode(), raw, "rss", "RecordError", why, "news")
        self._publisher.dead_letter(letter, self._clock() // NS_PER_MS)
        _log.warning("dead letter", host=host, reason=why, bytes=len(raw))


def _shown(ns: int | None) -> str | None:
    return (
        None if ns is None else datetime.fromtimestamp(ns / NS_PER_SECOND, UTC).isoformat(timespec="seconds")
    )
