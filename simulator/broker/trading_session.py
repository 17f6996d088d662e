"""Alpaca's trading stream from the server's side, as a state machine without sockets or clocks.

Both forms of signing in are understood: {"action":"authenticate","data":{"key_id","secret_key"}} and
{"action":"auth","key","secret"}. `listen` replaces what is listened to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

STREAMS = ("trade_updates",)
Admit = Callable[[str, str], int | None]
"""The account that a key pair opens."""

Reply = dict[str, Any]


class TradingSession:
    """One connection's state. `closing` is set once the socket is to be closed behind the replies."""

    def __init__(self, admit: Admit) -> None:
        self._admit = admit
        self.account: int | None = None
        self.streams: tuple[str, ...] = ()
        self.closing = False

    @property
    def listening(self) -> bool:
        """Whether trade updates are wanted."""
        return self.account is not None and bool(self.streams)

    def receive(self, data: str | bytes) -> list[Reply]:
        """Take one message, text or binary; returns what to answer."""
        try:
            message = orjson.loads(data)
        except orjson.JSONDecodeError:
            return self._fail("invalid syntax")
        if not isinstance(message, dict):
            return self._fail("invalid syntax")
        action = message.get("action")
        if action in ("authenticate", "auth"):
            return [self._sign_in(message)]
        if action != "listen":
            return self._fail("unknown action")
        if self.account is None:
            return [_authorization("unauthorized", "listen")]
        details = message.get("data")
        wanted = details.get("streams") if isinstance(details, dict) else None
        if not isinstance(wanted, list):
            return self._fail("invalid syntax")
        self.streams = tuple(name for name in STREAMS if name in wanted)
        return [{"stream": "listening", "data": {"streams": list(self.streams)}}]

    def expire(self) -> list[Reply]:
        """The time to sign in is over."""
        return self._fail("auth timeout")

    def fail(self, message: str) -> list[Reply]:
        """An error in the stream; the connection ends behind it."""
        return self._fail(message)

    def _sign_in(self, message: dict[str, Any]) -> Reply:
        details = message.get("data")
        if isinstance(details, dict):
            pair = details.get("key_id"), details.get("secret_key")
        else:
            pair = message.get("key"), message.get("secret")
        key, secret = pair
        if self.account is None and isinstance(key, str) and isinstance(secret, str):
            self.account = self._admit(key, secret)
        status = "unauthorized" if self.account is None else "authorized"
        return _authorization(status, "authenticate")

    def _fail(self, message: str) -> list[Reply]:
        self.closing = True
        return [{"action": "error", "data": {"error_message": message}}]


def _authorization(status: str, action: str) -> Reply:
    return {"stream": "authorization", "data": {"status": status, "action": action}}
