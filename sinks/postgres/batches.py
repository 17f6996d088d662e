"""What one transaction takes: consecutive records of some partitions, decoded and ready for COPY.

Hot topics are decoded in columns (here), the others record by record (records.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np
import polars as pl

from sinks.postgres import columns, records
from sinks.postgres.copying import Copy, encoded
from sinks.postgres.epochs import Epochs
from sinks.postgres.records import Entries, RecordFeed
from sinks.postgres.spans import DeadRecord, Span, fetch_dead
from sinks.postgres.tables import OFFSET, PARTITION, Table
from tidewire.columns import Decoded, Decoder
from tidewire.columns.owned import owned
from tidewire.errors import SchemaError


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one table as their records came; `copy` has the same ordered, for COPY BINARY."""

    table: Table
    topic: str
    frame: pl.DataFrame
    copy: Copy


@dataclass(frozen=True, slots=True)
class Batch:
    """`records` counts what was read of each topic; rows, entries, stale, past and dead ones add up to it.

    `past`: records of days that are no longer kept.
    """

    spans: tuple[Span, ...]
    rows: tuple[Rows, ...]
    entries: tuple[Entries, ...]
    dead: tuple[DeadRecord, ...]
    records: Mapping[str, int]
    bisected: tuple[str, ...] = ()
    stale: Mapping[str, int] = field(default_factory=dict)
    past: Mapping[str, int] = field(default_factory=dict)
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


def prepare(
    feeds: Iterable[Feed | RecordFeed],
    spans: Sequence[Span],
    epochs: Epochs | None = None,
    kept_from: Callable[[str], date | None] = lambda _: None,
) -> Batch:
    """Decode the spans' blocks, leave out stale owners' records, judge the values, encode what remains.

    `kept_from`: the first day whose rows a table keeps, None for all.

    Raises:
        SchemaError: a record's field does not have the type of its column.
    """
    rows: list[Rows] = []
    entries: list[Entries] = []
    dead: list[DeadRecord] = []
    counts: dict[str, int] = {}
    bisected: list[str] = []
    stale: dict[str, int] = {}
    past: dict[str, int] = {}
    epochs = epochs or Epochs()
    for feed in feeds:
        mine = [s for s in spans if s.topic == feed.topic and s.blocks]
        if not mine:
            continue
        if isinstance(feed, RecordFeed):
            read = records.read(feed, mine, epochs)
            stale[feed.topic] = read.stale
            entries.append(read.entries)
            dead += read.dead
            counts[feed.topic] = read.count
            continue
        decoded = [feed.decoder(span.blocks) for span in mine]
        counts[feed.topic] = sum(len(d.offsets) + len(d.refused) for d in decoded)
        if any(d.bisected for d in decoded):
            bisected.append(feed.topic)
        fenced = [owned(epochs.whole((s.topic, s.partition)), d) for s, d in zip(mine, decoded, strict=True)]
        decoded, stale[feed.topic] = [d for d, _ in fenced], sum(count for _, count in fenced)
        shaped, refused, past[feed.topic] = _shape(feed, mine, decoded, kept_from(feed.table.name))
        rows += shaped
        dead += refused
    moved = tuple(replace(s, epochs=epochs.kept((s.topic, s.partition))) for s in spans)
    return Batch(moved, tuple(rows), tuple(entries), tuple(dead), counts, tuple(bisected), stale, past)


def _shape(
    feed: Feed, spans: Sequence[Span], decoded: Sequence[Decoded], kept_from: date | None
) -> tuple[list[Rows], list[DeadRecord], int]:
    """The rows of one hot topic (none or one Rows), the records that are refused before PostgreSQL, and how
    many are of days that are no longer kept.
    """
    dead = [
        _refused(span, r.offset, r.timestamp_ms, r.key, r.value, r.reason)
        for span, one in zip(spans, decoded, strict=True)
        for r in one.refused
    ]
    frame = pl.concat([_located(s, d) for s, d in zip(spans, decoded, strict=True)])
    shaped, rejected = columns.shape(feed.table, frame)
    dead += fetch_dead(spans, {(r.partition, r.offset): ("ValueError", r.reason) for r in rejected})
    shaped, past = columns.kept(shaped, kept_from)
    if not shaped.height:
        return [], dead, past
    wrong = columns.fits(feed.table, shaped)
    if wrong:
        raise SchemaError(f"records of {feed.topic} do not fit {feed.table.name}: {'; '.join(wrong)}")
    return [Rows(feed.table, feed.topic, shaped, encoded(shaped))], dead, past


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
