"""The WebSocket endpoint /stream: the thin shell around `trading_session.py`. JSON in binary frames."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

import orjson
from aiohttp import WSMsgType, web

from simulator.broker.trading_session import Admit, Reply, TradingSession
from simulator.options import SimulatorOptions
from tidewire.log import get

log = get("simulator.trading_socket")
_LARGEST_COMMAND = 1 << 16
FAULTS = ("drop", "close", "error", "mute", "unmute", "repeat")


class TradingClient:
    """One socket's outgoing side: a queue of at most `limit` bytes that a writer task empties."""

    def __init__(self, session: TradingSession, limit: int) -> None:
        self.session = session
        self.muted = False
        self.ending = False
        self.transport: asyncio.BaseTransport | None = None
        self._limit = limit
        self._waiting = 0
        self._queue: deque[bytes] = deque()
        self._stirred = asyncio.Event()

    def put(self, data: bytes) -> None:
        """Queue a message; a client that lets too much wait is closed with an error instead."""
        if self.ending or self.muted:
            return
        self._queue.append(data)
        self._waiting += len(data)
        if self._waiting > self._limit:
            self._queue.clear()
            self._waiting = 0
            self.reply(self.session.fail("slow client"))
        self._stirred.set()

    def reply(self, replies: Iterable[Reply]) -> None:
        """Queue control messages; behind the last words of a session comes the end."""
        for message in replies:
            self._queue.append(orjson.dumps(message))
        self.ending = self.ending or self.session.closing
        self._stirred.set()

    def finish(self) -> None:
        """Close behind what is queued."""
        self.ending = True
        self._stirred.set()

    def abort(self) -> None:
        """End the TCP connection at once."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    async def next(self) -> bytes | None:
        """The next message to send; None when it is time to close."""
        while not self._queue:
            if self.ending:
                return None
            self._stirred.clear()
            await self._stirred.wait()
        data = self._queue.popleft()
        self._waiting = max(0, self._waiting - len(data))
        return data


class TradingSocket:
    """All connections to /stream."""

    def __init__(self, admit: Admit, options: SimulatorOptions) -> None:
        self._admit = admit
        self._options = options
        self._repeat = 0
        self.clients: set[TradingClient] = set()

    def tell(self, account: int, message: bytes) -> None:
        """Queue an update for every socket of an account that listens."""
        for client in self.clients:
            if client.session.account == account and client.session.listening:
                client.put(message)
                if self._repeat:
                    client.put(message)
        self._repeat = max(0, self._repeat - 1)

    def inflict(self, kind: str, count: int) -> int:
        """Do a fault to every signed-in client (`repeat`: the next `count` updates come twice); how many.

        Raises:
            ValueError: no such fault.
        """
        if kind not in FAULTS:
            raise ValueError(f"kind must be one of {', '.join(FAULTS)}")
        if kind == "repeat":
            self._repeat = count
            return 0
        victims = [c for c in self.clients if c.session.account is not None]
        for client in victims:
            if kind == "drop":
                client.abort()
            elif kind == "close":
                client.finish()
            elif kind == "error":
                client.reply(client.session.fail("internal server error"))
            else:
                client.muted = kind == "mute"
        return len(victims)

    def finish(self) -> None:
        """Close every socket."""
        for client in self.clients:
            client.finish()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One connection, from handshake to end."""
        session = TradingSession(self._admit)
        client = TradingClient(session, self._options.trading_bytes)
        ws = web.WebSocketResponse(compress=self._options.deflate, max_msg_size=_LARGEST_COMMAND)
        await ws.prepare(request)
        client.transport = request.transport
        self.clients.add(client)
        writer = asyncio.create_task(_write(ws, client))
        deadline = asyncio.get_running_loop().call_later(self._options.auth_seconds, _expire, client)
        try:
            async for message in ws:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY) and not client.ending:
                    client.reply(session.receive(message.data))
        finally:
            deadline.cancel()
            self.clients.discard(client)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            log.info("trading client gone", account=session.account, close_code=ws.close_code)
        return ws


async def _write(ws: web.WebSocketResponse, client: TradingClient) -> None:
    try:
        while (data := await client.next()) is not None:
            await ws.send_bytes(data)
        await ws.close()
    except ConnectionError:
        return  # the reader sees the end as well and cleans up


def _expire(client: TradingClient) -> None:
    if client.session.account is None:
        client.reply(client.session.expire())
