"""What every request to the trading API passes: its account by its keys (401), the rate limit (429)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from simulator.broker.rejections import Rejection
from simulator.door import RestFaults
from simulator.options import SimulatorOptions, key_pair
from simulator.rest_guard import RateLimit

Handler = Callable[[web.Request, int], Awaitable[Any] | Any]
UNAUTHORIZED = {"code": 40110000, "message": "request is not authorized"}


class TradingGuard:
    """Wraps handlers of (request, account number); a Rejection in one is the answer."""

    def __init__(
        self, options: SimulatorOptions, clock: Callable[[], float], faults: RestFaults | None = None
    ) -> None:
        self._accounts = {key_pair(n): n for n in range(1, options.accounts + 1)}
        per_minute = options.orders_per_minute
        self._limit = RateLimit(per_minute, clock) if per_minute is not None else None
        self._faults = faults or RestFaults()

    def account(self, key: str, secret: str) -> int | None:
        """The account that a key pair opens; None when it opens none."""
        return self._accounts.get((key, secret))

    def wrap(
        self, handler: Callable[[web.Request, int], Any]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """A handler that only a signed-in client within its rate reaches."""

        async def guarded(request: web.Request) -> web.Response:
            key = request.headers.get("APCA-API-KEY-ID", "")
            n = self.account(key, request.headers.get("APCA-API-SECRET-KEY", ""))
            if n is None:
                return answer(UNAUTHORIZED, 401)
            allowed, headers = self._limit.take(key) if self._limit is not None else (True, {})
            if not allowed:
                response = answer({"code": 42910000, "message": "rate limit exceeded"}, 429)
            elif (refused := self._faults.answer(request.path)) is not None:
                response = refused
            else:
                response = await respond(handler, request, n)
            response.headers.update(headers)
            return response

        return guarded


async def respond(handler: Callable[[web.Request, int], Any], request: web.Request, n: int) -> web.Response:
    """The answer of a handler: its JSON, or the refusal that it raises."""
    try:
        result = handler(request, n)
        if isinstance(result, Awaitable):
            result = await result
    except Rejection as refused:
        return answer(refused.body, refused.status)
    return result if isinstance(result, web.Response) else answer(result)


def answer(body: object, status: int = 200) -> web.Response:
    """A JSON response; none of 204."""
    if status == 204:
        return web.Response(status=204)
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


async def json_body(request: web.Request) -> Any:
    """The JSON of a request.

    Raises:
        Rejection: it is none (400).
    """
    data = await request.read()
    try:
        return orjson.loads(data) if data else {}
    except orjson.JSONDecodeError:
        raise Rejection(400, 40010000, "failed to decode request body") from None
