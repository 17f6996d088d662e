"""Whose rows of a changelog partition count.

The group gives a partition to one worker at a time, but a worker that stands still (a stopped process, a
machine that sleeps) can be taken for dead between its last look at the group and its write, and the write
arrives behind those of the next owner. Kafka knows who wrote a record batch: an idempotent producer has an id
of its own, which compaction keeps. So the first batch of every owner begins with a mark, greater than every
mark that it has read; behind an accepted mark only that producer's rows count, until a greater mark. What the
worker that stood still writes has no mark, or a smaller one.

A mark is a number, counted up from the last one read, and the group's generation: two owners that have
read the same changelog differ in it. It needs no clock. Where batches are read record by record, all
producers look alike (-1), and every row counts.
"""

from __future__ import annotations

from typing import NamedTuple

from processors.columns.matrix import FENCES

MARK = FENCES + b"-owner"
"""The key of a mark in the changelog."""


class Mark(NamedTuple):
    """The greater one wins."""

    number: int
    generation: int

    @classmethod
    def read(cls, value: bytes) -> Mark:
        """What `bytes()` made."""
        number, generation = value.split(b".")
        return cls(int(number), int(generation))

    def __bytes__(self) -> bytes:
        return b"%d.%d" % self


class Ownership:
    """Of one partition, as far as its changelog was read."""

    __slots__ = ("_mark", "_producer")

    def __init__(self) -> None:
        self._mark: Mark | None = None
        self._producer = -1

    def see(self, mark: Mark, producer_id: int) -> None:
        """A mark was read, or written."""
        if self._mark is None or mark > self._mark:
            self._mark, self._producer = mark, producer_id

    def counts(self, producer_id: int) -> bool:
        """Whether a row of this producer counts; before the first mark every row does."""
        return self._mark is None or producer_id == self._producer

    def next(self, generation: int) -> Mark:
        """Greater than every mark seen; of two workers that saw the same, the later generation's is."""
        return Mark(self._mark.number + 1 if self._mark is not None else 1, generation)
