"""The WebSocket endpoints of market data, a venue's each: the thin shell around `session.py`."""

from __future__ import annotations

import asyncio

from aiohttp import WSMsgType, web

from simulator.client import Client
from simulator.hub import Hub
from simulator.options import SimulatorOptions
from simulator.session import NEWS_FEED, OPTION_FEEDS, Rules, Session
from tidewire.log import get

log = get("simulator.data_socket")

_LARGEST_COMMAND = 1 << 22


class DataSocket:
    """Serves the connections of one venue's endpoints; a path without a feed is that of the news."""

    def __init__(self, hub: Hub, options: SimulatorOptions) -> None:
        self._hub = hub
        self._options = options

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One connection, from handshake to end."""
        if (refused := self._hub.door.handshake(request)) is not None:
            return refused
        feed = request.match_info.get("feed", NEWS_FEED)
        client = self._client(request, feed)
        ws = web.WebSocketResponse(compress=self._options.deflate, max_msg_size=_LARGEST_COMMAND)
        await ws.prepare(request)
        client.transport = request.transport
        self._hub.join(client)
        writer = asyncio.create_task(self._write(ws, client))
        deadline = asyncio.create_task(self._expire(client))
        try:
            client.reply(client.session.open(request.headers))
            await self._read(ws, client)
        finally:
            deadline.cancel()
            writer.cancel()
            await asyncio.gather(writer, deadline, return_exceptions=True)
            self._hub.leave(client, clean=ws.close_code not in (None, 1006))
            log.info("client gone", feed=feed, close_code=ws.close_code)
        return ws

    def _client(self, request: web.Request, feed: str) -> Client:
        def admit(key: str, secret: str) -> int | None:
            return self._hub.admit(client, key, secret)

        packed = request.headers.get("Content-Type", "").startswith("application/msgpack")
        options = self._options
        limit = options.option_quote_limit if feed in OPTION_FEEDS else options.symbol_limit
        rules = Rules(feed, admit, limit, self._hub.door.subscribe)
        session = Session(rules, msgpack_frames=packed)
        client = Client(feed, session, self._options.outgoing_bytes)
        return client

    async def _read(self, ws: web.WebSocketResponse, client: Client) -> None:
        async for message in ws:
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                continue
            before = client.session.subscriptions
            client.reply(client.session.receive(message.data))
            if client.session.subscriptions != before:
                self._hub.subscribed_to(client, before)
                log.info("subscribed", feed=client.feed, **_sizes(client))

    async def _write(self, ws: web.WebSocketResponse, client: Client) -> None:
        try:
            while (data := await client.next()) is not None:
                if client.session.msgpack:
                    await ws.send_bytes(data)
                else:
                    await ws.send_str(data.decode())
                self._hub.sent(client, len(data))
            await ws.close(code=client.closing or 1000)
        except ConnectionError:
            return  # the reader sees the end as well and cleans up

    async def _expire(self, client: Client) -> None:
        await asyncio.sleep(self._options.auth_seconds)
        if not client.session.authenticated:
            client.reply(client.session.expire())
            client.finish(1008)


def _sizes(client: Client) -> dict[str, int]:
    return {channel: len(symbols) for channel, symbols in client.session.subscriptions.items() if symbols}
