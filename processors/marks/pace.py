"""How often a symbol's mark is sent: once in an interval of event time, and at last the newest. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from processors.marks.price import Price

INTERVAL_NS = 250_000_000

W = TypeVar("W")


class Pace(Generic[W]):
    """`W` is where a price came from; the caller says at the end whether that is still its own."""

    def __init__(self, interval_ns: int = INTERVAL_NS) -> None:
        self._interval = interval_ns
        self._sent: dict[str, int] = {}
        self._waiting: dict[str, tuple[W, Price]] = {}

    def offer(self, where: W, price: Price) -> bool:
        """Whether this price is to be sent now; else it waits, in place of an older one of its symbol."""
        sent = self._sent.get(price.symbol)
        if sent is None or price.ts >= sent + self._interval:
            self._sent[price.symbol] = price.ts
            self._waiting.pop(price.symbol, None)
            return True
        self._waiting[price.symbol] = (where, price)
        return False

    def trailing(self, ours: Callable[[W], bool]) -> list[Price]:
        """The prices that wait, to be sent now; those of a place that is no longer ours are forgotten."""
        waiting, self._waiting = self._waiting, {}
        found = [price for where, price in waiting.values() if ours(where)]
        for price in found:
            self._sent[price.symbol] = max(price.ts, self._sent[price.symbol])
        return found

    def forget(self, symbol: str) -> None:
        """Nobody holds the symbol any more."""
        self._sent.pop(symbol, None)
        self._waiting.pop(symbol, None)
