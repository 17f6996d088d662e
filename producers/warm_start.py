"""What the log already holds of the last minute of event time, so that a restarted producer neither repeats
an event nor gives two the same id.

Reads each partition from its end backwards, in growing steps, until its records are older than the window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from producers import log_tail
from producers.encoder import quote_event
from producers.entrance import Bars, Window
from schemas.codec import Codec
from tidewire import log
from tidewire.clock import NS_PER_SECOND
from tidewire.errors import RecordError

WINDOW_NS = 60 * NS_PER_SECOND
BARS_WINDOW_NS = 26 * 3600 * NS_PER_SECOND
"""A daily bar keeps its time all day and must go on with its revisions."""
FIRST_STEP = 1_000
LARGEST_STEP = 250_000
"""Records of a partition that are read at most."""

_log = log.get("warm-start")
Record = dict[str, Any]


async def recall(
    client_arguments: Mapping[str, Any],
    codec: Codec,
    window: Window,
    bars: Bars,
    *,
    events: Iterable[TopicPartition],
    bar_partitions: Iterable[TopicPartition],
) -> dict[TopicPartition, int]:
    """Fill `window` from the tails of `events` and `bars` from those of `bar_partitions`; returns where
    they end.
    """
    async with log_tail.reader(client_arguments) as consumer:
        ends = await _recall(consumer, codec, events, WINDOW_NS, lambda stem, r: remember(window, stem, r))
        ends |= await _recall(
            consumer, codec, bar_partitions, BARS_WINDOW_NS, lambda _, r: bars.remember(r, r["revision"])
        )
    return ends


def remember(window: Window, stem: str, record: Record) -> None:
    """Count one event that the log holds."""
    # A quote is counted under the id of the first among identical ones, as the encoder does.
    event = quote_event(record, 0) if stem == "stock_quote" else record["event_id"]
    window.repeats(record["ts"], event)


async def _recall(
    consumer: AIOKafkaConsumer,
    codec: Codec,
    partitions: Iterable[TopicPartition],
    window_ns: int,
    take: Callable[[str, Record], None],
) -> dict[TopicPartition, int]:
    partitions = list(partitions)
    ends = await log_tail.ends(consumer, partitions)
    starts: dict[TopicPartition, int] = await consumer.beginning_offsets(partitions)
    known: dict[TopicPartition, list[tuple[str, Record]]] = {p: [] for p in partitions}
    spans = {p: (max(starts[p], ends[p] - FIRST_STEP), ends[p]) for p in partitions if starts[p] < ends[p]}
    step = FIRST_STEP
    while spans:
        found = await log_tail.read(consumer, spans)
        for partition, records in found.items():
            known[partition][:0] = _decoded(codec, records)
        step *= 4
        spans = {
            p: (max(starts[p], start - step), start)
            for p, (start, _) in spans.items()
            if start > starts[p] and ends[p] - start < LARGEST_STEP and _reaches_further(known[p], window_ns)
        }
    newest = max((_newest(records) for records in known.values()), default=0)
    for records in known.values():
        for stem, record in records:
            if record["ts"] >= newest - window_ns:
                take(stem, record)
    _log.info("recalled", records=sum(map(len, known.values())))
    return ends


def _reaches_further(records: list[tuple[str, Record]], window_ns: int) -> bool:
    """Whether records before these may lie within the window."""
    return not records or records[0][1]["ts"] > _newest(records) - window_ns


def _newest(records: list[tuple[str, Record]]) -> int:
    # An event cannot be newer than its receipt: a stray time in the future must not hide everything else.
    return max((min(r["ts"], r["received_ts"] + NS_PER_SECOND) for _, r in records), default=0)


def _decoded(codec: Codec, records: list[ConsumerRecord]) -> list[tuple[str, Record]]:
    decoded = []
    for record in records:
        try:
            decoded.append(codec.decode(record.value))
        except RecordError:  # not ours to judge: whoever reads the topic dead-letters it
            continue
    return decoded
