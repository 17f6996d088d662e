"""The account topics to the portfolios: whole compacted topics at the start, then their tail, and fills.

One consumer without a group. It goes on from where it was after every loss of Kafka; nothing is read twice
or left out, and clients are told meanwhile that their data is stale.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas import admin
from schemas.catalogue import CONNECTIONS, TRADE_UPDATES
from schemas.codec import Codec
from sinks.gateway.alpaca_state import Connections
from sinks.gateway.changes import WHOLE, Change, Executed, Reader
from sinks.gateway.portfolio import Portfolios
from tidewire import log, metrics
from tidewire.config import Settings
from tidewire.errors import RecordError, SchemaError, UnreachableError
from tidewire.kafka import client_arguments, fetch_only_when_read, start

_POLL_MS = 500
_FETCH_WAIT_MS = 500
"""A fetch is answered as soon as anything is there; this is only how long an empty one may hang."""

_AT_ONCE = 50
"""Records of a partition that are read in one go: a few milliseconds."""

_PROBE_SECONDS = 2.0
_PROBE_PATIENCE = 3.0
_LONGEST_BACKOFF = 10.0
_TOPICS_PATIENCE = 30.0

_log = log.get(__name__)


class AccountFeed:
    """`ready` is called once everything has been read. `away`: why Kafka is not there; None: it is."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        portfolios: Portfolios,
        alpaca: Connections,
        ready: Callable[[], None],
    ) -> None:
        self._settings, self._codec = settings, codec
        self._portfolios, self._alpaca, self._ready = portfolios, alpaca, ready
        self._reader = Reader(codec.decode)
        self._next: dict[TopicPartition, int] = {}
        self._loaded = False
        self.away: str | None = "not yet connected"

    async def run(self) -> None:
        """Read until cancelled.

        Raises:
            SchemaError: a topic is still missing after 30 s.
        """
        delay, give_up_at = 0.5, time.monotonic() + _TOPICS_PATIENCE
        while True:
            started = time.monotonic()
            consumer = self._consumer()
            try:
                await start(consumer)
                fetch_only_when_read(consumer)
                await self._assign(consumer)
                await self._load(consumer)
                await self._tail(consumer)
            except (KafkaError, OSError, UnreachableError) as error:
                delay = 0.5 if time.monotonic() - started > 30 else min(2 * delay, _LONGEST_BACKOFF)
                self.away = f"Kafka does not answer: {error!r}"
                _log.warning("waiting for Kafka", reason=repr(error), seconds=delay)
            except SchemaError as error:
                if self._loaded or time.monotonic() > give_up_at:
                    raise
                self.away = str(error)
            finally:
                with suppress(KafkaError, OSError):
                    await consumer.stop()
            await asyncio.sleep(delay)

    async def _assign(self, consumer: AIOKafkaConsumer) -> None:
        if not self._next:
            self._next = await self._starts(consumer)
        consumer.assign(sorted(self._next))
        for place, offset in self._next.items():
            consumer.seek(place, offset)

    async def _starts(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
        prefix = self._settings.tidewire_topic_prefix
        names = [prefix + topic for topic in (*WHOLE, CONNECTIONS, TRADE_UPDATES)]
        async with admin.connect(self._settings) as cluster:
            found = await cluster.topics(names)
        if missing := sorted(set(names) - found.keys()):
            raise SchemaError(
                f"no such topics: {', '.join(missing)}. Create them with `tidewire topics apply`."
            )
        places = [TopicPartition(topic.name, p) for topic in found.values() for p in range(topic.partitions)]
        fills = [place for place in places if place.topic == prefix + TRADE_UPDATES]
        whole = [place for place in places if place not in fills]
        return {**await consumer.beginning_offsets(whole), **await consumer.end_offsets(fills)}

    async def _load(self, consumer: AIOKafkaConsumer) -> None:
        """Read to the end that each topic has now; at the first start nobody is told of it."""
        ends = await consumer.end_offsets(list(self._next))
        while any(self._next[place] < end for place, end in ends.items()):
            await self._take(await consumer.getmany(timeout_ms=_POLL_MS))
            for place in ends:  # a compacted topic may end in offsets that are no records
                self._next[place] = await consumer.position(place)
        self.away, self._loaded = None, True
        self._ready()

    async def _tail(self, consumer: AIOKafkaConsumer) -> None:
        loop = asyncio.get_running_loop()
        probe = loop.create_task(self._probe(consumer))
        try:
            while True:
                await self._take(await consumer.getmany(timeout_ms=_POLL_MS))
        finally:
            probe.cancel()

    async def _probe(self, consumer: AIOKafkaConsumer) -> None:
        """Ask for the ends now and then: aiokafka itself waits for a lost broker without a word."""
        while True:
            await asyncio.sleep(_PROBE_SECONDS)
            try:
                async with asyncio.timeout(_PROBE_PATIENCE):
                    await consumer.end_offsets(list(self._next))
                self.away = None
            except (KafkaError, OSError) as error:
                self.away = f"Kafka does not answer: {error!r}"

    async def _take(self, fetched: dict[TopicPartition, list[Any]]) -> None:
        """A few records at a time: what orders have changed must not wait for all the marks of one poll."""
        for place, records in _parts(fetched):
            changes = self._read(place, records)
            self._next[place] = records[-1].offset + 1
            if not self._loaded:
                self._portfolios.load(changes)
            elif changes:
                await self._portfolios.take(changes)
                await asyncio.sleep(0)

    def _read(self, place: TopicPartition, records: list[Any]) -> list[Change | Executed]:
        topic = place.topic.removeprefix(self._settings.tidewire_topic_prefix)
        changes: list[Change | Executed] = []
        before = self._reader.repeated
        for record in records:
            try:
                if topic == CONNECTIONS:
                    self._take_connection(record.key, record.value)
                else:
                    changes += self._reader.read(topic, record.key, record.value)
            except RecordError as error:
                metrics.RECORDS_SKIPPED.labels("gateway", topic, "unreadable").inc()
                _log.warning(
                    "a record cannot be read",
                    topic=topic,
                    partition=place.partition,
                    offset=record.offset,
                    reason=error.reason,
                )
        metrics.RECORDS_APPLIED.labels("gateway", topic).inc(len(records))
        if repeated := self._reader.repeated - before:
            metrics.RECORDS_SKIPPED.labels("gateway", topic, "duplicate").inc(repeated)
        return changes

    def _take_connection(self, key: bytes | None, value: bytes | None) -> None:
        feed = (key or b"").decode("utf-8", "replace")
        if not self._alpaca.take(feed, None if value is None else self._codec.decode(value)[1]):
            metrics.RECORDS_SKIPPED.labels("gateway", CONNECTIONS, "stale").inc()

    def _consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **client_arguments(self._settings),
            client_id="tidewire-gateway",
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_min_bytes=1,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
        )


def _parts(fetched: dict[TopicPartition, list[Any]]) -> Iterator[tuple[TopicPartition, list[Any]]]:
    """All records, a few of each partition in turn: orders and fills of one poll are among the first."""
    longest = max(map(len, fetched.values()), default=0)
    for first in range(0, longest, _AT_ONCE):
        for place, records in fetched.items():
            if part := records[first : first + _AT_ONCE]:
                yield place, part
