"""Numbers of keys, found a batch at a time by keys.c."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tidewire.columns.native import library

NONE = 0xFFFF_FFFF
"""Where a key has no number yet."""
_WORDS = 3  # of a slot
_FIRST_BITS = 7
_FULLEST = 2 / 3
_VIEWS = pl.CompatLevel.newest()

Numbers = npt.NDArray[np.uint32]


class KeyNumbers:
    """The numbers 0, 1, 2... of keys, in the order in which they were added."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._count, self._bits = 0, _FIRST_BITS
        self._slots = np.zeros((1 << self._bits, _WORDS), np.uint64)

    def find(self, keys: pl.Series) -> Numbers | None:
        """The number of each key, NONE where it has none; None: they cannot be found here."""
        if keys.dtype != pl.String or keys.null_count() or not len(keys):
            return None
        _held, address = _views(keys)
        found = self.find_at(address, len(keys))
        return None if found is None else found[0]

    def find_at(self, address: int, count: int) -> tuple[Numbers, int] | None:
        """The number of each of so many keys whose Arrow views stand there, and how many have none."""
        numbers = np.empty(count, np.uint32)
        table = self._slots.ctypes.data, self._bits
        missing = self._library.tidewire_numbers(*table, address, count, numbers.ctypes.data)
        return None if missing < 0 else (numbers, missing)

    def add(self, keys: Sequence[str]) -> None:
        """Give keys that have none the next numbers. Long ones use theirs up and are not found."""
        first, self._count = self._count, self._count + len(keys)
        if self._count > _FULLEST * len(self._slots):
            self._grow()
        _held, address = _views(pl.Series(keys, dtype=pl.String))
        self._library.tidewire_number(self._slots.ctypes.data, self._bits, address, len(keys), first)

    def _grow(self) -> None:
        """To a table that is between a quarter and a half full."""
        bits = (2 * self._count).bit_length()
        slots = np.zeros((1 << bits, _WORDS), np.uint64)
        self._library.tidewire_renumber(self._slots.ctypes.data, self._bits, slots.ctypes.data, bits)
        self._slots, self._bits = slots, bits


def key_numbers() -> KeyNumbers | None:
    """An empty one; None: there is no library."""
    loaded = library.load()
    return None if loaded is None else KeyNumbers(loaded)


def _views(keys: pl.Series) -> tuple[Any, int]:
    """The keys as Arrow has them, and where their views are while the former lives."""
    arrow = keys.to_arrow(compat_level=_VIEWS)
    return arrow, arrow.buffers()[1].address + 16 * arrow.offset
