"""A partition's state as one integer matrix, a row a key: a batch is merged by a few numpy calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

from tidewire.fence import LogFence

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.uint16]

# One number a key in the whole process; 16 bits keep argsort a radix sort and suffice for 65,000 symbols.
_KEYS = pl.Categorical(pl.Categories("tidewire-keys", physical=pl.UInt16))
# Polars forgets the numbers once no such series lives, and keys would then swap their rows: keep one alive.
_KEEP = pl.Series([""], dtype=_KEYS)
_numbers: dict[str, int] = {}
FENCES = b"\0fences"
"""How the key of a changelog record begins that is no row: the epochs of the input topics. Its
partition's number follows, because the store holds all partitions' keys together.
"""
_SMALL = 200  # below it a dictionary beats what a call into Polars costs


class Matrix:
    """Rows of `width` int64 words, by key. `stored` are the rows of an earlier `take_changed`."""

    def __init__(self, width: int, stored: Mapping[bytes, bytes] | None = None, partition: int = 0) -> None:
        self.values: Ints = np.zeros((256, width), np.int64)
        self.expected: dict[str, int] = {}  # by input topic, the offset that follows the last one handled
        self.fences: defaultdict[str, LogFence] = defaultdict(LogFence)
        """By input topic; kept in the changelog like the rows."""
        self._changed, self._known = np.zeros(256, bool), np.zeros(256, bool)
        self._unsent = np.zeros(256, bool)
        self._names: dict[int, bytes] = {}
        stored = dict(stored or {})
        self._fences_key = FENCES + str(partition).encode()
        self._fences_kept = stored.pop(self._fences_key, b"{}")
        for topic, rises in orjson.loads(self._fences_kept).items():
            self.fences[topic] = LogFence(rises)
        if stored:
            rows = self.rows_of(stored)
            self.values[rows] = np.frombuffer(b"".join(stored.values()), "<i8").reshape(-1, width)

    def __len__(self) -> int:
        return len(self._names)

    def rows(self, keys: pl.Series) -> Rows:
        """The row of each key; a key not seen before gets a row of zeros."""
        rows = _numbers_of(keys)
        if len(rows):
            self._grow(int(rows.max()) + 1)
        for position in np.flatnonzero(~self._known[rows]).tolist():
            row = int(rows[position])
            if not self._known[row]:
                self._known[row], self._names[row] = True, str(keys[position]).encode()
                _numbers[str(keys[position])] = row
        return rows

    def rows_of(self, keys: Iterable[bytes]) -> Rows:
        """The row of each key, given as Kafka holds it."""
        return self.rows(pl.Series([key.decode() for key in keys], dtype=pl.String))

    def find(self, key: str) -> int | None:
        """The row of a key, None: not held. Unlike `rows` it makes no row."""
        row = _numbers.get(key)
        return row if row is not None and row < len(self._known) and self._known[row] else None

    def _grow(self, size: int) -> None:
        if (more := max(size, 2 * len(self.values)) - len(self.values)) and size > len(self.values):
            self.values = np.vstack((self.values, np.zeros((more, self.values.shape[1]), np.int64)))
            self._changed = np.append(self._changed, np.zeros(more, bool))
            self._known = np.append(self._known, np.zeros(more, bool))
            self._unsent = np.append(self._unsent, np.zeros(more, bool))

    def name(self, row: int) -> bytes:
        """The key of a row."""
        return self._names[row]

    def put(self, rows: Rows, values: Ints) -> None:
        """Replace rows; they count as changed until the next `take_changed`."""
        self.values[rows] = values
        self._changed[rows] = True

    def announce(self, rows: Rows) -> None:
        """Mark rows as to be sent, changed or not."""
        self._unsent[rows] = True

    def take_announced(self) -> Rows:
        """The rows marked since the last call."""
        rows = np.flatnonzero(self._unsent).astype(np.uint16)
        self._unsent[rows] = False
        return rows

    def take_changed(self) -> dict[bytes, bytes]:
        """The rows changed since the last call, as little-endian bytes by key, and the fences if changed."""
        rows = np.flatnonzero(self._changed)
        self._changed[rows] = False
        data, size = self.values[rows].astype("<i8").tobytes(), 8 * self.values.shape[1]
        changed = {self._names[row]: data[i * size : (i + 1) * size] for i, row in enumerate(rows.tolist())}
        fences = orjson.dumps({topic: fence.rises for topic, fence in self.fences.items() if fence.rises})
        if fences != self._fences_kept:
            changed[self._fences_key] = self._fences_kept = fences
        return changed


def _numbers_of(keys: pl.Series) -> Rows:
    if len(keys) < _SMALL:
        try:
            return np.fromiter(map(_numbers.__getitem__, keys.to_list()), np.uint16, len(keys))
        except KeyError:
            pass  # the first time: Polars gives the number
    rows: Rows = keys.cast(_KEYS).to_physical().to_numpy()
    return rows
