"""Reads what some topics held lately and what comes: a consumer of no group, asked now and then."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer

from tidewire.config import Settings
from tidewire.errors import RecordError
from tidewire.kafka import client_arguments, start

Decode = Callable[[bytes], tuple[str, Mapping[str, Any]]]
Take = Callable[[Mapping[str, Any]], None]

_REQUEST_SECONDS = 5.0


class Follower:
    """`takes`: by the stem of a record's schema, who takes it. `kept`: so many records a partition are read
    for a start. What cannot be read is passed over: the screen shows, `tidewire verify` judges.
    """

    def __init__(
        self, settings: Settings, topics: Sequence[str], decode: Decode, kept: int, takes: Mapping[str, Take]
    ) -> None:
        self._settings, self._topics, self._decode = settings, topics, decode
        self._kept, self._takes = kept, takes
        self._consumer: AIOKafkaConsumer | None = None

    async def refresh(self) -> None:
        """Ask Kafka once. Raises what aiokafka raises; the next call starts over."""
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                if self._consumer is None:
                    await self._connect()
                await self._read()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the consumer."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_REQUEST_SECONDS):
                    await consumer.stop()

    async def _connect(self) -> None:
        self._consumer = consumer = AIOKafkaConsumer(
            *self._topics,  # subscribed without a group: all partitions
            **client_arguments(self._settings),
            enable_auto_commit=False,
            request_timeout_ms=5_000,
        )
        await start(consumer)
        partitions = consumer.assignment()
        begins = await consumer.beginning_offsets(partitions)
        for partition, end in (await consumer.end_offsets(partitions)).items():
            consumer.seek(partition, max(begins[partition], end - self._kept))

    async def _read(self) -> None:
        assert self._consumer is not None
        while batches := await self._consumer.getmany(timeout_ms=0, max_records=1_000):
            for record in (record for records in batches.values() for record in records):
                self._put(record.value)

    def _put(self, value: bytes | None) -> None:
        with contextlib.suppress(RecordError):
            stem, record = self._decode(value or b"")
            if (take := self._takes.get(stem)) is not None:
                take(record)
