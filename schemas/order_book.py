"""A pair's order book as its records leave it: whole books and the changes that follow them. Pure.

Alpaca numbers no message, so a lost change cannot be seen by counting; what can be seen is odd: a change
before any whole book, a bid that is not below the ask, levels of a whole book that are not in order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

DELTA_FIRST, CROSSED, UNSORTED = "delta_first", "crossed", "unsorted"
ODDITIES = (DELTA_FIRST, CROSSED, UNSORTED)
"""What `OrderBook.apply` may find."""

Level = tuple[float, float]
"""Price in the quote currency, size in units."""


class OrderBook:
    """One pair's book, from nothing."""

    def __init__(self) -> None:
        self._bids, self._asks = _Side(), _Side()
        self.whole = False
        """Whether it began with a whole book."""
        self.ts = 0
        """Event time of the last record, ns since 1970 UTC."""

    def apply(self, record: Mapping[str, Any]) -> tuple[str, ...]:
        """Fold the content of one `crypto_orderbook` record; returns what is odd about it or the book after.

        A size of 0 removes a level. Whatever is odd is folded all the same.
        """
        odd = []
        sides = (
            (self._bids, record["bid_prices"], record["bid_sizes"]),
            (self._asks, record["ask_prices"], record["ask_sizes"]),
        )
        if record["reset"]:
            self.whole = True
            for side, _, _ in sides:
                side.clear()
            if _unsorted(record["bid_prices"], record["ask_prices"]):
                odd.append(UNSORTED)
        elif not self.whole:
            odd.append(DELTA_FIRST)
        for side, prices, sizes in sides:
            for price, size in zip(prices, sizes, strict=True):
                side.put(price, size)
        self.ts = record["ts"]
        if self.crossed:
            odd.append(CROSSED)
        return tuple(odd)

    @property
    def crossed(self) -> bool:
        """Whether somebody bids as much as another asks."""
        bids, asks = self._bids.prices, self._asks.prices
        return bool(bids and asks) and bids[-1] >= asks[0]

    @property
    def bids(self) -> list[Level]:
        """The bids, the highest first."""
        return [(price, self._bids.sizes[price]) for price in reversed(self._bids.prices)]

    @property
    def asks(self) -> list[Level]:
        """The asks, the lowest first."""
        return [(price, self._asks.sizes[price]) for price in self._asks.prices]


class _Side:
    """Prices in rising order, and the size at each."""

    def __init__(self) -> None:
        self.prices: list[float] = []
        self.sizes: dict[float, float] = {}

    def clear(self) -> None:
        """No levels."""
        self.prices.clear()
        self.sizes.clear()

    def put(self, price: float, size: float) -> None:
        """Set a level; 0 removes it."""
        known = price in self.sizes
        if size:
            if not known:
                self.prices.insert(bisect_left(self.prices, price), price)
            self.sizes[price] = size
        elif known:
            del self.prices[bisect_left(self.prices, price)]
            del self.sizes[price]


def _unsorted(bids: Sequence[float], asks: Sequence[float]) -> bool:
    """Alpaca sends the sides of a whole book best first, each price once."""
    return any(a <= b for a, b in pairwise(bids)) or any(a >= b for a, b in pairwise(asks))
