"""PATCH of an order: the order that takes another's place, checked before the old one is touched. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from simulator.broker.account import Account, Price
from simulator.broker.amounts import ZERO, shown, whole
from simulator.broker.entry import TIFS, number
from simulator.broker.orders import Order
from simulator.broker.rejections import (
    Rejection,
    insufficient_buying_power,
    insufficient_quantity,
    invalid,
    malformed,
    reused,
    suspended,
)
from simulator.latest import Quote

_REPLACEABLE = ("new", "accepted", "partially_filled", "held", "stopped")
_PRICES = {
    "market": (),
    "limit": ("limit_price",),
    "stop": ("stop_price",),
    "stop_limit": ("limit_price", "stop_price"),
    "trailing_stop": ("trail",),
}


def replacement(account: Account, old: Order, body: Any, quote: Quote | None, price: Price) -> Order:
    """The new order, still without id and times. A given qty counts what is filled already.

    Raises:
        Rejection: the old one cannot be replaced, or not by this.
    """
    if account.configuration["suspend_trade"]:
        raise suspended()
    if not isinstance(body, Mapping):
        raise Rejection(400, 40010000, "failed to decode request body")
    if old.status not in _REPLACEABLE or old.order_class == "mleg":
        raise invalid(f"cannot replace order in {old.status} status")
    if old.notional is not None:
        raise invalid("notional orders cannot be replaced")
    changes = _changes(old, body)
    if not changes:
        raise invalid("order parameters are not changed")
    qty = changes.pop("qty", old.qty) - old.filled_qty
    if qty <= ZERO:
        raise invalid("qty must be > filled_qty")
    new = replace(
        old, id="", client_order_id=_client_id(account, body), replaces=old.id, qty=qty, filled_qty=ZERO,
        filled_value=ZERO, status="held" if old.status == "held" else "pending_new", filled=None,
        cancel_requested=None, replaced_by=None, **changes,
    )  # fmt: skip
    if "trail_price" in changes or "trail_percent" in changes:
        new.stop_price = None
    _check(account, old, new, quote, price)
    return new


def _changes(old: Order, body: Mapping[str, Any]) -> dict[str, Any]:
    allowed = _PRICES.get(old.type, ())
    changes: dict[str, Any] = {}
    for name in ("qty", "limit_price", "stop_price", "trail"):
        value = number(body, name)
        if value is None:
            continue
        if name != "qty" and name not in allowed:
            raise malformed(f"{old.type.replace('_', ' ')} orders must not have {name.replace('_', ' ')}")
        if name == "trail":
            name = "trail_price" if old.trail_price is not None else "trail_percent"
        if value != getattr(old, name):
            changes[name] = value
    tif = body.get("time_in_force")
    if tif is not None and tif != old.tif:
        if tif not in TIFS or (old.asset_class == "crypto" and tif not in ("gtc", "ioc")):
            raise invalid("invalid time_in_force")
        changes["tif"] = tif
    qty = changes.get("qty")
    if qty is not None and not whole(qty) and (old.asset_class != "crypto"):
        raise malformed("qty must be integer")
    return changes


def _client_id(account: Account, body: Mapping[str, Any]) -> str:
    given = body.get("client_order_id") or ""
    if given in account.by_client_id:
        raise reused()
    return str(given)


def _check(account: Account, old: Order, new: Order, quote: Quote | None, price: Price) -> None:
    hold = account.holds.of_order(old.id)
    if hold is None or new.qty is None:
        return
    if new.closing:
        existing = abs(account.book.quantity(old.symbol))
        others = account.holds.quantity(old.symbol, old.side) - hold.qty
        if new.qty > existing - others:
            raise insufficient_quantity(old.symbol, new.qty, existing, min(existing, others))
        return
    each: Decimal = new.limit_price or new.stop_price or (quote.ask if quote is not None else ZERO)
    more = new.qty * each - hold.cost
    power = account.buying_power(account.worth(price))
    if more > power:
        raise insufficient_buying_power(shown(power), shown(more))
