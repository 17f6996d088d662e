"""A batch sorted by row, without what its rows have already folded: the ground of every fold in columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from processors.columns.matrix import Ints, Rows

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Groups:
    """`order`: positions in the batch, by row and within a row by offset. `starts`, `ends`: where
    each row's records begin there and where its last one is; `lengths`: how many they are.

    `touched` are all rows of the batch, those that only repeat what is folded included; `rows` those with
    something new, in the order of `starts`; `repeated` counts the records left out as already folded.
    """

    order: Ints
    starts: Ints
    ends: Ints
    lengths: Ints
    rows: Rows
    touched: Rows
    repeated: int

    def spread(self, values: npt.NDArray[T]) -> npt.NDArray[T]:
        """One value a row -> one value a record."""
        return np.repeat(values, self.lengths)

    def total(self, values: npt.NDArray[T]) -> npt.NDArray[T]:
        """Sum of each row's records."""
        return np.add.reduceat(values, self.starts)

    def greatest(self, values: npt.NDArray[T]) -> npt.NDArray[T]:
        """Maximum of each row's records."""
        result: npt.NDArray[T] = np.maximum.reduceat(values, self.starts)
        return result

    def least(self, values: npt.NDArray[T]) -> npt.NDArray[T]:
        """Minimum of each row's records."""
        result: npt.NDArray[T] = np.minimum.reduceat(values, self.starts)
        return result

    def last_where(self, wanted: npt.NDArray[np.bool_]) -> Ints:
        """Position in `order` of each row's last record that is wanted (each row has one)."""
        return self.greatest(np.where(wanted, np.arange(len(wanted)), -1))


def group(rows: Rows, offsets: Ints, next_offsets: Ints) -> Groups:
    """Sort a batch by row. `next_offsets`, by row: records below it are folded already and are left out."""
    order = np.argsort(rows, kind="stable")
    touched = starts = _starts(rows[order])
    touched_rows = rows[order[touched]]
    fresh = offsets[order] >= next_offsets[rows[order]]
    repeated = len(order) - int(np.count_nonzero(fresh))
    if repeated:
        order = order[fresh]
        starts = _starts(rows[order])
    ends = np.append(starts[1:], len(order)) - 1
    return Groups(order, starts, ends, ends - starts + 1, rows[order[starts]], touched_rows, repeated)


def _starts(sorted_rows: Rows) -> Ints:
    if not len(sorted_rows):
        return np.zeros(0, np.int64)
    return np.concatenate(([0], np.flatnonzero(sorted_rows[1:] != sorted_rows[:-1]) + 1))
