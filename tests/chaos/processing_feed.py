"""Publishes a plan's record batches, whole and in order, whatever happens to Kafka meanwhile.

The producing service is not under test here. A batch whose fate is not known is looked up: as offsets are
indexes, the log's end says what is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from processors.columns.output import track
from tests.chaos.processing_line import Ends
from tests.chaos.processing_plan import Lane, Plan
from tidewire.config import Settings
from tidewire.kafka import client_arguments

_COMPRESSIONS = (None, "lz4", "zstd")
_AT_ONCE = 8
_AGAIN_SECONDS = 0.5


class Feed:
    """`allow` lets a share of the plan go; `rate` is in records a second, 0: as fast as Kafka takes them."""

    def __init__(self, settings: Settings, plan: Plan, rate: int) -> None:
        self._settings, self._plan, self._rate = settings, plan, rate
        self._producers: list[AIOKafkaProducer] = []
        self._next = 0  # of the plan's batches
        self._sent = [0] * len(plan.lanes)
        self._allowed = 0
        self._changed = asyncio.Event()
        self.resumed = 0
        """How often what the log holds had to be looked up."""

    def allow(self, share: float) -> None:
        """Send up to this share of the batches."""
        self._allowed = max(self._allowed, round(share * len(self._plan.batches)))
        self._changed.set()

    @property
    def left(self) -> int:
        """Batches that may be sent and are not in the log yet."""
        return max(0, self._allowed - self._next)

    @property
    def idle(self) -> bool:
        """Whether everything that is allowed is in the log."""
        return not self.left

    def ends(self) -> Ends:
        """How far the log is known to go."""
        return {(lane.topic, lane.partition): n for lane, n in zip(self._plan.lanes, self._sent, strict=True)}

    async def run(self) -> None:
        """Send what is allowed, for as long as this is not cancelled."""
        try:
            while True:
                if self.idle:
                    self._changed.clear()
                    await self._changed.wait()
                    continue
                try:
                    await self._some()
                except (KafkaError, OSError):
                    await self._resume()
        finally:
            await self._close()

    async def _some(self) -> None:
        began = time.monotonic()
        if not self._producers:
            await self._open()
        part = self._plan.batches[self._next : min(self._next + _AT_ONCE, self._allowed)]
        waiting, count = [], 0
        for number, _, stop in part:
            start, lane = self._sent[number], self._plan.lanes[number]
            if start < stop:
                waiting.append(await self._send(number, lane, start, stop))
                self._sent[number] = stop
                count += stop - start
        await asyncio.gather(*waiting)
        self._next += len(part)
        if self._rate:
            await asyncio.sleep(max(0.0, count / self._rate - (time.monotonic() - began)))

    async def _send(self, number: int, lane: Lane, start: int, stop: int) -> asyncio.Future[object]:
        producer = self._producers[number % len(self._producers)]
        batch = producer.create_batch()
        for key, value, headers in lane.records[start:stop]:
            with_headers = [("of", b"somebody")] if headers else []
            added = batch.append(timestamp=None, key=key, value=value, headers=with_headers)
            assert added is not None, "batch too small"
        name = self._settings.tidewire_topic_prefix + lane.topic
        sent: asyncio.Future[object] = await producer.send_batch(batch, name, partition=lane.partition)
        return sent

    async def send(self, lane: Lane, start: int) -> None:
        """Send a lane's records from an index on, besides the plan; in batches of 25."""
        number = self._plan.lanes.index(lane)
        for first in range(start, len(lane.records), 25):
            stop = min(first + 25, len(lane.records))
            await (await self._send(number, lane, first, stop))
            self._sent[number] = stop

    async def _open(self) -> None:
        for compression in _COMPRESSIONS:
            producer = AIOKafkaProducer(
                **client_arguments(self._settings),
                enable_idempotence=True,
                acks="all",
                compression_type=compression,
                max_batch_size=1 << 20,
                request_timeout_ms=120_000,
            )
            await producer.start()
            await track(
                producer, {self._settings.tidewire_topic_prefix + lane.topic for lane in self._plan.lanes}
            )
            self._producers.append(producer)

    async def _resume(self) -> None:
        """Go on behind what the log holds."""
        await self._close()
        self.resumed += 1
        lanes = {
            TopicPartition(self._settings.tidewire_topic_prefix + lane.topic, lane.partition): number
            for number, lane in enumerate(self._plan.lanes)
        }
        while True:
            consumer = AIOKafkaConsumer(**client_arguments(self._settings))
            try:
                await consumer.start()
                for tp, end in (await consumer.end_offsets(list(lanes))).items():
                    self._sent[lanes[tp]] = end
                return
            except (KafkaError, OSError):
                await asyncio.sleep(_AGAIN_SECONDS)
            finally:
                await consumer.stop()

    async def _close(self) -> None:
        producers, self._producers = self._producers, []
        for producer in producers:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                await asyncio.wait_for(producer.stop(), 10)
