"""What open orders keep from others: quantity of positions to be closed, and buying power. Pure.

Totals are kept as orders change, so an account with ten thousand open orders is as quick as one with ten.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import NamedTuple

from simulator.broker.amounts import ZERO
from simulator.broker.book import OPTION_MULTIPLIER
from simulator.broker.orders import Order


class Hold(NamedTuple):
    """What one order keeps: quantity of its symbol on its side, and buying power in USD."""

    key: tuple[str, str]
    qty: Decimal
    cost: Decimal


class Holds:
    """The holds of one account's open orders."""

    def __init__(self) -> None:
        self._of: dict[str, Hold] = {}
        self._qty: dict[tuple[str, str], Decimal] = defaultdict(lambda: ZERO)
        self.cost = ZERO
        """Buying power kept by all open orders, USD."""
        self.working: dict[str, dict[str, Order]] = defaultdict(dict)
        """Open orders by symbol and id."""

    def update(self, order: Order) -> None:
        """An order is new or has changed."""
        old = self._of.pop(order.id, None)
        if old is not None:
            self._qty[old.key] -= old.qty
            self.cost -= old.cost
        if not order.open:
            self.working[order.symbol].pop(order.id, None)
            return
        self.working[order.symbol][order.id] = order
        if order.status == "held" or order.order_class == "mleg":
            return
        hold = self._hold(order)
        self._of[order.id] = hold
        self._qty[hold.key] += hold.qty
        self.cost += hold.cost

    def quantity(self, symbol: str, side: str) -> Decimal:
        """Quantity of a symbol that open orders of a side are still to trade."""
        return self._qty[symbol, side]

    def of_order(self, order_id: str) -> Hold | None:
        """What an order keeps."""
        return self._of.get(order_id)

    def _hold(self, order: Order) -> Hold:
        cost = ZERO
        if not order.closing:
            if order.quantity is None:
                cost = order.notional or ZERO
            else:
                times = OPTION_MULTIPLIER if order.asset_class == "us_option" else 1
                cost = order.remaining * order.reserve * times
        return Hold((order.symbol, order.side), order.remaining, cost)
