"""Whether an order trades against a quote, and for how much. Pure: decides, changes nothing.

Each order sees the whole quoted size of each quote once; orders do not take it from each other.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from simulator.broker.amounts import ZERO, down
from simulator.broker.orders import Order
from simulator.latest import Quote

_HUNDRED = Decimal(100)


class Trade(NamedTuple):
    """Fill so much at this price (USD)."""

    qty: Decimal
    price: Decimal


def high_water(order: Order, quote: Quote) -> Decimal | None:
    """The new high-water mark (low for a buy) of a trailing stop; None when it stays."""
    price = quote.bid if order.side == "sell" else quote.ask
    if price <= ZERO:
        return None
    better = order.hwm is None or (price > order.hwm if order.side == "sell" else price < order.hwm)
    return price if better else None


def trailing_stop(order: Order) -> Decimal | None:
    """Where a trailing stop stands."""
    if order.hwm is None:
        return None
    if order.trail_price is not None:
        trail = order.trail_price
    else:
        trail = order.hwm * (order.trail_percent or ZERO) / _HUNDRED
    return order.hwm - trail if order.side == "sell" else order.hwm + trail


def is_stop(order: Order) -> bool:
    """Whether it waits for a stop price."""
    return order.type in ("stop", "stop_limit", "trailing_stop") and not order.triggered


def triggers(order: Order, quote: Quote) -> bool:
    """Whether a quote reaches the stop price: the side that the order would take."""
    price = quote.ask if order.side == "buy" else quote.bid
    return price > ZERO and reaches(order, price)


def reaches(order: Order, price: Decimal) -> bool:
    """Whether a price is at or beyond the stop price."""
    stop = order.stop_price
    if stop is None:
        return False
    return price >= stop if order.side == "buy" else price <= stop


def trade(order: Order, quote: Quote) -> Trade | None:
    """What the order trades against a quote now. Stops must have been triggered before."""
    if is_stop(order):
        return None
    price, size = (quote.ask, quote.ask_size) if order.side == "buy" else (quote.bid, quote.bid_size)
    if price <= ZERO or size <= ZERO or not _accepts(order, price):
        return None
    remaining = order.remaining
    if order.tif == "fok" and size < remaining:
        return None
    qty = min(remaining, down(size))
    return Trade(qty, price) if qty > ZERO else None


def _accepts(order: Order, price: Decimal) -> bool:
    limit = order.limit_price if order.type in ("limit", "stop_limit") else None
    if limit is None:
        return True
    return price <= limit if order.side == "buy" else price >= limit
