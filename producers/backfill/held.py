"""What the log holds of a gap: its events and their receipt, read from before the gap to the log's end.

Where to begin is found backwards: from some minutes before the gap was noticed, until the stream's records
are older than the gap. Records from REST say nothing about where a time is in the log: they stand where they
were found again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from producers import log_tail
from producers.backfill.difference import Events
from producers.backfill.target import Target
from schemas.codec import Codec
from tidewire.clock import NS_PER_MS, NS_PER_SECOND
from tidewire.columns import Decoder, as_blocks
from tidewire.errors import RecordError
from tidewire.fence import OWNED, Fence

BEFORE_SECONDS = 600
"""So long before a gap was noticed the first look begins."""
LATE_NS = 120 * NS_PER_SECOND
"""An event this much older than the gap may still come after one that lies in it."""
SKEW_NS = NS_PER_SECOND // 2
"""Clocks of two machines."""
_PROBE = 500
_AT_ONCE = 40_000
"""Records of all partitions that are in memory at a time."""
_LOOK_SECONDS = 0.2
_COLUMNS = ("symbol", "ts", "received_ts", "source", "owner_epoch", "event_id")


class HeldLog:
    """Tells a target's difference what these partitions hold. `symbols` None: all."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        codec: Codec,
        target: Target,
        partitions: Iterable[TopicPartition],
        symbols: frozenset[str] | None,
    ) -> None:
        self._consumer, self._codec, self._target = consumer, codec, target
        self._partitions, self._symbols = list(partitions), symbols
        self._next: dict[TopicPartition, int] = {}
        self._fences = {p: Fence() for p in self._partitions}
        self._received = dict.fromkeys(self._partitions, 0)
        self._take: Callable[[TopicPartition, list[ConsumerRecord]], None] = self._singly
        if target.columns:
            self._decoder = Decoder(codec.versions(target.stem), columns=_COLUMNS)
            self._take = self._in_columns
        self.records = 0
        """Records read."""

    async def begin(self, opened_ns: int) -> None:
        """Find where to begin. `opened_ns`: when the gap was noticed, by the clock."""
        consumer, partitions = self._consumer, self._partitions
        first: dict[TopicPartition, int] = await consumer.beginning_offsets(partitions)
        ends = await log_tail.ends(consumer, partitions)
        at = max(opened_ns // NS_PER_MS - BEFORE_SECONDS * 1000, 0)
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, at))
        starts = {p: ends[p] if found.get(p) is None else int(found[p].offset) for p in partitions}
        step, open_ = _PROBE, {p for p in partitions if starts[p] > first[p]}
        while open_:
            spans = {p: (max(starts[p] - _PROBE, first[p]), starts[p]) for p in open_}
            for partition, records in (await log_tail.read(consumer, spans)).items():
                older = self._older(records)
                starts[partition] = spans[partition][0]
                if older or starts[partition] <= first[partition]:
                    open_.discard(partition)
                else:
                    starts[partition] = max(starts[partition] - step, first[partition])
            step *= 4
            open_ = {p for p in open_ if starts[p] > first[p]}
        self._next = starts

    async def catch_up(self) -> None:
        """Read what there is until now."""
        ends = await log_tail.ends(self._consumer, self._partitions)
        share = max(_AT_ONCE // max(len(self._partitions), 1), _PROBE)
        while spans := {
            p: (self._next[p], min(self._next[p] + share, ends[p]))
            for p in self._partitions
            if self._next[p] < ends[p]
        }:
            for partition, records in (await log_tail.read(self._consumer, spans)).items():
                if records:
                    self.records += len(records)
                    self._take(partition, records)
                self._next[partition] = spans[partition][1]
            await asyncio.sleep(0)

    async def settle(self, asked_ns: int, seconds: float) -> None:
        """Read on until the log surely has what the stream had brought by `asked_ns`.

        That is so when each partition has a record that was received later; else after `seconds`, in which
        a quiet stream's owner has long written what it had.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        await self.catch_up()
        while loop.time() < deadline and not self._passed(asked_ns + SKEW_NS):
            await asyncio.sleep(min(_LOOK_SECONDS, max(deadline - loop.time(), 0)))
            await self.catch_up()

    def _passed(self, ns: int) -> bool:
        return all(received > ns for received in self._received.values())

    def _older(self, records: list[ConsumerRecord]) -> bool:
        """Whether the stream's records among these are all older than the gap, and there are some."""
        newest = 0
        for record in records:
            try:
                content = self._codec.decode(record.value)[1]
            except RecordError:
                continue
            if content["source"] == OWNED:
                newest = max(newest, content["ts"])
        return 0 < newest < self._target.start_ns - LATE_NS

    def _singly(self, partition: TopicPartition, records: list[ConsumerRecord]) -> None:
        fence = self._fences[partition]
        for record in records:
            content = self._decoded(record.value)
            if content is not None and not fence.stale(content):
                self._note(partition, content)

    def _decoded(self, value: bytes | None) -> dict[str, Any] | None:
        try:
            stem, content = self._codec.decode(value)
        except RecordError:  # not ours to judge: whoever reads the topic dead-letters it
            return None
        return content if stem == self._target.stem else None

    def _note(self, partition: TopicPartition, content: dict[str, Any]) -> None:
        if content["source"] == OWNED:
            self._received[partition] = max(self._received[partition], content["received_ts"])
        inside = self._target.start_ns <= content["ts"] <= self._target.end_ns
        if inside and (self._symbols is None or content.get("symbol") in self._symbols):
            self._target.difference.know(content)

    def _in_columns(self, partition: TopicPartition, records: list[ConsumerRecord]) -> None:
        decoded = self._decoder(as_blocks(records))
        frame, target = decoded.frame, self._target
        ts, received = frame["ts"].to_numpy(), frame["received_ts"].to_numpy()
        wanted = (ts >= target.start_ns) & (ts <= target.end_ns)
        stale = self._fences[partition].stale_rows(frame["owner_epoch"].to_numpy(), frame["source"])
        if stale is not None:
            wanted &= ~stale
        if self._symbols is not None and wanted.any():
            wanted &= frame["symbol"].is_in(list(self._symbols)).to_numpy()
        assert isinstance(target.difference, Events)
        target.difference.held.update(frame["event_id"].to_numpy()[wanted].tolist())
        owned = (frame["source"] == OWNED).to_numpy()
        newest = int(np.max(received[owned], initial=0))
        self._received[partition] = max(self._received[partition], newest)
        for refused in decoded.refused:  # written with an earlier version of the schema, or broken
            content = self._decoded(refused.value)
            if content is not None:
                self._note(partition, content)
