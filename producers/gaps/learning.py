"""What a backfill put into the log is told to the feed's entrance: the same event, coming late over the
socket, is then a duplicate, and quotes and bars go on with their ordinals and revisions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from producers import log_tail
from producers.channel import Tail
from schemas.codec import Codec
from schemas.gaps import CLOSED, Gap
from tidewire import log
from tidewire.errors import RecordError
from tidewire.metrics import GAP_RECORDS_LEARNED

STEP = 1_000
"""Offsets that are read at a time, so that the socket is never kept waiting."""
MOST = 250_000
"""Offsets of one gap; of more, only the newest are read, which are those that the entrance would keep."""

_log = log.get("gaps")


class Learner:
    """Tells the tails of one feed. `tails` are by real topic; `known` says where the start's own reading of
    the log ended; `newest` gives the feed's newest event time (ns).
    """

    def __init__(
        self,
        codec: Codec,
        tails: Mapping[str, Tail],
        known: Mapping[TopicPartition, int],
        newest: Callable[[], int | None],
    ) -> None:
        self._codec, self._tails, self._known, self._newest = codec, tails, known, newest

    async def learn(self, consumer: AIOKafkaConsumer, gap: Gap) -> int:
        """Read what was published for a gap, if the entrance looks so far back; returns how many it was."""
        if gap.state != CLOSED or not gap.placed or gap.until_ts is None:
            return 0
        learned = 0
        for partition, first, end in self._spans(gap):
            tail = self._tails[partition.topic]
            newest = self._newest()
            if newest is None or gap.until_ts < newest - tail.window_ns:
                continue
            for start in range(first, end, STEP):
                span = (start, min(start + STEP, end))
                records = (await log_tail.read(consumer, {partition: span}))[partition]
                learned += self._take(tail, records, newest)
                await asyncio.sleep(0)
        if learned:
            GAP_RECORDS_LEARNED.labels(gap.feed).inc(learned)
            _log.info("learned from a backfill", gap=gap.id, records=learned)
        return learned

    def _spans(self, gap: Gap) -> Iterator[tuple[TopicPartition, int, int]]:
        """Partition, first offset, offset after the last; without what the start has read."""
        room = MOST
        for partition, first, last in sorted(ranges(gap.placed), reverse=True):
            start = max(first, self._known.get(partition, 0), last + 1 - room)
            if partition.topic in self._tails and start <= last:
                room -= last + 1 - start
                yield partition, start, last + 1

    def _take(self, tail: Tail, records: Iterable[ConsumerRecord], newest: int) -> int:
        taken = 0
        for record in records:
            try:
                stem, content = self._codec.decode(record.value)
            except RecordError:
                continue
            # Between them may stand records of the socket, which the entrance has seen itself.
            if content["source"] == "rest" and content["ts"] >= newest - tail.window_ns:
                tail.take(tail.pick(stem, content))
                taken += 1
        return taken


def ranges(placed: Iterable[str]) -> list[tuple[TopicPartition, int, int]]:
    """Partition, first and last offset of each place; what is no place is left out."""
    found = []
    for place in placed:
        topic, *numbers = place.rsplit(":", 3)
        if len(numbers) == 3 and all(number.isdigit() for number in numbers):
            partition, first, last = map(int, numbers)
            found.append((TopicPartition(topic, partition), first, last))
    return found
