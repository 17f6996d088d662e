"""A market that is all socket: as much of Alpaca's stream as a feed needs, and ready frames at a rate.

A message's event time is when its frame is to leave, so that whatever keeps it from leaving counts as well.
`python -m benchmarks.market_socket PORT RATE SECONDS LEAD`; says READY and the time of the first frame (ns).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

import msgpack
import uvloop
from aiohttp import WSMsgType, web

from benchmarks import market
from simulator.session import Reply, Rules, Session
from tidewire.clock import NS_PER_SECOND

FRAMES = 1_000
"""A second, whatever the rate: one every millisecond."""


def frames(start_ns: int, rate: int, seconds: int) -> list[bytes]:
    """All frames, as they go over the wire; the last message of each has the time at which it is to leave."""
    step = NS_PER_SECOND // rate
    found: list[bytes] = []
    held: list[dict[str, object]] = []
    for message in market.messages(rate * seconds, start_ns=start_ns, step_ns=step):
        held.append(message)
        if len(held) == rate // FRAMES:
            found.append(on_wire(msgpack.packb(held)))
            held = []
    return found


def on_wire(message: bytes) -> bytes:
    """A binary WebSocket frame of a server: final, not masked (RFC 6455, 5.2), of up to 64 KiB."""
    if len(message) < 126:
        return bytes((0x82, len(message))) + message
    return b"\x82\x7e" + len(message).to_bytes(2, "big") + message


class MarketSocket:
    """Serves one client."""

    def __init__(self, start_ns: int, ready: Sequence[bytes]) -> None:
        self._start_ns, self._frames = start_ns, ready
        self.app = web.Application()
        self.app.router.add_get("/v2/sip", self._serve)

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        session = Session(Rules("sip", admit=lambda key, secret: None), msgpack_frames=True)
        await self._reply(ws, session.open(request.headers))
        sending: asyncio.Task[None] | None = None
        async for message in ws:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                await self._reply(ws, session.receive(message.data))
                if sending is None and session.subscriptions.get("quotes"):
                    assert request.transport is not None
                    sending = asyncio.create_task(self._send(request.transport))
        if sending is not None:
            sending.cancel()
        return ws

    async def _reply(self, ws: web.WebSocketResponse, replies: Sequence[Reply]) -> None:
        for reply in replies:
            await ws.send_bytes(msgpack.packb([reply]))

    async def _send(self, wire: asyncio.Transport) -> None:
        """Every frame at its time; what the client does not read in time piles up, and counts as late."""
        for number, frame in enumerate(self._frames, 1):
            early = self._start_ns + number * NS_PER_SECOND // FRAMES - time.time_ns()
            if early > 0:
                await asyncio.sleep(early / NS_PER_SECOND)
            wire.write(frame)


async def _run(port: int, rate: int, seconds: int, lead: int) -> None:
    start_ns = time.time_ns() + lead * NS_PER_SECOND
    runner = web.AppRunner(MarketSocket(start_ns, frames(start_ns, rate, seconds)).app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("READY", start_ns, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_run(*map(int, sys.argv[1:])))
