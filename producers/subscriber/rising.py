"""Looks over REST for stocks that move: today's standing of each, against its usual volume."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from decimal import Decimal
from typing import Any

from producers.channel import Message
from producers.history.client import History
from producers.history.errors import HistoryError
from producers.subscriber.movers import DAYS, Standing, movers, usual_volume
from tidewire import log
from tidewire.clock import NS_PER_DAY, NS_PER_SECOND, Clock

EVERY_SECONDS = 60.0
STANDS_SECONDS = 150.0
PIECE = 100
"""Symbols of one request."""
_SPAN_DAYS = 2 * DAYS
"""Calendar days that surely hold so many trading days."""

_log = log.get("movers")


class Rising:
    """Looks once a minute at the stocks that `universe` names.

    What a look has found counts for `STANDS_SECONDS`: after looks that failed nothing is renewed.
    """

    def __init__(
        self,
        history: History,
        universe: Callable[[], Collection[str]],
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._history, self._universe, self._clock = history, universe, clock
        self._sleep = sleep
        self._usual: dict[str, tuple[int, Decimal | None]] = {}
        self._found: dict[str, int] = {}
        self.trouble: str | None = None
        """Why the last look failed; None: it did not."""

    def found(self) -> list[str]:
        """The movers of the last looks."""
        since = self._clock() - int(STANDS_SECONDS * NS_PER_SECOND)
        return sorted(symbol for symbol, at in self._found.items() if at >= since)

    async def run(self) -> None:
        """Look once a minute until cancelled."""
        while True:
            try:
                await self.look()
                self.trouble = None
            except HistoryError as error:
                self.trouble = str(error)
                _log.warning("no look for movers", reason=str(error))
            await self._sleep(EVERY_SECONDS)

    async def look(self) -> None:
        """One look at all symbols. Raises HistoryError."""
        symbols = sorted(self._universe())
        for start in range(0, len(symbols), PIECE):
            piece = symbols[start : start + PIECE]
            now = self._clock()
            parts = await self._history.snapshots(piece)
            standings = {s: standing for s, p in parts.items() if (standing := _standing(p)) is not None}
            days = {symbol: _day(parts[symbol]) for symbol in standings}
            await self._learn_usual(days)
            usual = {symbol: self._usual[symbol][1] for symbol in standings}
            rising = movers(standings, usual)
            for symbol in piece:
                self._found.pop(symbol, None)
            self._found |= dict.fromkeys(rising, now)
        for symbol in self._found.keys() - set(symbols):
            del self._found[symbol]

    async def _learn_usual(self, days: Mapping[str, int]) -> None:
        """The usual volume of symbols whose trading day is another than at the last look."""
        by_day: dict[int, list[str]] = {}
        for symbol, day in days.items():
            if self._usual.get(symbol, (None, None))[0] != day:
                by_day.setdefault(day, []).append(symbol)
        for day, symbols in by_day.items():
            volumes: dict[str, list[int]] = {symbol: [] for symbol in symbols}
            start = day - _SPAN_DAYS * NS_PER_DAY
            pages = self._history.pages("stocks", "dailyBars", symbols, start, day - 1)
            async for page in pages:
                for bar in page:
                    if bar["S"] in volumes:
                        volumes[bar["S"]].append(int(bar["v"]))
            self._usual |= {symbol: (day, usual_volume(found)) for symbol, found in volumes.items()}


def _standing(parts: Mapping[str, Message]) -> Standing | None:
    try:
        today, before = parts["dailyBar"], parts["prevDailyBar"]
        last = parts.get("latestTrade") or {}
        price = last.get("p", today["c"])
        return Standing(_exact(price), _exact(before["c"]), int(today["v"]))
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None  # not traded today or yesterday: nothing to compare


def _day(parts: Mapping[str, Message]) -> int:
    """The start of the trading day (ns) that a snapshot speaks of."""
    return int(parts["dailyBar"]["t"])


def _exact(price: Any) -> Decimal:
    return Decimal(repr(price))
