"""Which partitions want the marks of a symbol: those of the accounts that hold it. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

Nothing: frozenset[int] = frozenset()


class Holders:
    """A fold of portfolio.positions. `partition_of` gives the partition of an account's marks."""

    def __init__(self, partition_of: Callable[[str], int]) -> None:
        self._partition_of = partition_of
        self._positions: dict[bytes, tuple[str, int, int]] = {}  # by record key: symbol, partition, epoch
        self._counts: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def __len__(self) -> int:
        return len(self._counts)

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._counts

    def partitions(self, symbol: str) -> frozenset[int]:
        """Where the symbol's marks go; empty: nobody holds it."""
        counts = self._counts.get(symbol)
        return frozenset(counts) if counts else Nothing

    def take(self, key: bytes, position: Mapping[str, Any] | None) -> tuple[str, int] | None:
        """The newest record of a position, None: deleted. Returns symbol and partition if it is newly opened.

        A new epoch is a new position, and one beside another in the same partition is new as well: whoever
        folds them has no mark for it yet.
        """
        now = self._held(position)
        before = self._positions.pop(key, None)
        if now is not None:
            self._positions[key] = now
            self._counts[now[0]][now[1]] += 1
        if before is not None:
            self._release(before[0], before[1])
        return None if now is None or now == before else now[:2]

    def _held(self, position: Mapping[str, Any] | None) -> tuple[str, int, int] | None:
        if position is None or not position["quantity"]:
            return None
        return position["symbol"], self._partition_of(position["account"]), position["epoch"]

    def _release(self, symbol: str, partition: int) -> None:
        counts = self._counts[symbol]
        counts[partition] -= 1
        if not counts[partition]:
            del counts[partition]
        if not counts:
            del self._counts[symbol]
