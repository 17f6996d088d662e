"""Records that must not be folded or stored, of every kind, and what their dead letters must say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Event = dict[str, Any]
Bytes = tuple[bytes | None, bytes | None]
LIMIT = 100
"""So many in a row are no accident."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter: the record's key and value, and a pattern of the reason."""

    key: bytes | None
    value: bytes | None
    reason: str


@dataclass(frozen=True, slots=True)
class Kind:
    """`spoil` changes the content, `damage` the bytes. Reasons are patterns; None: that stage takes it."""

    name: str
    processor: str
    sink: str | None
    spoil: Callable[[Event], Event] = dict
    damage: Callable[[bytes, bytes], Bytes] = lambda key, value: (key, value)


def _both(name: str, reason: str, damage: Callable[[bytes, bytes], Bytes]) -> Kind:
    return Kind(name, reason, reason, damage=damage)


BYTES = (
    _both("bad magic", "wire format", lambda key, value: (key, b"\1" + value[1:])),
    _both("too short", "wire format", lambda key, value: (key, value[:3])),
    _both(
        "unknown id",
        "unknown schema id 999999",
        lambda key, value: (key, b"\0" + (999_999).to_bytes(4, "big") + value[5:]),
    ),
    _both("truncated", "does not decode", lambda key, value: (key, value[:-9])),
    _both("noise", "value|key differs", lambda key, value: (key, value[:5] + value[:4:-1])),
    _both("too long", "3 bytes after", lambda key, value: (key, value + b"xyz")),
    _both("wrong key", "key differs from symbol", lambda key, value: (key + b"X", value)),
    _both("no key", "no key", lambda key, value: (None, value)),
    _both("key of no text", "not UTF-8", lambda key, value: (b"\xff\xfe" + key, value)),
    _both("null", "no value", lambda key, value: (key, None)),
)


def kinds(trades: bool) -> tuple[Kind, ...]:
    """Every kind that a topic of trades or one of quotes can hold."""
    price = "price" if trades else "bid_price"
    word = "price" if trades else "bid price"
    absurd = (
        Kind("NaN", f"{word} nan", f"{price} is NaN", lambda e: e | {price: float("nan")}),
        Kind("infinite", f"{word} inf", f"{price} is NaN or infinite", lambda e: e | {price: float("inf")}),
        Kind("negative", f"{word} -1.5", None, lambda e: e | {price: -1.5}),
        Kind("year 2200", "event time", "ts is not within", lambda e: e | {"ts": 7_258_118_400 * 10**9}),
    )
    huge = Kind("huge", "not a number of shares", None, lambda e: e | {"size": 2**41})
    return (*BYTES, *absurd, huge) if trades else (*BYTES, *absurd)
