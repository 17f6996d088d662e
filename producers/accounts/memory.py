"""What the log already holds of one account: the newest events, and where its orders stand. Pure, bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from producers.accounts.recovered import ENDINGS
from schemas.event_id import fill_id
from schemas.fills import FILL_EVENTS, fills

LIMIT = 50_000
"""Events, and as many orders, that are remembered of an account."""

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


@dataclass(slots=True)
class _Order:
    """`filled` is the greatest cumulative quantity told; `ended` how it ended, empty while it is open."""

    filled: Decimal
    ended: str = ""


class Memory:
    """Tells repeats from news. A stream's end of an order and REST's may differ in time: they are one."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._events: OrderedDict[bytes, None] = OrderedDict()
        self._orders: OrderedDict[str, _Order] = OrderedDict()
        self._submitted_ts: int | None = None

    def holds(self, update: Mapping[str, Any]) -> bool:
        """Whether the log has this event (a `trade_update` record or its content)."""
        if update["event_id"] in self._events:
            return True
        event = update["event"]
        order = self._orders.get(update["order_id"])
        return event in ENDINGS and order is not None and order.ended == event

    def holds_fill(self, order_id: str, cumulative: str) -> bool:
        """Whether the log has the fill of an order (or leg) up to this plain cumulative quantity."""
        return fill_id(order_id, cumulative) in self._events

    def add(self, update: Mapping[str, Any]) -> None:
        """Remember an event that is in the log, or on its way there."""
        self._keep(self._events, update["event_id"], None)
        if update["submitted_ts"] is not None:
            self._submitted_ts = max(self._submitted_ts or 0, update["submitted_ts"])
        if update["event"] in FILL_EVENTS:
            for fill in fills(update):
                self._keep(self._events, fill.event_id, None)
        order = self._orders.get(update["order_id"]) or _Order(Decimal(0))
        order.filled = max(order.filled, update["cumulative_quantity"])
        if update["event"] in ENDINGS or update["event"] == "fill":
            order.ended = update["event"]
        self._keep(self._orders, update["order_id"], order)

    def skips(self, update: Mapping[str, Any]) -> bool:
        """Whether something was filled before this fill that the log was never told."""
        if update["event"] not in FILL_EVENTS or update["legs"]:
            return False
        order = self._orders.get(update["order_id"])
        before: Decimal = update["cumulative_quantity"] - update["quantity"]
        return before > (Decimal(0) if order is None else order.filled)

    def knows(self, order_id: str) -> bool:
        """Whether the log tells of this order at all."""
        return order_id in self._orders

    def forget(self, order_id: str) -> None:
        """An order that the broker does not know is not asked for again."""
        if order_id in self._orders:
            self._orders[order_id].ended = "unknown"

    @property
    def open_orders(self) -> list[str]:
        """Ids of the orders that the log has not seen end, in the order of their newest events."""
        return [order_id for order_id, order in self._orders.items() if not order.ended]

    @property
    def newest_submitted_ts(self) -> int | None:
        """When the newest order in the log was submitted, by the broker's clock, ns; None: not known."""
        return self._submitted_ts

    def _keep(self, kept: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
        kept[key] = value
        kept.move_to_end(key)
        if len(kept) > self._limit:
            kept.popitem(last=False)
