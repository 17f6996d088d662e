"""Where each published message lies in the ledger, by channel and symbol and time, for REST.

Only places are held in memory (28 bytes a message), as one log; the index of a series is brought up to date
when somebody asks for it, so a run without REST pays nothing. When there are more messages than the limit,
the older half is forgotten: REST then answers with what is left.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Place(NamedTuple):
    """A message in the ledger: file number, offset and size in bytes."""

    file: int
    offset: int
    size: int


class Entry(NamedTuple):
    """One message of a series: event time in ns, its number among all published messages, place."""

    ns: int
    number: int
    place: Place


Numbers = npt.NDArray[np.int64]


class History:
    """Every published message. A series is one channel of one symbol, named by a number."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._forgotten = 0
        self._times = array("q")
        self._series = array("I")
        self._files = array("I")
        self._offsets = array("q")
        self._sizes = array("I")
        self._names: dict[tuple[str, str], int] = {}
        self._indexed = 0
        self._index: dict[int, list[Numbers]] = {}

    def __len__(self) -> int:
        return len(self._times)

    def series_number(self, channel: str, symbol: str) -> int:
        """The number of a series, always the same."""
        return self._names.setdefault((channel, symbol), len(self._names))

    def append(
        self,
        times: Sequence[int],
        series: Sequence[int],
        file: int,
        offsets: Sequence[int],
        sizes: Sequence[int],
    ) -> None:
        """Add messages that were just published, in order; times in ns."""
        self._times.extend(times)
        self._series.extend(series)
        self._files.extend([file] * len(times))
        self._offsets.extend(offsets)
        self._sizes.extend(sizes)
        if len(self._times) > self._limit:
            self._forget(len(self._times) // 2)

    def between(self, channel: str, symbol: str, start: int, end: int) -> Numbers:
        """Numbers of messages with start <= time <= end, by time, then by order of publishing."""
        numbers = self._numbers(channel, symbol)
        times = np.array(self._times, np.int64)[numbers - self._forgotten]
        order = np.argsort(times, kind="stable")
        ordered = times[order]
        first, stop = np.searchsorted(ordered, start), np.searchsorted(ordered, end, "right")
        return numbers[order[first:stop]]

    def newest_first(self, channel: str, symbol: str) -> Iterator[Entry]:
        """By order of publishing, backwards."""
        return (self.entry(int(number)) for number in self._numbers(channel, symbol)[::-1])

    def since(self, number: int) -> Iterator[Entry]:
        """Messages of all series from a number on, by order of publishing."""
        first = max(number, self._forgotten)
        return (self.entry(number) for number in range(first, self._forgotten + len(self._times)))

    def entry(self, number: int) -> Entry:
        """The message of a number that `between` gave.

        Raises:
            KeyError: it has been forgotten meanwhile.
        """
        at = number - self._forgotten
        if at < 0:
            raise KeyError(number)
        place = Place(self._files[at], self._offsets[at], self._sizes[at])
        return Entry(self._times[at], number, place)

    def _numbers(self, channel: str, symbol: str) -> Numbers:
        self._update_index()
        series = self._names.get((channel, symbol), -1)
        parts = self._index.get(series)
        if not parts:
            return np.empty(0, np.int64)
        if len(parts) > 1:
            parts[:] = [np.concatenate(parts)]
        return parts[0]

    def _update_index(self) -> None:
        new = np.array(self._series[self._indexed :], np.int64)
        if not len(new):
            return
        order = np.argsort(new, kind="stable")
        ordered = new[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        numbers = order + self._indexed + self._forgotten
        for series, part in zip(ordered[starts].tolist(), np.split(numbers, starts[1:]), strict=True):
            self._index.setdefault(series, []).append(part)
        self._indexed = len(self._series)

    def _forget(self, count: int) -> None:
        self._forgotten += count
        for column in (self._times, self._series, self._files, self._offsets, self._sizes):
            del column[:count]
        self._index.clear()
        self._indexed = 0
