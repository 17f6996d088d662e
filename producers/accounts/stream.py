"""alpaca-py's trading stream, opened up: raw messages out, and a refusal told from a loss.

`TradingStream` brings the address, the keys, the handshake headers and the way the socket is opened. Its own
loop is not used: it retries refused keys for ever, waits for their answer without a limit, and drops what it
does not know. Compare `_connect` and `_auth` with alpaca-py's when raising its pinned version.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from alpaca.trading.stream import TradingStream
from websockets.exceptions import ConnectionClosed

from producers.alpaca_stream import PATIENCE_SECONDS, LostError, guarded, lost
from producers.connection import AlpacaError
from schemas import trading_values as values
from schemas.trading_values import Json
from tidewire.errors import RecordError

UNAUTHORIZED = 402
"""The market-data stream's code of refused keys; the trading stream has words only."""

_REFUSALS = ("unauthorized", "rejected")
_SOCKET = {
    "max_size": None,  # alpaca-py leaves websockets' 1 MiB; a longer message means reconnecting for ever
    "max_queue": 1024,
    "compression": None,
    "ping_interval": 10,
    "ping_timeout": 30,
    "close_timeout": 1,
    "open_timeout": PATIENCE_SECONDS,
}


class TradeUpdateStream(TradingStream):  # type: ignore[misc]
    """One connection at a time: `connect`, `authenticate`, `listen`, `receive` until LostError, `close`."""

    _ws: Any

    def __init__(self, url: str, key: str, secret: str) -> None:
        super().__init__(key, secret, raw_data=True, url_override=url, websocket_params=_SOCKET)

    async def connect(self) -> None:
        """Open the socket. Raises AlpacaError (refused by an HTTP status), LostError."""
        await guarded(self._connect())

    async def authenticate(self) -> None:
        """Send the keys and wait for the answer. Raises AlpacaError (refused), LostError."""
        await guarded(self._auth())

    async def listen(self) -> None:
        """Ask for trade updates; the answer comes as a message. Raises LostError."""
        wish = json.dumps({"action": "listen", "data": {"streams": ["trade_updates"]}})
        await guarded(self._ws.send(wish))

    async def receive(self) -> bytes | str:
        """The next message. Raises LostError at the end, after every message that had been read."""
        try:
            message: bytes | str = await self._ws.recv()
        except ConnectionClosed as error:
            raise lost(error) from None
        return message

    async def close(self) -> None:
        """Close the socket; messages already read can still be received."""
        if self._ws is not None:
            await self._ws.close()

    async def _auth(self) -> None:
        keys = {"key_id": self._api_key, "secret_key": self._secret_key}
        await self._ws.send(json.dumps({"action": "authenticate", "data": keys}))
        answer = await asyncio.wait_for(self._ws.recv(), PATIENCE_SECONDS)
        try:
            message = values.parse(answer)
        except RecordError as error:
            raise LostError("protocol", f"no answer to the keys: {error.reason}") from None
        judge(message)
        if not isinstance(message, dict) or message.get("stream") != "authorization":
            raise LostError("protocol", f"an answer to the keys expected, got {message!r:.200}")


def judge(message: Json) -> None:
    """Nothing for good news.

    Raises:
        AlpacaError: the keys are refused.
        LostError: the server says that it failed, or something that is no answer to keys.
    """
    data = message.get("data") if isinstance(message, dict) else None
    data = data if isinstance(data, dict) else {}
    if isinstance(message, dict) and message.get("action") == "error":
        raise LostError("error", f"Alpaca says: {data.get('error_message')!r:.200}")
    if isinstance(message, dict) and message.get("stream") == "authorization":
        status = data.get("status")
        if status in _REFUSALS:
            raise AlpacaError(UNAUTHORIZED, f"{status} to {data.get('action', 'authenticate')}")
        if status != "authorized":
            raise LostError("protocol", f"authorization is {status!r:.100}")
