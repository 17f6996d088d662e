"""The same data by REST: for clients without a socket, and for their comparison once a minute."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from sinks.gateway.holdings import Held
from sinks.gateway.messages import Payload, moment
from sinks.gateway.portfolio import Portfolios
from sinks.gateway.responses import json, refuse
from sinks.gateway.sessions import Session
from sinks.gateway.sign_in import SignIn, signed_in
from sinks.gateway.visibility import Visibility


class Rest:
    """The handlers. `health()` is what /api/health says; `starting()` why there is nothing to say yet."""

    def __init__(
        self,
        portfolios: Portfolios,
        visibility: Visibility,
        health: Callable[[], dict[str, Any]],
        starting: Callable[[], bool],
    ) -> None:
        self._portfolios, self._visibility = portfolios, visibility
        self._health, self._starting = health, starting

    def routes(self, sign_in: SignIn) -> list[web.RouteDef]:
        """The paths."""
        return [
            web.get("/api/health", self.health),
            web.get("/api/session", signed_in(sign_in, self.session)),
            web.get("/api/positions", signed_in(sign_in, self.positions)),
            web.get("/api/orders", signed_in(sign_in, self.orders)),
            web.get("/api/account", signed_in(sign_in, self.account)),
        ]

    async def health(self, _: web.Request) -> web.StreamResponse:
        """How the gateway is; needs no sign-in and names no account."""
        return json(self._health())

    async def session(self, _: web.Request, session: Session) -> web.StreamResponse:
        """Who is signed in, until when, and which accounts they see."""
        accounts = self._visibility.of(session.user)
        return json({"user": session.user, "expiresAt": moment(session.expires_ns), "accounts": accounts})

    async def positions(self, _: web.Request, session: Session) -> web.StreamResponse:
        """Open positions, as PositionUpdate."""
        return self._objects("positions", session, lambda account: account.positions())

    async def orders(self, request: web.Request, session: Session) -> web.StreamResponse:
        """Orders as OrderUpdate: ?status=open (the default), or all: also the newest ended ones."""
        status = request.query.get("status", "open")
        if status not in ("open", "all"):
            return refuse(400, "request", "status must be open or all")
        return self._objects("orders", session, lambda account: account.orders(status == "all"))

    async def account(self, _: web.Request, session: Session) -> web.StreamResponse:
        """AccountUpdate of the user's account; with several, a list of them under `accounts`."""
        if self._starting():
            return _starting()
        names = self._visibility.of(session.user)
        found = [
            _labelled(held, name, len(names) > 1)
            for name in names
            if (held := self._portfolios.account(name).account()) is not None
        ]
        return json({"account": found[0] if found else None} if len(names) < 2 else {"accounts": found})

    def _objects(
        self, what: str, session: Session, pick: Callable[[Any], Iterable[Held]]
    ) -> web.StreamResponse:
        if self._starting():
            return _starting()
        names = self._visibility.of(session.user)
        found = [
            _labelled(held, name, len(names) > 1)
            for name in names
            for held in pick(self._portfolios.account(name))
        ]
        return json({what: found})


def _labelled(held: Held, account: str, several: bool) -> Payload:
    return held.payload | {"account": account} if several else held.payload


def _starting() -> web.Response:
    return refuse(503, "starting", "the gateway is starting", 1)
