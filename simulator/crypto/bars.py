"""Crypto bars by Alpaca's rules: quote midpoints count as prices, so a bar may have no volume at all.

Open, high, low and close come from trades and from the midpoints of two-sided quotes alike; volume, count and
the volume-weighted price from trades only: v = 0, n = 0, vw = 0 when nothing traded. A day begins at midnight
in Chicago, as in Alpaca's own daily bars.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from simulator.bars import Bar, BarFold, midnight
from simulator.conditions import ALWAYS, Update, UpdateRule
from simulator.wire import TradePart, timestamp

UNITS = 1_000_000_000
"""Sizes are counted in billionths of a coin: sums are exact."""

TRADED = UpdateRule(Update(ALWAYS, True, True), Update(ALWAYS, True, True))
MIDPOINT = UpdateRule(Update(ALWAYS, True, False), Update(ALWAYS, True, False))
_CHICAGO = ZoneInfo("America/Chicago")


class CryptoBar(Bar):
    """One bar in the making: prices in USD, volume in billionths of a coin."""

    __slots__ = ()

    @property
    def complete(self) -> bool:
        """Whether Alpaca would emit it: a price is enough."""
        return bool(self.open)

    def message(self, kind: str, symbol: str, start: int) -> dict[str, Any]:
        """As Alpaca sends it; `start` in ns since 1970 UTC."""
        return {
            "T": kind,
            "S": symbol,
            "o": self.open,
            "h": self.high,
            "l": self.low,
            "c": self.close,
            "v": self.volume / UNITS,
            "t": timestamp(start),
            "n": self.count,
            "vw": round(self.weighted / self.weight, 9) if self.weight else 0.0,
        }


def day_start(ns: int) -> int:
    """Start of the crypto day of a time, both in ns since 1970 UTC."""
    return midnight(ns, _CHICAGO)


def bar_fold() -> BarFold:
    """The bars of all pairs."""
    return BarFold(CryptoBar, day_start)


def part_of(message: Mapping[str, Any]) -> TradePart | None:
    """What bars need of a trade or quote; None for anything else, a broken message or a one-sided quote."""
    if message.get("T") == "t":
        price, size = _number(message.get("p")), _number(message.get("s"))
        return None if price <= 0 or size <= 0 else (price, round(size * UNITS), TRADED)
    if message.get("T") == "q":
        bid, ask = _number(message.get("bp")), _number(message.get("ap"))
        return None if bid <= 0 or ask <= 0 else (round((bid + ask) / 2, 9), 0, MIDPOINT)
    return None


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
