"""A partition's state as one integer matrix, a row a key: a batch is merged by a few numpy calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

from tidewire.columns.native.keys import NONE, key_numbers
from tidewire.fence import LogFence

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.unsignedinteger[Any]]
"""Row numbers: 16 bits wide up to 65,536 rows, which keeps argsort a radix sort; 32 bits beyond."""

Numbers = npt.NDArray[np.uint32]

# One number a key in the whole process, given by Polars in one call for a batch: where there is no native
# library, and for keys that are too long for it.
KEYS = pl.Categorical(pl.Categories("tidewire-keys", physical=pl.UInt32))
"""The type of such a column."""
# Polars forgets the numbers once no such series lives, and keys would then swap their rows: keep one alive.
_KEEP = pl.Series([""], dtype=KEYS)
_NARROW = 1 << 16
_NONE = np.uint32(NONE)  # where a process-wide number has no row here
FENCES = b"\0fences"
"""How the key of a changelog record begins that is no row: the epochs of the input topics. Its
partition's number follows, because the store holds all partitions' keys together.
"""
_FIRST_ROWS = 64
_SMALL = 100  # below it a dictionary beats what a call into the native library or into Polars costs


class Memory(NamedTuple):
    """Of a matrix: its words, and a byte a row that says whether it changed, and whether it is to be sent."""

    words: Ints
    changed: npt.NDArray[np.bool_]
    unsent: npt.NDArray[np.bool_]


class Matrix:
    """Rows of `width` int64 words, by key. `stored` are the rows of an earlier `take_changed`.

    Rows are numbered in the order in which this partition first sees its keys, whatever the process holds
    besides: memory grows with the partition's own keys.
    """

    def __init__(self, width: int, stored: Mapping[bytes, bytes] | None = None, partition: int = 0) -> None:
        self.values: Ints = np.zeros((_FIRST_ROWS, width), np.int64)
        self.expected: dict[str, int] = {}  # by input topic, the offset that follows the last one handled
        self.fences: defaultdict[str, LogFence] = defaultdict(LogFence)
        """By input topic; kept in the changelog like the rows."""
        self._changed, self._unsent = np.zeros(_FIRST_ROWS, bool), np.zeros(_FIRST_ROWS, bool)
        self._names: list[bytes] = []  # by row
        self._row_of: dict[bytes, int] = {}  # by the very objects of _names: texts of their own cost as much
        self._native = key_numbers()
        self._local: Numbers = np.full(0, _NONE, np.uint32)  # by process-wide number, the row
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
        if len(keys) < _SMALL:
            try:
                known = map(self._row_of.__getitem__, map(str.encode, keys.to_list()))
                return np.fromiter(known, self.row_type, len(keys))
            except KeyError:
                pass  # the first time: numbered below
        if not len(keys):
            return np.empty(0, self.row_type)
        rows = self._found(keys)
        if rows is None:
            rows = self._numbered(keys)
        found: Rows = rows.astype(self.row_type)
        return found

    def _found(self, keys: pl.Series) -> Numbers | None:
        """Rows by the native library; None: it is not there, or the keys are too long for it."""
        rows = None if self._native is None else self._native.find(keys)
        if self._native is None or rows is None or not (new := rows == _NONE).any():
            return rows
        self._add(keys.filter(pl.Series(new)).unique(maintain_order=True).to_list())
        return self._native.find(keys)

    def known(self, address: int, count: int) -> Numbers | None:
        """The rows of so many keys whose Arrow views stand there, by the native library.

        None: one of them has none yet, or cannot be found by it.
        """
        found = None if self._native is None else self._native.find_at(address, count)
        return None if found is None or found[1] else found[0]

    def memory(self) -> Memory:
        """What a native fold writes to, until rows are added."""
        return Memory(self.values, self._changed, self._unsent)

    def _numbered(self, keys: pl.Series) -> Numbers:
        """Rows by the process-wide numbers of Polars."""
        numbers: Numbers = keys.cast(KEYS).to_physical().to_numpy()
        if (most := int(numbers.max())) >= len(self._local):
            more = np.full(max(most + 1, 2 * len(self._local)) - len(self._local), _NONE, np.uint32)
            self._local = np.append(self._local, more)
        rows = self._local[numbers]
        if (new := rows == _NONE).any():
            fresh, at = np.unique(numbers[new], return_index=True)
            names = keys.filter(pl.Series(new)).gather(np.sort(at)).cast(pl.String).to_list()
            self._add([name for name in names if name.encode() not in self._row_of])
            self._local[fresh[np.argsort(at)]] = [self._row_of[name.encode()] for name in names]
            rows = self._local[numbers]
        return rows

    def _add(self, keys: list[str]) -> None:
        """Rows for keys that have none, in this order."""
        for row, key in enumerate(map(str.encode, keys), len(self._names)):
            self._row_of[key] = row
            self._names.append(key)
        if self._native is not None:
            self._native.add(keys)
        self._grow(len(self._names))

    @property
    def row_type(self) -> type[np.uint16] | type[np.uint32]:
        """Of row numbers, as of now."""
        return np.uint16 if len(self._names) <= _NARROW else np.uint32

    def rows_of(self, keys: Iterable[bytes]) -> Rows:
        """The row of each key, given as Kafka holds it."""
        return self.rows(pl.Series([key.decode() for key in keys], dtype=pl.String))

    def find(self, key: str) -> int | None:
        """The row of a key, None: not held. Unlike `rows` it makes no row."""
        return self._row_of.get(key.encode())

    def _grow(self, size: int) -> None:
        if size <= len(self.values):
            return
        more = max(size, 2 * len(self.values)) - len(self.values)
        self.values = np.vstack((self.values, np.zeros((more, self.values.shape[1]), np.int64)))
        self._changed = np.append(self._changed, np.zeros(more, bool))
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

    def announced(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Whether each of these rows is marked."""
        return self._unsent[rows]

    def take_announced(self) -> Rows:
        """The rows marked since the last call."""
        rows: Rows = np.flatnonzero(self._unsent).astype(self.row_type)
        self._unsent[rows] = False
        return rows

    def take_changed(self) -> dict[bytes, bytes]:
        """The rows changed since the last call, as little-endian bytes by key, and the fences if changed."""
        rows = np.flatnonzero(self._changed)
        self._changed[rows] = False
        data, size = self.values[rows].astype("<i8").tobytes(), 8 * self.values.shape[1]
        changed = {self._names[row]: data[i * size : (i + 1) * size] for i, row in enumerate(rows.tolist())}
        rises = {topic: fence.rises for topic, fence in self.fences.items() if fence.rises}
        fences = orjson.dumps(rises, option=orjson.OPT_SORT_KEYS)  # whichever topic was read first
        if fences != self._fences_kept:
            changed[self._fences_key] = self._fences_kept = fences
        return changed
