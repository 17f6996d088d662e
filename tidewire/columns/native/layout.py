"""Where the columns of a batch stand in one piece of memory, and the Arrow arrays that are made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidewire.columns.native.program import ARRAY, BYTES, ENUM, RECORD, STRING, Output, Program

DATA, VALID, CAPACITY, LENGTH, NULLS, FAR = range(6)
"""The members of a column in decode.c, each of eight bytes."""
_ALIGNED = 64  # as Arrow wants its buffers

State = npt.NDArray[np.int64]


class Layout:
    """The sections of `size` bytes that hold `records` records with at most `items` items in their lists.

    The offsets of the records come first; then for each column its data and which values are no nulls.
    """

    def __init__(self, program: Program, records: int, items: int) -> None:
        self.items = items
        self._outputs = program.outputs
        self._sections: list[tuple[int, int, int, int]] = []
        self.size = 0
        self._take(8 * records)
        self._columns: State = np.zeros((len(program.columns), 6), np.int64)
        for at, column in enumerate(program.columns):
            capacity = items if column.inside else records
            data, data_size = self._take(column.data_bytes(capacity))
            valid, valid_size = self._take((capacity + 7) // 8) if column.nullable else (0, 0)
            self._columns[at, :3] = data, valid, capacity
            self._sections.append((data, data_size, valid, valid_size))
        self._starts = {o.name: self._sections[o.column][0] for o in program.outputs if o.kind != RECORD}
        self._somewhere: State = (self._columns[:, :2] > 0).astype(np.int64)

    def _take(self, size: int) -> tuple[int, int]:
        start = self.size
        self.size += -(-size // _ALIGNED) * _ALIGNED
        return start, size

    @property
    def starts(self) -> Mapping[str, int]:
        """Where the data of each output begins that has a column of its own."""
        return self._starts

    def start(self, column: int) -> int:
        """Where the data of one of the program's columns begins."""
        return self._sections[column][0]

    def columns(self, address: int) -> State:
        """The columns as decode.c wants them, for memory at this address."""
        columns = self._columns.copy()
        columns[:, :2] += address * self._somewhere
        return columns

    def arrays(
        self, memory: pa.Buffer, columns: State, records: int, bodies: Callable[[], list[pa.Buffer]]
    ) -> list[pa.Array]:
        """The outputs, once decode.c has written them. `bodies`: the buffers that long texts stand in."""
        filled = columns.tolist()
        return [self._array(output, records, memory, filled, bodies) for output in self._outputs]

    def _array(
        self,
        output: Output,
        length: int,
        memory: pa.Buffer,
        columns: Sequence[Sequence[int]],
        bodies: Callable[[], list[pa.Buffer]],
    ) -> pa.Array:
        if output.kind == RECORD:
            parts = [self._array(part, length, memory, columns, bodies) for part in output.parts]
            return pa.Array.from_buffers(output.type, length, [None], children=parts)
        column = columns[output.column]
        data, data_size, valid, valid_size = self._sections[output.column]
        nulls = column[NULLS]
        buffers: list[Any] = [
            memory.slice(valid, valid_size) if nulls else None,
            memory.slice(data, data_size),
        ]
        if output.kind == ARRAY:
            inner = output.parts[0]
            items = _length(inner, columns)
            parts = [self._array(inner, items, memory, columns, bodies)]
            return pa.Array.from_buffers(output.type, length, buffers, nulls, children=parts)
        if output.kind == ENUM:
            codes = pa.Array.from_buffers(pa.uint8(), length, buffers, nulls)
            return pa.DictionaryArray.from_arrays(codes, output.symbols)
        if output.kind in (STRING, BYTES) and column[FAR]:
            buffers += bodies()
        return pa.Array.from_buffers(output.type, length, buffers, nulls)


def _length(output: Output, columns: Sequence[Sequence[int]]) -> int:
    """How many values a list's items have: a record has no column of its own, its first field does."""
    while output.kind == RECORD:
        output = output.parts[0]
    return columns[output.column][LENGTH]
