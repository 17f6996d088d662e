"""What one transaction takes: consecutive records of some partitions, decoded and ready for COPY."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from aiokafka.record.default_records import DefaultRecordBatch

from sinks.postgres import columns
from sinks.postgres.tables import OFFSET, PARTITION, Table
from tidewire.columns import Block, Decoded, Decoder
from tidewire.errors import SchemaError


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive records of one partition: from `expected`, the offset that PostgreSQL holds, to `next`."""

    topic: str
    partition: int
    topic_id: str
    expected: int
    next: int
    blocks: tuple[Block, ...] = ()

    def extend(self, blocks: Sequence[Block]) -> Span:
        """The span with the blocks that follow it."""
        return replace(self, blocks=(*self.blocks, *blocks), next=blocks[-1].last + 1)


@dataclass(frozen=True, slots=True)
class DeadRecord:
    """A record given up, with its bytes as Kafka holds them."""

    topic: str
    partition: int
    offset: int
    topic_id: str
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    error: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one table; `copy` are the same as one COPY BINARY stream."""

    table: Table
    topic: str
    frame: pl.DataFrame
    copy: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """`records` counts what was read of each topic; rows and dead records add up to it."""

    spans: tuple[Span, ...]
    rows: tuple[Rows, ...]
    dead: tuple[DeadRecord, ...]
    records: Mapping[str, int]
    bisected: tuple[str, ...] = ()
    made_at: float = field(default_factory=time.monotonic)

    @property
    def total(self) -> int:
        """All records of the batch."""
        return sum(self.records.values())


@dataclass(frozen=True, slots=True)
class Feed:
    """A topic by its real name, the table that it feeds, and the decoder of its records."""

    topic: str
    table: Table
    decoder: Decoder


def prepare(feeds: Iterable[Feed], spans: Sequence[Span]) -> Batch:
    """Decode the spans' blocks, judge the values, and encode what remains.

    Raises:
        SchemaError: a record's field does not have the type of its column.
    """
    rows: list[Rows] = []
    dead: list[DeadRecord] = []
    records: dict[str, int] = {}
    bisected: list[str] = []
    for feed in feeds:
        mine = [s for s in spans if s.topic == feed.topic and s.blocks]
        if not mine:
            continue
        decoded = [feed.decoder(span.blocks) for span in mine]
        for span, one in zip(mine, decoded, strict=True):
            dead += [_refused(span, r.offset, r.timestamp_ms, r.key, r.value, r.reason) for r in one.refused]
        frame = pl.concat([_located(s, d) for s, d in zip(mine, decoded, strict=True)])
        shaped, rejected = columns.shape(feed.table, frame)
        dead += fetch_dead(mine, {(r.partition, r.offset): ("ValueError", r.reason) for r in rejected})
        records[feed.topic] = frame.height + sum(len(d.refused) for d in decoded)
        if any(d.bisected for d in decoded):
            bisected.append(feed.topic)
        if shaped.height:
            wrong = columns.fits(feed.table, shaped)
            if wrong:
                raise SchemaError(f"records of {feed.topic} do not fit {feed.table.name}: {'; '.join(wrong)}")
            rows.append(Rows(feed.table, feed.topic, shaped, columns.encode(shaped)))
    return Batch(tuple(spans), tuple(rows), tuple(dead), records, tuple(bisected))


def _located(span: Span, decoded: Decoded) -> pl.DataFrame:
    height = decoded.frame.height
    return decoded.frame.with_columns(
        pl.Series(PARTITION, np.full(height, span.partition, np.int32)),
        pl.Series(OFFSET, decoded.offsets.astype(np.int64, copy=False)),
    )


def _refused(
    span: Span, offset: int, timestamp_ms: int, key: bytes | None, value: bytes | None, reason: str
) -> DeadRecord:
    return DeadRecord(
        span.topic, span.partition, offset, span.topic_id, timestamp_ms, key, value, "RecordError", reason
    )


def fetch_dead(spans: Iterable[Span], bad: Mapping[tuple[int, int], tuple[str, str]]) -> list[DeadRecord]:
    """Dead records with their original bytes; `bad` maps (partition, offset) to (error, reason).

    `spans` are of one topic.
    """
    found = []
    for span in spans if bad else ():
        wanted = {offset: why for (partition, offset), why in bad.items() if partition == span.partition}
        for block in span.blocks:
            if not any(block.start <= offset <= block.last for offset in wanted):
                continue
            for record in DefaultRecordBatch(bytes(block.raw)):
                if record.offset >= block.start and record.offset in wanted:
                    error, reason = wanted[record.offset]
                    found.append(
                        DeadRecord(
                            span.topic,
                            span.partition,
                            record.offset,
                            span.topic_id,
                            record.timestamp,
                            record.key,
                            record.value,
                            error,
                            reason,
                        )
                    )
    assert len(found) == len(bad), "a record that is given up must be kept with its bytes"
    return found
