"""The WebSocket endpoints: the checks of an upgrade in their order, then reading until the client is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from aiohttp import WSCloseCode, WSMsgType, web

from sinks.gateway import frames, requests, tape_messages
from sinks.gateway.client import POLICY, Client, Transport, narrow
from sinks.gateway.clients import Clients
from sinks.gateway.limits import CONNECTIONS_PER_USER, INBOUND_BYTES, INBOUND_PER_MINUTE, Places, Rate
from sinks.gateway.portfolio import Portfolios
from sinks.gateway.requests import BadRequest
from sinks.gateway.responses import own_page, refuse
from sinks.gateway.sessions import Session
from sinks.gateway.sign_in import SignIn
from sinks.gateway.tape import Tape, TapeClient
from sinks.gateway.visibility import Visibility
from sinks.gateway.watcher import Watcher
from tidewire import metrics
from tidewire.config import Settings

TOO_MANY = "Maximum connections exceeded"
Answer = Callable[[str | bytes], None]
Stale = Callable[[tuple[str, ...]], list[str]]


class Sockets:
    """The handlers of /ws/portfolio and /ws/tape. `starting()`: nothing can be shown yet."""

    def __init__(
        self,
        settings: Settings,
        sign_in: SignIn,
        clients: Clients,
        portfolios: Portfolios,
        tape: Tape,
        visibility: Visibility,
        stale: Stale,
        starting: Callable[[], bool],
    ) -> None:
        self._settings, self._sign_in, self._clients = settings, sign_in, clients
        self._portfolios, self._tape, self._visibility = portfolios, tape, visibility
        self._stale, self._starting = stale, starting
        self._places = Places()

    def routes(self) -> list[web.RouteDef]:
        """The paths."""
        return [web.get("/ws/portfolio", self.portfolio), web.get("/ws/tape", self.tape)]

    async def portfolio(self, request: web.Request) -> web.StreamResponse:
        """D1 and D2."""
        session = await self._admit(request)
        if not isinstance(session, Session):
            return session
        with self._place(session.user):
            return await self._serve_portfolio(request, session)

    async def tape(self, request: web.Request) -> web.StreamResponse:
        """E1."""
        session = await self._admit(request)
        if not isinstance(session, Session):
            return session
        with self._place(session.user):
            return await self._serve_tape(request, session)

    async def _admit(self, request: web.Request) -> Session | web.Response:
        """The session, with a place taken for it; or why not. Nothing is awaited after the place is taken."""
        if not self._settings.enable_realtime_portfolio:
            return refuse(503, "disabled", "real-time updates are switched off; poll /api/positions")
        if not own_page(request, self._settings.tidewire_gateway_origins):
            return refuse(403, "origin", "this origin may not use the gateway")
        session = await self._sign_in.session(request)
        if session is None:
            return refuse(401, "session", "not signed in")
        if self._starting():
            return refuse(503, "starting", "the gateway is starting", 1)
        if not web.WebSocketResponse(compress=False).can_prepare(request).ok:
            return refuse(400, "request", "this is a WebSocket endpoint")
        if not self._places.take(session.user):
            return refuse(429, "connections", f"{TOO_MANY} ({CONNECTIONS_PER_USER})")
        return session

    @contextmanager
    def _place(self, user: str) -> Iterator[None]:
        try:
            yield
        finally:
            self._places.give_back(user)

    async def _serve_portfolio(self, request: web.Request, session: Session) -> web.StreamResponse:
        socket, transport, _ = await _open(request)
        accounts = self._visibility.of(session.user)
        watcher = Watcher(session, transport, asyncio.get_running_loop().time(), accounts)
        self._portfolios.join(watcher)
        if reasons := self._stale(accounts):
            watcher.told_stale = tuple(reasons)
            self._portfolios.tell(watcher, "stale", tape_messages.staleness(reasons))
        try:
            await self._read(watcher, socket, lambda text: self._portfolio_message(watcher, text))
        finally:
            self._portfolios.leave(watcher)
        return socket

    async def _serve_tape(self, request: web.Request, session: Session) -> web.StreamResponse:
        socket, transport, descriptor = await _open(request)
        client = TapeClient(session, transport, asyncio.get_running_loop().time())
        client.descriptor = descriptor
        self._tape.join(client)
        if reasons := self._stale(()):
            client.told_stale = tuple(reasons)
            client.write(tape_messages.stale(reasons), "stale")
        try:
            await self._read(client, socket, lambda text: self._tape_message(client, text))
        finally:
            self._tape.leave(client)
        return socket

    async def _read(self, client: Client, socket: web.WebSocketResponse, answer: Answer) -> None:
        """Read until the client is gone, also after it was told to go."""
        loop, rate = asyncio.get_running_loop(), Rate()
        self._clients.add(client, loop.time())
        try:
            while True:
                message = await socket.receive()
                client.heard = loop.time()
                if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                    break
                if message.type is WSMsgType.PONG or client.ended is not None:
                    continue
                if not rate.allow(client.heard):
                    metrics.GATEWAY_REFUSED.labels("rate").inc()
                    client.close("limit", POLICY, f"more than {INBOUND_PER_MINUTE} messages a minute")
                elif message.type is WSMsgType.PING:
                    client.write(frames.pong(message.data), "pong")
                else:
                    answer(message.data)
            if socket.close_code == WSCloseCode.MESSAGE_TOO_BIG:
                client.ended = client.ended or "too_big"
            if client.ended is None:
                await socket.close(drain=False)
        finally:
            client.ended = client.ended or "left"
            self._clients.remove(client)
            client.transport.close()

    def _portfolio_message(self, watcher: Watcher, text: str | bytes) -> None:
        try:
            request = requests.portfolio(text)
            if request.kind == "ping":
                self._portfolios.tell(watcher, "pong", {})
                return
            before, watcher.wanted = watcher.wanted, watcher.wanted.after(request)
        except (BadRequest, ValueError) as error:
            metrics.GATEWAY_REFUSED.labels("request").inc()
            self._portfolios.tell(watcher, "error", {"message": str(error)})
            return
        self._portfolios.tell(watcher, request.kind + "d", {"channels": watcher.wanted.channels()})
        if request.kind == "subscribe" and watcher.wanted != before:
            self._portfolios.snapshot(watcher, watcher.wanted)

    def _tape_message(self, client: TapeClient, text: str | bytes) -> None:
        try:
            request = requests.tape(text)
        except BadRequest as error:
            metrics.GATEWAY_REFUSED.labels("request").inc()
            client.write(tape_messages.error(str(error)), "error")
            return
        if request.action == "ping":
            client.write(self._tape.pong(), "pong")
        elif request.action == "health":
            client.write(self._tape.health(), "health")
        else:
            act = self._tape.subscribe if request.action == "subscribe" else self._tape.unsubscribe
            for symbol in request.symbols:
                client.write(act(client, symbol), request.action)


async def _open(request: web.Request) -> tuple[web.WebSocketResponse, Transport, int | None]:
    # No deflate: it costs half the throughput and 200 KB a connection, and frames could not be shared.
    socket = web.WebSocketResponse(
        compress=False, autoping=False, autoclose=False, max_msg_size=INBOUND_BYTES, timeout=1.0
    )
    await socket.prepare(request)
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client left during the handshake")
    return socket, cast("Transport", transport), narrow(transport)
