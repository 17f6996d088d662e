"""Alpaca's market-data protocol from the server's side, as a state machine without sockets or clocks.

::

    connected --auth ok--> authenticated --(un)subscribe--> authenticated
        |  auth refused: error frame, the client may try again until the time is over (404)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgpack

from simulator.interest import Subscriptions

Reply = dict[str, Any]
"""One control message; it is sent as an array of exactly one."""

ERRORS = {
    400: "invalid syntax",
    401: "not authenticated",
    402: "auth failed",
    403: "already authenticated",
    404: "auth timeout",
    405: "symbol limit exceeded",
    406: "connection limit exceeded",
    407: "slow client",
    409: "insufficient subscription",
    410: "invalid subscribe action for this feed",
    411: "insufficient scope",
    412: "option messages are only available in MsgPack format",
    413: "star subscription is not allowed for option quotes",
    500: "internal error",
}
CONNECTED: Reply = {"T": "success", "msg": "connected"}
AUTHENTICATED: Reply = {"T": "success", "msg": "authenticated"}

_STOCK_CHANNELS = (
    "trades",
    "quotes",
    "bars",
    "updatedBars",
    "dailyBars",
    "statuses",
    "lulds",
    "imbalances",
    "corrections",
    "cancelErrors",
)
_WITH_TRADES = ("corrections", "cancelErrors")
_CRYPTO_CHANNELS = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "orderbooks")
STOCK_FEEDS = ("iex", "sip", "delayed_sip", "test")
CRYPTO_FEEDS = ("us", "us-1", "eu-1")
OPTION_FEEDS = ("indicative", "opra")
NEWS_FEED = "news"
FEED_CHANNELS = {
    "iex": _STOCK_CHANNELS,
    "sip": _STOCK_CHANNELS,
    "delayed_sip": _STOCK_CHANNELS,
    "test": ("trades", "quotes", "bars"),
    **dict.fromkeys(CRYPTO_FEEDS, _CRYPTO_CHANNELS),
    **dict.fromkeys(OPTION_FEEDS, ("trades", "quotes")),
    NEWS_FEED: ("news",),
}
_STOCK_SYMBOL = re.compile(r"\*|[A-Z][A-Z0-9]{0,9}([./-][A-Z0-9]{1,5})?")
_SYMBOLS = {
    **dict.fromkeys(STOCK_FEEDS, _STOCK_SYMBOL),
    **dict.fromkeys(CRYPTO_FEEDS, re.compile(r"\*|[A-Z0-9]{1,10}/[A-Z]{2,6}")),
    **dict.fromkeys(OPTION_FEEDS, re.compile(r"\*|[A-Z][A-Z0-9.]{0,5}\d{6}[CP]\d{8}", re.ASCII)),
    NEWS_FEED: re.compile(r"\*|[A-Z0-9][A-Z0-9]{0,14}([.:/-][A-Z0-9]{1,10})?"),
}


def error(code: int) -> Reply:
    """The error message of a code."""
    return {"T": "error", "code": code, "msg": ERRORS[code]}


@dataclass(frozen=True)
class Rules:
    """What a session may do. `admit` and `refuse` return an error code, or None to let it."""

    feed: str
    admit: Callable[[str, str], int | None]
    """Of a key and a secret."""
    symbol_limit: int | None = None
    """Symbols that a channel may have; of an option feed: its quotes."""
    refuse: Callable[[Iterable[str]], int | None] = lambda symbols: None
    """Of the symbols of a subscribe."""


class Session:
    """One connection. Every method returns the control messages to send, in order."""

    def __init__(self, rules: Rules, *, msgpack_frames: bool) -> None:
        self._rules = rules
        self._channels = FEED_CHANNELS[rules.feed]
        self._symbol = _SYMBOLS[rules.feed]
        self._is_options = rules.feed in OPTION_FEEDS
        self.msgpack = msgpack_frames
        self.authenticated = False
        self._symbols: dict[str, frozenset[str]] = {}

    @property
    def subscriptions(self) -> Subscriptions:
        """What this client gets now; corrections and cancels come with trades."""
        trades = self._symbols.get("trades", frozenset())
        return {**self._symbols, **dict.fromkeys(set(_WITH_TRADES) & set(self._channels), trades)}

    def open(self, headers: Mapping[str, str]) -> list[Reply]:
        """The connection is up; keys in the headers sign it in at once."""
        key, secret = headers.get("APCA-API-KEY-ID"), headers.get("APCA-API-SECRET-KEY")
        if key is None or secret is None:
            return [CONNECTED]
        return [CONNECTED, self._authenticate(key, secret)]

    def expire(self) -> list[Reply]:
        """The time to sign in is over."""
        return [] if self.authenticated else [error(404)]

    def receive(self, data: bytes | str) -> list[Reply]:
        """A message from the client."""
        command = _decode(data)
        if command is None:
            return [error(400)]
        action = command.get("action")
        if action == "auth":
            return [self._auth_command(command)]
        if action not in ("subscribe", "unsubscribe"):
            return [error(400)]
        if not self.authenticated:
            return [error(401)]
        if self._is_options and not self.msgpack:
            return [error(412)]
        return [self._change(command, add=action == "subscribe")]

    def _auth_command(self, command: dict[str, Any]) -> Reply:
        key, secret = command.get("key"), command.get("secret")
        if self.authenticated:
            return error(403)
        if not isinstance(key, str) or not isinstance(secret, str):
            return error(400)
        return self._authenticate(key, secret)

    def _authenticate(self, key: str, secret: str) -> Reply:
        code = self._rules.admit(key, secret)
        if code is not None:
            return error(code)
        self.authenticated = True
        return AUTHENTICATED

    def _change(self, command: dict[str, Any], *, add: bool) -> Reply:
        named = {name: value for name, value in command.items() if name != "action" and value is not None}
        if not all(self._is_symbols(value) for value in named.values()):
            return error(400)
        if not set(named) <= set(self._channels):
            return error(410)
        refused = self._rules.refuse(s for symbols in named.values() for s in symbols) if add else None
        if self._is_options and add and "*" in named.get("quotes", ()):
            refused = 413
        if refused is not None:
            return error(refused)
        changed = dict(self._symbols)
        for channel, symbols in named.items():
            if channel not in _WITH_TRADES:
                old = changed.get(channel, frozenset())
                changed[channel] = old.union(symbols) if add else old.difference(symbols)
        limit = self._rules.symbol_limit
        counted = [changed.get("quotes", frozenset())] if self._is_options else changed.values()
        if limit is not None and add and any(_weight(s, limit) > limit for s in counted):
            return error(405)
        self._symbols = changed
        return self._acknowledgement()

    def _is_symbols(self, value: object) -> bool:
        return isinstance(value, list) and all(
            isinstance(s, str) and self._symbol.fullmatch(s) for s in value
        )

    def _acknowledgement(self) -> Reply:
        subscriptions = self.subscriptions
        lists = {channel: sorted(subscriptions.get(channel, ())) for channel in self._channels}
        return {"T": "subscription", **lists}


def _weight(symbols: frozenset[str], limit: int) -> int:
    """Symbols that count against the limit; a star is more than any limit."""
    return limit + 1 if "*" in symbols else len(symbols)


def _decode(data: bytes | str) -> dict[str, Any] | None:
    """A command in either encoding: text is JSON, binary is msgpack or JSON."""
    command: object = None
    if isinstance(data, bytes):
        try:
            command = msgpack.unpackb(data)
        except (ValueError, TypeError, msgpack.exceptions.UnpackException):
            command = None
    if not isinstance(command, dict):
        try:
            command = json.loads(data)
        except (ValueError, RecursionError):
            return None
    if not isinstance(command, dict) or not all(isinstance(name, str) for name in command):
        return None
    return command
