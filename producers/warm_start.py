"""What the log already holds of the newest event time, so that a restarted producer neither repeats an event
nor gives two the same id.

Reads each partition from its end backwards, in growing steps, until its records are older than the window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from producers import log_tail
from producers.channel import Tail
from schemas.codec import Codec
from tidewire import log
from tidewire.clock import NS_PER_SECOND
from tidewire.errors import RecordError

FIRST_STEP = 1_000
"""Records of a partition that are read first."""

_log = log.get("warm-start")


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is kept of a record. Times in ns."""

    ts: int
    received_ts: int
    picked: Any


async def recall(
    client_arguments: Mapping[str, Any],
    codec: Codec,
    tails: Iterable[Tail],
    partitions: Callable[[str], Iterable[TopicPartition]],
) -> dict[TopicPartition, int]:
    """Give every tail what the log holds for it; returns where the partitions end.

    `partitions` gives those of a catalogue topic.
    """
    ends: dict[TopicPartition, int] = {}
    async with log_tail.reader(client_arguments) as consumer:
        for tail in tails:
            ends |= await _recall(consumer, codec, tail, [p for t in tail.topics for p in partitions(t)])
    return ends


async def _recall(
    consumer: AIOKafkaConsumer, codec: Codec, tail: Tail, partitions: list[TopicPartition]
) -> dict[TopicPartition, int]:
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
    for records in known.values():
        for kept in records:
            if kept.ts >= newest - tail.window_ns:
                tail.take(kept.picked)
    _log.info("recalled", topics=list(tail.topics), records=sum(map(len, known.values())))
    return ends


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
        picked.append(_Kept(content["ts"], content["received_ts"], tail.pick(stem, content)))
    return picked
