"""A few rounds over REST at a time: those that nobody waits for leave room for order events.

A strategy fills orders of all its accounts at once; fifty rounds at once, two seconds later, would stand
before every update of an order in this process, and before every order at the broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tidewire.endings import end

AT_ONCE = 4
LONGEST_SECONDS = 2.0
"""So long a place is kept: one account whose broker does not answer must not hold up the others."""


class Turns:
    """The places of one process."""

    def __init__(self, at_once: int = AT_ONCE, longest: float = LONGEST_SECONDS) -> None:
        self._places, self._longest = asyncio.Semaphore(at_once), longest

    @asynccontextmanager
    async def turn(self, go: asyncio.Event) -> AsyncIterator[None]:
        """Wait for a place and keep it for the body; whoever sets `go` lets the body begin without one."""
        waits = True

        async def hold() -> None:
            async with self._places:
                if waits:
                    go.set()
                await asyncio.sleep(self._longest)

        holding = asyncio.create_task(hold())
        try:
            await go.wait()
            waits = False
            go.clear()
            yield
        finally:
            await end(holding)
