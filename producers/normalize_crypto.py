"""One message of Alpaca's crypto stream -> the content of one record. Pure; see normalize.py."""

from __future__ import annotations

from typing import Any

from producers import normalize
from producers.normalize import (
    Content,
    Field,
    Message,
    count,
    long,
    price,
    read,
    symbol,
    text,
    time_ns,
)
from tidewire.errors import RecordError

_TAKERS = ("B", "S", "-")


def amount(key: str, value: Any) -> float:
    """A finite double that is not negative; whole ones may come as integers."""
    checked = price(key, value)
    if checked < 0:
        raise RecordError(f"{key} is negative: {value}")
    return checked


def taker(key: str, value: Any) -> str:
    """B buyer, S seller, - unknown."""
    checked = text(key, value)
    if checked not in _TAKERS:
        raise RecordError(f"{key} is none of {', '.join(_TAKERS)}: {checked!r:.100}")
    return checked


TRADE: tuple[Field, ...] = (
    ("symbol", "S", symbol),
    ("ts", "t", time_ns),
    ("id", "i", long),
    ("price", "p", price),
    ("size", "s", amount),
    ("taker_side", "tks", taker),
)
QUOTE: tuple[Field, ...] = (
    ("symbol", "S", symbol),
    ("ts", "t", time_ns),
    ("bid_price", "bp", price),
    ("bid_size", "bs", amount),
    ("ask_price", "ap", price),
    ("ask_size", "as", amount),
)
BAR: tuple[Field, ...] = (
    ("symbol", "S", symbol),
    ("ts", "t", time_ns),
    ("open", "o", price),
    ("high", "h", price),
    ("low", "l", price),
    ("close", "c", price),
    ("volume", "v", amount),
    ("trade_count", "n", count),
    ("vwap", "vw", price),
)


def trade(message: Message) -> Content:
    """T=t; without a taker's side it is unknown. Raises RecordError with the reason."""
    return read(TRADE, {"tks": "-", **message})


def quote(message: Message) -> Content:
    """T=q. Raises RecordError with the reason."""
    return read(QUOTE, message)


def bar(message: Message) -> Content:
    """T=b, u, d; with its interval. Raises RecordError with the reason."""
    return normalize.bar(message, BAR)
