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
