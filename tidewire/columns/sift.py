"""The slow way: record by record and in halves, until the broken records stand alone.

The reader of whole batches judges those too, so that a record's fate never depends on its neighbours: a
replay with other batches refuses the same records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from aiokafka.record.default_records import DefaultRecordBatch

from tidewire.columns import container, reasons
from tidewire.columns.blocks import Block
from tidewire.columns.decoded import Decoded, Refused
from tidewire.columns.reader import Reader

Shape = Callable[[pl.DataFrame], pl.DataFrame]


class Sifter:
    """Sifts records of any known version.

    `readers`: by schema id the reader and what makes rows of what it read; `closed`: by id why a version
    cannot be read at all; `empty`: a frame without rows.
    """

    def __init__(
        self,
        readers: Mapping[int, tuple[Reader, Shape]],
        closed: Mapping[int, str],
        empty: pl.DataFrame,
    ) -> None:
        self._readers, self._closed, self._empty = readers, closed, empty

    def __call__(self, blocks: Sequence[Block]) -> Decoded:
        """Decode blocks of one partition, in order."""
        refused: list[Refused] = []
        by_id: dict[int, list[Any]] = {}
        for record in (r for block in blocks for r in _records(block, refused)):
            reason = reasons.of_envelope(record.key, record.value, self._readers, self._closed)
            if reason is None:
                by_id.setdefault(int.from_bytes(record.value[1:5], "big"), []).append(record)
            else:
                refused.append(_refuse(record, reason))
        frames, offsets = [self._empty], list[int]()
        for schema_id, records in by_id.items():
            self._halve(schema_id, records, frames, offsets, refused)
        frame, found = pl.concat(frames, rechunk=True), np.array(offsets, np.int64)
        if len(by_id) > 1:
            order = np.argsort(found, kind="stable")
            frame, found = frame[order], found[order]
        refused.sort(key=lambda r: r.offset)
        return Decoded(frame, found, refused, bisected=True)

    def _halve(
        self,
        schema_id: int,
        records: list[Any],
        frames: list[pl.DataFrame],
        offsets: list[int],
        refused: list[Refused],
    ) -> None:
        """Read records of one version in as large parts as are sound."""
        reader, shape = self._readers[schema_id]
        todo = [records]
        while todo:
            part = todo.pop()
            frame = reader([container.record(r.key, r.value) for r in part], len(part))
            if frame is not None:
                frames.append(shape(frame))
                offsets += [r.offset for r in part]
            elif len(part) > 1:
                half = len(part) // 2
                todo += [part[half:], part[:half]]
            else:
                refused.append(_refuse(part[0], reader.reasons.of_value(part[0].key, part[0].value)))


def _records(block: Block, refused: list[Refused]) -> list[Any]:
    """The wanted records of a batch one by one; a batch that cannot be unpacked is refused whole."""
    try:
        return [r for r in DefaultRecordBatch(bytes(block.raw)) if r.offset >= block.start]
    except Exception as error:  # a decompressor's or the unpacker's own
        reason = f"record batch of offsets {block.base}-{block.last} cannot be unpacked: {error!r}"
        refused.append(Refused(block.start, None, bytes(block.raw), block.timestamp_ms, reason))
        return []


def _refuse(record: Any, reason: str) -> Refused:
    return Refused(record.offset, record.key, record.value, record.timestamp, reason)
