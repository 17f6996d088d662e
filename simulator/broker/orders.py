"""An order and the states that it passes through. Pure: whoever changes a state does it by `advance`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Literal

from simulator.broker.amounts import SMALLEST, ZERO, divide, down, text

Side = Literal["buy", "sell"]
Role = Literal["", "take_profit", "stop_loss", "leg"]

TERMINAL = frozenset({"filled", "canceled", "expired", "replaced", "rejected"})
OPEN = frozenset(
    {
        "pending_new",
        "accepted",
        "new",
        "held",
        "partially_filled",
        "pending_cancel",
        "pending_replace",
        "stopped",
        "suspended",
        "calculated",
        "done_for_day",
    }
)
MATCHING = frozenset({"new", "partially_filled", "stopped"})
"""States in which an order may trade."""


class IllegalTransition(Exception):
    """A terminal order does not change its state."""


@dataclass(slots=True)
class Order:
    """One order. Times are ns since 1970 UTC, prices USD; `target` is the quantity of a notional order."""

    id: str
    account: int
    client_order_id: str
    symbol: str
    asset_class: str
    side: str
    type: str
    tif: str
    order_class: str = ""
    qty: Decimal | None = None
    notional: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    trail_percent: Decimal | None = None
    hwm: Decimal | None = None
    extended_hours: bool = False
    intent: str = ""
    status: str = "pending_new"
    created: int = 0
    updated: int = 0
    submitted: int = 0
    filled: int | None = None
    expired: int | None = None
    expires: int | None = None
    canceled: int | None = None
    failed: int | None = None
    replaced: int | None = None
    cancel_requested: int | None = None
    replaced_by: str | None = None
    replaces: str | None = None
    filled_qty: Decimal = ZERO
    filled_value: Decimal = ZERO
    target: Decimal | None = None
    ratio: Decimal | None = None
    parent: str | None = None
    role: Role = ""
    legs: tuple[str, ...] = ()
    live: bool = False
    """A held stop-loss that watches the market, since its entry is filled."""
    triggered: bool = False
    reason: str | None = None
    reserve: Decimal = ZERO
    """What one was expected to cost when the order was taken: so much buying power it keeps."""

    @property
    def open(self) -> bool:
        """Whether it may still change."""
        return self.status in OPEN

    @property
    def quantity(self) -> Decimal | None:
        """What is to be filled in all; None while a notional order does not know its price."""
        return self.qty if self.qty is not None else self.target

    @property
    def remaining(self) -> Decimal:
        """What is still to be filled."""
        quantity = self.quantity
        return ZERO if quantity is None else quantity - self.filled_qty

    @property
    def average(self) -> Decimal | None:
        """Average price of its fills."""
        return divide(self.filled_value, self.filled_qty) if self.filled_qty else None

    @property
    def sign(self) -> int:
        """1 buys, -1 sells."""
        return 1 if self.side == "buy" else -1

    @property
    def closing(self) -> bool:
        """Whether it was sent to reduce a position."""
        return self.intent.endswith("_to_close")

    def size_by(self, price: Decimal) -> None:
        """A notional order learns its quantity from the price at which it first could trade."""
        if self.qty is None and self.target is None and self.notional is not None:
            self.target = max(SMALLEST, down(divide(self.notional, price)))


def advance(order: Order, status: str, now: int) -> None:
    """Put an order into another state.

    Raises:
        IllegalTransition: it is in a terminal state.
    """
    if order.status in TERMINAL:
        raise IllegalTransition(f"order {order.id} is {order.status} and cannot become {status}")
    order.status = status
    order.updated = now
    if status in TERMINAL:
        name = "failed" if status == "rejected" else status
        setattr(order, name, now)


def add_fill(order: Order, qty: Decimal, price: Decimal, now: int) -> bool:
    """Count an execution; returns whether the order is complete.

    Raises:
        IllegalTransition: it is in a terminal state.
        ValueError: more than what remains.
    """
    if not ZERO < qty <= order.remaining:
        raise ValueError(f"order {order.id} has {order.remaining} left, not {qty}")
    order.filled_qty += qty
    order.filled_value += qty * price
    complete = order.remaining == ZERO
    advance(order, "filled" if complete else "partially_filled", now)
    return complete


_FIELDS = {f.name: f.default for f in fields(Order)}
_DECIMAL = frozenset(f.name for f in fields(Order) if "Decimal" in str(f.type))


def pack(order: Order) -> dict[str, Any]:
    """What a journal keeps of an order: its fields that are not at their defaults."""
    kept = {}
    for name, default in _FIELDS.items():
        value = getattr(order, name)
        if value != default:
            kept[name] = text(value) if name in _DECIMAL and value is not None else value
    return kept


def unpack(kept: Mapping[str, Any]) -> Order:
    """The order that `pack` kept."""
    values: dict[str, Any] = {
        name: Decimal(v) if name in _DECIMAL and v is not None else v for name, v in kept.items()
    }
    values["legs"] = tuple(values.get("legs", ()))
    return Order(**values)
