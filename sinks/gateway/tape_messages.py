"""The messages that /ws/tape sends (E1). Pure. Prices and sizes are strings, as everywhere in the gateway."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import orjson

from schemas.event_id import plain_quantity
from sinks.gateway import frames
from sinks.gateway.messages import moment

CRYPTO_EXCHANGE = "CRYPTO"
"""Alpaca's crypto trades name no exchange."""


def feed_of(symbol: str) -> str | None:
    """stocks or crypto, by the form of the symbol; None: neither (an option contract)."""
    if symbol.count("/") == 1:
        return "crypto"
    return "stocks" if "/" not in symbol and len(symbol) <= 12 else None


def trade(symbol: str, ts: int, price: float, size: float, exchange: str, conditions: Sequence[str]) -> bytes:
    """The frame of one trade; `ts` in ns."""
    data = {
        "timestamp": moment(ts),
        "price": _plain(price),
        "size": _plain(size),
        "exchange": exchange,
        "conditions": list(conditions),
    }
    return frames.of({"type": "trade", "symbol": symbol, "data": data})


def about(kind: str, symbol: str, message: str) -> bytes:
    """subscribed, unsubscribed, connecting, skipped or error, about one symbol."""
    return frames.of({"type": kind, "symbol": symbol, "message": message})


def pong(alpaca_connected: bool) -> bytes:
    """The answer to ping."""
    return frames.of({"type": "pong", "alpaca_connected": alpaca_connected})


def health(alpaca_connected: bool, active_symbols: int, total_clients: int) -> bytes:
    """The answer to health. Symbols and clients are counted, not named: they are other users' business."""
    return frames.of(
        {
            "type": "health",
            "alpaca_connected": alpaca_connected,
            "active_symbols": active_symbols,
            "total_clients": total_clients,
        }
    )


def stale(reasons: Sequence[str]) -> bytes:
    """Data stale, or no longer."""
    return frames.of(staleness(reasons) | {"type": "stale"})


def staleness(reasons: Sequence[str]) -> dict[str, Any]:
    """The content of a stale message, the same on both sockets."""
    message = f"Data stale: {', '.join(reasons)}" if reasons else "Data is current again"
    return {"stale": bool(reasons), "message": message, "reasons": list(reasons)}


def error(message: str) -> bytes:
    """A message that could not be understood."""
    return frames.text(orjson.dumps({"type": "error", "message": message}))


def _plain(value: float) -> str:
    return plain_quantity(Decimal(repr(value)))
