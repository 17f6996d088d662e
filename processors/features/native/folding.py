"""A batch of trades or quotes folded by fold.c: all of it, or none."""

from __future__ import annotations

import ctypes

import numpy as np

from processors.columns.matrix import Matrix, Rows
from processors.features import row
from processors.features.folded import Closed, Folded
from processors.features.native.library import Fold, folds
from processors.features.session import day_of
from tidewire.columns import Bare
from tidewire.fence import LogFence

_NOBODY = -(2**63)
"""No owner's epoch: what is from a socket is then left to columns, which remember whose it is."""
_COLUMNS = {
    "ts": "ts",
    "received_ts": "received",
    "source": "sources",
    "owner_epoch": "epochs",
    "price": "first_prices",
    "bid_price": "first_prices",
    "ask_price": "second_prices",
    "size": "sizes",
    "id": "ids",
}
"""By field of a record, where its column stands in fold.c's `batch`."""


class _Batch(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("words", "changed", "unsent", "seen", "rows", "offsets")),
        ("count", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("ts", "received", "sources", "epochs")),
        *((name, ctypes.c_void_p) for name in ("first_prices", "second_prices", "sizes", "ids")),
        *((name, ctypes.c_int64) for name in ("owner", "day", "day_begin", "day_end")),
        *((name, ctypes.c_void_p) for name in ("touched", "closed_rows", "closed_words")),
        *((name, ctypes.c_int64) for name in ("touched_count", "closed_count")),
        *((name, ctypes.c_int64) for name in ("applied", "repeated", "late")),
    )


class NativeFold:
    """Folds as trades.py or quotes.py do."""

    def __init__(self, functions: Fold) -> None:
        self._functions = functions
        self._seen = np.zeros(0, np.uint8)

    def __call__(self, matrix: Matrix, bare: Bare, fence: LogFence) -> Folded | None:
        """What was done with a batch of the columns that those name, in offset order.

        None: nothing of it was folded, as something in it is not ordinary: a record that must not be folded,
        of a stale owner, of a symbol without a row, of a second day, or that is too much for a sum.
        """
        owner, since = fence.rises[-1] if fence.rises else (_NOBODY, -1)
        if not bare.count or int(bare.offsets[0]) <= since:
            return None
        address = bare.memory.ctypes.data
        rows = matrix.known(address + bare.starts["symbol"], bare.count)
        if rows is None:
            return None
        begin, end, day = day_of(int(bare.longs("ts")[0]))
        held = matrix.memory()
        batch = _Batch(
            words=held.words.ctypes.data,
            changed=held.changed.ctypes.data,
            unsent=held.unsent.ctypes.data,
            rows=rows.ctypes.data,
            offsets=address,
            count=bare.count,
            owner=owner,
            day=day,
            day_begin=begin,
            day_end=end,
            **{_COLUMNS[name]: address + start for name, start in bare.starts.items() if name in _COLUMNS},
        )
        most = self._functions.look(ctypes.byref(batch))
        return None if most < 0 else self._fold(matrix, batch, most)

    def _fold(self, matrix: Matrix, batch: _Batch, most: int) -> Folded:
        """`most`: so many states may be closed."""
        if len(self._seen) < len(matrix):
            self._seen = np.zeros(2 * len(matrix), np.uint8)
        touched, closed = np.empty(batch.count, np.uint32), np.empty(most, np.uint32)
        words = np.empty((most, row.WIDTH), np.int64)
        batch.seen, batch.touched = self._seen.ctypes.data, touched.ctypes.data
        batch.closed_rows, batch.closed_words = closed.ctypes.data, words.ctypes.data
        self._functions.fold(ctypes.byref(batch))
        states: tuple[Closed, ...] = ()
        if count := batch.closed_count:
            states = (Closed(closed[:count].astype(matrix.row_type), words[:count]),)
        rows: Rows = np.sort(touched[: batch.touched_count]).astype(matrix.row_type)
        return Folded(rows, batch.applied, batch.repeated, batch.late, states)


def native_trades() -> NativeFold | None:
    """For trades; None: there is no library here."""
    found = folds()
    return None if found is None else NativeFold(found.trades)


def native_quotes() -> NativeFold | None:
    """For quotes; None: there is no library here."""
    found = folds()
    return None if found is None else NativeFold(found.quotes)
