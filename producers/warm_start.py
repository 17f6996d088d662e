"""What the log already holds of the newest event time, so that a restarted producer neither repeats an event
nor gives two the same id.

Reads each partition from its end backwards, in growing steps, until its records are older than the window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from producers import log_tail
from producers.channel import Tail
from schemas.codec import Codec
from tidewire import log
from tidewire.clock import NS_PER_SECOND
from tidewire.errors import RecordError
from tidewire.fence import Fence

FIRST_STEP = 1_000
"""Records of a partition that are read first."""

_log = log.get("warm-start")


@dataclass(frozen=True, slots=True)
class Recalled:
    """What the log held: where partitions end, and by real topic name the newest event time and receive time
    (ns) of the records that were read; topics without records are missing.
    """

    ends: dict[TopicPartition, int] = field(default_factory=dict)
    newest_ts: dict[str, int] = field(default_factory=dict)
    newest_received_ts: dict[str, int] = field(default_factory=dict)

    def add(self, topic: str, records: list[_Kept]) -> None:
        """Records of one partition."""
        if records:
            received_ts = max(r.received_ts for r in records)
            self.newest_ts[topic] = max(self.newest_ts.get(topic, 0), _newest(records))
            self.newest_received_ts[topic] = max(self.newest_received_ts.get(topic, 0), received_ts)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is kept of a record. Times in ns. `stamp`: who wrote it."""

    ts: int
    received_ts: int
    picked: Any
    stamp: Mapping[str, Any]


async def recall(
    client_arguments: Mapping[str, Any],
    codec: Codec,
    tails: Iterable[Tail],
    partitions: Callable[[str], Iterable[TopicPartition]],
) -> Recalled:
    """Give every tail what the log holds for it, without what a stale owner wrote: readers leave that out.

    `partitions` gives those of a catalogue topic.
    """
    recalled = Recalled()
    async with log_tail.reader(client_arguments) as consumer:
        for tail in tails:
            mine = [p for t in tail.topics for p in partitions(t)]
            await _recall(consumer, codec, tail, mine, recalled)
    return recalled


async def _recall(
    consumer: AIOKafkaConsumer,
    codec: Codec,
    tail: Tail,
    partitions: list[TopicPartition],
    recalled: Recalled,
) -> None:
    ends = await log_tail.ends(consumer, partitions)
    starts: dict[TopicPartition, int] = await consumer.beginning_offsets(partitions)
    known: dict[TopicPartition, list[_Kept]] = {p: [] for p in partitions}
    spans = {p: (max(starts[p], ends[p] - FIRST_STEP), ends[p]) for p in partitions if starts[p] < ends[p]}
    step = FIRST_STEP
    while spans:
        found = await log_tail.read(consumer, spans)
        for partition, records in found.items():
            known[partition][:0] = _picked(codec, tail, records)
        step *= 4
        spans = {
            p: (max(starts[p], start - step), start)
            for p, (start, _) in spans.items()
            if start > starts[p] and ends[p] - start < tail.most and _reaches_further(known[p], tail)
        }
    newest = max((_newest(records) for records in known.values()), default=0)
    for partition, records in known.items():
        fence = Fence()
        sound = [kept for kept in records if not fence.stale(kept.stamp)]
        recalled.add(partition.topic, sound)
        for kept in sound:
            if kept.ts >= newest - tail.window_ns:
                tail.take(kept.picked)
    recalled.ends.update(ends)
    _log.info("recalled", topics=list(tail.topics), records=sum(map(len, known.values())))


def _reaches_further(records: list[_Kept], tail: Tail) -> bool:
    """Whether records before these may lie within the window."""
    return not records or records[0].ts > _newest(records) - tail.window_ns


def _newest(records: list[_Kept]) -> int:
    # An event cannot be newer than its receipt: a stray time in the future must not hide everything else.
    return max((min(r.ts, r.received_ts + NS_PER_SECOND) for r in records), default=0)


def _picked(codec: Codec, tail: Tail, records: list[ConsumerRecord]) -> list[_Kept]:
    picked = []
    for record in records:
        try:
            stem, content = codec.decode(record.value)
        except RecordError:  # not ours to judge: whoever reads the topic dead-letters it
            continue
        stamp = {"owner_epoch": content["owner_epoch"], "source": content["source"]}
        picked.append(_Kept(content["ts"], content["received_ts"], tail.pick(stem, content), stamp))
    return picked
