"""portfolio.positions, read whole by every worker: a consumer of no group, from the beginning."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer

from schemas.codec import Codec
from schemas.unchanged import Unchanged
from tidewire import log, metrics
from tidewire.config import Settings
from tidewire.errors import RecordError
from tidewire.kafka import client_arguments

_WAIT_MS = 200
_FETCH_WAIT_MS = 200

Take = Callable[[bytes, Mapping[str, Any] | None], None]

_log = log.get(__name__)


class Positions:
    """Gives every position record to `take`, in the order of its partition."""

    def __init__(self, settings: Settings, topic: str, codec: Codec, stage: str, take: Take) -> None:
        self._settings, self._topic, self._codec, self._stage = settings, topic, codec, stage
        self._take = take
        self._unchanged = Unchanged(codec)
        self.read = False
        """Whether all that stood in the topic at the start is taken."""

    async def run(self, after: Callable[[], Awaitable[None]]) -> None:
        """Read until cancelled; `after` is awaited after each look, also when nothing came."""
        consumer = AIOKafkaConsumer(
            self._topic,  # subscribed without a group: all partitions, those added later included
            **client_arguments(self._settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_min_bytes=1 << 20,  # marks change positions all the time, and none of that matters here
            fetch_max_wait_ms=_FETCH_WAIT_MS,
        )
        await consumer.start()
        try:
            ends = await consumer.end_offsets(consumer.assignment())
            while True:
                found = await consumer.getmany(timeout_ms=_WAIT_MS)
                for record in (record for records in found.values() for record in records):
                    self._one(record)
                if not self.read:
                    positions = [await consumer.position(partition) >= end for partition, end in ends.items()]
                    self.read = all(positions)
                if self.read:
                    await after()
        finally:
            await consumer.stop()

    def _one(self, record: Any) -> None:
        """Take one record. One that cannot be read is named and counted; the account side owns the topic."""
        if self._unchanged(record.key or b"", record.value):
            metrics.RECORDS_APPLIED.labels(self._stage, record.topic).inc()
            return
        position = None
        if record.value is not None:
            try:
                stem, position = self._codec.decode(record.value)
                if stem != "portfolio_position":
                    raise RecordError(f"a {stem} record where only portfolio_position belongs")
            except RecordError as error:
                metrics.RECORDS_SKIPPED.labels(self._stage, record.topic, "unreadable").inc()
                where = f"{record.topic} partition {record.partition} offset {record.offset}"
                _log.warning(
                    "a position cannot be read; its symbol gets no marks", at=where, reason=error.reason
                )
                return
        self._take(record.key or b"", position)
        metrics.RECORDS_APPLIED.labels(self._stage, record.topic).inc()
