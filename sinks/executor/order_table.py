"""Which orders Alpaca takes: by asset class, session, and whether whole, in fractions or by amount. Pure.

=========  ==================  ==========  =======================================  ====================
class      session             size        types: times in force                    an exit is sent as
=========  ==================  ==========  =======================================  ====================
us_equity  regular             whole       market, limit: day gtc ioc fok cls;      market day
                                           stop, stop_limit: day gtc
us_equity  regular             fractional  market, limit, stop, stop_limit: day     market day
us_equity  regular             notional    market: day                              -
us_equity  pre post overnight  whole       limit: day, with extended_hours          limit day, extended
us_equity  pre post overnight  fractional  limit: day, with extended_hours          limit day, extended
us_option  regular             whole       market, limit: day                       market day
crypto     any                 any         market, limit, stop_limit: gtc ioc       market gtc
crypto     any                 notional    market: gtc ioc                          -
=========  ==================  ==========  =======================================  ====================

What has no row is not sent: a closed market, options and amounts outside the regular session. An order that
would only wait for the next session at the broker is not sent either; what wants to trade then, asks then. A
stock trades overnight (20:00 to 04:00 New York) only if the broker says so of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from sinks.executor.broker_types import (
    Asset,
    BrokerClock,
    BrokerQuote,
    NewOrder,
    OrderType,
    Side,
    TimeInForce,
)
from tidewire.clock import NS_PER_SECOND

Session = Literal["regular", "pre", "post", "overnight", "closed"]
Size = Literal["whole", "fractional", "notional"]

_NEW_YORK = ZoneInfo("America/New_York")
_HUNDRED = Decimal(100)
_EXTENDED: frozenset[Session] = frozenset({"pre", "post", "overnight"})
_ALL: frozenset[Session] = frozenset({"regular", "closed", "pre", "post", "overnight"})

Types = Mapping[OrderType, frozenset[TimeInForce]]


class Shape(NamedTuple):
    """What an exit is sent as. `priced`: it needs a limit price, see `limit_through`."""

    type: OrderType
    time_in_force: TimeInForce
    extended_hours: bool

    @property
    def priced(self) -> bool:
        """Whether it needs a limit price."""
        return self.type == "limit"


@dataclass(frozen=True, slots=True)
class Row:
    """What may be sent. `exit` None: positions of this kind do not exist."""

    types: Types
    extended_hours: bool
    exit: Shape | None


class No(NamedTuple):
    """Nothing may be sent now; `reason` is for people. `later`: in another session it may."""

    reason: str
    later: bool


def _times(*names: TimeInForce) -> frozenset[TimeInForce]:
    return frozenset(names)


_DAY = _times("day")
_WHOLE: Types = {
    "market": _times("day", "gtc", "ioc", "fok", "cls"),
    "limit": _times("day", "gtc", "ioc", "fok", "cls"),
    "stop": _times("day", "gtc"),
    "stop_limit": _times("day", "gtc"),
}
_FRACTIONAL: Types = {"market": _DAY, "limit": _DAY, "stop": _DAY, "stop_limit": _DAY}
_COIN = _times("gtc", "ioc")
_COINS: Types = {"market": _COIN, "limit": _COIN, "stop_limit": _COIN}

_AT_MARKET = Shape("market", "day", False)
_OUT_OF_HOURS = Row({"limit": _DAY}, True, Shape("limit", "day", True))
_COINS_OUT = Row(_COINS, False, Shape("market", "gtc", False))


def _table() -> dict[tuple[str, Session, Size], Row]:
    rows: dict[tuple[str, Session, Size], Row] = {
        ("us_equity", "regular", "whole"): Row(_WHOLE, False, _AT_MARKET),
        ("us_equity", "regular", "fractional"): Row(_FRACTIONAL, False, _AT_MARKET),
        ("us_equity", "regular", "notional"): Row({"market": _DAY}, False, None),
        ("us_option", "regular", "whole"): Row({"market": _DAY, "limit": _DAY}, False, _AT_MARKET),
    }
    for session in _EXTENDED:
        rows["us_equity", session, "whole"] = rows["us_equity", session, "fractional"] = _OUT_OF_HOURS
    for session in _ALL:
        rows["crypto", session, "whole"] = rows["crypto", session, "fractional"] = _COINS_OUT
        rows["crypto", session, "notional"] = Row({"market": _COIN}, False, None)
    return rows


TABLE: Mapping[tuple[str, Session, Size], Row] = _table()


def size_of(quantity: Decimal | None) -> Size:
    """The kind of a quantity; None: it is an amount in USD."""
    if quantity is None:
        return "notional"
    return "whole" if quantity == quantity.to_integral_value() else "fractional"


def session_of(clock: BrokerClock) -> Session:
    """The session by the broker's clock.

    The clock does not say whether today was a trading day once it is over: the evening of a holiday counts as
    `post`, when the broker keeps a limit order until the next session.
    """
    if clock.is_open:
        return "regular"
    now, opens = _local(clock.now_ns), _local(clock.next_open_ns)
    hour = now.hour
    if hour >= 20:
        return "overnight" if opens.date() == now.date() + timedelta(days=1) else "closed"
    if opens.date() == now.date():
        return "pre" if hour >= 4 else "overnight"
    return "post" if hour >= 13 and now.weekday() < 5 else "closed"


def exit_shape(
    asset_class: str,
    session: Session,
    quantity: Decimal,
    asset: Asset | None,
    *,
    extended_hours: bool,
    limit: bool = False,
) -> Shape | No:
    """What an exit is sent as.

    `extended_hours`: the rule allows other sessions than the regular one; `limit`: it wants a limit order
    where a market order could be sent too.
    """
    row = _row(asset_class, session, size_of(quantity), asset)
    if isinstance(row, No):
        return row
    if row.exit is None:
        return No(f"no exit is made of a {asset_class} order by amount", later=False)
    if row.extended_hours and not extended_hours:
        return No(f"the rule does not allow the {session} session", later=True)
    return row.exit._replace(type="limit") if limit else row.exit


def forbids(order: NewOrder, asset_class: str, session: Session, asset: Asset | None) -> No | None:
    """Why an order may not be sent; None: it may."""
    row = _row(asset_class, session, size_of(order.quantity), asset)
    if isinstance(row, No):
        return row
    if order.extended_hours and not row.extended_hours:
        # Alpaca takes these in the regular session too: they then work before and after it.
        fits = asset_class == "us_equity" and order.type == "limit" and order.time_in_force == "day"
        return None if fits else No("only limit orders of stocks for the day trade in extended hours", False)
    if row.extended_hours and not order.extended_hours:
        return No(f"in the {session} session only orders with extended_hours trade", later=True)
    times = row.types.get(order.type)
    if times is None:
        taken = ", ".join(row.types)
        return No(f"a {order.type} order is not taken here, only {taken}", later=session != "regular")
    if order.time_in_force not in times:
        known = ", ".join(sorted(times))
        return No(f"time in force {order.time_in_force} is not taken here, only {known}", later=False)
    return None


def limit_through(
    side: Side,
    quote: BrokerQuote | None,
    offset_percent: Decimal,
    asset_class: str,
    asset: Asset | None = None,
) -> Decimal | None:
    """A limit price in USD that trades at once if the quote holds: through its other side by the offset.

    Rounded to what the broker takes, away from the quote. None where nobody bids (asks), or where nothing
    above zero is left.
    """
    price = None if quote is None else quote.bid if side == "sell" else quote.ask
    if price is None or price <= 0:
        return None
    away = offset_percent if side == "buy" else -offset_percent
    found = price * (_HUNDRED + away) / _HUNDRED
    return in_steps(side, found, asset_class, asset)


def in_steps(side: Side, price: Decimal, asset_class: str, asset: Asset | None = None) -> Decimal | None:
    """A limit price as the broker takes it: rounded to its increment, never away from the trade. None: 0."""
    step = _step(price, asset_class, asset)
    rounding = ROUND_CEILING if side == "buy" else ROUND_FLOOR
    rounded = (price / step).to_integral_value(rounding) * step
    return rounded if rounded > 0 else None


def _row(asset_class: str, session: Session, size: Size, asset: Asset | None) -> Row | No:
    row = TABLE.get((asset_class, session, size))
    if row is None:
        later = (asset_class, "regular", size) in TABLE
        return No(f"{asset_class}, {size}: nothing is traded in the session {session}", later)
    if session == "overnight" and asset_class == "us_equity" and (asset is None or not asset.overnight):
        return No("this stock does not trade overnight", later=True)
    return row


def _step(price: Decimal, asset_class: str, asset: Asset | None) -> Decimal:
    """The price increment. An option's is 1 cent for some and 5 or 10 for all."""
    if asset_class == "us_option":
        return Decimal("0.05") if price < 3 else Decimal("0.1")
    if asset_class == "crypto":
        known = asset.price_increment if asset is not None else None
        return known if known is not None and known > 0 else Decimal("0.000000001")
    return Decimal("0.01") if price >= 1 else Decimal("0.0001")


def _local(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // NS_PER_SECOND, UTC).astimezone(_NEW_YORK)
