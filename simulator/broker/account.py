"""One brokerage account: its book, its orders, its configuration, and what it is worth. Pure."""

from __future__ import annotations

import uuid
from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from simulator.broker.amounts import ZERO
from simulator.broker.book import Adjustment, Book, Execution
from simulator.broker.holds import Holds
from simulator.broker.orders import Order

OPENING_CASH = Decimal(1_000_000)
SAMPLES = 20_000
KEPT_ORDERS = 200_000
"""Orders that an account remembers; beyond it the oldest tenth goes, as far as it has ended."""
CONFIGURATION: dict[str, Any] = {
    "dtbp_check": "entry",
    "trade_confirm_email": "all",
    "suspend_trade": False,
    "no_shorting": False,
    "fractional_trading": True,
    "max_margin_multiplier": "4",
    "max_options_trading_level": 3,
    "pdt_check": "entry",
    "ptp_no_exception_entry": False,
    "disable_overnight_trading": False,
}

Price = Callable[[str], Decimal | None]
"""What one of a symbol is worth now."""


@dataclass(slots=True)
class Worth:
    """Values in USD; `short` is negative."""

    cash: Decimal
    long: Decimal
    short: Decimal
    crypto: Decimal

    @property
    def equity(self) -> Decimal:
        """Cash and all positions."""
        return self.cash + self.long + self.short


@dataclass(slots=True)
class Account:
    """Account number `n` of the simulator; it opened at `opened` (ns)."""

    n: int
    opened: int
    book: Book = field(default_factory=lambda: Book(OPENING_CASH))
    holds: Holds = field(default_factory=Holds)
    orders: dict[str, Order] = field(default_factory=dict)
    by_client_id: dict[str, str] = field(default_factory=dict)
    submitted: list[tuple[int, str]] = field(default_factory=list)
    """(submission in ns, id) of every order, oldest first."""
    activities: list[tuple[str, str]] = field(default_factory=list)
    """(activity id, execution id), by activity id."""
    transfers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Activities that are no trades (deposits, dividends), by activity id, as REST shows them."""
    configuration: dict[str, Any] = field(default_factory=lambda: dict(CONFIGURATION))
    last_equity: Decimal = OPENING_CASH
    last_prices: dict[str, Decimal] = field(default_factory=dict)
    """Prices of positions at the last closing."""
    closed_at: int = 0
    """The last closing, ns; 0 before the first."""
    samples: deque[tuple[int, Decimal]] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    """(ns, equity) once a minute."""

    @property
    def id(self) -> str:
        """Alpaca's id of the account."""
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"account-{self.n}.simulator.tidewire"))

    def keep(self, order: Order) -> None:
        """Note a new or changed order."""
        if order.id not in self.orders:
            self.orders[order.id] = order
            self.by_client_id[order.client_order_id] = order.id
            insort(self.submitted, (order.submitted, order.id))
            if len(self.orders) > KEPT_ORDERS:
                self._forget_oldest()
        self.holds.update(order)

    def _forget_oldest(self) -> None:
        known = self.orders
        for key in self.submitted[: KEPT_ORDERS // 10]:
            order = known[key[1]]
            kin = [*order.legs, *([order.parent] if order.parent is not None else [])]
            group = [order, *(known[name] for name in kin if name in known)]
            if not any(one.open for one in group):
                del known[order.id]
                self.by_client_id.pop(order.client_order_id, None)
        self.submitted = [key for key in self.submitted if key[1] in known]

    def fill(self, execution: Execution) -> None:
        """Note an execution."""
        self.book.fill(execution)
        insort(self.activities, (execution.activity, execution.id))
        if execution.revision:
            insort(self.activities, (execution.revision, execution.id))

    def revised(self, execution: Execution, at: int, activity: str) -> None:
        """Note that an execution was busted or corrected."""
        execution.revised, execution.revision = at, activity
        insort(self.activities, (activity, execution.id))

    def transfer(self, body: dict[str, Any]) -> None:
        """Money comes or goes without a trade; `body` is its activity."""
        self.book.cash += Decimal(body["net_amount"])
        self.transfers[body["id"]] = body
        insort(self.activities, (body["id"], ""))

    def post(self, body: dict[str, Any], adjustment: Adjustment | None) -> None:
        """An activity that is no fill happens, with what it does to a position."""
        self.transfer(body)
        if adjustment is not None:
            self.book.adjust(adjustment)

    def worth(self, price: Price) -> Worth:
        """The account at current prices; without one a position counts at its average price."""
        long = short = crypto = ZERO
        for position in self.book.open_positions():
            each = price(position.symbol)
            value = position.qty * (position.average if each is None else each) * position.multiplier
            long, short = (long + value, short) if value >= ZERO else (long, short + value)
            crypto += value if position.asset_class == "crypto" else ZERO
        return Worth(self.book.cash, long, short, crypto)

    def multiplier(self, worth: Worth) -> Decimal:
        """4 from 25,000 USD of equity on, 2 from 2,000 on, else 1; never above the configuration's."""
        equity = worth.equity
        allowed = Decimal(4 if equity >= 25_000 else 2 if equity >= 2_000 else 1)
        return min(allowed, Decimal(str(self.configuration["max_margin_multiplier"])))

    def buying_power(self, worth: Worth) -> Decimal:
        """The multiplied equity less what positions and open orders use of it."""
        used = worth.long - worth.short + self.holds.cost
        return max(ZERO, worth.equity * self.multiplier(worth) - used)

    def cash_power(self, worth: Worth) -> Decimal:
        """What may be spent on coins, which are bought without margin."""
        return max(ZERO, min(worth.cash + worth.short * 2 - self.holds.cost, self.buying_power(worth)))
