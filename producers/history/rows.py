"""Rows of Alpaca's history -> messages as the stream sends them: the same event gets the same id. Pure.

REST leaves out type and symbol, writes times as text, trade ids as unsigned, and a whole price without its
point. All else stays as it came: a trade's `u` (canceled, corrected, incorrect) ends in `extra`, which no
event id depends on. A row that cannot be turned is given as it is; the encoder then refuses it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from producers.channel import Message
from producers.history import times

TYPES = {"trades": "t", "quotes": "q", "bars": "b", "updatedBars": "b", "dailyBars": "d", "news": "n"}
"""Channel -> the T that its messages get: the final bar of a minute is what updatedBars led to."""
_SIGNED = 1 << 63
_FLOATS = {
    "t": ("p",),
    "q": ("bp", "ap"),
    "b": ("o", "h", "l", "c", "vw"),
    "d": ("o", "h", "l", "c", "vw"),
    "n": (),
}
_EXACT = 2**53
_NO_TIME = (KeyError, TypeError, ValueError)

Shape = Callable[[str, Any], Message]
"""Symbol and row to message; the row itself is changed and given back."""


def shaper(channel: str) -> Shape:
    """The function for the rows of one channel."""
    kind = TYPES[channel]
    read = times.reader()
    if kind == "n":
        return lambda _, row: _article(row, read)
    floats = _FLOATS[kind]

    def shape(symbol: str, row: Any) -> Message:
        if type(row) is not dict:
            return {"T": kind, "S": symbol, "row": row}
        try:
            row["t"] = read(row["t"])
        except _NO_TIME:  # the encoder says it
            row["T"], row["S"] = kind, symbol
            return row
        for name in floats:
            value = row.get(name)
            if type(value) is int and -_EXACT <= value <= _EXACT:
                row[name] = float(value)
        if kind == "t":
            id = row.get("i")
            if type(id) is int and id >= _SIGNED:
                row["i"] = id - 2 * _SIGNED  # the stream's ids are the same 64 bits, signed
        row["T"], row["S"] = kind, symbol
        return row

    return shape


def _article(row: Any, read: Callable[[str], int]) -> Message:
    if type(row) is not dict:
        return {"T": "n", "row": row}
    for name in ("created_at", "updated_at"):
        with suppress(*_NO_TIME):  # the encoder says it
            row[name] = read(row[name])
    row["T"] = "n"
    return row
