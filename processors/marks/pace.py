"""How often marks are sent: all that wait leave together, once in an interval of event time. Pure.

Together, because each departure wakes everybody behind it: a mark for itself costs the portfolio, the gateway
and the sink nearly as much as all marks at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from processors.marks.price import Price

INTERVAL_NS = 1_000_000_000
"""Clients are told of prices once a second; more marks would be folded, stored and read in vain."""

W = TypeVar("W")


class Pace(Generic[W]):
    """`W` is where a price came from; the caller says at the end whether that is still its own."""

    def __init__(self, interval_ns: int = INTERVAL_NS) -> None:
        self._interval = interval_ns
        self._left: int | None = None
        self._waiting: dict[str, tuple[W, Price]] = {}

    def offer(self, where: W, price: Price) -> bool:
        """Have a price wait, in place of an older one of its symbol; whether it is time to `leave`."""
        self._waiting[price.symbol] = (where, price)
        return self._left is None or price.ts >= self._left + self._interval

    def leave(self, ours: Callable[[W], bool]) -> list[Price]:
        """The prices that wait, to be sent now; those of a place that is no longer ours are forgotten."""
        waiting, self._waiting = self._waiting, {}
        found = [price for where, price in waiting.values() if ours(where)]
        if found:
            self._left = max(price.ts for price in found)
        return found

    def forget(self, symbol: str) -> None:
        """Nobody holds the symbol any more."""
        self._waiting.pop(symbol, None)
