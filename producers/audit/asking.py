"""What Alpaca's history says of minutes: many symbols and minutes in one request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from producers.audit.comparison import Bar, Sums, bar_of
from producers.audit.decoding import history_sums, quote_content
from producers.audit.minutes import MINUTE
from producers.history.client import History

SYMBOLS_AT_ONCE = 100
LONGEST_RUN = 240
"""Minutes that one request for bars spans."""
LONGEST_TRADE_RUN = 15
_NEAR = 30 * MINUTE
"""Minutes further apart than this are asked for separately."""

Place = tuple[int, str]
"""(minute, symbol)"""


class Asking:
    """Asks for one kind of feed."""

    def __init__(self, history: History, kind: str) -> None:
        self._history, self._kind = history, kind

    async def bars(self, places: Iterable[Place]) -> dict[Place, Bar]:
        """The minute bars that there are of these symbols and minutes, and of some others.

        Raises:
            HistoryError: Alpaca does not answer, or refuses.
        """
        found: dict[Place, Bar] = {}
        for symbols, start, end in requests(places, LONGEST_RUN):
            async for page in self._history.pages(self._kind, "bars", symbols, start, end):
                for message in page:
                    found[message["t"], message["S"]] = bar_of(message)
        return found

    async def days(self, places: Iterable[Place]) -> dict[Place, Bar]:
        """The daily bars that there are of these symbols and days (their beginnings). Raises HistoryError."""
        found: dict[Place, Bar] = {}
        for symbols, start, end in requests(places, 1):
            async for page in self._history.pages(self._kind, "dailyBars", symbols, start, end + MINUTE - 1):
                for message in page:
                    found[message["t"], message["S"]] = bar_of(message)
        return found

    async def trades(self, places: Iterable[Place]) -> dict[Place, Sums]:
        """The sums of the trades that count, by the history's own trades. Raises HistoryError."""
        found: dict[Place, Sums] = {}
        for symbols, start, end in requests(places, LONGEST_TRADE_RUN):
            messages: list[Any] = []
            async for page in self._history.pages(self._kind, "trades", symbols, start, end + MINUTE - 1):
                messages += page
            found |= history_sums(self._kind, messages)
        return found

    async def quotes(self, place: Place) -> list[tuple[Any, ...]]:
        """The contents of all quotes of one symbol's minute. Raises HistoryError."""
        minute, symbol = place
        pages = self._history.pages(self._kind, "quotes", [symbol], minute, minute + MINUTE - 1)
        return [quote_content(self._kind, message) async for page in pages for message in page]


def requests(places: Iterable[Place], longest: int) -> Iterator[tuple[list[str], int, int]]:
    """Symbols with their first and last minute: what to ask, so that every place is covered."""
    by_minute: dict[int, set[str]] = {}
    for minute, symbol in places:
        by_minute.setdefault(minute, set()).add(symbol)
    for run in _runs(sorted(by_minute), longest):
        symbols = sorted(set().union(*(by_minute[minute] for minute in run)))
        for start in range(0, len(symbols), SYMBOLS_AT_ONCE):
            yield symbols[start : start + SYMBOLS_AT_ONCE], run[0], run[-1]


def _runs(minutes: Sequence[int], longest: int) -> Iterator[list[int]]:
    run: list[int] = []
    for minute in minutes:
        if run and (minute - run[-1] > _NEAR or minute - run[0] >= longest * MINUTE):
            yield run
            run = []
        run.append(minute)
    if run:
        yield run
