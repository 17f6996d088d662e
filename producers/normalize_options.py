"""One message of Alpaca's option stream -> the content of one record. Pure; see normalize.py.

An option's condition is one text, where stocks have a list; without one, or null, it is empty.
"""

from __future__ import annotations

from producers.normalize import Content, Field, Message, count, perhaps, price, read, symbol, text, time_ns

TRADE: tuple[Field, ...] = (
    ("symbol", "S", symbol),
    ("ts", "t", time_ns),
    ("exchange", "x", text),
    ("price", "p", price),
    ("size", "s", count),
    ("condition", "c", perhaps),
)
QUOTE: tuple[Field, ...] = (
    ("symbol", "S", symbol),
    ("ts", "t", time_ns),
    ("bid_exchange", "bx", perhaps),
    ("bid_price", "bp", price),
    ("bid_size", "bs", count),
    ("ask_exchange", "ax", perhaps),
    ("ask_price", "ap", price),
    ("ask_size", "as", count),
    ("condition", "c", perhaps),
)
_ABSENT = {"c": None}
_NO_SIDE = {"c": None, "bx": None, "ax": None}


def trade(message: Message) -> Content:
    """T=t. Raises RecordError with the reason."""
    return read(TRADE, {**_ABSENT, **message})


def quote(message: Message) -> Content:
    """T=q; a side without an exchange is no bid, or no ask. Raises RecordError with the reason."""
    return read(QUOTE, {**_NO_SIDE, **message})
