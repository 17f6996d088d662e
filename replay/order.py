"""The total order in which a replay folds several topics: time, rank of the topic, partition, offset. Pure.

The time of a record is its event time, or its receive time where that is earlier: an announcement counts from
when it was made, and a wild time stamp from when it came. It is never less than that of a record before it in
its partition, so a partition is folded in the order of its offsets, and a late record stands where it was
written. Nothing of this depends on how the log is cut into pieces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush, heapreplace
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
T = TypeVar("T")

EVENT, RECEIVED = "event", "received"
"""By which time: the event's, or the receipt's (for recorded markets that were played on another day)."""


class Lane(NamedTuple):
    """One partition of one topic; `rank` is the topic's among all that are replayed."""

    rank: int
    partition: int


class Key(NamedTuple):
    """A record's place. Times in ns since 1970 UTC."""

    time: int
    rank: int
    partition: int
    offset: int


class Times:
    """The times of one partition's records, in the order of their offsets."""

    def __init__(self, by: str = EVENT) -> None:
        self._by_receipt = by == RECEIVED
        self.event = 0
        """Event time that the partition has come to: of tick times none is greater."""
        self._received = 0

    def see(self, ts: int, received_ts: int) -> int:
        """The time of the next record, of this event time and receive time."""
        self.event = max(self.event, min(ts, received_ts))
        self._received = max(self._received, received_ts)
        return self.now

    @property
    def now(self) -> int:
        """The time of a record that has none."""
        return self._received if self._by_receipt else self.event

    def see_all(self, ts: Ints, received_ts: Ints) -> tuple[Ints, Ints]:
        """The same of several: their times, and the event times that they have come to."""
        event = _rising(np.minimum(ts, received_ts), self.event)
        received = _rising(received_ts, self._received)
        if len(event):
            self.event, self._received = int(event[-1]), int(received[-1])
        return (received if self._by_receipt else event), event


class Merge(Generic[T]):
    """Lanes that are filled piece by piece, and taken from in the total order.

    Nothing is taken while a lane that goes on is empty: its next record may be the first.
    """

    def __init__(self, lanes: Iterable[Lane]) -> None:
        self._queues: dict[Lane, deque[tuple[Key, T]]] = {lane: deque() for lane in lanes}
        self.hungry = set(self._queues)
        """Lanes of which more must come before anything else can be taken."""
        self._going = set(self._queues)
        self._heads: list[tuple[Key, Lane]] = []

    def push(self, lane: Lane, entries: Iterable[tuple[Key, T]]) -> None:
        """More of a lane, in the order of its offsets."""
        queue = self._queues[lane]
        empty = not queue
        queue.extend(entries)
        if empty and queue:
            heappush(self._heads, (queue[0][0], lane))
            self.hungry.discard(lane)

    def finish(self, lane: Lane) -> None:
        """Nothing more will come of it."""
        self._going.discard(lane)
        self.hungry.discard(lane)

    def held(self, lane: Lane) -> int:
        """Records of a lane that wait."""
        return len(self._queues[lane])

    def take(self) -> Iterator[tuple[Key, T]]:
        """All whose turn has come, until a lane runs empty."""
        heads, queues = self._heads, self._queues
        while heads and not self.hungry:
            lane = heads[0][1]
            queue = queues[lane]
            yield queue.popleft()
            if queue:
                heapreplace(heads, (queue[0][0], lane))
            else:
                heappop(heads)
                if lane in self._going:
                    self.hungry.add(lane)


def _rising(values: Ints, least: int) -> Ints:
    found: Ints = np.maximum.accumulate(np.maximum(values, least)) if len(values) else values
    return found
