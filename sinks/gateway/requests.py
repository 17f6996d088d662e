"""What clients may send: D2 on /ws/portfolio, E1 on /ws/tape. Pure; everything else is refused in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import orjson

_CHANNELS = ("positions", "orders", "account", "trades")
_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9./-]{0,23}")
MOST_AT_ONCE = 100
"""Symbols of one message."""


class BadRequest(Exception):  # named as the answer says it
    """A message that cannot be understood; its text goes back to the client."""


@dataclass(frozen=True, slots=True)
class Request:
    """A message of D2."""

    kind: Literal["subscribe", "unsubscribe", "ping"]
    channels: tuple[str, ...] = ()
    symbols: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class TapeRequest:
    """A message of E1; `symbols` has the one of `symbol`, or those of our addition `symbols`."""

    action: Literal["subscribe", "unsubscribe", "ping", "health"]
    symbols: tuple[str, ...] = ()


def portfolio(text: str | bytes) -> Request:
    """Read {type, channels?, symbols?}; without channels, all of them.

    Raises:
        BadRequest: it is no such message.
    """
    message = _object(text)
    kind = message.get("type")
    if kind == "ping":
        return Request("ping")
    if kind not in ("subscribe", "unsubscribe"):
        raise BadRequest("type must be subscribe, unsubscribe or ping")
    channels = message.get("channels", list(_CHANNELS))
    if not isinstance(channels, list) or not channels or any(c not in _CHANNELS for c in channels):
        raise BadRequest(f"channels must be a list of {', '.join(_CHANNELS)}")
    symbols = frozenset(_symbols(message.get("symbols", [])))
    return Request(kind, tuple(dict.fromkeys(channels)), symbols)


def tape(text: str | bytes) -> TapeRequest:
    """Read {action, symbol?}, or symbols, a list, instead of symbol.

    Raises:
        BadRequest: it is no such message.
    """
    message = _object(text)
    action = message.get("action")
    if action in ("ping", "health"):
        return TapeRequest(action)
    if action not in ("subscribe", "unsubscribe"):
        raise BadRequest("action must be subscribe, unsubscribe, ping or health")
    asked = message.get("symbols")
    symbols = _symbols([message.get("symbol")] if asked is None else asked)
    if not symbols:
        raise BadRequest("symbol is missing")
    return TapeRequest(action, symbols)


def _object(text: str | bytes) -> dict[str, Any]:
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise BadRequest("not JSON") from None
    if not isinstance(message, dict):
        raise BadRequest("not a JSON object")
    return message


def _symbols(asked: Any) -> tuple[str, ...]:
    if not isinstance(asked, list) or not all(isinstance(s, str) for s in asked):
        raise BadRequest("symbols must be text")
    if len(asked) > MOST_AT_ONCE:
        raise BadRequest(f"at most {MOST_AT_ONCE} symbols in one message")
    symbols = tuple(dict.fromkeys(s.strip().upper() for s in asked))
    if not all(map(_SYMBOL.fullmatch, symbols)):
        raise BadRequest("not a symbol")
    return symbols
