"""Open gaps of the accounts' order events: while one lasts, a position may not be what it seems.

Gaps are not placed by account, so a consumer of no group reads their topic whole, from its beginning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer

from processors.placing.position import Cause
from schemas.codec import Codec
from schemas.gaps import Board, Gap, kind_of
from tidewire import log, metrics
from tidewire.config import Settings
from tidewire.errors import RecordError
from tidewire.kafka import client_arguments

_WAIT_MS = 100
_KIND = "trading"

_log = log.get(__name__)


class Unreconciled:
    """Which accounts have an open gap, and the newest record that said so. Pure."""

    def __init__(self) -> None:
        self._board = Board()
        self._newest: dict[str, Cause] = {}
        self._news = False

    def turned(self) -> bool:
        """Whether anything was said since the last call."""
        news, self._news = self._news, False
        return news

    def take(self, record: Mapping[str, Any]) -> bool:
        """The next record of a gap; whether it says something new of an account."""
        if kind_of(record["feed"]) != _KIND or not self._board.put(Gap.of(record)):
            return False
        cause = Cause(record["received_ts"], record["ts"], record["source"])
        account = record["feed"].partition(":")[2]
        self._newest[account] = max(cause, self._newest.get(account, cause))
        self._news = True
        return True

    def accounts(self) -> dict[str, Cause]:
        """By account with an open gap: what was said of it last."""
        names = {gap.feed.partition(":")[2] for gap in self._board.open()}
        return {name: self._newest[name] for name in sorted(names)}


class Interruptions:
    """Follows alpaca.gaps; `known` is set once all that stood in it at the start is taken."""

    def __init__(self, settings: Settings, topic: str, codec: Codec, stage: str) -> None:
        self._settings, self._topic, self._codec, self._stage = settings, topic, codec, stage
        self.unreconciled = Unreconciled()
        self.known = asyncio.Event()

    async def run(self, after: Callable[[], Awaitable[None]]) -> None:
        """Read until cancelled; `after` is awaited after each look once they are known."""
        consumer = AIOKafkaConsumer(
            self._topic,  # subscribed without a group: all partitions
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
                if not self.known.is_set():
                    if any([await consumer.position(place) < end for place, end in ends.items()]):
                        continue
                    self.known.set()
                await after()
        finally:
            await consumer.stop()

    def _one(self, record: Any) -> None:
        try:
            stem, gap = self._codec.decode(record.value)
            if stem != "gap":
                raise RecordError(f"a {stem} record where only gap belongs")
        except RecordError as error:
            # Its producers own the topic and its dead letters; here it can only be named.
            metrics.RECORDS_SKIPPED.labels(self._stage, record.topic, "unreadable").inc()
            where = f"{record.topic} partition {record.partition} offset {record.offset}"
            _log.warning("a gap cannot be read; it holds no exits", at=where, reason=error.reason)
            return
        taken = self.unreconciled.take(gap)
        if taken:
            metrics.RECORDS_APPLIED.labels(self._stage, record.topic).inc()
        else:
            metrics.RECORDS_SKIPPED.labels(self._stage, record.topic, "not_of_an_account").inc()
