"""The sink as a service: check the servers, bring the tables up to date, then write until told to stop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from aiokafka.errors import KafkaError

from schemas.catalogue import Catalogue
from schemas.codec import load_codec
from sinks.postgres import connection, migrate
from sinks.postgres.batches import Feed
from sinks.postgres.consumer import Consumer
from sinks.postgres.outbox import relay
from sinks.postgres.progress import Progress
from sinks.postgres.record_tables import SOURCES
from sinks.postgres.records import RecordFeed
from sinks.postgres.retention import Retention
from sinks.postgres.tables import TABLES
from sinks.postgres.topic_ids import topic_ids
from sinks.postgres.writer import StoppedError, Writer
from tidewire import log, service
from tidewire.columns import Decoder, read_blocks
from tidewire.config import Settings
from tidewire.errors import SchemaError, UnreachableError
from tidewire.health import Health
from tidewire.kafka import check_reachable
from tidewire.slots import Slot

GROUP = "tidewire-sink-postgres"
PATIENCE = 30.0
"""Seconds that servers and topics may take to appear at the start."""

T = TypeVar("T")

_log = log.get(__name__)


def main(settings: Settings) -> int:
    """Run the sink until SIGINT or SIGTERM; returns its exit code."""
    sink = Sink(settings)
    return service.run("sink", settings, sink.run, sink.details)


def group(settings: Settings) -> str:
    """The consumer group, and the owner of the stored offsets."""
    return settings.tidewire_topic_prefix + GROUP


def feeds(settings: Settings) -> list[Feed | RecordFeed]:
    """The topics with their tables and decoders: first the hot ones, then the others.

    Raises:
        SchemaError, UnreachableError: as `load_codec`.
    """
    codec = load_codec(settings)
    catalogue = Catalogue(settings.tidewire_topic_prefix, settings.tidewire_partitions or 1)
    hot = [
        Feed(
            catalogue.name(table.topic),
            table,
            Decoder(codec.versions(table.stem)),
        )
        for table in TABLES
    ]
    return [*hot, *(RecordFeed(catalogue.name(source.topic), source, codec) for source in SOURCES)]


class Sink:
    """One process of the sink."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._progress: Progress | None = None

    def details(self) -> dict[str, object]:
        """For /health."""
        return dict(self._progress.details()) if self._progress is not None else {}

    async def run(self, health: Health, stop: asyncio.Event) -> None:
        """Work until `stop`.

        Raises:
            UnreachableError: Kafka or PostgreSQL was not there within PATIENCE.
            SchemaError: topics or tables are not as they must be.
            PoisonLimitError: see Writer.write.
        """
        settings, url = self._settings, connection.url(self._settings)
        wake = asyncio.Event()
        self._progress = progress = Progress(health.ready, wake.set)
        if not await self._prepare(url, stop):
            return
        sources = await asyncio.to_thread(feeds, settings)
        topics = [feed.topic for feed in sources]
        if not await _patiently(lambda: _have_topics(settings, topics), stop):
            return
        read_blocks(topics)
        loop, flag = asyncio.get_running_loop(), threading.Event()
        writer = Writer(
            url,
            group(settings),
            settings.tidewire_sink_dead_letters,
            flag,
            lambda reason: _call(loop, progress.postgres, reason),
            keep=Retention(settings.tidewire_retention_tick_days, settings.tidewire_retention_bar_days),
        )
        slot = Slot(settings.tidewire_home / "run", "sink")
        done = asyncio.Event()
        relaying = asyncio.create_task(relay(settings, url, group(settings), wake, done))
        passing_on = asyncio.create_task(_pass_on(stop, flag))
        try:
            await self._consume(sources, writer, slot.instance, stop)
        finally:
            passing_on.cancel()
            done.set()
            wake.set()
            await asyncio.wait({relaying}, timeout=15)
            relaying.cancel()
            await asyncio.wait({relaying})  # it closes its clients
            writer.close()
            slot.release()

    async def _prepare(self, url: str, stop: asyncio.Event) -> bool:
        """Wait for both servers and bring the tables up to date; False: told to stop meanwhile."""
        if not await _patiently(lambda: check_reachable(self._settings), stop):
            return False
        return await _patiently(lambda: asyncio.to_thread(_migrate, url), stop)

    async def _consume(
        self, sources: Sequence[Feed | RecordFeed], writer: Writer, instance: str, stop: asyncio.Event
    ) -> None:
        assert self._progress is not None
        delay = 0.0
        while not stop.is_set():
            started = time.monotonic()
            consumer = Consumer(
                self._settings, group(self._settings), instance, sources, writer, self._progress
            )
            try:
                await consumer.run(stop)
            except StoppedError:
                return
            except (KafkaError, OSError) as error:
                delay = 0.5 if time.monotonic() - started > 60 else min(max(delay * 2, 0.5), 10.0)
                _log.warning("waiting for Kafka", reason=repr(error), seconds=delay)
                self._progress.kafka(f"Kafka: {error!r}")
                await _sleep(delay, stop)


async def _have_topics(settings: Settings, topics: Sequence[str]) -> None:
    missing = sorted(set(topics) - (await topic_ids(settings, topics)).keys())
    if missing:
        raise SchemaError(f"no such topics: {', '.join(missing)}. Create them with `tidewire topics apply`.")


def _migrate(url: str) -> None:
    applied = migrate.apply(url)
    if applied:
        _log.info("migrations applied", names=applied, where=connection.where(url))


async def _patiently(check: Callable[[], Awaitable[object]], stop: asyncio.Event) -> bool:
    """Repeat a check until it passes (True) or the service is told to stop (False).

    Raises:
        The check's own error once PATIENCE is over.
    """
    deadline = time.monotonic() + PATIENCE
    while not stop.is_set():
        try:
            await check()
            return True
        except (UnreachableError, SchemaError, KafkaError) as error:
            if time.monotonic() >= deadline:
                raise
            _log.info("waiting", reason=str(error))
            await _sleep(1.0, stop)
    return False


async def _sleep(seconds: float, stop: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


async def _pass_on(stop: asyncio.Event, flag: threading.Event) -> None:
    await stop.wait()
    flag.set()


def _call(
    loop: asyncio.AbstractEventLoop, function: Callable[[str | None], None], reason: str | None
) -> None:
    """Call from the writer's thread; nobody listens any more once the loop is closed."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, reason)
