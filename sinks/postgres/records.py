"""Records of low-rate topics -> rows, one by one. Pure.

Of a table that holds the state of things, only the newest record of a key within a batch is kept: the others
are counted as superseded. Every record is decoded and judged all the same, so that whether it is given up
does not depend on what came with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatch

from schemas.catalogue import TOPICS
from schemas.codec import Codec
from schemas.fenced import is_fenced
from sinks.postgres.epochs import Epochs
from sinks.postgres.record_columns import TOPIC_ID, Column, Record, RecordTable, Source
from sinks.postgres.spans import DeadRecord, Span
from sinks.postgres.tables import OFFSET, PARTITION
from tidewire.errors import RecordError

_COMPACTED = {topic.name for topic in TOPICS if topic.compacted}

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class RecordFeed:
    """A low-rate topic by its real name, what it fills, and the decoder of its records."""

    topic: str
    source: Source
    codec: Codec


@dataclass(frozen=True, slots=True)
class Entry:
    """The rows of one record: that of the source's table, and those of each of its parts' tables."""

    partition: int
    offset: int
    ts: int
    row: Row
    parts: tuple[tuple[Row, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Entries:
    """What one topic's records are to store, and how many of them store nothing on purpose.

    `superseded`: a newer record of the same key is in the batch. `tombstones`: records without a value in a
    compacted topic. They take a key out of the log, not out of history: the rows stay as they are.
    """

    source: Source
    topic: str
    entries: Sequence[Entry]
    superseded: int = 0
    tombstones: int = 0


@dataclass(slots=True)
class Read:
    """What became of the `count` records of some spans of one topic."""

    entries: Entries
    dead: list[DeadRecord] = field(default_factory=list)
    count: int = 0
    stale: int = 0


def read(feed: RecordFeed, spans: Sequence[Span], epochs: Epochs | None = None) -> Read:
    """Decode and judge every record of the spans, all of the feed's topic; stale owners' are left out."""
    found: list[Entry] = []
    dead: list[DeadRecord] = []
    count = tombstones = stale = 0
    epochs, fenced = epochs or Epochs(), is_fenced(feed.source.topic)
    for span in spans:
        for record in _unpacked(span, dead):
            count += 1
            if record.value is None and feed.source.topic in _COMPACTED:
                tombstones += 1
                continue
            try:
                decoded = _decoded(feed, span, record)
                made = entry(feed.source, decoded)
            except (RecordError, ValueError) as error:
                dead.append(_given_up(span, record, type(error).__name__, str(error)))
                continue
            place = (span.topic, span.partition)
            if fenced and epochs.stale(place, feed.source.topic, decoded, record.offset):
                stale += 1
            else:
                found.append(made)
    kept = newest(feed.source.table, found) if feed.source.table.current else found
    entries = Entries(feed.source, feed.topic, kept, len(found) - len(kept), tombstones)
    unpackable = sum(1 for record in dead if record.error == _BATCH)
    return Read(entries, dead, count + unpackable, stale)


_BATCH = "RecordBatchError"


def _unpacked(span: Span, dead: list[DeadRecord]) -> Iterator[Any]:
    """The wanted records one by one; a batch that cannot be unpacked is given up whole, as one."""
    for block in span.blocks:
        try:
            wanted = [r for r in DefaultRecordBatch(bytes(block.raw)) if r.offset >= block.start]
        except Exception as error:  # a decompressor's or the unpacker's own
            place = (span.topic, span.partition, block.start, span.topic_id, block.timestamp_ms)
            reason = f"record batch of offsets {block.base}-{block.last} cannot be unpacked: {error!r}"
            dead.append(DeadRecord(*place, None, bytes(block.raw), _BATCH, reason))
            continue
        yield from wanted


def _given_up(span: Span, record: Any, error: str, reason: str) -> DeadRecord:
    place = (span.topic, span.partition, record.offset, span.topic_id, record.timestamp)
    return DeadRecord(*place, record.key, record.value, error, reason)


def _decoded(feed: RecordFeed, span: Span, record: Any) -> Record:
    stem, decoded = feed.codec.decode(record.value)
    if stem != feed.source.stem:
        raise RecordError(f"a {stem} record on a topic of {feed.source.stem} records")
    return decoded | {PARTITION: span.partition, OFFSET: record.offset, TOPIC_ID: span.topic_id}


def entry(source: Source, record: Record) -> Entry:
    """The rows of one decoded record (with PARTITION, OFFSET and TOPIC_ID added).

    Raises:
        ValueError: a value that PostgreSQL cannot hold, or a fill that does not say what it filled.
    """
    parts = tuple(tuple(row(part.table, one) for one in part.split(record)) for part in source.parts)
    return Entry(record[PARTITION], record[OFFSET], record["ts"], row(source.table, record), parts)


def row(table: RecordTable, record: Record) -> Row:
    """One row in the order of the table's columns.

    Raises:
        ValueError: text with a NUL, or a number that is none; names the column.
    """
    return tuple(_judged(column, column.value(record)) for column in table.columns)


def _judged(column: Column, value: Any) -> Any:
    if value is None:
        return None
    kind = column.kind
    if kind == "text":
        _refuse_nul(column, value)
    elif kind == "double precision":
        if not math.isfinite(value):
            raise ValueError(f"{column.name} is NaN or infinite")
    elif kind == "double precision[]":
        if not all(map(math.isfinite, value)):
            raise ValueError(f"{column.name} holds NaN or infinity")
    elif kind == "text[]":
        for item in value:
            _refuse_nul(column, item)
    elif kind == "jsonb":
        for item in value:
            for text in item.values():
                _refuse_nul(column, text)
        return json.dumps(value, ensure_ascii=False)
    return value


def _refuse_nul(column: Column, value: Any) -> None:
    if type(value) is str and "\0" in value:
        raise ValueError(f"{column.name} holds a NUL, which PostgreSQL's text cannot")


def newest(table: RecordTable, entries: Sequence[Entry]) -> list[Entry]:
    """The newest entry of each key; the order of the keys is that in which they first came.

    Within one partition the greater offset is newer. Only after a change of the number of partitions a key
    stands in two: then the later ts is. The same rule stands in the SQL of store_records.py.
    """
    key = _key(table)
    held: dict[Row, Entry] = {}
    for one in entries:
        name = tuple(one.row[n] for n in key)
        other = held.get(name)
        if other is None or _newer(one, other):
            held[name] = one
    return list(held.values())


def _newer(one: Entry, other: Entry) -> bool:
    return one.offset > other.offset if one.partition == other.partition else one.ts >= other.ts


@cache
def _key(table: RecordTable) -> tuple[int, ...]:
    return tuple(table.names.index(name) for name in table.key)
