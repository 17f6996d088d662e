"""Where each published message lies in the ledger, by channel and symbol and time, for REST.

Only places are held in memory (24 bytes a message). When there are more than the limit, the older half of
every series is forgotten: REST then answers with what is left, as Alpaca's free plan does with old quotes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Place(NamedTuple):
    """A message in the ledger: file number, offset and size in bytes."""

    file: int
    offset: int
    size: int


class Entry(NamedTuple):
    """One message of a series: event time in ns, number since the start of the series, place."""

    ns: int
    number: int
    place: Place


class Series:
    """The messages of one channel and symbol, in the order of publishing."""

    __slots__ = ("_files", "_offsets", "_sizes", "_sorted", "_times", "dropped")

    def __init__(self) -> None:
        self._times = array("q")
        self._files = array("I")
        self._offsets = array("q")
        self._sizes = array("I")
        self._sorted = True
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._times)

    def append(self, ns: int, place: Place) -> None:
        """Add the newest message."""
        if self._times and ns < self._times[-1]:
            self._sorted = False
        self._times.append(ns)
        self._files.append(place.file)
        self._offsets.append(place.offset)
        self._sizes.append(place.size)

    def between(self, start: int, end: int) -> npt.NDArray[np.int64]:
        """Indices of messages with start <= time <= end, by time, then by order of publishing."""
        times = np.array(self._times, np.int64)
        if self._sorted:
            return np.arange(np.searchsorted(times, start), np.searchsorted(times, end, "right"))
        order = np.argsort(times, kind="stable")
        ordered = times[order]
        return order[np.searchsorted(ordered, start) : np.searchsorted(ordered, end, "right")]

    def entry(self, index: int) -> Entry:
        """The message at an index given by `between`."""
        place = Place(self._files[index], self._offsets[index], self._sizes[index])
        return Entry(self._times[index], self.dropped + index, place)

    def newest_first(self) -> Iterator[Entry]:
        """By order of publishing, backwards."""
        return (self.entry(i) for i in range(len(self._times) - 1, -1, -1))

    def drop(self, count: int) -> None:
        """Forget the oldest messages."""
        self.dropped += count
        for column in (self._times, self._files, self._offsets, self._sizes):
            del column[:count]


class History:
    """Every series, bounded in all by `limit` messages."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._series: dict[tuple[str, str], Series] = {}

    def append(self, channel: str, symbol: str, ns: int, place: Place) -> None:
        """Add a message that was just published."""
        series = self._series.get((channel, symbol))
        if series is None:
            series = self._series[channel, symbol] = Series()
        series.append(ns, place)
        self._count += 1
        if self._count > self._limit:
            self._halve()

    def series(self, channel: str, symbol: str) -> Series:
        """The series; empty when nothing was published."""
        return self._series.get((channel, symbol)) or Series()

    def symbols(self) -> list[str]:
        """Every symbol that has a message, sorted."""
        return sorted({symbol for _, symbol in self._series})

    def _halve(self) -> None:
        for series in self._series.values():
            series.drop(len(series) // 2)
        self._count = sum(map(len, self._series.values()))
