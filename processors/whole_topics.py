"""Topics that every worker reads whole: a consumer of no group, from the beginning, then whatever comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer

from schemas.codec import Codec, Record
from tidewire import log, metrics
from tidewire.config import Settings
from tidewire.errors import RecordError
from tidewire.kafka import client_arguments, fetch_only_when_read, start

_log = log.get(__name__)
_IDLE_MS = 500


class WholeTopics:
    """Reads all partitions of some topics. `known` is set once all that stood in them at the start is taken.

    A look waits `wait_ms` for records, a fetch as long for `min_bytes`.
    """

    def __init__(
        self, settings: Settings, topics: Sequence[str], *, wait_ms: int = 100, min_bytes: int = 1
    ) -> None:
        self._settings, self._topics = settings, topics
        self._wait_ms, self._min_bytes = wait_ms, min_bytes
        self.known = asyncio.Event()

    async def run(self, take: Callable[[Any], None], after: Callable[[], Awaitable[None]]) -> None:
        """Read until cancelled: `take` each record, in the order of its partition; once they are known,
        `after` is awaited after each look, also when nothing came.
        """
        consumer = AIOKafkaConsumer(
            *self._topics,  # subscribed without a group: all partitions, those added later included
            **client_arguments(self._settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_min_bytes=self._min_bytes,
            fetch_max_wait_ms=self._wait_ms if self._min_bytes > 1 else _IDLE_MS,
        )
        await start(consumer)
        fetch_only_when_read(consumer)
        try:
            ends = await consumer.end_offsets(consumer.assignment())
            while True:
                found = await consumer.getmany(timeout_ms=self._wait_ms)
                for record in (record for records in found.values() for record in records):
                    take(record)
                if not self.known.is_set():
                    if any([await consumer.position(place) < end for place, end in ends.items()]):
                        continue
                    self.known.set()
                await after()
        finally:
            await consumer.stop()


def readable(record: Any, codec: Codec, stem: str, stage: str, loss: str) -> Record | None:
    """The decoded record. One that is no `stem` is named, with what is lost by it, and counted: None.

    Whoever writes the topic owns its dead letters.
    """
    try:
        found, decoded = codec.decode(record.value)
        if found != stem:
            raise RecordError(f"a {found} record where only {stem} belongs")
    except RecordError as error:
        metrics.RECORDS_SKIPPED.labels(stage, record.topic, "unreadable").inc()
        where = f"{record.topic} partition {record.partition} offset {record.offset}"
        _log.warning(loss, at=where, reason=error.reason)
        return None
    return decoded
