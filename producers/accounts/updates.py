"""One trade update of Alpaca, or one order as REST shows it -> the content of a `trade_update` record. Pure.

Every event becomes a record, unknown ones too. What cannot be one raises RecordError with the reason, and
never anything else.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

from schemas import trading_values as values
from schemas.event_id import fill_id, order_event_id, plain_quantity
from schemas.fills import FILL_EVENTS, fills
from schemas.trading_values import Json
from tidewire.errors import RecordError

Content = dict[str, Any]

MULTI_LEG = "mleg"

_TEXTS = ("asset_class", "order_class", "time_in_force", "status")
_NUMBERS = ("notional", "limit_price", "stop_price", "trail_price", "trail_percent")
_ORDER_FIELDS = frozenset(
    {
        *_TEXTS, *_NUMBERS, "id", "client_order_id", "symbol", "side", "type", "order_type", "qty",
        "filled_qty", "filled_avg_price", "replaces", "replaced_by", "submitted_at", "filled_at",
        "extended_hours", "reject_reason",
    }
)  # fmt: skip
_EVENT_FIELDS = frozenset(
    {
        "event", "execution_id", "event_id", "timestamp", "price", "qty", "position_qty", "position_qtys",
        "previous_execution_id", "order", "legs", "reason",
    }
)  # fmt: skip


def content(account: str, data: object) -> Content:
    """The record of one trade update (`data` of the message), without who received it and when.

    Raises:
        RecordError: it says too little, or what the schema cannot hold.
    """
    if not isinstance(data, dict):
        raise RecordError(f"data is not an object but {type(data).__name__}")
    order = data.get("order")
    if not isinstance(order, dict):
        raise RecordError("order is missing")
    event = values.identity(data, "event")
    found = of_order(account, event, order, _time(data, order))
    legs = _legs(data, order, found["ts"])
    found |= {
        "execution_id": values.text(data, "execution_id"),
        "alpaca_event_id": values.text(data, "event_id"),
        "position_quantity": values.number(data, "position_qty"),
        "previous_execution_id": values.text(data, "previous_execution_id"),
        "quantity": values.number(data, "qty"),
        "price": _price(data, bool(legs)),
        "legs": legs,
        "reason": values.text(data, "reason") or found["reason"],
        "extra": _extra(data, order),
    }
    return identified(found)


def of_order(account: str, event: str, order: Json, ts: int) -> Content:
    """What an order says of itself, as the record of `event` at `ts` (ns). Raises RecordError."""
    cumulative = values.number(order, "filled_qty")
    if cumulative is None:
        if event in FILL_EVENTS and order.get("order_class") != MULTI_LEG:
            raise RecordError(f"order.filled_qty is missing: it names the {event}")
        cumulative = Decimal(0)
    return {
        "account": account,
        "ts": ts,
        "event": event,
        "order_id": values.identity(order, "id", "order."),
        "client_order_id": values.text(order, "client_order_id"),
        "execution_id": None,
        "alpaca_event_id": None,
        "symbol": values.symbol(order),
        "side": values.side(order),
        "order_type": values.text(order, "order_type") or values.text(order, "type") or "",
        **{name: values.text(order, name) or "" for name in _TEXTS},
        "order_quantity": values.number(order, "qty"),
        **{name: values.number(order, name) for name in _NUMBERS},
        "cumulative_quantity": cumulative,
        "average_price": values.loose(order, "filled_avg_price"),
        "quantity": None,
        "price": None,
        "position_quantity": None,
        "previous_execution_id": None,
        "legs": [],
        "replaces": values.text(order, "replaces"),
        "replaced_by": values.text(order, "replaced_by"),
        "submitted_ts": values.time(order, "submitted_at"),
        "filled_ts": values.time(order, "filled_at"),
        "extended_hours": order.get("extended_hours") is True,
        "reason": values.text(order, "reject_reason"),
        "extra": _extra({}, order),
    }


def identified(found: Content) -> Content:
    """The content with its event id; what says that it fills something is held to it.

    A fill is named by its order and the cumulative quantity, as FILL activities name it too; every other
    event, and a fill of several legs, by order, event and time.

    Raises:
        RecordError: it fills something, and does not say what.
    """
    if found["event"] in FILL_EVENTS and not found["legs"]:
        if found["order_class"] == MULTI_LEG and not found["symbol"]:
            raise RecordError("a multi-leg order was filled, and the legs are missing")
        found["event_id"] = fill_id(found["order_id"], plain_quantity(found["cumulative_quantity"]))
    else:
        found["event_id"] = order_event_id(found["order_id"], found["event"], found["ts"])
    try:
        filled = fills(found)
    except ValueError as error:
        raise RecordError(str(error)) from None
    if any(fill.quantity < 0 or not fill.symbol for fill in filled):
        raise RecordError(f"{found['event']} without a symbol, or of less than nothing")
    return found


def _time(data: Json, order: Json) -> int:
    # `timestamp` is missing from some samples; `at` is when the event was sent.
    for fields, name in ((data, "timestamp"), (data, "at"), (order, "updated_at")):
        if (found := values.time(fields, name)) is not None:
            return found
    raise RecordError("timestamp, at and order.updated_at are missing")


def _legs(data: Json, order: Json, ts: int) -> list[Content]:
    """The executions of a multi-leg fill. Where only the leg's order tells how much of it is filled, that is
    after the last of its executions here: each has its own cumulative quantity all the same, which names it.
    """
    told = values.objects(data, "legs")
    found = [_leg(leg, order, data, ts) for leg in told]
    totals: defaultdict[str, Decimal] = defaultdict(Decimal)
    for leg in found:
        totals[leg["order_id"]] += leg["quantity"]
    later: defaultdict[str, Decimal] = defaultdict(Decimal)
    for said, leg in zip(reversed(told), reversed(found), strict=True):
        name = leg["order_id"]
        if values.number(said, "cum_qty") is None:
            whole = leg["cumulative_quantity"]
            whole = _by_ratio(totals[name], data, order) if whole is None else whole
            leg["cumulative_quantity"] = None if whole is None else whole - later[name]
        if later[name]:
            leg["position_quantity"] = None  # the broker tells that of the last
        later[name] += leg["quantity"]
    return found


def _by_ratio(quantity: Decimal, data: Json, order: Json) -> Decimal | None:
    """How much of a leg is filled, of which so much in this message: as the whole order is."""
    filled, now = values.number(order, "filled_qty"), values.number(data, "qty")
    if filled is None or not now:
        return None
    whole = quantity * filled / now
    return whole if whole * now == quantity * filled else None


def _leg(leg: Json, order: Json, data: Json, ts: int) -> Content:
    order_id = values.identity(leg, "order_id", "legs[].")
    described = next((o for o in values.objects(order, "legs") if o.get("id") == order_id), {})
    symbol = values.symbol(leg) or values.symbol(described)
    cumulative = values.number(leg, "cum_qty")
    own = values.time(leg, "timestamp")
    return {
        "order_id": order_id,
        "execution_id": values.text(leg, "execution_id"),
        "symbol": symbol,
        "side": values.side(leg) or values.side(described),
        "cumulative_quantity": values.number(described, "filled_qty") if cumulative is None else cumulative,
        "quantity": values.needed(leg, "qty", "legs[]."),
        "price": values.needed(leg, "price", "legs[]."),
        "position_quantity": _position(data, symbol),
        "ts": ts if own is None else own,
    }


def _position(data: Json, symbol: str) -> Any:
    positions = data.get("position_qtys")
    return values.number(positions, symbol) if isinstance(positions, dict) else None


def _price(data: Json, several_legs: bool) -> Any:
    # The net price of several legs is a difference and tells nothing that the legs do not.
    return values.loose(data, "price") if several_legs else values.number(data, "price")


def _extra(data: Json, order: Json) -> str | None:
    unknown = values.without(order, _ORDER_FIELDS)
    kept = {name: value for name, value in unknown.items() if value not in (None, [], {})}
    if values.loose(order, "filled_avg_price") is None and order.get("filled_avg_price") not in (None, ""):
        kept["filled_avg_price"] = order["filled_avg_price"]
    return values.leftovers(values.without(data, _EVENT_FIELDS), {"order": kept})
