"""Prices after splits: what a tape plays goes on in the old basis, what passes has the new one.

A tape is read ahead, so a split at its source would come seconds late. Prices are rounded as quotes may be:
to the cent, below a dollar to its hundredth; bids down and asks up, so that no quote is crossed by it.
Bars of the minute of a split have prices of both.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Any

import msgpack

from simulator.wire import Message, pack

_PRICES: dict[str, dict[str, str]] = {
    "t": {"p": ROUND_HALF_EVEN},
    "q": {"bp": ROUND_FLOOR, "ap": ROUND_CEILING},
    "l": {"u": ROUND_HALF_EVEN, "d": ROUND_HALF_EVEN},
    "c": {"op": ROUND_HALF_EVEN, "cp": ROUND_HALF_EVEN},
    "x": {"p": ROUND_HALF_EVEN},
    "i": {"p": ROUND_HALF_EVEN},
}
"""Type letter -> its fields that are prices, and how each is rounded."""
_CENT, _SMALL = Decimal("0.01"), Decimal("0.0001")


class Rescaling:
    """By what the prices of each symbol are multiplied from now on."""

    def __init__(self) -> None:
        self.factors: dict[str, Decimal] = {}

    def split(self, symbol: str, factor: Decimal) -> None:
        """Multiply from now on by `factor` too (0.5: two new shares for an old one)."""
        self.factors[symbol] = self.factors.get(symbol, Decimal(1)) * factor

    def rewrite(self, messages: list[Message]) -> list[Message]:
        """Messages of the tape as they are to pass."""
        if not self.factors:
            return messages
        factors = self.factors
        return [
            message if (factor := factors.get(message[2].symbol)) is None else rescaled(message, factor)
            for message in messages
        ]


def rescaled(message: Message, factor: Decimal) -> Message:
    """A message with its prices multiplied."""
    arrival, event, stream, data, part = message
    fields: dict[str, Any] = msgpack.unpackb(data)
    prices = _PRICES.get(str(fields.get("T")), {})
    changed = {
        name: price(fields[name], factor, rounding)
        for name, rounding in prices.items()
        if isinstance(fields.get(name), int | float)
    }
    if part is not None:
        part = (price(part[0], factor, ROUND_HALF_EVEN), part[1], part[2])
    return arrival, event, stream, pack(fields | changed), part


def price(value: float, factor: Decimal, rounding: str) -> float:
    """A price in USD multiplied and rounded; 0, which stands for none, stays."""
    if not value:
        return value
    exact = Decimal(repr(value)) * factor
    grid = _CENT if exact >= 1 else _SMALL
    return float(max(exact.quantize(grid, rounding), _SMALL))


def reflected(messages: Iterable[Message], symbol: str, factor: Decimal) -> list[Message]:
    """The newest messages of a symbol in the new basis, for whoever asks before the next one."""
    return [rescaled(message, factor) for message in messages if message[2].symbol == symbol]
