"""The crypto routes beside the stream: history with paging, latest values and books, snapshots."""

from __future__ import annotations

import re
from collections.abc import Callable

from aiohttp import web

from simulator.crypto.books import Books
from simulator.rest_guard import Guard, reply
from simulator.rest_series import KINDS, Series, choice, symbols_of
from simulator.series_routes import Handler, latest, past
from simulator.session import CRYPTO_FEEDS
from simulator.venue import Venue

_PAIR = re.compile(r"[A-Z0-9]{1,10}/[A-Z]{2,6}")
_BASE = "/v1beta3/crypto/{loc}"


class CryptoRest:
    """/v1beta3/crypto/{loc}/... over what was published. `now` is the market's time in ns since 1970 UTC."""

    def __init__(self, venue: Venue, books: Books, guard: Guard, now: Callable[[], int]) -> None:
        self._series = Series(venue, now)
        self._books = books
        self._guard = guard

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        table: list[tuple[str, Handler]] = [
            (f"{_BASE}/latest/orderbooks", self._orderbooks),
            (f"{_BASE}/snapshots", self._snapshots),
        ]
        for kind in KINDS:
            table += [
                (f"{_BASE}/{kind}", past(self._series, kind, _pairs)),
                (f"{_BASE}/latest/{kind}", latest(self._series, kind, _pairs)),
            ]
        return [web.get(path, self._guard.wrap(handler)) for path, handler in table]

    async def _snapshots(self, request: web.Request) -> web.Response:
        shown = {pair: self._series.snapshot(pair) for pair in _pairs(request)}
        return reply({"snapshots": {pair: parts for pair, parts in shown.items() if parts}})

    async def _orderbooks(self, request: web.Request) -> web.Response:
        books = {pair: self._books.shown(pair) for pair in _pairs(request)}
        return reply({"orderbooks": {pair: book for pair, book in books.items() if book is not None}})


def _pairs(request: web.Request) -> list[str]:
    choice(request.match_info["loc"], CRYPTO_FEEDS, "location")
    return symbols_of(request.query.get("symbols", ""), _PAIR.fullmatch)
