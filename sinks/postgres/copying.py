"""Table-shaped rows -> the bytes of COPY BINARY, ordered by symbol, and any part of them.

copy.c makes them from the columns as Polars holds them: each row is written once, at its place. Where it was
not built, the rows are sorted and pgpq writes them (columns.py); the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from sinks.postgres import columns
from sinks.postgres.native import library

Numbers = npt.NDArray[np.int64]
Data = bytes | memoryview

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

_BYTES, _LISTS, _SHORT, _INT, _LONG, _TIME = range(6)
"""Kinds of columns, in the order of copy.c."""
_KINDS: dict[Any, int] = {
    pl.String: _BYTES,
    pl.Binary: _BYTES,
    pl.List(pl.String): _LISTS,
    pl.Int16: _SHORT,
    pl.Int32: _INT,
    pl.Int64: _LONG,
    pl.Float64: _LONG,
    pl.Datetime("us", "UTC"): _TIME,
}
_SYMBOL_BYTES = 40
"""Bytes of copy.c's `symbol`."""


class Copy(Protocol):
    """Rows as COPY BINARY has them, in the order in which they are copied."""

    def data(self, start: int, stop: int) -> Data:
        """Rows [start, stop) as one stream, header and trailer included."""
        ...

    def place(self, row: int) -> tuple[int, int]:
        """Partition and offset of the record that a row came from."""
        ...


def encoded(rows: pl.DataFrame) -> Copy:
    """The rows of a table, which has a column `symbol`, k_part and k_offset."""
    functions = library.functions()
    made = _Native.made(functions, rows) if functions is not None else None
    return _Pgpq(columns.by_symbol(rows)) if made is None else made


class _Pgpq:
    """The reference."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self._rows, self._whole = rows, columns.encode(rows)

    def data(self, start: int, stop: int) -> Data:
        if (start, stop) == (0, self._rows.height):
            return self._whole
        return columns.encode(self._rows.slice(start, stop - start))

    def place(self, row: int) -> tuple[int, int]:
        return _place(self._rows, row)


@dataclass(frozen=True, slots=True)
class _Native:
    """`out` is the whole stream; row n of it was row order[n], and ends at ends[n]."""

    rows: pl.DataFrame
    out: npt.NDArray[np.uint8]
    order: npt.NDArray[np.uint32]
    ends: Numbers

    @classmethod
    def made(cls, functions: library.Functions, rows: pl.DataFrame) -> _Native | None:
        """None: a column is of a kind that copy.c does not have."""
        if any(kind not in _KINDS for kind in rows.schema.values()):
            return None
        parts = [_Part(rows, batch) for batch in _batches(rows)]
        if any(part.has_null_items for part in parts):
            return None
        total, counts = rows.height, np.array([part.rows for part in parts], np.int64)
        sizes = np.zeros(total, np.int64)
        at = 0
        for part in parts:
            functions.sizes(part.table.ctypes.data, part.width, part.rows, sizes.ctypes.data + 8 * at)
            at += part.rows
        order, ends, places = np.empty(total, np.uint32), np.empty(total, np.int64), np.empty(total, np.int64)
        _ordered(functions, rows, parts, counts, sizes, order, ends, places)
        size = int(ends[-1]) if total else len(HEADER)
        out = np.empty(size + len(TRAILER), np.uint8)
        out[: len(HEADER)] = np.frombuffer(HEADER, np.uint8)
        out[size:] = np.frombuffer(TRAILER, np.uint8)
        at = 0
        for part in parts:
            given = (sizes.ctypes.data + 8 * at, places.ctypes.data + 8 * at, out.ctypes.data)
            functions.rows(part.table.ctypes.data, part.width, part.rows, *given)
            at += part.rows
        return cls(rows, out, order, ends)

    def data(self, start: int, stop: int) -> Data:
        if (start, stop) == (0, len(self.ends)):
            return self.out.data
        begin = int(self.ends[start - 1]) if start else len(HEADER)
        end = int(self.ends[stop - 1]) if stop else len(HEADER)
        return HEADER + self.out[begin:end].tobytes() + TRAILER

    def place(self, row: int) -> tuple[int, int]:
        return _place(self.rows, int(self.order[row]))


def _ordered(
    functions: library.Functions,
    rows: pl.DataFrame,
    parts: Sequence[_Part],
    counts: Numbers,
    sizes: Numbers,
    order: npt.NDArray[np.uint32],
    ends: Numbers,
    places: Numbers,
) -> None:
    total = rows.height
    number = rows.columns.index("symbol")
    symbols = np.array([part.table[number] for part in parts], np.int64)
    slots = np.zeros(1 << max(2 * total, 1).bit_length(), np.uint32)
    scratch = np.empty(total, f"V{_SYMBOL_BYTES}"), np.empty(total, np.uint32), np.empty(total, np.uint32)
    functions.order(
        *(symbols.ctypes.data, counts.ctypes.data, len(parts), sizes.ctypes.data, len(HEADER)),
        *(slots.ctypes.data, len(slots) - 1, *(room.ctypes.data for room in scratch)),
        *(order.ctypes.data, ends.ctypes.data, places.ctypes.data),
    )


def _batches(rows: pl.DataFrame) -> list[pa.RecordBatch]:
    batches: list[pa.RecordBatch] = rows.to_arrow(compat_level=pl.CompatLevel.newest()).to_batches()
    return batches


class _Part:
    """Rows whose columns are one array each, as copy.c gets them; holds on to what it points to."""

    def __init__(self, rows: pl.DataFrame, batch: pa.RecordBatch) -> None:
        self.rows, self.width, self._batch = batch.num_rows, batch.num_columns, batch
        self._held: list[Numbers] = []
        self.has_null_items = False
        described = [
            self._described(_KINDS[kind], batch.column(number))
            for number, kind in enumerate(rows.schema.values())
        ]
        self.table = np.array(described, np.int64)

    def _described(self, kind: int, array: pa.Array) -> tuple[int, ...]:
        """The members of copy.c's `column`."""
        buffers = array.buffers()
        valid = _address(buffers[0]) if array.null_count else 0
        data, first = _address(buffers[1]), array.offset
        if kind == _BYTES:
            return data, valid, self._addresses(buffers[2:]), 0, 0, first, 0, kind
        if kind == _LISTS:
            items = array.values
            self.has_null_items |= items.null_count > 0
            inside = items.buffers()
            far = self._addresses(inside[2:])
            return data, valid, 0, _address(inside[1]), far, first, items.offset, kind
        return data, valid, 0, 0, 0, first, 0, kind

    def _addresses(self, buffers: Sequence[pa.Buffer | None]) -> int:
        self._held.append(np.array([_address(buffer) for buffer in buffers], np.int64))
        return int(self._held[-1].ctypes.data)


def _address(buffer: pa.Buffer | None) -> int:
    return 0 if buffer is None else int(buffer.address)


def _place(rows: pl.DataFrame, row: int) -> tuple[int, int]:
    partition, offset = rows.select("k_part", "k_offset").row(row)
    return int(partition), int(offset)
