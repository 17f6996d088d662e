"""Made-up order events and what they must come to: a plain loop in fractions, from scratch, for tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

from schemas.event_id import fill_id, mark_id, order_event_id, plain_quantity, snapshot_id

BASE = 1_780_000_000_000_000_000
CURSOR = "20260528162640000::0"  # BASE in an activity id: by New York's clock
SECOND = 1_000_000_000

Event = dict[str, Any]


def an_update(event: str, order: str, ts: int, **more: Any) -> Event:
    """A decoded trade_update record; `cumulative_quantity` names a fill."""
    filled = more.get("cumulative_quantity", Decimal(0))
    is_fill = event in ("fill", "partial_fill") and not more.get("legs")
    status = {"fill": "filled", "partial_fill": "partially_filled", "trade_bust": "filled"}
    return {
        "account": "demo-1",
        "ts": ts,
        "event": event,
        "order_id": order,
        "client_order_id": f"c-{order}",
        "execution_id": None,
        "alpaca_event_id": None,
        "symbol": "AAPL",
        "asset_class": "us_equity",
        "side": "buy",
        "order_type": "limit",
        "order_class": "simple",
        "time_in_force": "day",
        "status": status.get(event, "filled" if event == "trade_correct" else event),
        "order_quantity": Decimal(100),
        "notional": None,
        "limit_price": Decimal("10.5"),
        "stop_price": None,
        "trail_price": None,
        "trail_percent": None,
        "cumulative_quantity": filled,
        "average_price": None,
        "quantity": None,
        "price": None,
        "position_quantity": None,
        "previous_execution_id": None,
        "legs": [],
        "replaces": None,
        "replaced_by": None,
        "submitted_ts": BASE,
        "filled_ts": None,
        "extended_hours": False,
        "reason": None,
        "extra": None,
        "received_ts": ts + 1_000,
        "source": "ws",
        "owner_epoch": 1,
        "event_id": fill_id(order, plain_quantity(filled)) if is_fill else order_event_id(order, event, ts),
    } | more


def a_snapshot(ts: int, **more: Any) -> Event:
    """A decoded account_snapshot record of an account with a million in cash."""
    return {
        "account": "demo-1",
        "broker_account": None,
        "ts": ts,
        "status": "ACTIVE",
        "currency": "USD",
        "cash": Decimal(1_000_000),
        "equity": Decimal(1_000_000),
        "last_equity": Decimal(1_000_000),
        "buying_power": Decimal(2_000_000),
        "long_market_value": Decimal(0),
        "short_market_value": Decimal(0),
        "trading_blocked": False,
        "positions": [],
        "orders": [],
        "activity_cursor": None,
        "contained_fills": [],
        "contained_activities": None,
        "extra": None,
        "received_ts": ts,
        "source": "rest",
        "owner_epoch": 1,
        "event_id": snapshot_id(more.get("account", "demo-1"), ts),
    } | more


def a_position(symbol: str, quantity: str, average: str, **more: Any) -> Event:
    """A position of a snapshot."""
    return {
        "symbol": symbol,
        "asset_class": "us_equity",
        "quantity": Decimal(quantity),
        "average_price": Decimal(average),
        "market_value": None,
        "cost_basis": None,
        "current_price": None,
    } | more


def a_mark(symbol: str, ts: int, price: str) -> Event:
    """A decoded mark record."""
    return {
        "symbol": symbol,
        "ts": ts,
        "price": Decimal(price),
        "bid": None,
        "ask": None,
        "last": None,
        "received_ts": ts + 500,
        "source": "ws",
        "event_id": mark_id(symbol, ts, price),
    }


@dataclass
class Expected:
    """What a symbol's history comes to, in fractions."""

    quantity: Fraction = Fraction(0)
    cost: Fraction = Fraction(0)
    realized: Fraction = Fraction(0)
    ever: Fraction = Fraction(0)
    cash: Fraction = Fraction(0)
    epoch: int = 0
    opened_ts: int = 0
    deals: int = field(default=0, compare=False)


def round_18(value: Fraction) -> Fraction:
    """Half to even at 18 decimals: what Python's round does with fractions."""
    return round(value, 18)


def expected_positions(
    updates: Iterable[Event], multipliers: dict[str, int] | None = None
) -> dict[str, Expected]:
    """By symbol: a plain loop over the unique fills that were not busted, as corrected, in order of time."""
    unique = {update["event_id"]: update for update in updates if update["quantity"] is not None}
    fills = [u for u in unique.values() if u["event"] in ("fill", "partial_fill")]
    revisions = [u for u in unique.values() if u["event"] in ("trade_bust", "trade_correct")]
    fills.sort(key=lambda u: (u["ts"], u["order_id"], u["cumulative_quantity"]))
    found: dict[str, Expected] = {}
    for fill in fills:
        verdict = _verdict(fill, revisions)
        position = found.setdefault(fill["symbol"], Expected())
        if verdict["event"] == "trade_bust":
            continue
        times = (multipliers or {}).get(fill["symbol"], 1)
        sign = 1 if fill["side"] == "buy" else -1
        _trade(position, sign * Fraction(verdict["quantity"]), Fraction(verdict["price"]) * times, fill["ts"])
    return found


def _verdict(fill: Event, revisions: list[Event]) -> Event:
    names, heard = {fill["execution_id"]}, []
    for _ in revisions:
        for revision in revisions:
            if revision["previous_execution_id"] in names and revision not in heard:
                heard.append(revision)
                names.add(revision["execution_id"])
    return max(heard, key=lambda u: (u["ts"], u["event_id"].hex()), default=fill)


def _trade(position: Expected, change: Fraction, price: Fraction, ts: int) -> None:
    position.cash -= change * price
    if position.quantity and (position.quantity > 0) != (change > 0):
        closed = min(abs(change), abs(position.quantity))
        share = closed / abs(position.quantity)
        cost = position.cost if share == 1 else round_18(position.cost * share)
        sign = 1 if position.quantity > 0 else -1
        gain = sign * closed * price - cost
        position.realized += gain
        position.ever += gain
        position.cost -= cost
        position.quantity -= sign * closed
        change += sign * closed
    if change:
        if not position.quantity:
            position.epoch += 1
            position.realized, position.opened_ts = Fraction(0), ts
        position.quantity += change
        position.cost += change * price
