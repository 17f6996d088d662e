"""Records of one schema version to rows, by decode.c: all of them, or none."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from tidewire.columns.decoded import Offsets
from tidewire.columns.native import library
from tidewire.columns.native.layout import Layout
from tidewire.columns.native.program import NotCovered, compiled

_OK, _FULL = 0, 2
_SMALLEST = 12
"""Bytes of a record without key and fields; a batch that claims more records is none."""
_LARGEST = 2**31 - 1  # where a long text stands in its body is a number of 31 bits
_FEWEST = 64
_LAYOUTS = 32


class Rows(NamedTuple):
    """The wanted columns of records, and their offsets."""

    frame: pl.DataFrame
    offsets: Offsets


class NativeReader:
    """Reads records with one schema id, as `Reader` does. `columns`: those wanted, at least one.

    It takes fewer encodings than `Reader`: only what writers make. Whatever it takes, `Reader` takes too,
    and reads the same.
    """

    def __init__(
        self, decode: Any, schema: Mapping[str, Any], schema_id: int, key: str, columns: Sequence[str]
    ) -> None:
        self._decode = decode
        self._program = compiled(schema, key, columns)
        self._nodes = self._program.nodes.ctypes.data
        self._header = int.from_bytes(b"\0" + schema_id.to_bytes(4, "big"), "little")
        self._type = pa.struct([(output.name, output.type) for output in self._program.outputs])
        self._items = 4  # a record: learnt from batches that have more
        self._layouts: dict[tuple[int, int], Layout] = {}

    def __call__(self, bodies: Sequence[bytes], counts: Sequence[int], bases: Sequence[int]) -> Rows | None:
        """The rows of batches whose records (so many each, from these base offsets on) are the bodies.

        None: anything at all is not as it should be, or not as every writer here makes it.
        """
        sizes = [len(body) for body in bodies]
        if any(
            count * _SMALLEST > size or size > _LARGEST for count, size in zip(counts, sizes, strict=True)
        ):
            return None
        records, whole = sum(counts), sum(sizes)
        numbers = np.array((sizes, counts, bases), np.int64)
        pointers = (ctypes.c_char_p * len(bodies))(*bodies)
        while True:
            layout = self._layout(records, whole)
            memory = np.empty(layout.size, np.uint8)
            buffer = pa.py_buffer(memory)
            columns = layout.columns(buffer.address)
            at, step = numbers.ctypes.data, numbers.strides[0]
            status = self._decode(
                self._nodes, columns.ctypes.data, len(columns), self._header, pointers,
                at, at + step, at + 2 * step, len(bodies), buffer.address,
            )  # fmt: skip
            if status != _FULL or layout.items > whole:
                break
            self._items *= 4
        if status != _OK:
            return None
        arrays = layout.arrays(buffer, columns, records, lambda: [pa.py_buffer(body) for body in bodies])
        struct = pa.Array.from_buffers(self._type, records, [None], 0, children=arrays)
        frame = pl.DataFrame._from_pydf(pl.Series("", struct)._s.struct_unnest())
        return Rows(frame, memory[: 8 * records].view(np.int64))

    def _layout(self, records: int, whole: int) -> Layout:
        """For so many records of so many bytes in all: an item has at least one byte."""
        records = 1 << max(records, _FEWEST).bit_length()
        items = min(self._items * records, 1 << whole.bit_length())
        found = self._layouts.get((records, items))
        if found is None:
            if len(self._layouts) >= _LAYOUTS:
                self._layouts.clear()
            found = self._layouts[records, items] = Layout(self._program, records, items)
        return found


def native_reader(
    schema: Mapping[str, Any], schema_id: int, key: str, columns: Sequence[str], like: pl.DataFrame
) -> NativeReader | None:
    """A reader whose frames have the columns of `like`; None: here only Polars can read them."""
    loaded = library.load()
    if loaded is None or not columns:
        return None
    try:
        reader = NativeReader(loaded.tidewire_decode, schema, schema_id, key, columns)
        empty = reader([], [], [])
    except (NotCovered, AttributeError):  # the latter: another Polars
        return None
    return reader if empty is not None and empty.frame.schema == like.schema else None
