"""Numbers and short texts of Avro, many at once: each from a word of eight bytes that begins where it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from processors.columns.matrix import KEYS

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

U = np.uint64
MORE = U(0x8080_8080_8080_8080)
"""The bit of each byte that says that a varint goes on."""
LOW = np.array([(1 << 8 * n) - 1 for n in range(9)], U)
"""Masks of the first n bytes."""
_SLOTS = 16
_KNOWN = 200_000
_FACTORS = (U(0x9E37_79B9_7F4A_7C15), U(0xC2B2_AE3D_27D4_EB4F))
_MIX = U(0x1656_67B1_9E37_79F9)
_ALL = (1 << 64) - 1


def squeeze(words: Words, size: int = 8) -> Words:
    """The groups of seven bits of varints of at most `size` bytes, joined; nothing else is in the words."""
    x = words & U(0x7F7F_7F7F_7F7F_7F7F)
    if size == 1:
        return x
    x = (x & U(0x007F_007F_007F_007F)) | ((x & U(0x7F00_7F00_7F00_7F00)) >> U(1))
    if size == 2:
        return x
    x = (x & U(0x0000_3FFF_0000_3FFF)) | ((x & U(0x3FFF_0000_3FFF_0000)) >> U(2))
    return x if size <= 4 else (x & U(0x0FFF_FFFF)) | ((x & U(0x0FFF_FFFF_0000_0000)) >> U(4))


def signed(zigzag: Words) -> Ints:
    """Avro's numbers: 0, -1, 1, -2 ..."""
    found: Ints = ((zigzag >> U(1)) ^ (U(0) - (zigzag & U(1)))).view(np.int64)
    return found


def lowest_end(words: Words) -> tuple[Words, npt.NDArray[np.uint8]]:
    """The bit that ends the varint at the start of each word, and its length in bytes.

    Where it goes on beyond the word the bit is 0 and the length 8.
    """
    ends = ~words & MORE
    lowest = ends & (U(0) - ends)
    return lowest, (np.bitwise_count(lowest - U(1)) + np.uint8(1)) >> np.uint8(3)


class Table:
    """What is known of pairs of words, found by arithmetic alone; `learn` is asked once for each that is not.

    It says what number (from 0 on) a pair has, or -1. A pair that finds both its slots taken, or has no
    number, is looked up in a dictionary each time.
    """

    def __init__(self, learn: Callable[[int, int], int]) -> None:
        self._learn = learn
        self._known: dict[tuple[int, int], int] = {}
        self._first, self._second = np.zeros(1 << _SLOTS, U), np.zeros(1 << _SLOTS, U)
        self._numbers = np.full(1 << _SLOTS, -1, np.int64)

    def __call__(self, first: Words, second: Words | None = None) -> Ints:
        """The number of each pair (or of words alone); -1: it stands for nothing."""
        numbers = self._look(first, second, _FACTORS[0])
        if (missed := np.flatnonzero(numbers < 0)).size:
            numbers[missed] = self._again(first[missed], None if second is None else second[missed])
        return numbers

    def _look(self, first: Words, second: Words | None, factor: np.uint64) -> Ints:
        mixed = first if second is None else first ^ (second * _MIX)
        slots = ((mixed * factor) >> U(64 - _SLOTS)).view(np.int64)
        same = self._first[slots] == first
        if second is not None:
            same &= self._second[slots] == second
        return np.where(same, self._numbers[slots], -1)

    def _again(self, first: Words, second: Words | None) -> Ints:
        numbers = self._look(first, second, _FACTORS[1])
        missed = np.flatnonzero(numbers < 0)
        if len(missed):
            one = first[missed]
            other = np.zeros(len(missed), U) if second is None else second[missed]
            numbers[missed] = self._numbers_of(one, other)
        return numbers

    def _numbers_of(self, first: Words, second: Words) -> Ints:
        """By the dictionary: once for each pair that is among them, as the first of a log are many."""
        _, at, which = np.unique(first ^ (second * _MIX), return_index=True, return_inverse=True)
        pairs = zip(first[at].tolist(), second[at].tolist(), strict=True)
        numbers = np.array([self._number(pair) for pair in pairs], np.int64)[which]
        differ = np.flatnonzero((first != first[at][which]) | (second != second[at][which]))
        for place in differ.tolist():  # two pairs that mix to the same word
            numbers[place] = self._number((int(first[place]), int(second[place])))
        return numbers

    def _number(self, pair: tuple[int, int]) -> int:
        number = self._known.get(pair)
        if number is None:
            if len(self._known) >= _KNOWN:  # odd input must not grow it without end
                self._known.clear()
            number = self._known[pair] = self._learn(*pair)
            if number >= 0:
                self._keep(pair, number)
        return number

    def _keep(self, pair: tuple[int, int], number: int) -> None:
        mixed = pair[0] ^ (pair[1] * int(_MIX) & _ALL)
        for factor in _FACTORS:
            slot = (mixed * int(factor) & _ALL) >> (64 - _SLOTS)
            if self._numbers[slot] < 0:
                self._first[slot], self._second[slot], self._numbers[slot] = *pair, number
                return


class Symbols:
    """Symbols of at most eight bytes, by the word that they are."""

    dtype = KEYS

    def __init__(self) -> None:
        self._names: list[str] = []
        self._series = pl.Series("symbol", [], dtype=self.dtype)
        self.numbers = Table(self._learn)

    def _learn(self, word: int, _: int) -> int:
        text = word.to_bytes(8, "little").rstrip(b"\0")
        try:
            name = text.decode()
        except UnicodeDecodeError:
            return -1
        if "\0" in name or not name:
            return -1
        self._names.append(name)
        return len(self._names) - 1

    def series(self, numbers: Ints) -> pl.Series:
        """The symbols of these numbers; of those that have none, any."""
        if len(self._series) != len(self._names):
            self._series = pl.Series("symbol", self._names, dtype=self.dtype)
        return self._series[np.maximum(numbers, 0)] if len(self._names) else self._series
