"""Account, positions and open orders as REST shows them -> one `account_snapshot` record. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from producers.accounts.recovered import flattened
from producers.accounts.updates import Content
from schemas import trading_values as values
from schemas.event_id import snapshot_id
from schemas.fills import asset_class
from schemas.trading_values import Json
from tidewire.errors import RecordError

_MONEY = ("cash", "equity", "last_equity", "buying_power", "long_market_value", "short_market_value")
_BLOCKS = ("trading_blocked", "account_blocked", "trade_suspended_by_user")
_ACCOUNT_FIELDS = frozenset({*_MONEY, "trading_blocked", "id", "status", "currency"})
_PLACE = Decimal(1).scaleb(-values.PLACES)


def content(
    name: str,
    account: Json,
    positions: list[Json],
    orders: list[Json],
    *,
    ts: int,
    cursor: str | None,
    contained: Iterable[tuple[str, str]],
    activities: Iterable[str] = (),
) -> Content:
    """The record of a snapshot asked for at `ts` (ns), without when it was received.

    `cursor` is the id of the newest FILL activity contained, `contained` names (order id, plain cumulative
    quantity) the fills shortly before it. `activities` are ids of others that no snapshot has named before.

    Raises:
        RecordError: something is missing or does not fit; half a snapshot is none.
    """
    unrounded: dict[str, Any] = {}
    return {
        "account": name,
        "broker_account": values.identity(account, "id", "account."),
        "ts": ts,
        "status": values.text(account, "status") or "",
        "currency": values.text(account, "currency") or "USD",
        **{field: values.needed(account, field, "account.") for field in _MONEY},
        "trading_blocked": any(account.get(block) is True for block in _BLOCKS),
        "positions": [_position(position, unrounded) for position in positions],
        "orders": [_order(order, ts) for order in flattened(orders)],
        "activity_cursor": cursor,
        "contained_fills": [f"{order_id}:{quantity}" for order_id, quantity in contained],
        "contained_activities": list(activities),
        "extra": values.leftovers(values.without(account, _ACCOUNT_FIELDS), {"unrounded": unrounded}),
        "source": "rest",
        "event_id": snapshot_id(name, ts),
    }


def _position(position: Json, unrounded: dict[str, Any]) -> Content:
    symbol = values.symbol(position)
    if not symbol:
        raise RecordError("position.symbol is missing")
    quantity = values.needed(position, "qty", f"position {symbol}: ")
    return {
        "symbol": symbol,
        "asset_class": asset_class(symbol, values.text(position, "asset_class") or ""),
        "quantity": -abs(quantity) if position.get("side") == "short" else quantity,
        "average_price": _average(position, symbol, unrounded),
        **{name: values.loose(position, name) for name in ("market_value", "cost_basis", "current_price")},
    }


def _average(position: Json, symbol: str, unrounded: dict[str, Any]) -> Decimal:
    # Without an average there is no position. A broker's average may be a division without an end: the
    # schema's 18 digits of it are kept, and all of them in `extra`.
    average = values.loose(position, "avg_entry_price")
    if average is not None:
        return average
    text = position.get("avg_entry_price")
    if text in (None, ""):
        raise RecordError(f"position {symbol}: avg_entry_price is missing")
    unrounded[symbol] = text
    return Decimal(str(text)).quantize(_PLACE, ROUND_HALF_EVEN, Context(prec=60))


def _order(order: Json, ts: int) -> Content:
    filled, submitted = values.number(order, "filled_qty"), values.time(order, "submitted_at")
    return {
        "order_id": values.identity(order, "id", "order."),
        "client_order_id": values.text(order, "client_order_id"),
        "symbol": values.symbol(order),
        "side": values.side(order),
        "order_type": values.text(order, "order_type") or values.text(order, "type") or "",
        "status": values.text(order, "status") or "",
        "quantity": values.number(order, "qty"),
        "filled_quantity": Decimal(0) if filled is None else filled,
        "limit_price": values.number(order, "limit_price"),
        "stop_price": values.number(order, "stop_price"),
        "submitted_ts": ts if submitted is None else submitted,
    }
