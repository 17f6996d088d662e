"""A simple broker for the tests of the executor's machine: positions, orders, and answers that get lost."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from schemas.order_ids import client_order_id, trigger_name
from sinks.executor.broker_types import (
    Asset,
    BrokerAccount,
    BrokerClock,
    BrokerOrder,
    BrokerPosition,
    BrokerQuote,
    NewOrder,
)
from sinks.executor.facts import Facts
from sinks.executor.intents import Intent

SECOND = 10**9
NOW = 1_772_463_600 * SECOND
"""2026-03-02 10:00 in New York, a Monday."""
ASSET = Asset(
    symbol="AAPL", asset_class="us_equity", status="active", tradable=True, fractionable=True, shortable=True,
    easy_to_borrow=True, marginable=True,
)  # fmt: skip
ACCOUNT = BrokerAccount(
    status="ACTIVE", equity=Decimal(10_000), last_equity=Decimal(10_000), cash=Decimal(5_000),
    buying_power=Decimal(10_000), non_marginable_buying_power=Decimal(5_000),
    options_buying_power=Decimal(5_000), shorting_enabled=True, trading_blocked=False, account_blocked=False,
    trade_suspended_by_user=False,
)  # fmt: skip
QUOTE = BrokerQuote("AAPL", Decimal("99"), Decimal("101"), NOW)


def clock(now: int = NOW, *, is_open: bool = True) -> BrokerClock:
    """The broker's clock."""
    return BrokerClock(now, is_open, now + 20 * 3600 * SECOND, now + 6 * 3600 * SECOND)


def exit_intent(side: str = "sell", received: int = NOW, **more: Any) -> Intent:
    """An exit of AAPL."""
    name = trigger_name("one", "AAPL", 0, 0)
    own: dict[str, Any] = {
        "account": "one", "intent_id": name, "kind": "exit", "symbol": "AAPL", "side": side,
        "order_type": "market", "time_in_force": "day", "quantity": None, "notional": None,
        "limit_price": None, "stop_price": None, "reference_price": None, "position_epoch": 0,
        "exit_epoch": 0, "extended_hours": False, "foreign_orders": "cancel", "trigger_id": name,
        "ts": received, "received_ts": received, "expires_ts": None, "run_id": None,
    }  # fmt: skip
    return Intent(**(own | more))


def order_intent(**more: Any) -> Intent:
    """A strategy's order: buy 10 AAPL."""
    own: dict[str, Any] = {
        "intent_id": "s", "kind": "order", "side": "buy", "quantity": Decimal(10), "position_epoch": None,
        "exit_epoch": None, "trigger_id": None,
    }  # fmt: skip
    return exit_intent(**(own | more))


def position(quantity: Decimal | int, available: Decimal | int | None = None) -> BrokerPosition | None:
    """A position of AAPL; None of 0."""
    held = Decimal(quantity)
    free = abs(held) if available is None else Decimal(available)
    side = "long" if held > 0 else "short"
    return BrokerPosition("AAPL", "us_equity", held, free, side) if held else None  # type: ignore[arg-type]


def facts(**more: Any) -> Facts:
    """A look at a quiet account that holds nothing."""
    own: dict[str, Any] = {
        "now": NOW, "position": None, "open_orders": (), "asset": ASSET, "clock": clock(), "account": ACCOUNT,
        "quote": QUOTE,
    }  # fmt: skip
    return Facts(**(own | more))


def broker_order(order: NewOrder, number: int) -> BrokerOrder:
    """A new order as the broker shows it."""
    return BrokerOrder(
        id=f"o{number}", client_order_id=order.client_order_id, symbol=order.symbol, asset_class="us_equity",
        side=order.side, type=order.type, time_in_force=order.time_in_force, status="new",
        quantity=order.quantity, notional=None, filled_quantity=Decimal(0), average_price=None,
        limit_price=order.limit_price, stop_price=None, extended_hours=False, submitted_ns=None,
        updated_ns=None,
    )  # fmt: skip


@dataclass
class ModelBroker:
    """One symbol. Fills what it is told to fill; knows every order that it ever took."""

    held: Decimal
    orders: dict[str, BrokerOrder] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    """The client_order_ids of accepted orders, in order."""

    def open(self) -> list[BrokerOrder]:
        """Orders that work."""
        return [order for order in self.orders.values() if not order.terminal]

    def free(self) -> Decimal:
        """What no order holds."""
        bound = sum((order.remaining or Decimal(0) for order in self.open()), Decimal(0))
        return max(abs(self.held) - bound, Decimal(0))

    def place(self, order: NewOrder) -> BrokerOrder | str:
        """The order, or why not."""
        if order.client_order_id in self.taken:
            return "reused"
        if order.quantity is None or order.quantity > self.free():
            return "held"
        self.taken.append(order.client_order_id)
        shown = broker_order(order, len(self.orders))
        self.orders[shown.id] = shown
        return shown

    def fill(self, order: BrokerOrder, quantity: Decimal) -> None:
        """Trade so much of it."""
        filled = order.filled_quantity + quantity
        status = "filled" if filled == order.quantity else "partially_filled"
        self.orders[order.id] = replace(
            order, filled_quantity=filled, status=status, average_price=Decimal(100)
        )
        self.held += quantity if order.side == "buy" else -quantity

    def end(self, order: BrokerOrder, status: str) -> None:
        """Canceled, expired, rejected."""
        self.orders[order.id] = replace(order, status=status)

    def find(self, client_id: str) -> BrokerOrder | None:
        """By the client's id."""
        return next((o for o in self.orders.values() if o.client_order_id == client_id), None)


def own_id(attempt: int) -> str:
    """Of the exit of `exit_intent`."""
    return client_order_id(trigger_name("one", "AAPL", 0, 0), attempt)
