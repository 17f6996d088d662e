"""The option routes beside the stream: trades and bars with paging, latest values, snapshots, contracts."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

from aiohttp import web

from simulator.broker.quotes import contract
from simulator.exchange_calendar import new_york
from simulator.rest_guard import Guard, reply
from simulator.rest_series import Series, choice, symbols_of
from simulator.series_routes import Handler, latest, past
from simulator.session import OPTION_FEEDS
from simulator.venue import Venue

_SYMBOL = re.compile(r"[A-Z]{1,6}\d{6}[CP]\d{8}")
_TICKER = re.compile(r"[A-Z][A-Z.]{0,5}")
_BASE = "/v1beta1/options"


class OptionRest:
    """/v1beta1/options/... over what was published; `now` and `contracts` are those of the market."""

    def __init__(
        self, venue: Venue, guard: Guard, now: Callable[[], int], contracts: Callable[[], list[str]]
    ) -> None:
        self._series = Series(venue, now)
        self._guard = guard
        self._contracts = contracts

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        table: list[tuple[str, Handler]] = [
            (f"{_BASE}/trades", past(self._series, "trades", _symbols)),
            (f"{_BASE}/bars", past(self._series, "bars", _symbols)),
            (f"{_BASE}/trades/latest", latest(self._series, "trades", _symbols)),
            (f"{_BASE}/quotes/latest", latest(self._series, "quotes", _symbols)),
            (f"{_BASE}/snapshots", self._snapshots),
            ("/v2/options/contracts", self._listing),
            ("/v2/options/contracts/{symbol}", self._one),
        ]
        return [web.get(path, self._guard.wrap(handler)) for path, handler in table]

    async def _snapshots(self, request: web.Request) -> web.Response:
        shown = {symbol: self._series.snapshot(symbol) for symbol in _symbols(request)}
        found = {symbol: parts for symbol, parts in shown.items() if parts}
        return reply({"snapshots": found, "next_page_token": None})

    async def _listing(self, request: web.Request) -> web.Response:
        text = request.query.get("underlying_symbols", "")
        wanted = symbols_of(text, _TICKER.fullmatch) if text.strip() else None
        found = [_contract(symbol) for symbol in self._contracts()]
        rows = [row for row in found if wanted is None or row["underlying_symbol"] in wanted]
        return reply({"option_contracts": rows, "next_page_token": None})

    async def _one(self, request: web.Request) -> web.Response:
        symbol = request.match_info["symbol"]
        if symbol not in self._contracts():
            return reply({"code": 40410000, "message": f"option contract not found for {symbol}"}, 404)
        return reply(_contract(symbol))


def _symbols(request: web.Request) -> list[str]:
    choice(request.query.get("feed", OPTION_FEEDS[0]), OPTION_FEEDS, "feed")
    return symbols_of(request.query.get("symbols", ""), _SYMBOL.fullmatch)


def _contract(symbol: str) -> dict[str, Any]:
    terms = contract(symbol)
    assert terms is not None, "the listing holds contracts"
    kind = "call" if terms.call else "put"
    day = new_york(terms.expires).date()
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, symbol)),
        "symbol": symbol,
        "name": f"{terms.underlying} {day:%b %d %Y} {terms.strike.normalize():f} {kind.title()}",
        "status": "active",
        "tradable": True,
        "expiration_date": day.isoformat(),
        "root_symbol": terms.underlying,
        "underlying_symbol": terms.underlying,
        "underlying_asset_id": str(uuid.uuid5(uuid.NAMESPACE_DNS, terms.underlying)),
        "type": kind,
        "style": "american",
        "strike_price": f"{terms.strike.normalize():f}",
        "multiplier": "100",
        "size": "100",
        "open_interest": None,
        "open_interest_date": None,
        "close_price": None,
        "close_price_date": None,
        "ppind": True,
    }
