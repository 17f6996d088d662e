"""Records of one schema version to rows, by decode.c: all of them, or none."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from tidewire.columns.decoded import Offsets
from tidewire.columns.native import library
from tidewire.columns.native.layout import Layout
from tidewire.columns.native.plain import Filled, Plain, PlainColumns
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


@dataclass(frozen=True, slots=True)
class Bare:
    """The same as decode.c has written them into `memory`: offsets first, and where each column begins."""

    memory: npt.NDArray[np.uint8]
    count: int
    starts: Mapping[str, int]

    @property
    def offsets(self) -> Offsets:
        """Of the records."""
        return self._longs(0)

    def longs(self, name: str) -> Offsets:
        """A column of longs."""
        return self._longs(self.starts[name])

    def _longs(self, start: int) -> Offsets:
        found: Offsets = self.memory[start : start + 8 * self.count].view(np.int64)
        return found


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
        self._plain: PlainColumns | None = None

    def __call__(self, bodies: Sequence[bytes], counts: Sequence[int], bases: Sequence[int]) -> Rows | None:
        """The rows of batches whose records (so many each, from these base offsets on) are the bodies.

        None: anything at all is not as it should be, or not as every writer here makes it.
        """
        found = self._fill(bodies, counts, bases)
        if found is None:
            return None
        buffer = pa.py_buffer(found.memory)
        arrays = found.layout.arrays(
            buffer, found.columns, found.records, lambda: [pa.py_buffer(body) for body in bodies]
        )
        struct = pa.Array.from_buffers(self._type, found.records, [None], 0, children=arrays)
        frame = pl.DataFrame._from_pydf(pl.Series("", struct)._s.struct_unnest())
        return Rows(frame, found.memory[: 8 * found.records].view(np.int64))

    def bare(self, bodies: Sequence[bytes], counts: Sequence[int], bases: Sequence[int]) -> Bare | None:
        """The same without Polars, of columns that each have one value a record, never null."""
        found = self._fill(bodies, counts, bases)
        return None if found is None else Bare(found.memory, found.records, found.layout.starts)

    def plain(self, bodies: Sequence[bytes], counts: Sequence[int], bases: Sequence[int]) -> Plain | None:
        """The same as lists; of columns that PlainColumns does not make it raises NotCovered."""
        if self._plain is None:
            self._plain = PlainColumns(self._program)
        found = self._fill(bodies, counts, bases)
        return None if found is None else self._plain(found)

    def _fill(self, bodies: Sequence[bytes], counts: Sequence[int], bases: Sequence[int]) -> Filled | None:
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
            address = memory.ctypes.data
            columns = layout.columns(address)
            at, step = numbers.ctypes.data, numbers.strides[0]
            status = self._decode(
                self._nodes, columns.ctypes.data, len(columns), self._header, pointers,
                at, at + step, at + 2 * step, len(bodies), address,
            )  # fmt: skip
            if status != _FULL or layout.items > whole:
                break
            self._items *= 4
        return Filled(memory, layout, columns, records, bodies) if status == _OK else None

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
