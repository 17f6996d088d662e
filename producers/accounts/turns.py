"""A few rounds over REST at a time: those that nobody waits for leave room for order events.

A strategy fills orders of all its accounts at once; fifty rounds at once, two seconds later, would stand
before every update of an order in this process, and before every order at the broker. One after the other
without a pause they would do so for some seconds, here and in all that their snapshots go through. So they
also begin with a pause in between, as long as that keeps nobody waiting for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tidewire.endings import end

AT_ONCE = 4
LONGEST_SECONDS = 2.0
"""So long a place is kept: one account whose broker does not answer must not hold up the others."""


LONGEST_PAUSE = 0.25
CROWD_SECONDS = 10.0
"""The pause is at most this by the number of those that still wait: with many of them it is shorter."""


class Starts:
    """When the next round may begin. Pure; times in seconds."""

    def __init__(self, longest_pause: float = LONGEST_PAUSE) -> None:
        self._longest_pause = longest_pause
        self._free_at = float("-inf")

    def begin(self, now: float, waiting: int) -> float:
        """A round wants to begin, and so many others after it; returns how long it is to wait."""
        at = max(now, self._free_at)
        self._free_at = at + min(self._longest_pause, CROWD_SECONDS / max(waiting, 1))
        return at - now


class Turns:
    """The places of one process."""

    def __init__(
        self, at_once: int = AT_ONCE, longest: float = LONGEST_SECONDS, longest_pause: float = LONGEST_PAUSE
    ) -> None:
        self._places, self._longest = asyncio.Semaphore(at_once), longest
        self._starts, self._waiting = Starts(longest_pause), 0

    @asynccontextmanager
    async def turn(self, go: asyncio.Event) -> AsyncIterator[None]:
        """Wait for a place and keep it for the body; whoever sets `go` lets the body begin without one."""
        waits = True

        async def hold() -> None:
            async with self._places:
                await asyncio.sleep(self._starts.begin(asyncio.get_running_loop().time(), self._waiting))
                if waits:
                    go.set()
                await asyncio.sleep(self._longest)

        self._waiting += 1
        holding = asyncio.create_task(hold())
        try:
            try:
                await go.wait()
            finally:
                self._waiting -= 1
            waits = False
            go.clear()
            yield
        finally:
            await end(holding)
