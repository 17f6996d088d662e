"""Which option contracts there are, by their OCC symbols. Pure.

Of each stock: three strikes around its starting price, calls and puts, of the first monthly expiry (a third
Friday) that is two weeks away or more. Any other contract of these stocks exists too, but nobody quotes it
before somebody asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from simulator.bars import BarFold, new_york_midnight
from simulator.broker.quotes import contract
from simulator.conditions import ALWAYS, Update, UpdateRule
from simulator.exchange_calendar import new_york
from simulator.synthetic import CENTS, price_of
from simulator.venue_kinds import VenueKind, of_symbol
from simulator.wire import TradePart

STRIKES_EACH_SIDE = 1
_NOTICE = timedelta(days=14)
_STEPS = ((25, "1"), (100, "2.5"), (250, "5"))
_WIDEST = "10"
_FRIDAY = 4
_TRADED = UpdateRule(Update(ALWAYS, True, True), Update(ALWAYS, True, True))


def occ(underlying: str, expires: date, *, call: bool, strike: Decimal) -> str:
    """The symbol of a contract: AAPL240315C00172500."""
    return f"{underlying}{expires:%y%m%d}{'C' if call else 'P'}{int(strike * 1000):08d}"


def expiry(now: int) -> date:
    """The monthly expiry that is listed at a time (ns since 1970 UTC)."""
    earliest = new_york(now).date() + _NOTICE
    first = earliest.replace(day=1)
    while (friday := _third_friday(first)) < earliest:
        first = (first + timedelta(days=32)).replace(day=1)
    return friday


def listing(underlyings: Sequence[str], now: int) -> list[str]:
    """The contracts of all stocks, as of a time (ns since 1970 UTC)."""
    return [symbol for name in underlyings for symbol in listed(name, price_of(name)[0] / CENTS, now)]


def listed(underlying: str, price: float, now: int) -> list[str]:
    """The contracts of a stock around a price in USD, as of a time (ns since 1970 UTC)."""
    step = Decimal(next((width for below, width in _STEPS if price < below), _WIDEST))
    middle = max(STRIKES_EACH_SIDE + 1, round(price / float(step)))
    strikes = [step * (middle + i) for i in range(-STRIKES_EACH_SIDE, STRIKES_EACH_SIDE + 1)]
    day = expiry(now)
    return [occ(underlying, day, call=call, strike=strike) for strike in strikes for call in (True, False)]


def part_of(message: Mapping[str, Any]) -> TradePart | None:
    """What bars need of a message: every trade counts whole."""
    return (message["p"], message["s"], _TRADED) if message.get("T") == "t" else None


def alive(symbol: str, underlyings: frozenset[str], now: int) -> bool:
    """Whether a symbol names a contract of one of these stocks that has not expired."""
    found = contract(symbol)
    return found is not None and found.underlying in underlyings and found.expires > now


def _third_friday(first: date) -> date:
    return first + timedelta(days=(_FRIDAY - first.weekday()) % 7 + 14)


OPTIONS = VenueKind("options", {"t": "trades", "q": "quotes"}, of_symbol, part_of, BarFold, new_york_midnight)
