"""The trading API's read-only routes that a market-data client needs: clock, calendar, assets."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import date
from typing import Any

from aiohttp import web

from simulator.conditions import tape_of
from simulator.exchange_calendar import AlwaysOpen, ExchangeCalendar, TradingDay, new_york
from simulator.rest_guard import Guard, reply

_EXCHANGE = {"A": "NYSE", "B": "ARCA", "C": "NASDAQ"}


class TradingRest:
    """/v2/clock, /v2/calendar, /v2/assets. `now` is the market's time in ns since 1970 UTC."""

    def __init__(
        self,
        calendar: ExchangeCalendar | AlwaysOpen,
        guard: Guard,
        now: Callable[[], int],
        symbols: Callable[[], list[str]],
    ) -> None:
        self._calendar = calendar
        self._guard = guard
        self._now = now
        self._symbols = symbols

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        return [
            web.get("/v2/clock", self._guard.wrap(self._clock)),
            web.get("/v2/calendar", self._guard.wrap(self._days)),
            web.get("/v2/assets", self._guard.wrap(self._assets)),
            web.get("/v2/assets/{symbol:.+}", self._guard.wrap(self._asset)),
        ]

    async def _load(self) -> ExchangeCalendar | AlwaysOpen:
        await asyncio.to_thread(lambda: self._calendar.days)
        return self._calendar

    async def _clock(self, _: web.Request) -> web.Response:
        calendar, now = await self._load(), self._now()
        return reply(
            {
                "timestamp": new_york(now).isoformat(),
                "is_open": calendar.is_open(now),
                "next_open": new_york(calendar.next_open(now)).isoformat(),
                "next_close": new_york(calendar.next_close(now)).isoformat(),
            }
        )

    async def _days(self, request: web.Request) -> web.Response:
        start = date.fromisoformat(request.query.get("start", "1970-01-01")[:10])
        end = date.fromisoformat(request.query.get("end", "2029-12-31")[:10])
        calendar = await self._load()
        return reply([_day(day, *calendar.extended) for day in calendar.between(start, end)])

    async def _assets(self, request: web.Request) -> web.Response:
        query = request.query
        known = [_asset(symbol) for symbol in self._symbols()]
        wanted = {
            "status": query.get("status"),
            "class": query.get("asset_class"),
            "exchange": query.get("exchange"),
        }
        return reply([a for a in known if all(v in (None, a[name]) for name, v in wanted.items())])

    async def _asset(self, request: web.Request) -> web.Response:
        name = request.match_info["symbol"]
        for asset in map(_asset, self._symbols()):
            if name in (asset["symbol"], asset["symbol"].replace("/", ""), asset["id"]):
                return reply(asset)
        return reply({"code": 40410000, "message": f"asset not found for {name}"}, 404)


def _day(day: TradingDay, first: str, last: str) -> dict[str, str]:
    return {
        "date": day.day.isoformat(),
        "open": f"{new_york(day.opens):%H:%M}",
        "close": f"{new_york(day.closes):%H:%M}",
        "session_open": first,
        "session_close": last,
        "settlement_date": day.day.isoformat(),
    }


def _asset(symbol: str) -> dict[str, Any]:
    return _pair(symbol) if "/" in symbol else _stock(symbol)


def _pair(symbol: str) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, symbol)),
        "class": "crypto",
        "exchange": "CRYPTO",
        "symbol": symbol,
        "name": f"{symbol} (simulated)",
        "status": "active",
        "tradable": True,
        "marginable": False,
        "shortable": False,
        "easy_to_borrow": False,
        "fractionable": True,
        "attributes": [],
        "min_order_size": "0.000000001",
        "min_trade_increment": "0.000000001",
        "price_increment": "0.000000001",
    }


def _stock(symbol: str) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, symbol)),
        "class": "us_equity",
        "exchange": _EXCHANGE[tape_of(symbol)],
        "symbol": symbol,
        "name": f"{symbol} (simulated)",
        "status": "active",
        "tradable": True,
        "marginable": True,
        "shortable": True,
        "easy_to_borrow": True,
        "borrow_status": "easy_to_borrow",
        "fractionable": True,
        "maintenance_margin_requirement": 30,
        "margin_requirement_long": "30",
        "margin_requirement_short": "30",
        "attributes": [],
    }
