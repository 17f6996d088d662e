"""What the log already holds of one account: the newest events, and where its orders stand. Pure, bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from producers.accounts.recovered import ENDINGS
from producers.accounts.updates import MULTI_LEG
from schemas.activities import CANCELED, EXECUTED, booked, effect_of
from schemas.event_id import fill_id
from schemas.fills import FILL_EVENTS, REVISION_EVENTS, Fill, fills

LIMIT = 50_000
"""Events, and as many orders, that are remembered of an account."""
LARGEST_FEE = Decimal("0.01")
"""Part of what was bought that a fee in kind takes at most; Alpaca's largest is 0.0025."""
UNTOLD_BEGINNING = "how its order began was never told"

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


@dataclass(slots=True)
class _Order:
    """`filled` is the greatest cumulative quantity told; `ended` how it ended, empty while it is open;
    `ts` is that of its newest event.
    """

    filled: Decimal
    ended: str = ""
    ts: int = 0


@dataclass(frozen=True, slots=True)
class Position:
    """What the broker said that a fill left of a symbol, carried on by fills that say nothing. ns.

    `bought`: what was bought since it was said, that fill included: a fee in kind may have gone of it.
    """

    quantity: Decimal
    ts: int
    bought: Decimal = Decimal(0)


class Memory:
    """Tells repeats from news. A stream's end of an order and REST's may differ in time: they are one."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._events: OrderedDict[bytes, None] = OrderedDict()
        self._orders: OrderedDict[str, _Order] = OrderedDict()
        self._positions: OrderedDict[str, Position] = OrderedDict()
        self._activities: OrderedDict[str, str] = OrderedDict()
        self._submitted_ts: int | None = None
        self.newest_ts: int | None = None
        """Of the newest event in the log, by the broker's clock, ns; None: there is none."""
        self.newest_activity_ts: int | None = None
        """When the newest activity in the log that is no fill was booked, ns; None: there is none."""

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

    def holds_activity(self, activity: Mapping[str, Any]) -> bool:
        """Whether the log has this activity in this status (an `account_activity` record or its content)."""
        known = self._activities.get(activity["activity_id"])
        return known is not None and known in (_status(activity), CANCELED)

    def add_activity(self, activity: Mapping[str, Any]) -> None:
        """Remember an activity that is in the log, or on its way there."""
        self._keep(self._activities, activity["activity_id"], _status(activity))
        self.newest_activity_ts = max(self.newest_activity_ts or 0, booked(activity))
        if effect_of(activity).quantity:  # the next fill says what is held now
            self._positions.pop(activity["symbol"], None)

    def add(self, update: Mapping[str, Any]) -> None:
        """Remember an event that is in the log, or on its way there."""
        self._keep(self._events, update["event_id"], None)
        if update["submitted_ts"] is not None:
            self._submitted_ts = max(self._submitted_ts or 0, update["submitted_ts"])
        self.newest_ts = max(self.newest_ts or 0, update["ts"])
        if update["event"] in (*FILL_EVENTS, *REVISION_EVENTS):
            for fill in fills(update):
                self._keep(self._events, fill.event_id, None)
                self._stand(fill)
        order = self._orders.get(update["order_id"]) or _Order(Decimal(0))
        order.filled = max(order.filled, update["cumulative_quantity"])
        order.ts = max(order.ts, update["ts"])
        if update["event"] in ENDINGS or update["event"] == "fill":
            order.ended = update["event"]
        self._keep(self._orders, update["order_id"], order)

    def doubt(self, update: Mapping[str, Any]) -> str | None:
        """Why this event of the stream, not yet added, cannot follow on what the log holds; None: it can.

        Something was filled before it that the log was never told, or a position is another than the fills
        leave it, or an order is filled whose beginning was never told.
        """
        order = self._orders.get(update["order_id"])
        if update["event"] in FILL_EVENTS and order is None and not update["legs"]:
            return UNTOLD_BEGINNING
        if self._skips(update, order):
            return "something was filled before it that was never told"
        if update["event"] in FILL_EVENTS and any(self._breaks(fill) for fill in fills(update)):
            return "the position after it is not what the fills leave"
        return None

    def _skips(self, update: Mapping[str, Any], order: _Order | None) -> bool:
        if update["legs"] or update["order_class"] == MULTI_LEG or update["event"] in REVISION_EVENTS:
            return False
        own: Decimal = update["quantity"] if update["event"] in FILL_EVENTS else Decimal(0)
        before: Decimal = update["cumulative_quantity"] - own
        return before > (Decimal(0) if order is None else order.filled)

    def _breaks(self, fill: Fill) -> bool:
        known = self._positions.get(fill.symbol)
        if fill.position_quantity is None or known is None or fill.ts < known.ts:
            return False
        lacking = known.quantity + fill.signed - fill.position_quantity
        paid = fill.asset_class == "crypto" and 0 < lacking <= known.bought * LARGEST_FEE
        return bool(lacking) and not paid

    def _stand(self, fill: Fill) -> None:
        known = self._positions.get(fill.symbol)
        if known is not None and fill.ts < known.ts:
            return  # a late one: what was said after it contains it
        if fill.kind != "fill":
            self._positions.pop(
                fill.symbol, None
            )  # it undoes an earlier one: the next fill says what is held
        elif fill.position_quantity is not None:
            bought = max(fill.signed, Decimal(0))
            self._keep(self._positions, fill.symbol, Position(fill.position_quantity, fill.ts, bought))
        elif known is not None:
            bought = known.bought + max(fill.signed, Decimal(0))
            self._keep(self._positions, fill.symbol, Position(known.quantity + fill.signed, fill.ts, bought))

    @property
    def positions(self) -> Mapping[str, Position]:
        """By symbol: what is held after the newest fill, for symbols of which the broker has said it."""
        return self._positions

    def last_ts(self, order_id: str) -> int | None:
        """When the newest event of an order in the log happened, ns; None: the log has none."""
        order = self._orders.get(order_id)
        return None if order is None else order.ts

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


def _status(activity: Mapping[str, Any]) -> str:
    status = activity["status"] or ""
    return "" if status in EXECUTED else str(status)
