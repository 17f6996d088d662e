"""The screen's view of Kafka: how far the topics, the processor's group and the features are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from console.screen.state import Offsets, Symbol
from tidewire.config import Settings
from tidewire.errors import RecordError
from tidewire.kafka import client_arguments, start

Decode = Callable[[bytes], tuple[str, Mapping[str, Any]]]

_REQUEST_SECONDS = 5.0
_CONNECT_SECONDS = 20.0
"""The first answers take longer on a machine that starts a dozen processes."""
_NEWEST_RECORDS = 5_000
"""Of a features topic with a past, only so many records a partition are read for a start."""


class KafkaSide:
    """Reads with a consumer that belongs to no group.

    `topics`: channel -> real topic name; `groups`: consumer group -> the channels whose offsets it commits.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Mapping[str, str],
        features: str,
        groups: Mapping[str, Collection[str]],
        decode: Decode,
    ) -> None:
        self.ends: Offsets = {}
        self.begins: Offsets = {}
        self.committed: Offsets = {}
        self._settings = settings
        self._channels = {topic: channel for channel, topic in topics.items()}
        self._features = features
        self._groups = groups
        self._decode = decode
        self._symbols: dict[str, Symbol] = {}
        self._partitions: list[TopicPartition] = []
        self._consumer: AIOKafkaConsumer | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._connected = False
        self._clients: list[Callable[[], Awaitable[None]]] = []
        self._closing: set[asyncio.Task[None]] = set()

    def symbols(self) -> tuple[Symbol, ...]:
        """The newest features of every symbol seen, by name."""
        return tuple(self._symbols[name] for name in sorted(self._symbols))

    async def refresh(self) -> None:
        """Ask Kafka once. Raises what aiokafka raises; the next call starts over."""
        try:
            async with asyncio.timeout(_REQUEST_SECONDS if self._connected else _CONNECT_SECONDS):
                if not self._connected:
                    await self._connect()
                await self._refresh()
        except BaseException:
            self._give_up()
            raise

    async def close(self) -> None:
        """Close the clients."""
        self._give_up()
        await asyncio.gather(*self._closing)

    def _give_up(self) -> None:
        """Close the clients behind our back: with a broker gone in mid-request their stop can take long."""
        self._connected = False
        clients, self._clients = self._clients, []
        for client in clients:
            task = asyncio.get_running_loop().create_task(_close(client))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _connect(self) -> None:
        arguments = client_arguments(self._settings)
        self._consumer = AIOKafkaConsumer(**arguments, enable_auto_commit=False, request_timeout_ms=5_000)
        self._clients.append(self._consumer.stop)
        await start(self._consumer)
        self._admin = AIOKafkaAdminClient(**arguments, request_timeout_ms=5_000)
        self._clients.append(self._admin.close)
        await start(self._admin)
        await self._assign(self._consumer, self._admin)
        self._connected = True

    async def _assign(self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient) -> None:
        described = await admin.describe_topics([*self._channels, self._features])
        found = [TopicPartition(t["topic"], p["partition"]) for t in described for p in t["partitions"]]
        self._partitions = [p for p in found if p.topic != self._features]
        partitions = [p for p in found if p.topic == self._features]
        consumer.assign(partitions)
        # Their leaders all at once: asked for offsets, aiokafka would learn them topic by topic.
        await consumer._client.set_topics({p.topic for p in found})
        begins = await consumer.beginning_offsets(partitions)
        for partition, end in (await consumer.end_offsets(partitions)).items():
            consumer.seek(partition, max(begins[partition], end - _NEWEST_RECORDS))

    async def _refresh(self) -> None:
        assert self._consumer is not None
        assert self._admin is not None
        self.begins = self._by_channel(await self._consumer.beginning_offsets(self._partitions))
        self.ends = self._by_channel(await self._consumer.end_offsets(self._partitions))
        committed: dict[tuple[str, int], int] = {}
        for group, channels in self._groups.items():
            offsets = await self._admin.list_consumer_group_offsets(group)
            found = self._by_channel({tp: meta.offset for tp, meta in offsets.items()})
            committed |= {at: offset for at, offset in found.items() if at[0] in channels}
        self.committed = committed
        await self._read_features()

    async def _read_features(self) -> None:
        assert self._consumer is not None
        while batches := await self._consumer.getmany(timeout_ms=0, max_records=10_000):
            newest = {record.key: record.value for records in batches.values() for record in records}
            for value in newest.values():
                self._take(value)

    def _take(self, value: bytes) -> None:
        try:
            _, record = self._decode(value)
        except RecordError:
            return  # the screen shows what can be read; `tidewire verify` judges the topic
        symbol = Symbol(
            name=record["symbol"], ts=record["ts"], last=record["last"], bid=record["bid"], ask=record["ask"],
            spread=record["spread"], vwap=record["vwap"], volume=record["volume"],
            trades=record["trade_count"], high=record["high"], low=record["low"],
            trades_folded=record["trades_folded"], quotes_folded=record["quotes_folded"],
        )  # fmt: skip
        self._symbols[symbol.name] = symbol

    def _by_channel(self, offsets: Mapping[TopicPartition, int]) -> Offsets:
        return {
            (self._channels[tp.topic], tp.partition): offset
            for tp, offset in offsets.items()
            if tp.topic in self._channels
        }


async def _close(stop: Callable[[], Awaitable[None]]) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_REQUEST_SECONDS):
            await stop()
