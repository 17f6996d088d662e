"""All that a decision reads beside its rule, frozen; as JSON it is a trigger's evidence. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from processors.exits.hours import Hours, Session, day_bounds
from processors.exits.prices import Prices, Quote, Trade, listed, read_quote, read_trade

Closed = tuple[str, str, str]
"""A gate that stands closed: its name, why, and which component it concerns (quote, trade; empty: both)."""

Band = tuple[float, float, int]
"""LULD: lower and upper price (USD), and since when (ns)."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Times in ns. `now`: event time of the partition. See Prices for the rest.

    `trade` may be a print that does not set the last price: then a gate says so.
    """

    now: int
    quote: Quote | None
    trade: Trade | None
    good: Quote | None
    quote_live: bool
    trade_live: bool
    quote_limit: int
    trade_limit: int
    session: Session | None
    previous_quote: Quote | None
    previous_trade: Trade | None
    day_begin: int
    band: Band | None
    closed: tuple[Closed, ...]

    def to_json(self) -> dict[str, Any]:
        """For the evidence."""
        return {
            "now": self.now,
            "quote": listed(self.quote),
            "trade": listed(self.trade),
            "good": listed(self.good),
            "live": [self.quote_live, self.trade_live],
            "limits": [self.quote_limit, self.trade_limit],
            "session": None if self.session is None else list(self.session),
            "previous": [listed(self.previous_quote), listed(self.previous_trade)],
            "day_begin": self.day_begin,
            "band": self.band,
            "closed": self.closed,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Facts:
        """Out of the evidence."""
        session, band = found["session"], found["band"]
        return cls(
            now=found["now"],
            quote=read_quote(found["quote"]),
            trade=read_trade(found["trade"]),
            good=read_quote(found["good"]),
            quote_live=found["live"][0],
            trade_live=found["live"][1],
            quote_limit=found["limits"][0],
            trade_limit=found["limits"][1],
            session=None if session is None else Session(*session),
            previous_quote=read_quote(found["previous"][0]),
            previous_trade=read_trade(found["previous"][1]),
            day_begin=found["day_begin"],
            band=None if band is None else (float(band[0]), float(band[1]), band[2]),
            closed=tuple((name, why, what) for name, why, what in found["closed"]),
        )


def look(prices: Prices, now: int, hours: Hours, band: Band | None, closed: tuple[Closed, ...]) -> Facts:
    """The facts of a symbol at this moment."""
    return Facts(
        now=now,
        quote=prices.quote,
        trade=prices.trade,
        good=prices.good,
        quote_live=prices.quote_live,
        trade_live=prices.trade_live,
        quote_limit=prices.quote_rhythm.limit,
        trade_limit=prices.trade_rhythm.limit,
        session=hours.session(prices.asset_class, now),
        previous_quote=prices.previous_quote,
        previous_trade=prices.previous_trade,
        day_begin=day_bounds(now)[0],
        band=band,
        closed=closed,
    )
