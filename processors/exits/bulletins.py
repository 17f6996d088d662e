"""What concerns whole feeds, read whole by every worker: gaps and the states of connections.

They are not placed by symbol, so a consumer of no group reads them from their beginning. What stands in them
must be known before the first price is folded: a price beside an open gap may be no price to sell at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer

from schemas.catalogue import CONNECTIONS, GAPS, Catalogue
from schemas.codec import Codec, Record
from tidewire import log, metrics
from tidewire.config import Settings
from tidewire.errors import RecordError
from tidewire.kafka import client_arguments

MARKET = ("stocks:", "options:", "crypto:")
"""Feeds of prices; gaps of an account's order events are the account side's to judge."""
_WAIT_MS = 100
_STEMS = {GAPS: "gap", CONNECTIONS: "connection"}

_log = log.get(__name__)

Take = Callable[[str, Record], None]
"""Is given the stem (gap, connection) and the record."""


class Board:
    """The newest state of each gap that is not closed, and of each connection. Pure."""

    def __init__(self) -> None:
        self._gaps: dict[str, Record] = {}
        self._connections: dict[str, Record] = {}

    def take(self, stem: str, record: Record) -> bool:
        """The next record of a topic; false: it is not about prices."""
        if not record["feed"].startswith(MARKET):
            return False
        if stem == "connection":
            self._connections[record["feed"]] = record
        elif record["state"] == "closed":
            self._gaps.pop(record["id"], None)
        else:
            self._gaps[record["id"]] = record
        return True

    def all(self) -> Iterator[tuple[str, Record]]:
        """What a newly loaded partition must be told, by stem."""
        for connection in self._connections.values():
            yield "connection", connection
        for gap in self._gaps.values():
            yield "gap", gap


class Bulletins:
    """Reads both topics; `known` is set once all that stood in them at the start is taken."""

    def __init__(
        self, settings: Settings, catalogue: Catalogue, codec: Codec, stage: str, take: Take
    ) -> None:
        self._settings, self._codec, self._stage, self._take = settings, codec, stage, take
        self._stems = {catalogue.name(topic): stem for topic, stem in _STEMS.items()}
        self.board = Board()
        self.known = asyncio.Event()

    async def run(self, after: Callable[[], Awaitable[None]]) -> None:
        """Read until cancelled; `after` is awaited after each look once they are known."""
        consumer = AIOKafkaConsumer(
            *self._stems,
            **client_arguments(self._settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=_WAIT_MS,
        )
        await consumer.start()
        try:
            ends = await consumer.end_offsets(consumer.assignment())
            while True:
                found = await consumer.getmany(timeout_ms=_WAIT_MS)
                for record in (record for records in found.values() for record in records):
                    self._one(record)
                if not self.known.is_set() and await _reached(consumer, ends):
                    self.known.set()
                if self.known.is_set():
                    await after()
        finally:
            await consumer.stop()

    def _one(self, record: Any) -> None:
        """Take one record; one that cannot be read is named and counted, its writer's side owns the topic."""
        if record.value is None:
            return
        stem = self._stems[record.topic]
        try:
            found, decoded = self._codec.decode(record.value)
            if found != stem:
                raise RecordError(f"a {found} record where only {stem} belongs")
        except RecordError as error:
            metrics.RECORDS_SKIPPED.labels(self._stage, record.topic, "unreadable").inc()
            where = f"{record.topic} partition {record.partition} offset {record.offset}"
            _log.warning("cannot be read, so it holds no exit", at=where, reason=error.reason)
            return
        if self.board.take(stem, decoded):
            self._take(stem, decoded)
            metrics.RECORDS_APPLIED.labels(self._stage, record.topic).inc()
        else:
            metrics.RECORDS_SKIPPED.labels(self._stage, record.topic, "filtered").inc()


async def _reached(consumer: AIOKafkaConsumer, ends: Mapping[Any, int]) -> bool:
    return all([await consumer.position(partition) >= end for partition, end in ends.items()])
