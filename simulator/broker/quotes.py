"""What the broker fills against: the newest quote of a symbol, and a model's quote for an option. Pure.

The simulated market has no option quotes. An option is priced from its underlying's middle by a bell-shaped
time value (0.4 * S * 30% * sqrt(years) at the money) over its intrinsic value, a cent each side.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from simulator.broker.amounts import CENT, ZERO
from simulator.latest import Quote

_OCC = re.compile(r"([A-Z.]{1,6})(\d{6})([CP])(\d{8})", re.ASCII)
_VOLATILITY = 0.3
_CONTRACTS = Decimal(100)
_YEAR_NS = 365 * 86_400 * 10**9


Latest = Callable[[str], Quote | None]
"""The newest quote of a stock or a pair."""


def middle(quote: Quote) -> Decimal | None:
    """The middle of both sides, else the side that there is."""
    if quote.bid > ZERO and quote.ask > ZERO:
        return (quote.bid + quote.ask) / 2
    return quote.bid or quote.ask or None


class Contract(NamedTuple):
    """An option contract; `expires` is 16:00 in New York at the latest, in ns."""

    underlying: str
    expires: int
    call: bool
    strike: Decimal


@lru_cache(maxsize=16_384)
def contract(symbol: str) -> Contract | None:
    """What an OCC symbol names; None when it is not one. Kept: a tape looks at all of its contracts often."""
    match = _OCC.fullmatch(symbol)
    if match is None:
        return None
    try:
        day = datetime.strptime(match[2], "%y%m%d").replace(tzinfo=UTC) + timedelta(hours=21)
    except ValueError:
        return None
    return Contract(match[1], int(day.timestamp()) * 10**9, match[3] == "C", Decimal(match[4]) / 1000)


class Board:
    """Quotes of everything that can be traded."""

    def __init__(self, latest: Latest) -> None:
        self._latest = latest

    def get(self, symbol: str, now: int) -> Quote | None:
        """The newest quote; an option's follows from its underlying's."""
        option = contract(symbol)
        if option is None:
            return self._latest(symbol)
        quote = self._latest(option.underlying)
        spot = middle(quote) if quote is not None else None
        return None if spot is None else model_quote(symbol, option, spot, now)

    def price(self, symbol: str, now: int) -> Decimal | None:
        """What one is worth now."""
        quote = self.get(symbol, now)
        return middle(quote) if quote is not None else None


def model_quote(symbol: str, option: Contract, underlying: Decimal, now: int) -> Quote:
    """A quote around the model's price, at least a cent."""
    spot, strike = float(underlying), float(option.strike)
    years = max(0, option.expires - now) / _YEAR_NS
    width = _VOLATILITY * math.sqrt(years)
    intrinsic = max(0.0, spot - strike if option.call else strike - spot)
    distance = math.log(spot / strike) / width if width and strike else 0.0
    time_value = 0.4 * spot * width * math.exp(-distance * distance / 2)
    price = max(CENT * 2, Decimal(f"{intrinsic + time_value:.2f}"))
    return Quote(symbol, now, price - CENT, _CONTRACTS, price + CENT, _CONTRACTS)
