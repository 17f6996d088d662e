"""Decoded records -> the payloads of D1: PositionUpdate, OrderUpdate, AccountUpdate, TradeExecuted. Pure.

Numbers are strings of plain decimals, times RFC 3339 UTC with milliseconds. An optional field that has no
value is left out; `currentPrice`, `unrealizedPnl`, `unrealizedPnlPercent` and `marketValue` of a position are
null until its symbol has a price. `quantity` is negative when short, as Alpaca's; 0 is a closed position.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from typing import Any

from schemas.event_id import plain_quantity
from schemas.fills import Fill
from tidewire.clock import NS_PER_MS

Payload = dict[str, Any]

_PERCENT_STEP = Decimal("0.0001")
_WIDE = Context(prec=60, rounding=ROUND_HALF_EVEN)


def moment(ts: int) -> str:
    """A time in ns since 1970 UTC as RFC 3339 with milliseconds (cut off, so never later than it was)."""
    seconds, ms = divmod(ts // NS_PER_MS, 1000)
    return f"{_second(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    """Events of one second share it, and writing it out costs more than all else of a message."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def number(value: Decimal) -> str:
    """A decimal as plain text, the same for the same value."""
    return plain_quantity(value) if value else "0"


def position(record: Mapping[str, Any]) -> Payload:
    """PositionUpdate of a portfolio_position record."""
    quantity, unrealized = record["quantity"], record["unrealized_pnl"]
    payload = {
        "symbol": record["symbol"],
        "quantity": number(quantity),
        "currentPrice": _or_null(record["mark_price"]),
        "entryPrice": number(record["average_price"]),
        "unrealizedPnl": _or_null(unrealized),
        "unrealizedPnlPercent": _percent(unrealized, abs(record["cost_basis"])),
        "marketValue": _or_null(record["market_value"]),
        "side": "short" if quantity < 0 else "long",
        "openedAt": moment(record["opened_ts"]),
    }
    if record["strategy"] is not None:
        payload["strategyId"] = record["strategy"]
    return payload


def traded(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What only fills change in a portfolio_position record, marks never: a change of it is sent at once."""
    return record["epoch"], record["quantity"], record["average_price"], record["realized_pnl"]


def order(record: Mapping[str, Any]) -> Payload:
    """OrderUpdate of a portfolio_order record."""
    optional = {
        "qty": record["quantity"],
        "filledQty": record["filled_quantity"],
        "filledAvgPrice": record["average_price"],
    }
    payload = {
        "orderId": record["client_order_id"] or record["order_id"],
        "brokerOrderId": record["order_id"],
        "symbol": record["symbol"],
        "side": record["side"],
        "type": record["order_type"],
        "status": record["status"],
        **{name: number(value) for name, value in optional.items() if value is not None},
        "submittedAt": moment(record["submitted_ts"]),
    }
    if record["filled_ts"] is not None:
        payload["filledAt"] = moment(record["filled_ts"])
    return payload


def account(record: Mapping[str, Any]) -> Payload:
    """AccountUpdate of a portfolio_account record; the day's percentage is of the last equity."""
    return {
        "equity": number(record["equity"]),
        "buyingPower": number(record["buying_power"]),
        "cash": number(record["cash"]),
        "portfolioValue": number(record["portfolio_value"]),
        "dayPnl": number(record["day_pnl"]),
        "dayPnlPercent": _percent(record["day_pnl"], record["last_equity"]) or "0",
        "timestamp": moment(record["ts"]),
    }


def trade(fill: Fill, client_order_id: str | None) -> Payload:
    """TradeExecuted of one fill. `executionId` is Alpaca's, else our event id: FILL activities have none."""
    payload = {
        "executionId": fill.execution_id or fill.event_id.hex(),
        "orderId": client_order_id or fill.order_id,
        "symbol": fill.symbol,
        "side": fill.side,
        "qty": number(fill.quantity),
        "price": number(fill.price),
        "filledQty": number(fill.cumulative_quantity),
        "executedAt": moment(fill.ts),
    }
    if fill.position_quantity is not None:
        payload["positionQty"] = number(fill.position_quantity)
    return payload


def _or_null(value: Decimal | None) -> str | None:
    return None if value is None else number(value)


def _percent(part: Decimal | None, whole: Decimal) -> str | None:
    if part is None or whole <= 0:
        return None
    share = _WIDE.divide(_WIDE.multiply(part, Decimal(100)), whole)
    return number(share.quantize(_PERCENT_STEP, context=_WIDE))
