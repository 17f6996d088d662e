"""Signing in and out: by password, or by a one-time link whose token is spent by a button, never by a GET."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from sinks.gateway import store, tokens
from sinks.gateway.bodies import json_object
from sinks.gateway.database import Database
from sinks.gateway.limits import Attempts
from sinks.gateway.passwords import LONGEST, Busy, Checker
from sinks.gateway.responses import json, refuse
from sinks.gateway.sessions import Session, Sessions
from tidewire import metrics
from tidewire.accounts import NAME
from tidewire.errors import UnreachableError

_WRONG = "user or password is wrong"
_BUTTON = """<!doctype html><html lang="en"><meta charset="utf-8"><title>tidewire: sign in</title>
<link rel="stylesheet" href="/page/page.css"><main><h1>tidewire</h1>
<form method="post"><p>This link signs you in once.</p><button>Sign in</button></form></main></html>"""
_SORRY = """<!doctype html><html lang="en"><meta charset="utf-8"><title>tidewire: sign in</title>
<link rel="stylesheet" href="/page/page.css"><main><h1>tidewire</h1><p>This link is not valid: it was used,
or is older than ten minutes. <a href="/">Sign in</a></p></main></html>"""


class SignIn:
    """The handlers. `hours`: how long a session lasts."""

    def __init__(self, database: Database, sessions: Sessions, hours: float) -> None:
        self._database, self._sessions, self._seconds = database, sessions, int(hours * 3600)
        self._checker, self._attempts = Checker(), Attempts()

    def routes(self) -> list[web.RouteDef]:
        """The paths."""
        return [
            web.post("/api/sign-in", self.by_password),
            web.post("/api/sign-out", self.sign_out),
            web.get("/sign-in/{token}", self.show_link),
            web.post("/sign-in/{token}", self.by_link),
        ]

    def close(self) -> None:
        """End the threads."""
        self._checker.close()

    async def session(self, request: web.Request) -> Session | None:
        """The session that a request's cookie names.

        Raises:
            UnreachableError: PostgreSQL does not answer and the session is not known here.
        """
        return await self._sessions.find(request.cookies.get(tokens.COOKIE))

    async def by_password(self, request: web.Request) -> web.StreamResponse:
        """POST {user, password}."""
        given = await _credentials(request)
        if given is None:
            return refuse(400, "request", "send a JSON object with user and password")
        user, password = given
        address = request.remote or ""
        wait = self._attempts.begin(user, address, asyncio.get_running_loop().time())
        if wait:
            return refuse(429, "attempts", f"too many attempts; try again in {round(wait)} s", wait)
        stored = await self._database.run(lambda db: store.password_hash(db, user))
        try:
            right = await self._checker.matches(stored, password)
        except Busy:
            return refuse(503, "attempts", "too many sign-ins at once; try again", 1)
        begun = await self._sessions.begin(user) if right else None
        if begun is None:
            return refuse(401, "password", _WRONG)
        self._attempts.succeeded(user, address)
        return self._welcome(json({"user": user}), begun[0])

    async def show_link(self, request: web.Request) -> web.StreamResponse:
        """A page with a button: programs that fetch links in advance must not use one up."""
        return web.Response(text=_BUTTON, content_type="text/html")

    async def by_link(self, request: web.Request) -> web.StreamResponse:
        """The button: use the link up."""
        token = request.match_info["token"]
        user = None
        if tokens.well_formed(token):
            user = await self._database.run(lambda db: store.use_link(db, tokens.digest(token)))
        begun = await self._sessions.begin(user) if user is not None else None
        if begun is None:
            metrics.GATEWAY_REFUSED.labels("password").inc()
            return web.Response(text=_SORRY, status=401, content_type="text/html")
        return self._welcome(web.Response(status=303, headers={"Location": "/"}), begun[0])

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        """End the session of the cookie and close its sockets."""
        token = request.cookies.get(tokens.COOKIE)
        response: web.Response = json({"user": None})
        response.del_cookie(tokens.COOKIE, path="/", secure=True, httponly=True, samesite="Strict")
        if token and tokens.well_formed(token):
            try:
                await self._sessions.end(token)
            except UnreachableError:
                return refuse(503, "database", "signed out here, but the database does not answer: again", 5)
        return response

    def _welcome(self, response: web.Response, token: str) -> web.Response:
        response.set_cookie(
            tokens.COOKIE,
            token,
            max_age=self._seconds,
            path="/",
            secure=True,
            httponly=True,
            samesite="Strict",
        )
        return response


def signed_in(
    sign_in: SignIn, handler: Callable[[web.Request, Session], Awaitable[web.StreamResponse]]
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A handler that is only called with a session; else 401."""

    async def checked(request: web.Request) -> web.StreamResponse:
        session = await sign_in.session(request)
        if session is None:
            return refuse(401, "session", "not signed in")
        return await handler(request, session)

    return checked


async def _credentials(request: web.Request) -> tuple[str, str] | None:
    given = await json_object(request)
    if given is None:
        return None
    user, password = given.get("user"), given.get("password")
    if not isinstance(user, str) or not isinstance(password, str) or len(password) > LONGEST:
        return None
    return (user, password) if NAME.fullmatch(user) else None
