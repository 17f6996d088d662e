"""What every request to the trading API passes: its account by its keys (401), the rate limit (429)."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import orjson
from aiohttp import web

from simulator.broker.rejections import Rejection
from simulator.door import RestFaults, refusal
from simulator.options import SimulatorOptions, key_pair
from simulator.outgoing import reset
from simulator.rest_guard import RateLimit
from tidewire.clock import now_ns

Handler = Callable[[web.Request, int], Awaitable[Any] | Any]
MOST_NAMED = 100_000
UNAUTHORIZED = {"code": 40110000, "message": "request is not authorized"}


class TradingGuard:
    """Wraps handlers of (request, account number); a Rejection in one is the answer."""

    def __init__(
        self, options: SimulatorOptions, clock: Callable[[], float], faults: RestFaults | None = None
    ) -> None:
        self._accounts = {key_pair(n): n for n in range(1, options.accounts + 1)}
        per_minute = options.orders_per_minute
        self._limit = RateLimit(per_minute, clock) if per_minute is not None else None
        self._clock = clock
        self._faults = faults or RestFaults()
        self.requests = Requests()

    def account(self, key: str, secret: str) -> int | None:
        """The account that a key pair opens; None when it opens none."""
        return self._accounts.get((key, secret))

    def wrap(
        self, handler: Callable[[web.Request, int], Any]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A handler that only a signed-in client within its rate reaches."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            response: web.StreamResponse
            key = request.headers.get("APCA-API-KEY-ID", "")
            n = self.account(key, request.headers.get("APCA-API-SECRET-KEY", ""))
            if n is None:
                return answer(UNAUTHORIZED, 401)
            await self.requests.count(request, n)
            allowed, headers = self._limit.take(key) if self._limit is not None else (True, {})
            if not allowed:
                response = answer({"code": 42910000, "message": "rate limit exceeded"}, 429)
            elif (fault := self._faults.instead(request.path, request.method, n)) is not None:
                if fault.seconds is not None:
                    await _late(request, fault.seconds)
                response = self._limited(refusal(fault))
            else:
                response = await self._spoil(request, n, await respond(handler, request, n))
            if not response.prepared:
                response.headers.update(
                    {name: headers[name] for name in headers.keys() - response.headers.keys()}
                )
            return response

        return guarded

    def _limited(self, refused: web.Response) -> web.Response:
        if refused.status == 429 and (seconds := refused.headers.get("Retry-After")) is not None:
            reset_at = str(int(self._clock()) + int(seconds))
            refused.headers.update({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset_at})
        return refused

    async def _spoil(self, request: web.Request, n: int, response: web.Response) -> web.StreamResponse:
        """What a fault makes of the answer to what was done."""
        fault = self._faults.after(request.path, request.method, n)
        if fault is None:
            return response
        if fault.kind == "answer_late":
            await _late(request, fault.seconds or 0.0)
        elif fault.kind == "answer_stalled":
            return await _in_halves(request, response, fault.seconds or 0.0)
        elif fault.kind == "answer_lost":
            reset(request.transport)
        else:
            return refusal(fault)
        return response


_LOOK_SECONDS = 0.05


async def _late(request: web.Request, seconds: float) -> None:
    """Wait so long, or until nobody waits for the answer any more."""
    for _ in range(int(seconds / _LOOK_SECONDS)):
        if request.transport is None:
            return
        await asyncio.sleep(_LOOK_SECONDS)


async def _in_halves(request: web.Request, response: web.Response, seconds: float) -> web.StreamResponse:
    """Send an answer whose second half comes so late."""
    body = response.body if isinstance(response.body, bytes) else b""
    stalled = web.StreamResponse(status=response.status, headers={"Content-Type": "application/json"})
    stalled.content_length = len(body)
    await stalled.prepare(request)
    await stalled.write(body[: len(body) // 2])
    await _late(request, seconds)
    with suppress(ConnectionError):
        await stalled.write_eof(body[len(body) // 2 :])
    return stalled


class Requests:
    """How many requests came, whatever became of them: what tells a test that nothing was sent twice."""

    def __init__(self) -> None:
        self._methods: dict[int, Counter[str]] = defaultdict(Counter)
        self._orders: dict[int, Counter[str]] = defaultdict(Counter)
        self._arrived: dict[int, dict[str, int]] = defaultdict(dict)

    async def count(self, request: web.Request, n: int) -> None:
        """Note a request of an account."""
        self._methods[n][request.method] += 1
        now = now_ns()
        if request.method == "POST" and request.path == "/v2/orders":
            try:
                body = orjson.loads(await request.read())
            except orjson.JSONDecodeError:
                body = None
            named = str(body.get("client_order_id")) if isinstance(body, dict) else ""
            seen = self._orders[n]
            seen[named if named in seen or len(seen) < MOST_NAMED else ""] += 1
            if named in seen:
                self._arrived[n].setdefault(named, now)

    def of(self, n: int) -> dict[str, Any]:
        """The counts of an account: by method, and orders by client_order_id (beyond 100,000 under "").

        `arrived`: when the first order of each id came, by the machine's clock, ns since 1970 UTC.
        """
        counts = {"methods": dict(self._methods[n]), "orders": dict(self._orders[n])}
        return counts | {"arrived": dict(self._arrived[n])}


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
