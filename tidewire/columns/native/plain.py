"""What decode.c has written, as lists: for small batches of which every record is looked at."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tidewire.columns.native.layout import FAR, Layout, State
from tidewire.columns.native.program import ARRAY, DOUBLE, ENUM, LONG, STRING, NotCovered, Output, Program

_VIEW = 16
_SHORT = 12  # bytes of a text that stands in its view
_far = struct.Struct("<8xII")
_MOST_KNOWN = 100_000
_LONGEST_KNOWN = 8  # texts of a list that is kept; a longer one is made anew each time
_NUMBERS = {LONG: np.int64, DOUBLE: np.float64}


class Plain(NamedTuple):
    """The offsets of records, and for each wanted field its values; a list of texts is a tuple."""

    offsets: list[int]
    columns: list[list[Any]]


class Filled(NamedTuple):
    """What decode.c has written of `bodies`: `columns` are its own words on each."""

    memory: npt.NDArray[np.uint8]
    layout: Layout
    columns: State
    records: int
    bodies: Sequence[bytes]

    def views(self, column: int, count: int) -> bytes:
        """The views of a column's first texts."""
        start = self.layout.start(column)
        return self.memory[start : start + _VIEW * count].tobytes()

    def numbers(self, column: int, count: int, dtype: Any) -> list[Any]:
        """A column's first numbers."""
        start, size = self.layout.start(column), np.dtype(dtype).itemsize * count
        found: list[Any] = self.memory[start : start + size].view(dtype).tolist()
        return found


class PlainColumns:
    """Makes the lists of one program's outputs. Texts that came before are not decoded again.

    Raises:
        NotCovered: an output is something else than a long, double, text, enum or list of texts, or may be
            null.
    """

    def __init__(self, program: Program) -> None:
        self._texts, self._lists = _Texts(), _Lists()
        self._makers = [self._maker(program, output) for output in program.outputs]

    def __call__(self, filled: Filled) -> Plain:
        """The lists of what was decoded."""
        offsets = filled.memory[: 8 * filled.records].view(np.int64).tolist()
        return Plain(offsets, [make(filled) for make in self._makers])

    def _maker(self, program: Program, output: Output) -> Callable[[Filled], list[Any]]:
        if output.column < 0 or program.columns[output.column].nullable:
            raise NotCovered(f"{output.name}: not one value a record")
        if output.kind in _NUMBERS:
            return lambda filled: filled.numbers(output.column, filled.records, _NUMBERS[output.kind])
        if output.kind == ENUM:
            return partial(_enums, output)
        if output.kind == STRING:
            return lambda filled: self._strings(filled, output.column, filled.records)
        if output.kind == ARRAY and _of_texts(program, output):
            return partial(self._tuples, output)
        raise NotCovered(output.name)

    def _strings(self, filled: Filled, column: int, count: int) -> list[str]:
        views, texts = filled.views(column, count), self._texts
        each = (views[at : at + _VIEW] for at in range(0, len(views), _VIEW))
        if not filled.columns[column, FAR]:
            return [texts[view] for view in each]
        return [_text(view, filled.bodies) if _is_far(view) else texts[view] for view in each]

    def _tuples(self, output: Output, filled: Filled) -> list[tuple[str, ...]]:
        ends = filled.numbers(output.column, filled.records + 1, np.int64)
        items = output.parts[0].column
        if filled.columns[items, FAR]:
            strings = self._strings(filled, items, ends[-1])
            return [tuple(strings[begin:end]) for begin, end in pairwise(ends)]
        views, lists = filled.views(items, ends[-1]), self._lists
        return [lists[views[_VIEW * begin : _VIEW * end]] for begin, end in pairwise(ends)]


def _of_texts(program: Program, output: Output) -> bool:
    item = output.parts[0]
    return item.kind == STRING and not program.columns[item.column].nullable


def _is_far(view: bytes) -> bool:
    return view[0] > _SHORT or view[1:4] != b"\0\0\0"


def _enums(output: Output, filled: Filled) -> list[str]:
    symbols = output.symbols
    return [symbols[code] for code in filled.numbers(output.column, filled.records, np.uint8)]


def _text(view: bytes, bodies: Sequence[bytes]) -> str:
    """A text that stands in its body."""
    number, start = _far.unpack(view)
    text: str = bodies[number][start : start + int.from_bytes(view[:4], "little")].decode()
    return text


def _short(views: bytes, at: int) -> str:
    """The text of the view that begins there."""
    return views[at + 4 : at + 4 + views[at]].decode()


class _Texts(dict[bytes, str]):
    """Short texts by their views."""

    def __missing__(self, view: bytes) -> str:
        if len(self) >= _MOST_KNOWN:
            self.clear()
        self[view] = text = _short(view, 0)
        return text


class _Lists(dict[bytes, tuple[str, ...]]):
    """Lists of short texts by their views."""

    def __missing__(self, views: bytes) -> tuple[str, ...]:
        texts = tuple(_short(views, at) for at in range(0, len(views), _VIEW))
        if len(texts) <= _LONGEST_KNOWN:
            if len(self) >= _MOST_KNOWN:
                self.clear()
            self[views] = texts
        return texts
