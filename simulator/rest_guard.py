"""What every REST request passes: keys (403), rate limit (429), wrong parameters (400)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgpack
import orjson
from aiohttp import web

from simulator import rfc3339
from simulator.door import RestFaults
from simulator.options import SimulatorOptions

Handler = Callable[[web.Request], Awaitable[web.Response]]
MINUTE = 60


def reply(body: object, status: int = 200) -> web.Response:
    """A JSON response; times (msgpack.Timestamp) become RFC 3339 with nanoseconds."""
    data = orjson.dumps(body, default=_json)
    return web.Response(body=data, status=status, content_type="application/json")


def _json(value: Any) -> str:
    if isinstance(value, msgpack.Timestamp):
        return rfc3339.show(value.to_unix_nano())
    raise TypeError


class RateLimit:
    """Requests of each key in the current minute of a clock in seconds."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._minute = 0
        self._used: dict[str, int] = {}

    def take(self, key: str) -> tuple[bool, dict[str, str]]:
        """(whether the request may pass, the headers that say how many are left)."""
        minute = int(self._clock() // MINUTE)
        if minute != self._minute:
            self._minute, self._used = minute, {}
        used = self._used.get(key, 0) + 1
        allowed = used <= self.per_minute
        self._used[key] = min(used, self.per_minute)
        return allowed, {
            "X-RateLimit-Limit": str(self.per_minute),
            "X-RateLimit-Remaining": str(self.per_minute - self._used[key]),
            "X-RateLimit-Reset": str((minute + 1) * MINUTE),
        }


class Guard:
    """Wraps handlers; a ValueError in one is an answer 400 with its text."""

    def __init__(
        self, options: SimulatorOptions, clock: Callable[[], float], faults: RestFaults | None = None
    ) -> None:
        self._keys = options.keys
        self._limit = RateLimit(options.requests_per_minute, clock)
        self._faults = faults or RestFaults()

    def wrap(self, handler: Handler) -> Handler:
        """A handler that is only reached by a signed-in client within its rate."""

        async def guarded(request: web.Request) -> web.Response:
            key = request.headers.get("APCA-API-KEY-ID", "")
            secret = request.headers.get("APCA-API-SECRET-KEY", "")
            if (key, secret) not in self._keys:
                return reply({"message": "forbidden."}, 403)
            allowed, headers = self._limit.take(key)
            if not allowed:
                response = reply({"message": "too many requests."}, 429)
            elif (refused := self._faults.answer(request.path)) is not None:
                response = refused
            else:
                try:
                    response = await handler(request)
                except ValueError as error:
                    response = reply({"message": str(error)}, 400)
            response.headers.update(headers)
            return response

        return guarded
