"""Records to Kafka in whole batches a partition: idempotent, acks=all, in order, bounded, never given up.

Taking a record never waits, so a frame is taken whole. A batch leaves when it is full, or `LINGER_SECONDS`
after its first record when its partition has nothing on its way. While Kafka is away, records pile up to
`LIMIT_BYTES`; then `room` makes the socket wait.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import TopicPartition

from producers.channel import Add
from producers.lanes import Batch, Lane
from producers.session import Session
from tidewire.dead_letters import SUFFIX, DeadLetter
from tidewire.metrics import MESSAGES_PUBLISHED, PRODUCER_BUFFERED_BYTES, RECORDS_DEAD_LETTERED

LINGER_SECONDS = 0.01
_BUSY_SECONDS = 0.001  # without it a publisher that lingers for nothing would spin until Kafka answers
LIMIT_BYTES = 64 * 1024 * 1024
PART_BYTES = 8 * 1024 * 1024
"""A dead letter longer than this is cut into parts; the catalogue allows 16 MiB a record."""
PATIENCE_SECONDS = 3.0
"""Without an acknowledgement for so long, Kafka is said to be away."""
_KEYS_KNOWN = 100_000


class Publisher:
    """`Log` of intake.py over one `Session` with Kafka."""

    def __init__(self, session: Session, *, linger: float = LINGER_SECONDS, limit: int = LIMIT_BYTES) -> None:
        self._session, self._linger, self._limit = session, linger, limit
        self._partitions: dict[str, list[int]] = {}
        self._partition_of = DefaultPartitioner()
        self._lanes: dict[TopicPartition, Lane] = {}
        self._open: set[Lane] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed_bytes = 0
        self._handed: Counter[Lane] = Counter()
        self._taken: Counter[Lane] = Counter()
        self._progress = asyncio.Event()
        self._progressed_at = time.monotonic()

    async def start(self, topics: Iterable[str], dead_letters: Iterable[str]) -> None:
        """Connect and learn the partitions of `topics` and of the dead-letter topics of `dead_letters`.

        Raises:
            KafkaError: Kafka is away, or a topic does not exist.
        """
        await self._session.start()
        PRODUCER_BUFFERED_BYTES.set_function(lambda: self.buffered_bytes)
        for topic in (*topics, *(name + SUFFIX for name in dead_letters)):
            self._partitions[topic] = sorted(await self._session.partitions(topic))

    def partitions(self, topic: str) -> list[TopicPartition]:
        """The partitions of a topic given to `start`."""
        return [TopicPartition(topic, number) for number in self._partitions[topic]]

    def expect(self, ends: Mapping[TopicPartition, int]) -> None:
        """Where partitions end before our first record: a lost answer is settled by reading from there."""
        for partition, offset in ends.items():
            self._lane(partition).next_offset = offset

    # -- taking records

    def adder(self, topic: str) -> Add:
        """A function (key, value, timestamp in ms) that appends to the key's partition of a topic."""
        ways: dict[bytes, Callable[[bytes, bytes, int], None]] = {}

        def add(key: bytes, value: bytes, timestamp_ms: int) -> None:
            way = ways.get(key)
            if way is None:
                if len(ways) >= _KEYS_KNOWN:
                    ways.clear()
                way = ways[key] = self._lane_of(topic, key).add
            way(key, value, timestamp_ms)

        return add

    def dead_letter(self, letter: DeadLetter, timestamp_ms: int) -> None:
        """Append a dead letter; one that is too long for a record becomes several, with a header `part`."""
        lane = self._lane_of(letter.topic + SUFFIX, letter.key)
        starts = range(0, max(len(letter.value), 1), PART_BYTES)
        for number, start in enumerate(starts):
            headers = letter.headers()
            if len(starts) > 1:
                headers.append(("part", f"{number + 1}/{len(starts)}".encode()))
            lane.add(letter.key, letter.value[start : start + PART_BYTES], timestamp_ms, headers, number > 0)

    # -- waiting for Kafka

    @property
    def buffered_bytes(self) -> int:
        """Bytes that Kafka has not acknowledged."""
        return self._closed_bytes + sum(lane.open_bytes for lane in self._open)

    @property
    def full(self) -> bool:
        """Whether `room` would wait."""
        return self._closed_bytes >= self._limit

    @property
    def trouble(self) -> str | None:
        """Why records do not get into Kafka at the moment; None: they do."""
        if self._session.trouble is not None:
            return self._session.trouble
        silent = time.monotonic() - self._progressed_at
        if self._tasks and silent > PATIENCE_SECONDS:
            return f"Kafka has acknowledged nothing for {silent:.0f} s; {self.buffered_bytes} bytes wait"
        return None

    async def room(self) -> None:
        """Wait until there is room for more."""
        while self.full:
            await self._next_progress()

    async def flush(self) -> None:
        """Send what is open and wait until Kafka has everything."""
        while any(not lane.idle for lane in self._lanes.values()):
            for lane in list(self._open):
                self._close(lane)
            await self._next_progress()

    async def settle(self) -> None:
        """Wait until Kafka has everything that was added before this call; what comes meanwhile may wait."""
        for lane in list(self._open):
            self._close(lane)
        marks = dict(self._handed)
        while any(self._taken[lane] < count for lane, count in marks.items()):
            await self._next_progress()

    async def stop(self) -> None:
        """Disconnect; what is not acknowledged is left behind. Call `flush` before."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.stop()

    async def _next_progress(self) -> None:
        self._progress.clear()
        await self._progress.wait()

    # -- lanes

    def _lane_of(self, topic: str, key: bytes | None) -> Lane:
        numbers = self._partitions[topic]
        number = numbers[0] if key is None else self._partition_of(key, numbers, numbers)
        return self._lane(TopicPartition(topic, number))

    def _lane(self, partition: TopicPartition) -> Lane:
        lane = self._lanes.get(partition)
        if lane is None:
            lane = Lane(partition, self._session.builder, self._batch_opened, self._batch_closed)
            self._lanes[partition] = lane
        return lane

    def _batch_opened(self, lane: Lane) -> None:
        self._open.add(lane)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._linger, self._tick)

    def _tick(self) -> None:
        self._timer = None
        for lane in [lane for lane in self._open if not lane.sending]:
            self._close(lane)
        if self._open:  # their partitions are busy: they fill up meanwhile
            again = max(self._linger, _BUSY_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(again, self._tick)

    def _close(self, lane: Lane) -> None:
        self._open.discard(lane)
        lane.close()

    def _batch_closed(self, lane: Lane, batch: Batch) -> None:
        self._closed_bytes += batch.size
        self._handed[lane] += 1
        if not lane.sending:
            lane.sending = True
            if not self._tasks:
                self._progressed_at = time.monotonic()
            task = asyncio.get_running_loop().create_task(self._send(lane))
            self._tasks.add(task)
            task.add_done_callback(self._sent)

    async def _send(self, lane: Lane) -> None:
        try:
            while lane.waiting:
                batch = lane.waiting.popleft()
                size = batch.size
                lane.next_offset = await self._session.deliver(lane.partition, batch, lane.next_offset)
                self._closed_bytes -= size
                self._taken[lane] += 1
                self._acknowledged(lane, batch)
        finally:
            lane.sending = False
            self._progress.set()

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.result()

    def _acknowledged(self, lane: Lane, batch: Batch) -> None:
        topic = lane.partition.topic
        if topic.endswith(SUFFIX):
            messages = batch.records - batch.continuations
            RECORDS_DEAD_LETTERED.labels("producer", topic.removesuffix(SUFFIX)).inc(messages)
        else:
            MESSAGES_PUBLISHED.labels(topic).inc(batch.records)
        self._progressed_at = time.monotonic()
        self._progress.set()
