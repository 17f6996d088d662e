"""What the REST routes of stocks and of crypto share: history with paging, the newest rows, snapshots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from simulator import rfc3339
from simulator.bar_book import parse_timeframe
from simulator.bars import DAY
from simulator.history import Entry, History
from simulator.paging import decode, page
from simulator.venue import Venue

Kind = Literal["trades", "quotes", "bars"]
KINDS: tuple[Kind, ...] = ("trades", "quotes", "bars")
Row = dict[str, Any]

_LOOK_BACK = 1_000
"""Trades looked at for the newest that may set a price."""


class SeriesListing:
    """The messages of a symbol within a time range."""

    def __init__(self, history: History, channel: str, symbol: str, start: int, end: int) -> None:
        self._history = history
        self._numbers = history.between(channel, symbol, start, end)

    def __len__(self) -> int:
        return len(self._numbers)

    def key(self, index: int) -> tuple[int, int]:
        """(time, number)."""
        entry = self.entry(index)
        return entry.ns, entry.number

    def entry(self, index: int) -> Entry:
        """The row."""
        return self._history.entry(int(self._numbers[index]))


class BarListing:
    """The bars of a symbol within a time range."""

    def __init__(self, bars: Sequence[tuple[int, Row]], start: int, end: int) -> None:
        self.bars = [(ns, bar) for ns, bar in bars if start <= ns <= end]

    def __len__(self) -> int:
        return len(self.bars)

    def key(self, index: int) -> tuple[int, int]:
        """(time, 0)."""
        return self.bars[index][0], 0


class Series:
    """What one venue has published, by symbol. `now` is the venue's time in ns since 1970 UTC."""

    def __init__(
        self, venue: Venue, now: Callable[[], int], sets_price: Callable[[Row], bool] = lambda _: True
    ) -> None:
        self._market = venue.market
        self._history = venue.history
        self._read = venue.read
        self._now = now
        self._sets_price = sets_price

    def past(
        self, kind: Kind, symbols: Sequence[str], query: Mapping[str, str]
    ) -> tuple[dict[str, list[Row]], str | None]:
        """One page by symbol, and the token of the next.

        Raises:
            ValueError: a parameter that Alpaca would refuse.
        """
        now = self._now()
        start, end = bounds(query, now - now % DAY)
        token = decode(query["page_token"]) if query.get("page_token") else None
        descending = choice(query.get("sort", "asc"), ("asc", "desc"), "sort") == "desc"
        limit = limit_of(query.get("limit", "1000"), 10_000)
        minutes = parse_timeframe(query.get("timeframe", "")) if kind == "bars" else 0
        listings = {s: self._listing(kind, s, minutes, start, end) for s in symbols}
        rows, following = page(symbols, listings.__getitem__, limit, token, descending=descending)
        found: dict[str, list[Row]] = {}
        for symbol, index in rows:
            row = self._row(listings[symbol], index)
            if row is not None:
                found.setdefault(symbol, []).append(row)
        return found, following.encode() if following else None

    def newest(self, kind: Kind, symbol: str) -> Row | None:
        """The newest row that may set a price; None before the first."""
        if kind == "bars":
            bars = self._market.book.bars(symbol, 1)
            return shown(bars[-1][1]) if bars else None
        for tries, entry in enumerate(self._history.newest_first(kind, symbol)):
            message = self._read(entry.place) if tries < _LOOK_BACK else None
            if message is None:
                return None
            if kind == "quotes" or self._sets_price(message):
                return shown(message)
        return None

    def snapshot(self, symbol: str) -> dict[str, Row]:
        """The newest of everything, as far as there is any."""
        days = [shown(bar) for _, bar in self._market.book.bars(symbol, 1440)[-2:]]
        parts = {
            "latestTrade": self.newest("trades", symbol),
            "latestQuote": self.newest("quotes", symbol),
            "minuteBar": self.newest("bars", symbol),
            "dailyBar": days[-1] if days else None,
            "prevDailyBar": days[-2] if len(days) > 1 else None,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _listing(
        self, kind: Kind, symbol: str, minutes: int, start: int, end: int
    ) -> SeriesListing | BarListing:
        if kind == "bars":
            return BarListing(self._market.book.bars(symbol, minutes), start, end)
        return SeriesListing(self._history, kind, symbol, start, end)

    def _row(self, listing: SeriesListing | BarListing, index: int) -> Row | None:
        if isinstance(listing, BarListing):
            return shown(listing.bars[index][1])
        message = self._read(listing.entry(index).place)
        return None if message is None else shown(message)


def shown(message: Row) -> Row:
    """A stream message as REST shows it: without type and symbol, times as text (by `reply`)."""
    return {name: value for name, value in message.items() if name not in ("T", "S")}


def bounds(query: Mapping[str, str], earliest: int) -> tuple[int, int]:
    """start and end of a query in ns since 1970 UTC, both inclusive; `earliest` without a start.

    Raises:
        ValueError: not times, or end before start.
    """
    start = rfc3339.parse_bound(query["start"]) if query.get("start") else earliest
    end = rfc3339.parse_bound(query["end"], end=True) if query.get("end") else rfc3339.LATEST
    if end < start:
        raise ValueError("end should not be before start")
    return start, end


def symbols_of(text: str, valid: Callable[[str], object]) -> list[str]:
    """The symbols of a comma-separated list.

    Raises:
        ValueError: none, or one that cannot be a symbol.
    """
    symbols = [s.strip() for s in text.split(",") if s.strip()]
    if not symbols:
        raise ValueError("symbols is required")
    if bad := [s for s in symbols if not valid(s)]:
        raise ValueError(f"invalid symbol(s): {', '.join(bad)}")
    return symbols


def choice(value: str, allowed: Sequence[str], name: str) -> str:
    """One of the allowed values.

    Raises:
        ValueError: another one.
    """
    if value not in allowed:
        raise ValueError(f"invalid {name}: {value}")
    return value


def limit_of(text: str, most: int) -> int:
    """A page's limit, 1 to `most`.

    Raises:
        ValueError: not such a number.
    """
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise ValueError(f"limit must be between 1 and {most}")
    return int(text)
