"""How fast requests may follow one another: Alpaca's limit, of which one process takes its share."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping

PLANS = {"basic": 200, "plus": 10_000}
"""Requests a minute of the market-data plans."""
LONGEST_PAUSE_SECONDS = 65.0
"""Alpaca's limits count by the minute."""
_BURST_SECONDS = 3.0

Seconds = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


class Pace:
    """A bucket that fills at `share` of the limit; several clients of one process may use one.

    Alpaca's answers correct it: X-RateLimit-Limit replaces the plan's number, and when X-RateLimit-Remaining
    is 0 (others use the same keys) everybody waits until X-RateLimit-Reset.
    """

    def __init__(
        self,
        per_minute: float,
        *,
        share: float = 1.0,
        clock: Seconds = time.monotonic,
        wall: Seconds = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.per_minute, self.share = per_minute, share
        """Both may be changed at any time."""
        self._clock, self._wall, self._sleep = clock, wall, sleep
        self._tokens, self._filled = 1.0, clock()
        self._not_before = 0.0
        self._turn = asyncio.Lock()

    @property
    def per_second(self) -> float:
        """Requests a second that are allowed here; at least one a minute, so that nobody waits for ever."""
        return max(self.per_minute * min(max(self.share, 0.0), 1.0), 1.0) / 60

    async def take(self) -> None:
        """Wait for the turn of one request."""
        async with self._turn:
            while (wait := self._wait()) > 0:
                await self._sleep(wait)
            self._tokens -= 1

    def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """What an answer says of the limit."""
        limit, remaining = _number(headers, "X-RateLimit-Limit"), _number(headers, "X-RateLimit-Remaining")
        if limit is not None and limit >= 1:
            self.per_minute = limit
        if status == 429 or (remaining is not None and remaining <= 0):
            self._not_before = max(self._not_before, self._clock() + self._pause(headers))

    def _wait(self) -> float:
        now = self._clock()
        rate = self.per_second
        self._tokens = min(self._tokens + (now - self._filled) * rate, max(1.0, rate * _BURST_SECONDS))
        self._filled = now
        return max((1 - self._tokens) / rate if self._tokens < 1 - 1e-9 else 0.0, self._not_before - now)

    def _pause(self, headers: Mapping[str, str]) -> float:
        seconds = _number(headers, "Retry-After")
        if seconds is None:
            reset = _number(headers, "X-RateLimit-Reset")
            seconds = 1.0 if reset is None else reset - self._wall()
        # Everybody waits for the same moment: not all at once.
        return min(max(seconds, 0.0), LONGEST_PAUSE_SECONDS) + random.random() * 0.5


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        return float(headers[name])
    except (KeyError, ValueError):
        return None
