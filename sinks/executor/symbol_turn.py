"""Whose turn it is to look at a symbol, clear it and order it: one intent at a time, exits before all others.

Sixty orders of a strategy that came first would else use up the minute's requests before a stop is looked at.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from tidewire.endings import end

T = TypeVar("T")


class SymbolTurn:
    """The turn at one symbol of one account."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0
        self._exit_waits = asyncio.Event()

    @asynccontextmanager
    async def taken(self, *, exit: bool) -> AsyncIterator[None]:
        """Wait for one's turn, and have it for as long as the context lasts."""
        if self._taken:
            await self._wait(exit)
        self._taken = True
        try:
            yield
        finally:
            self._pass_on()

    async def unless_exit(self, work: Awaitable[T]) -> T | None:
        """Do work that may be given up, until it is done or an exit waits for this turn: None then."""
        doing = asyncio.ensure_future(work)
        wanted = asyncio.ensure_future(self._exit_waits.wait())
        try:
            await asyncio.wait({doing, wanted}, return_when=asyncio.FIRST_COMPLETED)
            return doing.result() if doing.done() else None
        finally:
            await end(doing, wanted)

    async def _wait(self, exit: bool) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._waiting, (0 if exit else 1, self._count, turn))
        self._note()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()
            turn.cancel()
            self._note()
            raise

    def _pass_on(self) -> None:
        self._taken = False
        while self._waiting:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                self._taken = True  # from now on, though the next one runs later
                turn.set_result(None)
                break
        self._note()

    def _note(self) -> None:
        while self._waiting and self._waiting[0][2].done():
            heapq.heappop(self._waiting)
        if self._waiting and self._waiting[0][0] == 0:
            self._exit_waits.set()
        else:
            self._exit_waits.clear()
