"""One of the gateway's sockets, connected again after every loss (REQ-7: 1, 2, 4 ... 30 s)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp
import orjson

from tidewire.errors import TidewireError

Message = dict[str, Any]

LONGEST_WAIT = 30.0
_HANDSHAKE_SECONDS = 10.0
_SILENCE_SECONDS = 45.0
"""The gateway pings every 15 s; after three missed pings the connection is dead."""


class SignInError(TidewireError):
    """The gateway does not take the session: sign in again."""

    exit_code = 4


class Stream:
    """Messages of `path` as long as they are iterated; `greeting` is sent after each connect.

    `connected` and `reason` say how it stands. A loss is given to the reader as a message
    {"type": "disconnected", "reason": ..., "seconds": until the next try}, a new start as {"type":
    "connected"}.
    """

    def __init__(self, url: str, path: str, cookie: str, greeting: Sequence[Mapping[str, Any]]) -> None:
        self._url = url.replace("http", "ws", 1) + path
        self._cookie = cookie
        self._greeting = [orjson.dumps(message).decode() for message in greeting]
        self.connected = False
        self.reason = "not yet connected"

    async def messages(self) -> AsyncIterator[Message]:
        """Every message of the gateway, for ever.

        Raises:
            SignInError: the session has ended or never was.
        """
        wait = 1.0
        async with aiohttp.ClientSession(headers={"Cookie": self._cookie}) as http:
            while True:
                try:
                    async for message in self._one_connection(http):
                        wait = 1.0
                        yield message
                except aiohttp.WSServerHandshakeError as error:
                    if error.status == 401:
                        raise SignInError(f"{self._url}: the session is not valid; sign in again") from None
                    self.reason = f"refused: {error.status} {error.message}"
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    self.reason = str(error) or type(error).__name__
                self.connected = False
                yield {"type": "disconnected", "reason": self.reason, "seconds": wait}
                await asyncio.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)

    async def _one_connection(self, http: aiohttp.ClientSession) -> AsyncIterator[Message]:
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            socket = await http.ws_connect(self._url, autoping=True, compress=0, heartbeat=_SILENCE_SECONDS)
        async with socket:
            for text in self._greeting:
                await socket.send_str(text)
            self.connected, self.reason = True, ""
            yield {"type": "connected"}
            async for frame in socket:
                if frame.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                    yield orjson.loads(frame.data)
            self.reason = f"closed by the gateway ({socket.close_code})"
