"""Records of orders.intents: exits as processors/exits/intents.py makes them, and orders. Pure."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

from schemas.event_id import intent_event_id
from schemas.order_ids import client_order_id, trigger_name

Record = dict[str, Any]


def exit_intent(
    account: str, symbol: str, side: str, epoch: int, exit_epoch: int, received_ts: int
) -> Record:
    """Close what is held at the market; quantity is the broker's to say. Times in ns."""
    name = trigger_name(account, symbol, epoch, exit_epoch)
    return _common(account, name, symbol, side, received_ts) | {
        "origin": "exit:chaos", "order_type": "market", "quantity": None, "limit_price": None,
        "reference_price": None, "position_epoch": epoch, "trigger_id": name, "kind": "exit",
    }  # fmt: skip


def order_intent(account: str, name: str, symbol: str, price: Decimal, reference: Decimal) -> Record:
    """Buy one share at `price` (USD) at most, at once or not at all; named like no exit is."""
    return _common(account, name, symbol, "buy", time.time_ns()) | {
        "origin": "strategy:chaos", "order_type": "limit", "quantity": Decimal(1), "limit_price": price,
        "reference_price": reference, "position_epoch": None, "trigger_id": None, "kind": "order",
        "time_in_force": "ioc",
    }  # fmt: skip


def _common(account: str, name: str, symbol: str, side: str, received_ts: int) -> Record:
    return {
        "account": account, "ts": received_ts, "intent_id": name, "client_order_id": client_order_id(name, 0),
        "symbol": symbol, "side": side, "time_in_force": "day", "notional": None, "stop_price": None,
        "attempt": 0, "expires_ts": None, "reason": "chaos", "extended_hours": False,
        "foreign_orders": "cancel", "run_id": None, "received_ts": received_ts, "source": "ws",
        "event_id": intent_event_id(account, name),
    }  # fmt: skip
