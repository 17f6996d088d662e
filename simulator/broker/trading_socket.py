"""The WebSocket endpoint /stream: the thin shell around `trading_session.py`. JSON in binary frames."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from simulator import rfc3339
from simulator.broker.trading_session import Admit, Reply, TradingSession
from simulator.door import Door
from simulator.faults import Fault
from simulator.options import SimulatorOptions
from simulator.outgoing import Outgoing
from simulator.skips import Skips
from tidewire.log import get

log = get("simulator.trading_socket")
_LARGEST_COMMAND = 1 << 16
CHANNEL = "trade_updates"
EVENTS = (
    *(
        "new",
        "fill",
        "partial_fill",
        "canceled",
        "expired",
        "replaced",
        "rejected",
        "done_for_day",
        "accepted",
    ),
    *("pending_new", "pending_cancel", "pending_replace", "stopped", "calculated", "suspended", "held"),
    *("restated", "order_replace_rejected", "order_cancel_rejected", "trade_bust", "trade_correct"),
)
_NOT_HERE = ("hold", "refuse_symbols")


class TradingClient(Outgoing):
    """One socket's outgoing side: at most `limit` bytes wait for it."""

    def __init__(self, session: TradingSession, limit: int) -> None:
        super().__init__(limit, "single")
        self.session = session

    @property
    def ending(self) -> bool:
        """The connection closes behind what is queued."""
        return self.closing is not None

    def put(self, data: bytes) -> None:
        """Queue a message; a client that lets too much wait is closed with an error instead."""
        if self.deaf:
            return
        self.send(data)
        if self.overflows():
            self.reply(self.session.fail("slow client"))

    def reply(self, replies: Iterable[Reply]) -> None:
        """Queue control messages; behind the last words of a session comes the end."""
        for message in replies:
            self.say(orjson.dumps(message))
        if self.session.closing:
            self.finish()

    def inflict(self, fault: Fault) -> bool:
        """Do a fault to this socket; whether it is a fault of sockets."""
        if super().inflict(fault):
            return True
        if fault.kind == "error":
            self.reply(self.session.fail("internal server error"))
        return fault.kind == "error"


class TradingSocket:
    """All connections to /stream."""

    def __init__(self, admit: Admit, options: SimulatorOptions) -> None:
        self._admit = admit
        self._options = options
        self._repeat = 0
        self.clients: set[TradingClient] = set()
        self.door = Door(time.monotonic)
        self.skips = Skips("trading", (CHANNEL, *EVENTS))

    def tell(self, account: int, message: bytes) -> None:
        """Queue an update for every socket of an account that listens."""
        listeners = [c for c in self.clients if c.session.account == account and c.session.listening]
        if self.skips.pending and any(not c.deaf for c in listeners) and self._skip(account, message):
            return
        for client in listeners:
            client.put(message)
            if self._repeat:
                client.put(message)
        self._repeat = max(0, self._repeat - 1)

    def inflict(self, fault: Fault) -> int:
        """Do a fault to the endpoint or to its signed-in clients; returns how many clients it hit.

        `repeat`: the next updates come twice, whoever gets them.

        Raises:
            ValueError: it cannot be done here.
        """
        if fault.kind in _NOT_HERE:
            raise ValueError(f"{fault.kind} is not for trading")
        if fault.kind == "skip":
            self.skips.add(fault)
            return 0
        if fault.kind == "repeat":
            self._repeat = fault.count
            return 0
        if fault.kind == "outage":
            for client in list(self.clients):
                client.inflict(Fault("drop"))
        if self.door.inflict(fault):
            return len(self.clients) if fault.kind == "outage" else 0
        return sum(c.inflict(fault) for c in list(self.clients) if c.session.account is not None)

    def finish(self) -> None:
        """Close every socket."""
        for client in self.clients:
            client.finish()

    def _skip(self, account: int, message: bytes) -> bool:
        envelope: dict[str, Any] = orjson.loads(message)
        data = envelope["data"]
        order = data["order"]
        symbols = [order["symbol"]] if order["symbol"] else [leg["symbol"] for leg in order["legs"] or ()]
        ns = rfc3339.parse(data["timestamp"])
        return self.skips.take((data["event"], CHANNEL), symbols, ns, lambda: envelope, account)

    def _let_in(self, key: str, secret: str) -> int | None:
        return None if self.door.sign_in() is not None else self._admit(key, secret)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One connection, from handshake to end."""
        if (refused := self.door.handshake(request)) is not None:
            return refused
        session = TradingSession(self._let_in)
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
            client.sent(len(data))
        await ws.close(code=client.closing or 1000)
    except ConnectionError:
        return  # the reader sees the end as well and cleans up


def _expire(client: TradingClient) -> None:
    if client.session.account is None:
        client.reply(client.session.expire())
