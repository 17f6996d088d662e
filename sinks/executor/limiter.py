"""How many requests an account may send: 200 a minute, exits ahead of everything else.

Alpaca counts by account and minute, and answers 429 beyond. `Window` is the arithmetic: pure, on a clock that
is passed in. `Turnstile` is the queue before it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

from sinks.executor.broker_types import Limited
from tidewire.clock import NS_PER_SECOND, Clock

PER_MINUTE = 200
RESERVE = 40
"""Requests a minute that only exits get: one that comes after a rush of others goes out at once."""
MOST_WAITING = 1_000
_MINUTE = 60 * NS_PER_SECOND
LONGEST_PAUSE = 65 * NS_PER_SECOND
"""The longest that an answer of the broker can stop us: its minute, and clocks that differ a little."""

Sleep = Callable[[float], Awaitable[None]]


class Window:
    """At most so many requests in any minute, wherever it begins; fewer when the broker says so. Times in ns.

    A bucket that fills up again would let nearly twice as many pass in a minute of the broker's.
    """

    def __init__(self, per_minute: int = PER_MINUTE, reserve: int = RESERVE) -> None:
        assert 0 <= reserve < per_minute
        self._most, self._reserve = per_minute, reserve
        self._sent: deque[int] = deque()
        self._told_left: int | None = None
        self._told_until = 0
        self._shut_until = 0

    def ready_at(self, now: int, *, exit: bool) -> int:
        """When the next request may go: `now`, or later."""
        while self._sent and self._sent[0] <= now - _MINUTE:
            self._sent.popleft()
        kept = 0 if exit else self._reserve
        ready = max(now, self._shut_until)
        most = self._most - kept
        if len(self._sent) >= most:
            ready = max(ready, self._sent[len(self._sent) - most] + _MINUTE)
        if self._told_left is not None and now < self._told_until and self._told_left <= kept:
            ready = max(ready, self._told_until)
        return ready

    def take(self, now: int) -> None:
        """A request goes out now."""
        self._sent.append(now)
        if self._told_left is not None:
            self._told_left -= 1

    def told(self, now: int, left: int, until: int, in_flight: int = 0) -> None:
        """The broker says how many requests are left until a time; others may use the account too.

        `in_flight`: our own that it may not have counted yet.
        """
        self._told_left, self._told_until = max(0, left - in_flight), min(until, now + LONGEST_PAUSE)

    def shut(self, now: int, until: int) -> None:
        """The broker answered 429: nothing goes out before."""
        self._shut_until = max(self._shut_until, min(until, now + LONGEST_PAUSE))


class Turnstile:
    """Everybody who wants to send a request of one account waits here: exits first, then in order.

    `clock` runs evenly (ns); `wall` is the time of day that the broker's answers refer to (ns); `sleep` takes
    seconds of `clock`.
    """

    def __init__(
        self,
        window: Window,
        clock: Clock,
        wall: Clock,
        sleep: Sleep = asyncio.sleep,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._window, self._clock, self._wall, self._sleep = window, clock, wall, sleep
        self._most_waiting = most_waiting
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0
        self._in_flight = 0
        self._opener: asyncio.Task[None] | None = None
        self._opens_at = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(not turn.done() for _, _, turn in self._waiting)

    async def enter(self, *, exit: bool) -> None:
        """Wait for one's turn; every return is followed by `leave`.

        Raises:
            Limited: too many wait already. Exits are let in even then.
        """
        if not exit and len(self._waiting) >= self._most_waiting and self.waiting >= self._most_waiting:
            now = self._clock()
            raise Limited(self._wall() + self._window.ready_at(now, exit=False) - now + NS_PER_SECOND)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._waiting, (0 if exit else 1, self._count, turn))
        self._let_pass()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave({})
            raise

    def leave(self, headers: Mapping[str, str]) -> None:
        """A request is over; `headers` are those of its answer, if there was one."""
        self._in_flight -= 1
        left, until = _whole(headers, "X-RateLimit-Remaining"), self._reset(headers)
        if left is not None and until is not None:
            self._window.told(self._clock(), left, until, self._in_flight)
        self._let_pass()

    def refused(self, headers: Mapping[str, str]) -> Limited:
        """The broker answered 429; returns what to raise."""
        now = self._clock()
        until = self._reset(headers)
        if until is None:
            seconds = _whole(headers, "Retry-After")
            until = now + (1 if seconds is None else seconds) * NS_PER_SECOND
        until = min(max(until, now), now + LONGEST_PAUSE)
        self._window.shut(now, until)
        return Limited(self._wall() + until - now)

    def _reset(self, headers: Mapping[str, str]) -> int | None:
        at = _whole(headers, "X-RateLimit-Reset")
        return None if at is None else self._clock() + at * NS_PER_SECOND - self._wall()

    def _let_pass(self) -> None:
        now = self._clock()
        while self._waiting:
            rank, _, turn = self._waiting[0]
            if turn.done():
                heapq.heappop(self._waiting)
            elif self._window.ready_at(now, exit=rank == 0) <= now:
                heapq.heappop(self._waiting)
                self._window.take(now)
                self._in_flight += 1
                turn.set_result(None)
            else:
                break
        if self._waiting:
            self._open_at(self._window.ready_at(now, exit=self._waiting[0][0] == 0), now)

    def _open_at(self, when: int, now: int) -> None:
        """Look again then; an exit may be let in sooner than those who waited before it."""
        if self._opener is not None and self._opens_at <= when:
            return
        if self._opener is not None:
            self._opener.cancel()
        self._opens_at = when
        self._opener = asyncio.get_running_loop().create_task(self._open((when - now) / NS_PER_SECOND))

    async def _open(self, seconds: float) -> None:
        await self._sleep(seconds)
        self._opener = None
        self._let_pass()


def _whole(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
