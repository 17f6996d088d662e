"""The screen's view of completeness: follows connections, gaps and audits with one consumer of no group."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer

from console.screen.completeness import Tracker
from tidewire.config import Settings
from tidewire.errors import RecordError
from tidewire.kafka import client_arguments

Decode = Callable[[bytes], tuple[str, Mapping[str, Any]]]

_KEPT = 2_000
"""Of topics with a past, only so many records a partition are read for a start."""
_REQUEST_SECONDS = 5.0


class CompletenessSide:
    """`topics`: those of connections, gaps and audits. What it reads goes into `tracker`."""

    def __init__(self, settings: Settings, topics: Sequence[str], decode: Decode) -> None:
        self.tracker = Tracker()
        self._settings, self._topics, self._decode = settings, topics, decode
        self._consumer: AIOKafkaConsumer | None = None
        self._take = {
            "connection": self.tracker.connection,
            "gap": self.tracker.gap,
            "audit": self.tracker.audit,
        }

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
        await consumer.start()
        partitions = consumer.assignment()
        begins = await consumer.beginning_offsets(partitions)
        for partition, end in (await consumer.end_offsets(partitions)).items():
            consumer.seek(partition, max(begins[partition], end - _KEPT))

    async def _read(self) -> None:
        assert self._consumer is not None
        while batches := await self._consumer.getmany(timeout_ms=0, max_records=1_000):
            for record in (record for records in batches.values() for record in records):
                self._put(record.value)

    def _put(self, value: bytes | None) -> None:
        try:
            stem, record = self._decode(value or b"")
        except RecordError:
            return  # the screen shows what can be read; `tidewire verify` judges the topics
        if (take := self._take.get(stem)) is not None:
            take(record)
