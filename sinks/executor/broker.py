"""One account at Alpaca, as the executor deals with it: see `Broker` in broker_types.py.

Every request waits for its turn (200 a minute, exits first); an order then passes the kill switch and the
caller's own last check, and is sent once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import quote as escape

from aiohttp import ClientSession
from pydantic import SecretStr

from schemas.fills import asset_class
from schemas.trading_values import Json
from sinks.executor import broker_json
from sinks.executor.broker_types import (
    Asset,
    BrokerAccount,
    BrokerClock,
    BrokerOrder,
    BrokerPosition,
    BrokerQuote,
    LastCheck,
    NewOrder,
    Refused,
    Unknown,
)
from sinks.executor.limiter import Turnstile, Window
from sinks.executor.trading_http import REQUEST_SECONDS, TradingHttp
from tidewire import addresses
from tidewire.accounts import Account
from tidewire.clock import Clock, now_ns
from tidewire.config import Settings
from tidewire.errors import RecordError

PAGE = 500
MOST_PAGES = 20

T = TypeVar("T")


class AlpacaBroker:
    """`switch` raises Stopped while orders must not be sent; it is asked just before each.

    `trading_url` and `data_url` without versions. The session is shared and not closed here.
    """

    def __init__(
        self,
        session: ClientSession,
        trading_url: str,
        data_url: str,
        key: SecretStr,
        secret: SecretStr,
        switch: LastCheck,
        *,
        stock_feed: str = "iex",
        crypto_location: str = "us",
        option_feed: str = "indicative",
        turnstile: Turnstile | None = None,
        wall: Clock = now_ns,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        self._turns = turnstile or Turnstile(Window(), time.monotonic_ns, wall)
        self._data_turns = Turnstile(Window(), time.monotonic_ns, wall)
        seconds = request_seconds
        self._trading = TradingHttp(session, trading_url, key, secret, self._turns, seconds)
        self._data = TradingHttp(session, data_url, key, secret, self._data_turns, seconds)
        self._switch = switch
        self._stock_feed, self._crypto, self._option_feed = stock_feed, crypto_location, option_feed

    async def submit(
        self, order: NewOrder, *, exit: bool = False, last_check: LastCheck | None = None
    ) -> BrokerOrder:
        """Place an order, with one request.

        Raises:
            Refused, Unknown, Limited, Stopped: see broker_types.py; and what `last_check` raises.
            ValueError: the order has no quantity, or two.
        """
        body = broker_json.request(order)
        await self._turns.enter(exit=exit)
        try:
            if last_check is not None:
                await last_check()
            await self._switch()
        except BaseException:
            self._turns.leave({})
            raise
        placed = _read(broker_json.order, await self._trading.send("POST", "/v2/orders", body=body))
        if placed.client_order_id != order.client_order_id:
            raise Unknown("POST /v2/orders: the answer shows another order")
        return placed

    async def by_client_order_id(self, client_order_id: str, *, exit: bool = False) -> BrokerOrder | None:
        """The order that was placed under this id; None when the broker has none."""
        query = {"client_order_id": client_order_id}
        return await self._one(broker_json.order, "/v2/orders:by_client_order_id", query, exit=exit)

    async def order(self, order_id: str, *, exit: bool = False) -> BrokerOrder | None:
        """One order with its legs; None when the broker has none."""
        path = f"/v2/orders/{escape(order_id, safe='')}"
        return await self._one(broker_json.order, path, {"nested": "true"}, exit=exit)

    async def open_orders(self, symbol: str | None = None, *, exit: bool = False) -> list[BrokerOrder]:
        """All open orders, oldest first, each leg of a group by itself.

        Raises:
            Unknown: there are more than 10,000; Refused, Limited.
        """
        query = {"status": "open", "limit": str(PAGE), "direction": "asc", "nested": "false"}
        if symbol is not None:
            query["symbols"] = symbol
        found: dict[str, BrokerOrder] = {}
        for _ in range(MOST_PAGES):
            answer = await self._get("/v2/orders", query, exit=exit)
            page = [_read(broker_json.order, each) for each in _list(answer)]
            fresh = [order for order in page if order.id not in found]
            found |= {order.id: order for order in fresh}
            if len(page) < PAGE:
                return list(found.values())
            if not fresh:
                break
            # `after` excludes its own moment, which others may share: one nanosecond less.
            query["after"] = _moment(page[-1].submitted_ns)
        raise Unknown("GET /v2/orders: more open orders than can be listed")

    async def cancel(self, order_id: str, *, exit: bool = False) -> None:
        """Ask for the end of an order. Refused(422): it is not open; (404): there is none."""
        await self._turns.enter(exit=exit)
        await self._trading.send("DELETE", f"/v2/orders/{escape(order_id, safe='')}")

    async def cancel_all(self) -> None:
        """Ask for the end of every open order."""
        await self._turns.enter(exit=True)
        await self._trading.send("DELETE", "/v2/orders")

    async def close_all(self) -> None:
        """Cancel every open order, and order the end of every position at the market."""
        await self._turns.enter(exit=True)
        await self._trading.send("DELETE", "/v2/positions", query={"cancel_orders": "true"})

    async def position(self, symbol: str, *, exit: bool = False) -> BrokerPosition | None:
        """What is held of a symbol; None: nothing."""
        path = f"/v2/positions/{_in_path(symbol)}"
        return await self._one(broker_json.position, path, {}, exit=exit)

    async def positions(self, *, exit: bool = False) -> list[BrokerPosition]:
        """Everything that is held."""
        answer = await self._get("/v2/positions", {}, exit=exit)
        return [_read(broker_json.position, each) for each in _list(answer)]

    async def account(self, *, exit: bool = False) -> BrokerAccount:
        """The account."""
        return _read(broker_json.account, await self._get("/v2/account", {}, exit=exit))

    async def asset(self, symbol: str, *, exit: bool = False) -> Asset | None:
        """What is known of a symbol; None when the broker does not know it."""
        kind = asset_class(symbol)
        place = "options/contracts" if kind == "us_option" else "assets"

        def read(answer: Json) -> Asset:
            return broker_json.asset(answer, kind)

        return await self._one(read, f"/v2/{place}/{_in_path(symbol)}", {}, exit=exit)

    async def clock(self, *, exit: bool = False) -> BrokerClock:
        """The broker's time and session."""
        return _read(broker_json.clock, await self._get("/v2/clock", {}, exit=exit))

    async def latest_quote(self, symbol: str, *, exit: bool = False) -> BrokerQuote | None:
        """The latest quote; None when there is none."""
        path, query = self._quote_of(symbol)
        await self._data_turns.enter(exit=exit)
        answer = await self._data.send("GET", path, query=query)
        quotes = answer.get("quotes") if isinstance(answer, Mapping) else None
        found = quotes.get(symbol) if isinstance(quotes, Mapping) else None
        return None if found is None else _read(lambda each: broker_json.quote(symbol, each), found)

    async def suspend(self, on: bool) -> bool:
        """Set the broker's own suspend_trade, and read it back: True when it then says what was asked.

        Raises:
            Refused, Unknown, Limited: it was refused, or could not be read back.
        """
        await self._turns.enter(exit=True)
        with suppress(Unknown):  # it may well be set: what is read back counts
            await self._trading.send("PATCH", "/v2/account/configurations", body={"suspend_trade": on})
        return await self.suspended() is on

    async def suspended(self) -> bool:
        """What the broker's own suspend_trade says.

        Raises:
            Unknown: it says nothing; Refused, Limited.
        """
        answer = await self._get("/v2/account/configurations", {}, exit=True)
        found = answer.get("suspend_trade") if isinstance(answer, Mapping) else None
        if not isinstance(found, bool):
            raise Unknown("GET /v2/account/configurations: suspend_trade is missing")
        return found

    def _quote_of(self, symbol: str) -> tuple[str, dict[str, str]]:
        kind = asset_class(symbol)
        if kind == "crypto":
            return f"/v1beta3/crypto/{self._crypto}/latest/quotes", {"symbols": symbol}
        if kind == "us_option":
            return "/v1beta1/options/quotes/latest", {"symbols": symbol, "feed": self._option_feed}
        return "/v2/stocks/quotes/latest", {"symbols": symbol, "feed": self._stock_feed}

    async def _get(self, path: str, query: Mapping[str, str], *, exit: bool) -> Any:
        await self._turns.enter(exit=exit)
        return await self._trading.send("GET", path, query=query)

    async def _one(
        self, read: Callable[[Json], T], path: str, query: Mapping[str, str], *, exit: bool
    ) -> T | None:
        try:
            return _read(read, await self._get(path, query, exit=exit))
        except Refused as refused:
            if refused.status == 404:
                return None
            raise


def of_account(
    session: ClientSession, settings: Settings, account: Account, switch: LastCheck
) -> AlpacaBroker:
    """The broker of an account of accounts.toml.

    Raises:
        ConfigError: it has no keys, or they would cross a network in the clear.
    """
    url = account.trading_url(settings)
    addresses.check_trading(url)
    key, secret = account.keys(settings)
    feed = "iex" if settings.tidewire_feed == "test" else settings.tidewire_feed
    return AlpacaBroker(
        session, url, settings.data_url, key, secret, switch, stock_feed=feed,
        crypto_location=settings.tidewire_crypto_location, option_feed=settings.tidewire_option_feed,
    )  # fmt: skip


def _read(read: Callable[[Json], T], answer: Any) -> T:
    """An answer that cannot be read tells nothing of what was done."""
    if not isinstance(answer, dict):
        raise Unknown("the answer is no object")
    try:
        return read(answer)
    except RecordError as error:
        raise Unknown(f"the answer cannot be read: {error.reason}"[:300]) from None


def _list(answer: Any) -> list[Any]:
    if not isinstance(answer, list):
        raise Unknown("the answer is no list")
    return answer


def _in_path(symbol: str) -> str:
    """Crypto goes without its slash in addresses."""
    return escape(symbol.replace("/", ""), safe="")


def _moment(ns: int | None) -> str:
    """RFC 3339, one nanosecond before."""
    if ns is None:
        raise Unknown("GET /v2/orders: an order does not say when it was submitted")
    seconds, rest = divmod(ns - 1, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"
