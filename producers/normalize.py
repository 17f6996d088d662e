"""One Alpaca message -> the content of one record. Pure; the reference that the fast encoder is held to.

The content has every field of the record's schema but what the entrance and the feed add: `event_id`,
`revision`, `received_ts`, `source`, `owner_epoch`. Times are ns since 1970 UTC (msgpack timestamps are
unpacked to them).

Types are checked, never bent: a size must be an integer, a text valid UTF-8. Three things are let through: a
whole price as an integer; no conditions or no tape, missing or null, as some writers leave out what is empty;
and a bar without its trade count or VWAP, as a daily bar in Alpaca's own documents, which is written as 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgpack
import orjson

from tidewire.errors import RecordError

Message = Mapping[Any, Any]
Content = dict[str, Any]
Field = tuple[str, str, Callable[[str, Any], Any]]
"""Record field, message key, check."""

EARLIEST_NS = 631_152_000 * 10**9  # 1990: seconds, ms or us in the place of ns are far below it
LATEST_NS = 4_102_444_800 * 10**9  # 2100
MAX_LONG = 2**63 - 1
_EXACT_FLOAT = 2**53


def text(key: str, value: Any) -> str:
    """A string that is valid UTF-8; may be empty."""
    if type(value) is not str:
        raise RecordError(f"{key} is not a text: {_shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RecordError(f"{key} is not valid UTF-8: {_shown(value)}") from None
    return value


def perhaps(key: str, value: Any) -> str:
    """A text; null is the empty one."""
    return "" if value is None else text(key, value)


def symbol(key: str, value: Any) -> str:
    """A text of 1 to 64 characters."""
    checked = text(key, value)
    if not 0 < len(checked) <= 64:
        raise RecordError(f"{key} is not a symbol: {_shown(value)}")
    return checked


def texts(key: str, value: Any) -> list[str]:
    """A list of texts; null is the empty list."""
    if value is None:
        return []
    if type(value) is not list:
        raise RecordError(f"{key} is not a list: {_shown(value)}")
    return [text(key, item) for item in value]


def long(key: str, value: Any) -> int:
    """An integer of 64 bits."""
    if type(value) is not int:
        raise RecordError(f"{key} is not an integer: {_shown(value)}")
    if not -MAX_LONG - 1 <= value <= MAX_LONG:
        raise RecordError(f"{key} does not fit 64 bits: {value}")
    return value


def count(key: str, value: Any) -> int:
    """An integer of 64 bits that is not negative."""
    if long(key, value) < 0:
        raise RecordError(f"{key} is negative: {value}")
    return int(value)


def price(key: str, value: Any) -> float:
    """A finite double; whole prices may come as integers."""
    if type(value) is int and abs(value) <= _EXACT_FLOAT:
        return float(value)
    if type(value) is not float:
        raise RecordError(f"{key} is not a number: {_shown(value)}")
    if not math.isfinite(value):
        raise RecordError(f"{key} is not finite: {value}")
    return value


def time_ns(key: str, value: Any) -> int:
    """A time between 1990 and 2100."""
    if type(value) is not int:
        raise RecordError(f"{key} is not a timestamp: {_shown(value)}")
    if not EARLIEST_NS <= value < LATEST_NS:
        raise RecordError(f"{key} is not a time between 1990 and 2100: {value} ns")
    return value


def action(key: str, value: Any) -> str:
    """C or E, in words."""
    if value == "C":
        return "cancel"
    if value == "E":
        return "error"
    raise RecordError(f"{key} is neither C nor E: {_shown(value)}")


TRADE: tuple[Field, ...] = (
    ("symbol", "S", symbol),
    ("ts", "t", time_ns),
    ("id", "i", long),
    ("exchange", "x", text),
    ("price", "p", price),
    ("size", "s", count),
    ("conditions", "c", texts),
    ("tape", "z", text),
)
QUOTE: tuple[Field, ...] = (
    ("symbol", "S", symbol),
    ("ts", "t", time_ns),
    ("bid_exchange", "bx", text),
    ("bid_price", "bp", price),
    ("bid_size", "bs", count),
    ("ask_exchange", "ax", text),
    ("ask_price", "ap", price),
    ("ask_size", "as", count),
    ("conditions", "c", texts),
    ("tape", "z", text),
)
BAR: tuple[Field, ...] = (
    ("symbol", "S", symbol),
    ("ts", "t", time_ns),
    ("open", "o", price),
    ("high", "h", price),
    ("low", "l", price),
    ("close", "c", price),
    ("volume", "v", count),
    ("trade_count", "n", count),
    ("vwap", "vw", price),
)
CORRECTION: tuple[Field, ...] = (
    ("symbol", "S", symbol),
    ("ts", "t", time_ns),
    ("exchange", "x", text),
    ("original_id", "oi", long),
    ("original_price", "op", price),
    ("original_size", "os", count),
    ("original_conditions", "oc", texts),
    ("corrected_id", "ci", long),
    ("corrected_price", "cp", price),
    ("corrected_size", "cs", count),
    ("corrected_conditions", "cc", texts),
    ("tape", "z", text),
)
CANCEL: tuple[Field, ...] = (
    ("symbol", "S", symbol),
    ("ts", "t", time_ns),
    ("kind", "a", action),
    ("exchange", "x", text),
    ("original_id", "i", long),
    ("original_price", "p", price),
    ("original_size", "s", count),
    ("tape", "z", text),
)
STATUS: tuple[Field, ...] = (
    ("symbol", "S", symbol),
    ("ts", "t", time_ns),
    ("status_code", "sc", text),
    ("status_message", "sm", perhaps),
    ("reason_code", "rc", perhaps),
    ("reason_message", "rm", perhaps),
    ("tape", "z", perhaps),
)
LULD: tuple[Field, ...] = (
    ("symbol", "S", symbol),
    ("ts", "t", time_ns),
    ("limit_up_price", "u", price),
    ("limit_down_price", "d", price),
    ("indicator", "i", perhaps),
    ("tape", "z", perhaps),
)
IMBALANCE: tuple[Field, ...] = (
    ("symbol", "S", symbol),
    ("ts", "t", time_ns),
    ("price", "p", price),
    ("tape", "z", perhaps),
)
BAR_DEFAULTS = {"n": 0, "vw": 0.0}
_NO_CONDITIONS = {"c": None, "z": ""}


def trade(message: Message) -> Content:
    """T=t. Raises RecordError with the reason."""
    return read(TRADE, {**_NO_CONDITIONS, **message})


def quote(message: Message) -> Content:
    """T=q. Raises RecordError with the reason."""
    return read(QUOTE, {**_NO_CONDITIONS, **message})


def bar(message: Message, fields: tuple[Field, ...] = BAR) -> Content:
    """T=b, u, d; with its interval. Raises RecordError with the reason."""
    content = read(fields, {**BAR_DEFAULTS, **message})
    content["interval"] = "day" if message["T"] == "d" else "minute"
    return content


def correction(message: Message) -> Content:
    """T=c: a trade was replaced by another. Raises RecordError with the reason."""
    return {**read(CORRECTION, message), "kind": "correction"}


def cancel(message: Message) -> Content:
    """T=x: a trade was canceled, or was an error. Raises RecordError with the reason."""
    content = read(CANCEL, message)
    nothing = {"corrected_id": None, "corrected_price": None, "corrected_size": None}
    return {**content, **nothing, "original_conditions": [], "corrected_conditions": []}


def status(message: Message) -> Content:
    """T=s: a halt, a resumption. Only its code must be there. Raises RecordError with the reason."""
    return read(STATUS, _whole(STATUS, message))


def luld(message: Message) -> Content:
    """T=l: a limit-up limit-down band. Raises RecordError with the reason."""
    return read(LULD, _whole(LULD, message))


def imbalance(message: Message) -> Content:
    """T=i. Raises RecordError with the reason."""
    return read(IMBALANCE, _whole(IMBALANCE, message))


def _whole(fields: tuple[Field, ...], message: Message) -> Message:
    """The message with null for the texts that it leaves out."""
    return {**{key: None for _, key, check in fields if check is perhaps}, **message}


def read(fields: tuple[Field, ...], message: Message) -> Content:
    """The fields of a message, each checked, and the rest as `extra`. Raises RecordError with the reason."""
    content = {}
    for name, key, check in fields:
        if key not in message:
            raise RecordError(f"{key} is missing")
        content[name] = check(key, message[key])
    content["extra"] = extra(message, {"T", *(key for _, key, _ in fields)})
    return content


def extra(message: Message, known: set[str]) -> str | None:
    """The fields that the schema does not know, as one JSON object with sorted keys; None when there are
    none.
    """
    rest = {str(key): value for key, value in message.items() if key not in known}
    if not rest:
        return None
    try:
        options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
        return orjson.dumps(rest, default=_as_json, option=options).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"unknown fields {', '.join(sorted(rest))} are no JSON: {error}") from error


def _as_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, msgpack.ExtType):
        return {"ext": value.code, "hex": value.data.hex()}
    if isinstance(value, int):  # beyond 64 bits
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _shown(value: Any) -> str:
    shown = repr(value).encode("utf-8", "backslashreplace").decode()
    return shown if len(shown) <= 100 else shown[:100] + "..."
