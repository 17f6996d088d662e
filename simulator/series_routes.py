"""Handlers that the REST routes of crypto and options share: pages of the past, the latest of each symbol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from simulator.rest_guard import reply
from simulator.rest_series import Kind, Series

Handler = Callable[[web.Request], Awaitable[web.Response]]
Symbols = Callable[[web.Request], list[str]]
"""What a request asks for. Raises ValueError: a parameter that Alpaca would refuse."""


def past(series: Series, kind: Kind, symbols: Symbols) -> Handler:
    """Answers with a page of rows by symbol."""

    async def handle(request: web.Request) -> web.Response:
        found, token = series.past(kind, symbols(request), request.query)
        return reply({kind: found, "next_page_token": token})

    return handle


def latest(series: Series, kind: Kind, symbols: Symbols) -> Handler:
    """Answers with the newest row of each symbol that has one."""

    async def handle(request: web.Request) -> web.Response:
        newest = {symbol: series.newest(kind, symbol) for symbol in symbols(request)}
        return reply({kind: {symbol: row for symbol, row in newest.items() if row is not None}})

    return handle
