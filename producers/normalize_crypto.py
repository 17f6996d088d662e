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


def whole(key: str, value: Any) -> bool:
    """True: the message is a whole book. A delta says nothing, or false."""
    if value is not None and type(value) is not bool:
        raise RecordError(f"{key} is not true or false: {value!r:.100}")
    return bool(value)


def levels(key: str, value: Any) -> tuple[list[float], list[float]]:
    """Prices and sizes of one side of a book, in the order sent; a side without changes may be null."""
    if value is not None and type(value) is not list:
        raise RecordError(f"{key} is not a list of levels: {value!r:.100}")
    prices, sizes = [], []
    for level in value or ():
        if type(level) is not dict or "p" not in level or "s" not in level:
            raise RecordError(f"{key} has a level without p and s: {level!r:.100}")
        prices.append(price(f"{key}.p", level["p"]))
        sizes.append(amount(f"{key}.s", level["s"]))
    return prices, sizes


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
ORDER_BOOK: tuple[Field, ...] = (
    ("symbol", "S", symbol),
    ("ts", "t", time_ns),
    ("reset", "r", whole),
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


def order_book(message: Message) -> Content:
    """T=o: a whole book, or a change of one. A level's fields beside p and s put its whole side into `extra`.

    Raises RecordError with the reason.
    """
    sides = {key: message.get(key) for key in ("b", "a")}
    rest = {key: value for key, value in message.items() if key not in sides or _unknown(value)}
    content = read(ORDER_BOOK, {"r": None, **rest})
    content["bid_prices"], content["bid_sizes"] = levels("b", sides["b"])
    content["ask_prices"], content["ask_sizes"] = levels("a", sides["a"])
    return content


def _unknown(side: Any) -> bool:
    """Whether a level says more than price and size."""
    return type(side) is list and any(type(level) is dict and level.keys() - {"p", "s"} for level in side)


def bar(message: Message) -> Content:
    """T=b, u, d; with its interval. Raises RecordError with the reason."""
    return normalize.bar(message, BAR)
