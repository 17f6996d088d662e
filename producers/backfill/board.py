"""Follows alpaca.gaps, all of it: gaps are few, and a worker must know of those of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from schemas.catalogue import GAPS, Catalogue
from schemas.codec import Codec
from schemas.gaps import Board, Gap
from tidewire import kafka, log
from tidewire.config import Settings
from tidewire.errors import RecordError
from tidewire.placing import partition_of

_PAUSE_SECONDS = 1.0

_log = log.get("gap-board")


class Follower:
    """The board of all gaps, kept up to date by `run`. `changed` is called after every news."""

    def __init__(self, settings: Settings, codec: Codec, changed: Callable[[], None]) -> None:
        self._settings, self._codec, self._changed = settings, codec, changed
        self.topic = Catalogue(settings.tidewire_topic_prefix, 1).name(GAPS)
        self.board = Board()
        self._partitions: list[TopicPartition] = []
        self._consumer: AIOKafkaConsumer | None = None
        self._read: dict[TopicPartition, int] = {}
        self._moved = asyncio.Event()

    def partition(self, gap: Gap) -> int:
        """Where a gap's records are."""
        return partition_of(gap.key, len(self._partitions)) if self._partitions else -1

    @property
    def partitions(self) -> int:
        """How many there are; 0: not known yet."""
        return len(self._partitions)

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await self._follow()
            except KafkaError as error:
                _log.warning("gaps not read", error=repr(error))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def caught_up(self) -> None:
        """Return when everything is known that stands in the log now."""
        while True:
            consumer = self._consumer
            if consumer is not None and self._partitions:
                try:
                    ends: dict[TopicPartition, int] = await consumer.end_offsets(self._partitions)
                    break
                except KafkaError:
                    pass
            await asyncio.sleep(0.05)
        while any(self._read.get(p, 0) < end for p, end in ends.items()):
            self._moved.clear()
            await self._moved.wait()

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            **kafka.client_arguments(self._settings), enable_auto_commit=False, auto_offset_reset="earliest"
        )
        try:
            await consumer.start()
            found = await consumer._client.fetch_all_metadata()
            numbers = found.partitions_for_topic(self.topic) or set()
            self._partitions = [TopicPartition(self.topic, number) for number in sorted(numbers)]
            consumer.assign(self._partitions)
            for partition in self._partitions:
                await consumer.seek_to_beginning(partition)
                self._read[partition] = await consumer.position(partition)
            self._consumer = consumer
            while True:
                found = await consumer.getmany(timeout_ms=500)
                for partition, records in found.items():
                    for record in records:
                        self._put(record.value)
                    self._read[partition] = records[-1].offset + 1
                if found:
                    self._moved.set()
                    self._changed()
        finally:
            self._consumer = None
            await consumer.stop()

    def _put(self, value: bytes | None) -> None:
        try:
            stem, record = self._codec.decode(value)
        except RecordError:  # not ours to judge: whoever stores the topic dead-letters it
            return
        if stem == "gap" and record["id"]:
            self.board.put(Gap.of(record))
