"""The newest prices of a symbol, each with its coordinates; trades and quotes are components of their own.

The order in which the two topics come changes neither component. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from processors.exits.coordinates import Coordinates
from processors.exits.hours import CRYPTO, OPTION, Hours, Session, day_bounds
from schemas.fills import asset_class
from schemas.trade_conditions import ALWAYS, update_rule

FLOOR_NS, CEILING_NS, UNKNOWN_NS = 5_000_000_000, 300_000_000_000, 60_000_000_000
"""A price counts as old after TIMES its symbol's mean distance between prices, within these bounds;
UNKNOWN_NS before KNOWN prices have shown a rhythm.
"""
TIMES = 10
FETCHED = "rest"
"""Source of prices that a backfill brought: they are of the past, however lately they were received."""
KNOWN = 8
_WEIGHT = 16

_NOT_LAST = frozenset("ABCDEFGH") | frozenset("fghijklmnopqrstu")
"""OPRA's conditions of canceled, late and out of sequence trades, and of legs of multi-leg ones."""


class Quote(NamedTuple):
    """A quote as it came: prices as in the record, USD; times in ns."""

    bid: float
    ask: float
    conditions: tuple[str, ...]
    ts: int
    received_ts: int
    source: str
    at: Coordinates


class Trade(NamedTuple):
    """A trade as it came. `sets_last`: whether its conditions let it set the last price."""

    price: float
    conditions: tuple[str, ...]
    sets_last: bool
    ts: int
    received_ts: int
    source: str
    at: Coordinates


def sets_last(of_class: str, conditions: Sequence[str], tape: str) -> bool:
    """Whether a trade may set the last price; an unknown tape is judged by the strictest."""
    if not conditions or of_class == CRYPTO:
        return True
    if of_class == OPTION:
        return _NOT_LAST.isdisjoint(conditions)
    return update_rule(tuple(conditions), tape).minute.last == ALWAYS


class Rhythm:
    """How often a component comes: the running mean distance of event times, in whole ns."""

    __slots__ = ("count", "mean")

    def __init__(self, mean: int = 0, count: int = 0) -> None:
        self.mean, self.count = mean, count

    def beat(self, distance: int) -> None:
        """The next one came so long after the last."""
        if distance > CEILING_NS:
            distance = CEILING_NS
        self.count += 1
        self.mean = distance if self.count == 1 else self.mean + (distance - self.mean) // _WEIGHT

    @property
    def limit(self) -> int:
        """From which age on (ns) a price is too old."""
        if self.count < KNOWN:
            return UNKNOWN_NS
        return min(max(TIMES * self.mean, FLOOR_NS), CEILING_NS)


class Prices:
    """One symbol. `*_live`: came from the feed since the last halt, gap or lost connection; only such are
    acted on.

    `previous_*`: the last good ones of the regular hours of a day before; a jump over night shows there.
    """

    __slots__ = (
        "asset_class",
        "day_begin",
        "day_end",
        "expected",
        "good",
        "previous_quote",
        "previous_trade",
        "quote",
        "quote_live",
        "quote_rhythm",
        "regular_quote",
        "regular_trade",
        "session",
        "symbol",
        "trade",
        "trade_live",
        "trade_rhythm",
    )

    def __init__(self, symbol: str) -> None:
        self.symbol, self.asset_class = symbol, asset_class(symbol)
        self.expected: dict[str, int] = {}
        self.day_begin = self.day_end = 0
        self.session: Session | None = None
        self.clear()

    def clear(self) -> None:
        """Forget all prices: nobody watched the symbol for a while."""
        self.quote: Quote | None = None
        self.trade: Trade | None = None
        self.good: Quote | None = None
        self.regular_quote: Quote | None = None
        self.regular_trade: Trade | None = None
        self.previous_quote: Quote | None = None
        self.previous_trade: Trade | None = None
        self.quote_live = self.trade_live = False
        self.quote_rhythm, self.trade_rhythm = Rhythm(), Rhythm()

    def interrupt(self) -> None:
        """What is known is of before: prices must come anew before anything is done on them."""
        self.quote_live = self.trade_live = False

    def take_quote(self, quote: Quote, now: int, hours: Hours) -> bool:
        """A quote; false: it is older than the newest."""
        known, ts = self.quote, quote[3]
        if known is not None:
            distance = ts - known[3]
            if distance < 0 and known[3] <= now:  # a time that nobody confirmed makes nothing late
                return False
            if distance >= 0:
                self.quote_rhythm.beat(distance)
        self.quote, self.quote_live = quote, quote[5] != FETCHED
        if not self.day_begin <= ts < self.day_end:
            self.enter_day(ts, hours)
        if 0.0 < quote[0] < quote[1]:
            self.good = quote
            session = self.session
            if session is not None and session[1] <= ts < session[2]:
                self.regular_quote = quote
        return True

    def take_trade(self, trade: Trade, now: int, hours: Hours) -> bool:
        """A trade that sets the last price; false: it is older than the newest."""
        known, ts = self.trade, trade.ts
        if known is not None:
            distance = ts - known.ts
            if distance < 0 and known.ts <= now:
                return False
            if distance >= 0:
                self.trade_rhythm.beat(distance)
        self.trade, self.trade_live = trade, trade.source != FETCHED
        if not self.day_begin <= ts < self.day_end:
            self.enter_day(ts, hours)
        session = self.session
        if session is not None and session.opens <= ts < session.closes:
            self.regular_trade = trade
        return True

    def enter_day(self, ts: int, hours: Hours) -> None:
        """The New York day of an event time begins."""
        begun = ts >= self.day_end
        self.day_begin, self.day_end = day_bounds(ts)
        self.session = hours.session(self.asset_class, ts)
        if begun:
            self.previous_quote = self.regular_quote or self.previous_quote
            self.previous_trade = self.regular_trade or self.previous_trade
            self.regular_quote = self.regular_trade = None

    def to_row(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "expected": self.expected,
            "live": [self.quote_live, self.trade_live],
            "quotes": [listed(q) for q in (self.quote, self.good, self.regular_quote, self.previous_quote)],
            "trades": [listed(t) for t in (self.trade, self.regular_trade, self.previous_trade)],
            "rhythms": [[r.mean, r.count] for r in (self.quote_rhythm, self.trade_rhythm)],
            "day": [self.day_begin, self.day_end],
        }

    @classmethod
    def from_row(cls, symbol: str, row: Mapping[str, Any], hours: Hours) -> Prices:
        """What was kept."""
        prices = cls(symbol)
        prices.expected = dict(row["expected"])
        prices.quote_live, prices.trade_live = row["live"]
        quotes = [read_quote(q) for q in row["quotes"]]
        prices.quote, prices.good, prices.regular_quote, prices.previous_quote = quotes
        trades = [read_trade(t) for t in row["trades"]]
        prices.trade, prices.regular_trade, prices.previous_trade = trades
        prices.quote_rhythm, prices.trade_rhythm = (Rhythm(*r) for r in row["rhythms"])
        prices.day_begin, prices.day_end = row["day"]
        if prices.day_end:
            prices.session = hours.session(prices.asset_class, prices.day_begin)
        return prices


def listed(component: Quote | Trade | None) -> list[Any] | None:
    """A quote or trade for JSON."""
    return None if component is None else [*component[:-1], list(component.at)]


def read_quote(row: Sequence[Any] | None) -> Quote | None:
    """A quote out of its JSON."""
    if row is None:
        return None
    bid, ask, conditions, ts, received_ts, source, at = row
    return Quote(float(bid), float(ask), tuple(conditions), ts, received_ts, source, Coordinates(*at))


def read_trade(row: Sequence[Any] | None) -> Trade | None:
    """A trade out of its JSON."""
    if row is None:
        return None
    price, conditions, last, ts, received_ts, source, at = row
    return Trade(float(price), tuple(conditions), last, ts, received_ts, source, Coordinates(*at))
