"""alpaca-py's data stream, opened up: whole frames out, and every error with its code.

Stocks, crypto and news speak one protocol, so one class serves them all: the address is passed in.
`StockDataStream` brings the address, the keys, the handshake headers and the way the socket is opened. Its
own loop is not used: it hides connects, acks and error frames, retries refused keys for ever, and loses the
rest of a frame when one message is bad. Compare `_connect` and `_auth` with alpaca-py's when raising its
pinned version.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import msgpack
from alpaca.common.utils import get_default_user_agent
from alpaca.data.live.stock import StockDataStream
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.legacy import client as websockets_legacy

from producers.connection import AlpacaError
from producers.frames import unpack

PATIENCE_SECONDS = 10.0
"""For the greeting and for the answer to the keys; Alpaca's own limit for the keys is 10 s."""
LARGEST_MESSAGE = 64 * 1024 * 1024
"""Bytes. alpaca-py leaves websockets' 1 MiB, which a busy feed exceeds: then it reconnects for ever."""

_SOCKET = {
    "max_size": LARGEST_MESSAGE,
    "max_queue": 32,  # frames read ahead: when Kafka makes us wait, TCP holds the rest back
    "compression": None,  # deflate halves what one core can read
    "ping_interval": 10,
    "ping_timeout": 60,
    "close_timeout": 1,
    "open_timeout": PATIENCE_SECONDS,
}


class LostError(Exception):
    """The connection could not be made, or ended. `kind` is the label of the metric."""

    def __init__(self, kind: str, reason: str) -> None:
        self.kind = kind
        super().__init__(reason)


class AlpacaStream(StockDataStream):  # type: ignore[misc]
    """One connection at a time: `connect`, `authenticate`, `subscribe`, `receive` until `LostError`,
    `close`.
    """

    _ws: Any

    def __init__(self, url: str, key: str, secret: str) -> None:
        super().__init__(key, secret, raw_data=True, url_override=url, websocket_params=_SOCKET)

    async def connect(self) -> None:
        """Open the socket and wait for Alpaca's greeting.

        Raises:
            AlpacaError: Alpaca refused, by an error frame or by an HTTP status.
            LostError: it could not be reached.
        """
        await guarded(self._connect())

    async def authenticate(self) -> None:
        """Send the keys and wait for the answer. Raises AlpacaError, LostError."""
        await guarded(self._auth())

    async def subscribe(self, message: dict[str, Any]) -> None:
        """Send a subscription; its answer comes as a frame. Raises LostError."""
        await guarded(self._ws.send(msgpack.packb(message)))

    async def receive(self) -> bytes | str:
        """The next frame. Raises LostError at the end, after every frame that had been read."""
        try:
            frame: bytes | str = await self._ws.recv()
        except ConnectionClosed as error:
            raise lost(error) from None
        return frame

    @property
    def waiting(self) -> int:
        """Frames that are read and not yet received."""
        return 0 if self._ws is None else len(self._ws.messages)

    async def close(self) -> None:
        """Close the socket; frames already read can still be received."""
        if self._ws is not None:
            await self._ws.close()

    # -- alpaca-py's steps, with what they leave out

    async def _connect(self) -> None:
        headers = {"Content-Type": "application/msgpack", "User-Agent": get_default_user_agent()}
        self._ws = await websockets_legacy.connect(
            self._endpoint, extra_headers=headers, **self._websocket_params
        )
        await self._expect("connected")

    async def _auth(self) -> None:
        await self._ws.send(
            msgpack.packb({"action": "auth", "key": self._api_key, "secret": self._secret_key})
        )
        await self._expect("authenticated")

    async def _expect(self, text: str) -> None:
        raw = await asyncio.wait_for(self._ws.recv(), PATIENCE_SECONDS)
        message = next((m for m in unpack(raw) if type(m) is dict), {})
        if message.get("T") == "error":
            raise error_of(message)
        if message.get("T") != "success" or message.get("msg") != text:
            raise LostError("protocol", f"{text!r} expected, got {message!r:.200}")


async def guarded(step: Awaitable[Any]) -> None:
    """Do a step of a handshake.

    Raises:
        AlpacaError: refused by an HTTP status, or as the step says.
        LostError: no answer in time, or no connection.
    """
    try:
        await step
    except TimeoutError:
        raise LostError("timeout", f"no answer within {PATIENCE_SECONDS:.0f} s") from None
    except (WebSocketException, OSError) as error:
        status = getattr(error, "status_code", None)
        if isinstance(status, int):
            wait = retry_after(getattr(error, "headers", {}).get("Retry-After"), time.time())
            text = "at the WebSocket handshake"
            raise AlpacaError(status, text, http=True, retry_after=wait) from None
        raise lost(error) from None


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for: it holds seconds, or a date of HTTP; `now` since 1970."""
    if value is None:
        return None
    with suppress(ValueError):
        return max(0.0, float(int(value)))
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None


def error_of(message: dict[Any, Any]) -> AlpacaError:
    """The error that an error frame speaks of; 0 when it gives no code."""
    code = message.get("code")
    return AlpacaError(code if type(code) is int else 0, str(message.get("msg", ""))[:200])


def lost(error: Exception) -> LostError:
    """The end of a connection, named for the metric."""
    if isinstance(error, ConnectionClosed):
        code = 1006 if error.rcvd is None else error.rcvd.code
        return LostError(f"closed_{code}", f"connection closed: {error}")
    return LostError("connect", f"{type(error).__name__}: {error}")
