"""The stock routes beside the stream: history with paging, latest values, snapshots."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from aiohttp import web

from simulator import rfc3339
from simulator.bars import MINUTE
from simulator.conditions import NEVER, update_rule
from simulator.rest_guard import Guard, reply
from simulator.rest_series import KINDS, Kind, Series, bounds, choice, symbols_of
from simulator.venue import Venue

_FEEDS = ("sip", "iex", "delayed_sip", "boats", "overnight", "otc", "test")
_TOO_RECENT = {
    "code": 42210000,
    "message": "subscription does not permit querying recent SIP data",
}
_SYMBOL = re.compile(r"[A-Z][A-Z0-9./-]{0,15}")


class MarketDataRest:
    """/v2/stocks/... over what has passed. `now` is the market's time in ns since 1970 UTC.

    `delay_minutes`: how long data of the feed sip is kept back; without an `end`, history ends there.
    """

    def __init__(
        self, venue: Venue, guard: Guard, now: Callable[[], int], delay_minutes: float = 0.0
    ) -> None:
        self._series = Series(venue, now, _sets_price)
        self._now = now
        self._delay = int(delay_minutes * MINUTE)
        self._guard = guard

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        table: list[tuple[str, Callable[[web.Request], Any]]] = []
        for kind in KINDS:
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
            single, symbols = _symbols(request)
            query = dict(request.query)
            if self._delay and query.get("feed", "sip") == "sip":
                newest = self._now() - self._delay
                start, end = bounds(query, 0)
                if start > newest or (query.get("end") and end > newest):
                    return reply(_TOO_RECENT, 403)
                query["end"] = query.get("end") or rfc3339.show(newest)
            found, token = self._series.past(kind, symbols, query)
            body: dict[str, Any] = {"next_page_token": token}
            if single:
                return reply({kind: found.get(symbols[0], []), "symbol": symbols[0], **body})
            return reply({kind: found, **body})

        return handle

    def _latest(self, kind: Kind) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            if self._delay and request.query.get("feed") == "sip":
                return reply(_TOO_RECENT, 403)
            single, symbols = _symbols(request)
            found = {s: row for s in symbols if (row := self._series.newest(kind, s)) is not None}
            if not single:
                return reply({kind: found})
            if symbols[0] not in found:
                return reply({"code": 40410000, "message": f"no {kind} found for {symbols[0]}"}, 404)
            return reply({"symbol": symbols[0], kind[:-1]: found[symbols[0]]})

        return handle

    async def _snapshots(self, request: web.Request) -> web.Response:
        if self._delay and request.query.get("feed") == "sip":
            return reply(_TOO_RECENT, 403)
        single, symbols = _symbols(request)
        shown = {symbol: self._series.snapshot(symbol) for symbol in symbols}
        return reply({"symbol": symbols[0], **shown[symbols[0]]} if single else shown)


def _sets_price(message: dict[str, Any]) -> bool:
    letters = message.get("c")
    known = tuple(map(str, letters)) if isinstance(letters, list) else ()
    return update_rule(known, str(message.get("z", "C"))).minute.last != NEVER


def _symbols(request: web.Request) -> tuple[bool, list[str]]:
    """(whether the path names one symbol, the symbols)."""
    single = "symbol" in request.match_info
    text = request.match_info["symbol"] if single else request.query.get("symbols", "")
    symbols = symbols_of(text, _SYMBOL.fullmatch)
    choice(request.query.get("feed", "sip"), _FEEDS, "feed")
    return single, symbols
