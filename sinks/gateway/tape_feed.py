"""Trades for the tape: read in columns from the end of the log, only while somebody watches.

Only the partitions of the watched symbols are read; others are not fetched at all. Polars is loaded with the
first watcher: a gateway of portfolios alone does without its memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas import admin
from schemas.catalogue import CRYPTO_TRADES, STOCK_TRADES
from schemas.codec import Codec
from sinks.gateway import tape_messages
from sinks.gateway.tape import Tape
from tidewire import log, metrics
from tidewire.config import Settings
from tidewire.errors import UnreachableError
from tidewire.kafka import client_arguments, fetch_only_when_read, start
from tidewire.placing import partition_of

if TYPE_CHECKING:
    from tidewire.columns import Decoder
    from tidewire.fence import LogFence

_STEMS = {"stocks": (STOCK_TRADES, "stock_trade"), "crypto": (CRYPTO_TRADES, "crypto_trade")}
_COLUMNS = {
    "stocks": (
        "symbol",
        "ts",
        "price",
        "size",
        "exchange",
        "conditions",
        "received_ts",
        "source",
        "owner_epoch",
    ),
    "crypto": ("symbol", "ts", "price", "size", "received_ts", "source", "owner_epoch"),
}
_POLL_MS = 100
_BACKOFF_SECONDS = 2.0

_log = log.get(__name__)


class TapeFeed:
    """Follows `tape.interest`; `poke` says that it may have changed."""

    def __init__(self, settings: Settings, codec: Codec, tape: Callable[[], Tape]) -> None:
        self._settings, self._codec, self._tape = settings, codec, tape
        self._topics = {settings.tidewire_topic_prefix + topic: feed for feed, (topic, _) in _STEMS.items()}
        self._decoders: dict[str, Decoder] = {}
        self._fences: dict[TopicPartition, LogFence] = {}
        self._wake = asyncio.Event()
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._counts: dict[str, int] = {}

    def poke(self) -> None:
        """The watched symbols may have changed."""
        self._wake.set()

    async def run(self) -> None:
        """Read until cancelled; a lost Kafka is waited for."""
        while True:
            while not self._tape().interest.symbols:
                self._wake.clear()
                await self._wake.wait()
            consumer = None
            try:
                await asyncio.to_thread(self._prepare)
                async with admin.connect(self._settings) as cluster:
                    found = await cluster.topics(self._topics)
                self._counts = {topic.name: topic.partitions for topic in found.values()}
                consumer = self._consumer()
                await start(consumer)
                fetch_only_when_read(consumer)
                await self._follow(consumer)
            except (KafkaError, OSError, UnreachableError) as error:
                _log.warning("the tape waits for Kafka", reason=repr(error))
                await asyncio.sleep(_BACKOFF_SECONDS)
            finally:
                self._assigned = frozenset()
                if consumer is not None:
                    with suppress(KafkaError, OSError):
                        await consumer.stop()

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        """Until nobody watches."""
        while symbols := self._tape().interest.symbols:
            self._wake.clear()
            await self._assign(consumer, symbols)
            if not self._assigned:
                return await asyncio.sleep(_BACKOFF_SECONDS)  # no such topic yet: look again
            fetched = await consumer.getmany(timeout_ms=_POLL_MS)
            for place, values in fetched.items():
                await self._deliver(self._topics[place.topic], place, values)

    async def _assign(self, consumer: AIOKafkaConsumer, symbols: Iterable[str]) -> None:
        """Read the partitions of these symbols: new ones from their end, the others from where they are."""
        wanted = frozenset(self._partitions(symbols))
        if wanted == self._assigned:
            return
        kept = {place: await consumer.position(place) for place in wanted & self._assigned}
        new = sorted(wanted - self._assigned)
        if wanted:
            ends = await consumer.end_offsets(new) if new else {}
            consumer.assign(sorted(wanted))
            for place, offset in (kept | ends).items():
                consumer.seek(place, offset)
        else:
            consumer.unsubscribe()
        self._assigned = wanted

    def _partitions(self, symbols: Iterable[str]) -> Iterable[TopicPartition]:
        for symbol in symbols:
            for topic, feed in self._topics.items():
                if tape_messages.feed_of(symbol) == feed and (count := self._counts.get(topic)):
                    yield TopicPartition(topic, partition_of(symbol.encode(), count))

    async def _deliver(self, feed: str, place: TopicPartition, values: list[Any]) -> None:
        from tidewire.columns import as_blocks
        from tidewire.columns.owned import owned
        from tidewire.fence import REASON, LogFence

        decoded = self._decoders[feed](as_blocks(values))
        decoded, stale = owned(self._fences.setdefault(place, LogFence()), decoded)
        name = place.topic.removeprefix(self._settings.tidewire_topic_prefix)
        if stale:
            metrics.RECORDS_SKIPPED.labels("gateway", name, REASON).inc(stale)
        if decoded.refused:
            metrics.RECORDS_SKIPPED.labels("gateway", name, "unreadable").inc(len(decoded.refused))
        watched = self._tape().interest.symbols
        rows = decoded.frame.filter(decoded.frame["symbol"].is_in(list(watched)))
        if rows.height:
            newest: Any = rows["received_ts"].max()
            await self._tape().deliver(_frames(feed, rows.to_dict(as_series=False)), int(newest))

    def _prepare(self) -> None:
        """Load Polars and make the decoders, at the first watcher."""
        from tidewire.columns import Decoder, read_blocks

        read_blocks(self._topics)
        for feed, (_, stem) in _STEMS.items():
            if feed not in self._decoders:
                self._decoders[feed] = Decoder(self._codec.versions(stem), columns=_COLUMNS[feed])

    def _consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **client_arguments(self._settings),
            client_id="tidewire-gateway-tape",
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="latest",
        )


def _frames(feed: str, columns: Mapping[str, list[Any]]) -> dict[str, list[bytes]]:
    """The frames of the trades of one poll, by symbol, in the log's order."""
    count = len(columns["symbol"])
    exchanges = columns.get("exchange", [tape_messages.CRYPTO_EXCHANGE] * count)
    conditions = columns.get("conditions", [()] * count)
    made: dict[str, list[bytes]] = {}
    plain = (columns[name] for name in ("symbol", "ts", "price", "size"))
    for symbol, *rest in zip(*plain, exchanges, conditions, strict=True):
        made.setdefault(symbol, []).append(tape_messages.trade(symbol, *rest))
    return made
