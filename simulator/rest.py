"""The REST routes beside the stream: history with paging, latest values, snapshots. See `trading_rest.py`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

from aiohttp import web

from simulator import rfc3339
from simulator.bar_book import parse_timeframe
from simulator.bars import DAY
from simulator.conditions import NEVER, update_rule
from simulator.history import Entry, History
from simulator.ledger import Ledger
from simulator.market import Market
from simulator.paging import decode, page
from simulator.rest_guard import Guard, reply

Kind = Literal["trades", "quotes", "bars"]

_FEEDS = ("sip", "iex", "delayed_sip", "boats", "overnight", "otc", "test")
_SYMBOL = re.compile(r"[A-Z][A-Z0-9./-]{0,15}")
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

    def __init__(self, bars: Sequence[tuple[int, dict[str, Any]]], start: int, end: int) -> None:
        self.bars = [(ns, bar) for ns, bar in bars if start <= ns <= end]

    def __len__(self) -> int:
        return len(self.bars)

    def key(self, index: int) -> tuple[int, int]:
        """(time, 0)."""
        return self.bars[index][0], 0


class MarketDataRest:
    """/v2/stocks/... over what was published. `now` is the market's time in ns since 1970 UTC."""

    def __init__(
        self, market: Market, history: History, ledger: Ledger, guard: Guard, now: Callable[[], int]
    ) -> None:
        self._market = market
        self._history = history
        self._ledger = ledger
        self._guard = guard
        self._now = now

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        table: list[tuple[str, Callable[[web.Request], Any]]] = []
        kinds: tuple[Kind, ...] = ("trades", "quotes", "bars")
        for kind in kinds:
            table += [
                (f"/v2/stocks/{kind}", self._past(kind)),
                (f"/v2/stocks/{{symbol}}/{kind}", self._past(kind)),
                (f"/v2/stocks/{kind}/latest", self._latest(kind)),
                (f"/v2/stocks/{{symbol}}/{kind}/latest", self._latest(kind)),
            ]
        table += [
            ("/v2/stocks/snapshots", self._snapshots),
            ("/v2/stocks/{symbol}/snapshot", self._snapshots),
        ]
        return [web.get(path, self._guard.wrap(handler)) for path, handler in table]

    def _past(self, kind: Kind) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            query = request.query
            single, symbols = _symbols(request)
            now = self._now()
            start = rfc3339.parse_bound(query.get("start") or rfc3339.show(now - now % DAY))
            end = rfc3339.parse_bound(query["end"], end=True) if query.get("end") else rfc3339.LATEST
            if end < start:
                raise ValueError("end should not be before start")
            token = decode(query["page_token"]) if query.get("page_token") else None
            descending = _choice(query.get("sort", "asc"), ("asc", "desc"), "sort") == "desc"
            limit = _limit(query.get("limit", "1000"))
            minutes = parse_timeframe(query.get("timeframe", "")) if kind == "bars" else 0
            listings = {s: self._listing(kind, s, minutes, start, end) for s in symbols}
            rows, following = page(symbols, listings.__getitem__, limit, token, descending=descending)
            found: dict[str, list[dict[str, Any]]] = {}
            for symbol, index in rows:
                row = self._row(listings[symbol], index)
                if row is not None:
                    found.setdefault(symbol, []).append(row)
            body: dict[str, Any] = {"next_page_token": following.encode() if following else None}
            if single:
                return reply({kind: found.get(symbols[0], []), "symbol": symbols[0], **body})
            return reply({kind: found, **body})

        return handle

    def _listing(
        self, kind: Kind, symbol: str, minutes: int, start: int, end: int
    ) -> SeriesListing | BarListing:
        if kind == "bars":
            return BarListing(self._market.book.bars(symbol, minutes), start, end)
        return SeriesListing(self._history, kind, symbol, start, end)

    def _row(self, listing: SeriesListing | BarListing, index: int) -> dict[str, Any] | None:
        if isinstance(listing, BarListing):
            return _shown(listing.bars[index][1])
        message = self._ledger.read(listing.entry(index).place)
        return None if message is None else _shown(message)

    def _latest(self, kind: Kind) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            single, symbols = _symbols(request)
            found = {s: row for s in symbols if (row := self._newest(kind, s)) is not None}
            if not single:
                return reply({kind: found})
            if symbols[0] not in found:
                return reply({"code": 40410000, "message": f"no {kind} found for {symbols[0]}"}, 404)
            return reply({"symbol": symbols[0], kind[:-1]: found[symbols[0]]})

        return handle

    def _newest(self, kind: Kind, symbol: str) -> dict[str, Any] | None:
        if kind == "bars":
            bars = self._market.book.bars(symbol, 1)
            return _shown(bars[-1][1]) if bars else None
        for tries, entry in enumerate(self._history.newest_first(kind, symbol)):
            message = self._ledger.read(entry.place) if tries < _LOOK_BACK else None
            if message is None:
                return None
            if kind == "quotes" or _sets_price(message):
                return _shown(message)
        return None

    async def _snapshots(self, request: web.Request) -> web.Response:
        single, symbols = _symbols(request)
        shown = {symbol: self._snapshot(symbol) for symbol in symbols}
        return reply({"symbol": symbols[0], **shown[symbols[0]]} if single else shown)

    def _snapshot(self, symbol: str) -> dict[str, Any]:
        days = [_shown(bar) for _, bar in self._market.book.bars(symbol, 1440)[-2:]]
        parts = {
            "latestTrade": self._newest("trades", symbol),
            "latestQuote": self._newest("quotes", symbol),
            "minuteBar": self._newest("bars", symbol),
            "dailyBar": days[-1] if days else None,
            "prevDailyBar": days[-2] if len(days) > 1 else None,
        }
        return {name: part for name, part in parts.items() if part is not None}


def _shown(message: dict[str, Any]) -> dict[str, Any]:
    """A stream message as REST shows it: without type and symbol, times as text (by `reply`)."""
    return {name: value for name, value in message.items() if name not in ("T", "S")}


def _sets_price(message: dict[str, Any]) -> bool:
    letters = message.get("c")
    known = tuple(map(str, letters)) if isinstance(letters, list) else ()
    return update_rule(known, str(message.get("z", "C"))).minute.last != NEVER


def _symbols(request: web.Request) -> tuple[bool, list[str]]:
    """(whether the path names one symbol, the symbols)."""
    single = "symbol" in request.match_info
    text = request.match_info["symbol"] if single else request.query.get("symbols", "")
    symbols = [s.strip() for s in text.split(",") if s.strip()]
    if not symbols:
        raise ValueError("symbols is required")
    if bad := [s for s in symbols if not _SYMBOL.fullmatch(s)]:
        raise ValueError(f"invalid symbol(s): {', '.join(bad)}")
    _choice(request.query.get("feed", "sip"), _FEEDS, "feed")
    return single, symbols


def _choice(value: str, allowed: Sequence[str], name: str) -> str:
    if value not in allowed:
        raise ValueError(f"invalid {name}: {value}")
    return value


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise ValueError("limit must be between 1 and 10000")
    return int(text)
