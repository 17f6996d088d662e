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
        self._positions: dict[bytes, tuple[str, int]] = {}  # by record key: symbol and partition
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
        """The newest record of a position, None: deleted. Returns symbol and partition where newly held."""
        held = position is not None and position["quantity"] != 0
        now = (position["symbol"], self._partition_of(position["account"])) if position and held else None
        before = self._positions.get(key)
        if now == before:
            return None
        if before is not None:
            del self._positions[key]
            self._release(*before)
        if now is None:
            return None
        self._positions[key] = now
        symbol, partition = now
        self._counts[symbol][partition] += 1
        return now if self._counts[symbol][partition] == 1 else None

    def _release(self, symbol: str, partition: int) -> None:
        counts = self._counts[symbol]
        counts[partition] -= 1
        if not counts[partition]:
            del counts[partition]
        if not counts:
            del self._counts[symbol]
