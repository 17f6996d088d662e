"""Orders as Alpaca's REST and stream show them: numbers as text, times in RFC 3339. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from simulator.broker.amounts import optional, shown, text
from simulator.broker.orders import Order
from simulator.rfc3339 import show

NO_ASSET = "00000000-0000-0000-0000-000000000000"
_asset_ids: dict[str, str] = {"": NO_ASSET}
_ASSETS_REMEMBERED = 100_000

Find = Callable[[str], Order | None]


def asset_id(symbol: str) -> str:
    """The id under which /v2/assets knows a symbol; all zeros for a multi-leg order."""
    known = _asset_ids.get(symbol)
    if known is None:
        known = str(uuid.uuid5(uuid.NAMESPACE_DNS, symbol))
        if len(_asset_ids) < _ASSETS_REMEMBERED:
            _asset_ids[symbol] = known
    return known


@lru_cache(4_096)
def moment(ns: int) -> str:
    """A time as text; the same few times come again in every update of an order."""
    return show(ns)


def order_json(order: Order, find: Find | None = None) -> dict[str, Any]:
    """One order; with `find` its legs are nested in it."""
    average = order.average
    legs = None
    if find is not None and order.legs:
        legs = [order_json(leg) for leg in map(find, order.legs) if leg is not None]
    body = {
        "id": order.id,
        "client_order_id": order.client_order_id,
        "created_at": moment(order.created),
        "updated_at": moment(order.updated),
        "submitted_at": moment(order.submitted),
        "filled_at": _time(order.filled),
        "expired_at": _time(order.expired),
        "expires_at": _time(order.expires),
        "cancel_requested_at": _time(order.cancel_requested),
        "canceled_at": _time(order.canceled),
        "failed_at": _time(order.failed),
        "replaced_at": _time(order.replaced),
        "replaced_by": order.replaced_by,
        "replaces": order.replaces,
        "asset_id": asset_id(order.symbol),
        "symbol": order.symbol,
        "asset_class": order.asset_class,
        "notional": optional(order.notional),
        "qty": optional(order.qty),
        "filled_qty": text(order.filled_qty),
        "filled_avg_price": None if average is None else text(shown(average)),
        "order_class": order.order_class,
        "order_type": order.type,
        "type": order.type,
        "side": order.side,
        "position_intent": order.intent or None,
        "time_in_force": order.tif,
        "limit_price": optional(order.limit_price),
        "stop_price": optional(order.stop_price),
        "status": order.status,
        "extended_hours": order.extended_hours,
        "legs": legs,
        "trail_percent": optional(order.trail_percent),
        "trail_price": optional(order.trail_price),
        "hwm": optional(order.hwm),
        "ratio_qty": optional(order.ratio),
        "subtag": None,
        "source": None,
    }
    if order.reason is not None:
        body["reject_reason"] = order.reason
    return body


def _time(ns: int | None) -> str | None:
    return None if ns is None else moment(ns)
