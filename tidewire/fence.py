"""Which records are a stale owner's. Pure.

A feed has one owner at a time, and every owner writes its epoch into its records. One that was stopped for a
while (SIGSTOP, a machine that slept) may still write when another has taken over: within a topic-partition,
or for one key of a topic that is keyed by account, a record from the socket (`source` ws) whose epoch is
smaller than the greatest before it is such an owner's. Nobody folds or stores it. Records from REST, RSS and
webhooks are no owner's: they are never stale, and say nothing about who owns the feed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import polars as pl

OWNED = "ws"
"""The source of what owners write."""
REASON = "stale"
"""The reason under which readers count what they leave out."""

_KEPT_RISES = 8

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Fence:
    """Of one topic-partition (or key). Whoever keeps what was folded keeps `greatest` with it."""

    __slots__ = ("greatest",)

    def __init__(self, greatest: int = 0) -> None:
        self.greatest = greatest
        """The greatest epoch of an owner that was seen."""

    def stale(self, record: Mapping[str, Any]) -> bool:
        """Whether the next record (with `owner_epoch` and `source`) is a stale owner's."""
        if record["source"] != OWNED:
            return False
        epoch: int = record["owner_epoch"]
        if epoch < self.greatest:
            return True
        self.greatest = epoch
        return False

    def stale_rows(self, epochs: Ints, sources: pl.Series) -> Mask | None:
        """The same of the next records in columns, in the order of their offsets; None: none is stale.

        `sources` is looked at only where the epochs are not all the greatest one: nearly never.
        """
        if not len(epochs):
            return None
        least, most = int(epochs.min()), int(epochs.max())
        if least == most == self.greatest:
            return None
        owned: Mask = (sources == OWNED).to_numpy()
        running = np.maximum.accumulate(np.where(owned, np.maximum(epochs, self.greatest), self.greatest))
        self.greatest = int(running[-1])
        stale: Mask = owned & (epochs < running)
        return stale if stale.any() else None


class Fences:
    """One fence a key; `known` are the greatest epochs of before."""

    def __init__(self, known: Mapping[str, int] | Iterable[tuple[str, int]] = ()) -> None:
        self._fences = {key: Fence(greatest) for key, greatest in dict(known).items()}

    def stale(self, key: str, record: Mapping[str, Any]) -> bool:
        """Whether the next record of this key is a stale owner's."""
        fence = self._fences.get(key)
        if fence is None:
            fence = self._fences[key] = Fence()
        return fence.stale(record)

    def greatest(self, key: str) -> int:
        """The greatest epoch of an owner that was seen for this key; 0: none."""
        fence = self._fences.get(key)
        return 0 if fence is None else fence.greatest


class LogFence:
    """Of one topic-partition, for readers that may read the log again from an earlier offset: it remembers
    where its greatest epoch rose, so that every record is judged the second time as it was the first.

    `rises` are pairs of an epoch and the offset of its first record; who keeps what was folded keeps them.
    """

    __slots__ = ("rises",)

    def __init__(self, rises: Iterable[Iterable[int]] = ()) -> None:
        self.rises = [(epoch, offset) for epoch, offset in rises]

    def copy(self) -> LogFence:
        """Another with the same state."""
        return LogFence(self.rises)

    def stale(self, record: Mapping[str, Any], offset: int) -> bool:
        """Whether the record (with `owner_epoch` and `source`) at this offset is a stale owner's."""
        if record["source"] != OWNED:
            return False
        epoch: int = record["owner_epoch"]
        if epoch < self._before(offset):
            return True
        self._rise(epoch, offset)
        return False

    def stale_rows(self, epochs: Ints, sources: pl.Series, offsets: Ints) -> Mask | None:
        """The same of records in columns, in the order of their offsets; None: none is stale.

        `sources` is looked at only where the epochs are not all the greatest one: nearly never.
        """
        if not len(epochs):
            return None
        least, most, first = int(epochs.min()), int(epochs.max()), int(offsets[0])
        if self.settled(least, most, first):
            return None
        before = self._before(first)
        owned: Mask = (sources == OWNED).to_numpy()
        running = np.maximum.accumulate(np.where(owned, np.maximum(epochs, before), before))
        for place in np.flatnonzero(np.diff(running, prepend=before)).tolist():
            self._rise(int(running[place]), int(offsets[place]))
        stale: Mask = owned & (epochs < running)
        return stale if stale.any() else None

    def settled(self, least: int, most: int, first: int) -> bool:
        """Whether records from the offset `first` on, whose epochs are these, are all of the owner that is
        known: then none is stale.
        """
        return bool(self.rises) and least == most == self.rises[-1][0] and first > self.rises[-1][1]

    def _before(self, offset: int) -> int:
        return next((epoch for epoch, rise in reversed(self.rises) if rise < offset), 0)

    def _rise(self, epoch: int, offset: int) -> None:
        if not self.rises or (epoch > self.rises[-1][0] and offset > self.rises[-1][1]):
            self.rises = [*self.rises[1 - _KEPT_RISES :], (epoch, offset)]
