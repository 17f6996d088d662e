"""The client of Alpaca's market-data REST API: whole pages, within the rate limit, with time limits.

alpaca-py's client is not used, for the reasons that producers/accounts/rest.py names, and because it holds
all pages in memory and makes an object a row.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout
from pydantic import SecretStr

from producers import credentials
from producers.channel import Message
from producers.history import addresses, market_days, rows, times
from producers.history.errors import HistoryError
from producers.history.market_days import MarketClock, TradingDay
from producers.history.pace import PLANS, Pace, Sleep
from tidewire.addresses import is_loopback
from tidewire.clock import NS_PER_SECOND
from tidewire.config import Settings
from tidewire.errors import ConfigError
from tidewire.metrics import HISTORY_REQUESTS, HISTORY_ROWS
from tidewire.redaction import Redactor

REQUEST_SECONDS = 30.0
"""A page of 10,000 rows is some megabytes."""
CONNECT_SECONDS = 5.0
TRIES = 5
RECENT_SECONDS = 15 * 60
"""Of so much SIP history the basic plan says nothing."""
_TOO_RECENT = 42210000
_PAPER = "https://paper-api.alpaca.markets"
_REFUSALS = (400, 401, 403, 404, 405, 410, 422)


def pace_of(settings: Settings, share: float = 1.0) -> Pace:
    """The pace that the settings' plan allows."""
    return Pace(PLANS[settings.tidewire_plan], share=share)


class History:
    """Looks at what Alpaca has published. The session is the caller's and not closed here.

    `tries`: how often a request that had no good answer is sent; 429 waits for the limit's end.
    """

    def __init__(
        self,
        settings: Settings,
        session: ClientSession,
        pace: Pace,
        *,
        tries: int = TRIES,
        request_seconds: float = REQUEST_SECONDS,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Raises ConfigError: there are no keys, or real ones would cross a network in the clear."""
        self._settings, self._session, self.pace = settings, session, pace
        self._base = settings.data_url.rstrip("/")
        self._trading = (settings.tidewire_trading_url or _PAPER).rstrip("/")
        id, secret = keys(settings)
        self._headers = {"APCA-API-KEY-ID": id, "APCA-API-SECRET-KEY": secret}
        self._redactor = Redactor(SecretStr(id), SecretStr(secret))
        self._tries, self._sleep = tries, sleep
        self._timeout = ClientTimeout(total=request_seconds, connect=CONNECT_SECONDS)

    async def pages(
        self, kind: str, channel: str, symbols: Sequence[str], start_ns: int, end_ns: int
    ) -> AsyncIterator[list[Message]]:
        """The messages of [start, end] (event time, ns) of these symbols, at most 10,000 at a time.

        `kind` is stocks, options, crypto or news, or one feed, as stocks:sip. By symbol, then time; news by
        the time of their update. Symbols must be named, but for news (`*`). Raises HistoryError.
        """
        path, parameters = addresses.past(self._settings, kind, channel, symbols, start_ns, end_ns)
        shape = rows.shaper(channel)
        counted = HISTORY_ROWS.labels(kind.partition(":")[0], channel)
        while True:
            answer = await self._get(path, parameters)
            page = _page(answer, rows_name(channel), shape)
            counted.inc(len(page))
            yield page
            token = answer.get("next_page_token")
            if not token:
                return
            parameters = {**parameters, "page_token": str(token)}

    async def latest(self, kind: str, channel: str, symbols: Sequence[str]) -> dict[str, Message]:
        """The newest message of each symbol that has one; of news, under `*` too. Raises HistoryError."""
        path, parameters = addresses.latest(self._settings, kind, channel, symbols)
        answer = await self._get(path, parameters)
        shape = rows.shaper(channel)
        if kind == "news":
            return _by_ticker(_page(answer, "news", shape), symbols)
        found = answer.get(rows_name(channel))
        return {s: shape(s, row) for s, row in found.items()} if isinstance(found, dict) else {}

    async def snapshots(self, symbols: Sequence[str]) -> dict[str, dict[str, Message]]:
        """By stock: latestTrade, latestQuote, minuteBar, dailyBar, prevDailyBar, as far as there are any.

        Raises HistoryError.
        """
        answer = await self._get(*addresses.snapshots(self._settings, symbols))
        shapes = {name: rows.shaper(channel) for name, channel in _PARTS.items()}
        return {
            symbol: {name: shapes[name](symbol, part) for name, part in parts.items() if name in shapes}
            for symbol, parts in answer.items()
            if isinstance(parts, dict)
        }

    async def corporate_actions(self, parameters: Mapping[str, str]) -> AsyncIterator[tuple[str, Message]]:
        """(list, announcement) of all pages; which are asked for `parameters` say. Raises HistoryError."""
        path = "/v1/corporate-actions"
        parameters = {"limit": "1000", **parameters}
        while True:
            answer = await self._get(path, parameters)
            lists = answer.get("corporate_actions") or {}
            if not isinstance(lists, dict):
                raise HistoryError(200, f"GET {path}: an object expected, got {type(lists).__name__}")
            for name, actions in lists.items():
                for action in actions or ():
                    yield name, action
            token = answer.get("next_page_token")
            if not token:
                return
            parameters = {**parameters, "page_token": str(token)}

    async def clock(self) -> MarketClock:
        """Whether the stock market is open, and when that changes. Raises HistoryError."""
        answer = await self._get("/v2/clock", {}, self._trading)
        try:
            return market_days.market_clock(answer)
        except (KeyError, TypeError, ValueError) as error:
            raise HistoryError(200, f"GET /v2/clock: unreadable: {error}") from None

    async def calendar(self, start: date, end: date) -> list[TradingDay]:
        """The trading days of [start, end]. Raises HistoryError."""
        answer = await self._ask(
            self._trading, "/v2/calendar", {"start": start.isoformat(), "end": end.isoformat()}
        )
        try:
            return [market_days.trading_day(entry) for entry in answer]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise HistoryError(200, f"GET /v2/calendar: unreadable: {error}") from None

    async def _get(self, path: str, parameters: Mapping[str, str], base: str | None = None) -> dict[str, Any]:
        answer = await self._ask(base or self._base, path, parameters)
        if not isinstance(answer, dict):
            raise HistoryError(200, f"GET {path}: an object expected, got {type(answer).__name__}")
        return answer

    async def _ask(self, base: str, path: str, parameters: Mapping[str, str]) -> Any:
        for attempt in range(1, self._tries + 1):
            try:
                return await self._once(base, path, parameters)
            except HistoryError as error:
                if error.kind != "failed" or attempt == self._tries:
                    raise
                if error.status != 429:  # the pace waits for the limit's end
                    await self._sleep(min(2.0 ** (attempt - 2), 8.0) * (0.5 + random.random()))
        raise AssertionError("unreachable")

    async def _once(self, base: str, path: str, parameters: Mapping[str, str]) -> Any:
        await self.pace.take()
        try:
            async with self._session.get(
                base + path, params=parameters, headers=self._headers, timeout=self._timeout,
                allow_redirects=False,  # keys go to this address and no other
            ) as response:  # fmt: skip
                status, body = response.status, await response.read()
                self.pace.heard(status, response.headers)
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            HISTORY_REQUESTS.labels("none").inc()
            words = self._redactor.text(f"{type(error).__name__}: {str(error) or 'no answer in time'}")
            # `from None`: what aiohttp chains to it shows the request.
            raise HistoryError(0, f"GET {path}: {words[:300]}") from None
        HISTORY_REQUESTS.labels(str(status)).inc()
        if status != 200:
            raise self._refusal(path, status, body, parameters)
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            raise HistoryError(status, f"GET {path}: the answer is no JSON") from None

    def _refusal(self, path: str, status: int, body: bytes, parameters: Mapping[str, str]) -> HistoryError:
        try:
            said = orjson.loads(body)
        except orjson.JSONDecodeError:
            said = None
        said = said if isinstance(said, dict) else {}
        words = f"GET {path}: {self._redactor.text(str(said.get('message') or 'no reason given'))[:200]}"
        if status == 403 and said.get("code") == _TOO_RECENT:
            asked = times.parse(parameters["end"]) if "end" in parameters else time.time_ns()
            return HistoryError(status, words, "too_recent", asked + RECENT_SECONDS * NS_PER_SECOND)
        return HistoryError(status, words, "refused" if status in _REFUSALS else "failed")


_PARTS = {
    "latestTrade": "trades",
    "latestQuote": "quotes",
    "minuteBar": "bars",
    "dailyBar": "dailyBars",
    "prevDailyBar": "dailyBars",
}


def rows_name(channel: str) -> str:
    """Under which name an answer holds the rows of a channel."""
    return addresses.PATHS.get(channel, channel)


def _page(answer: Mapping[str, Any], name: str, shape: rows.Shape) -> list[Message]:
    found = answer.get(name)
    if isinstance(found, list):
        return [shape("", row) for row in found]
    if isinstance(found, dict):
        return [shape(symbol, row) for symbol, held in found.items() for row in held or ()]
    if found is None:  # as Alpaca writes "nothing"
        return []
    raise HistoryError(200, f"{name}: an object expected, got {type(found).__name__}")


def _by_ticker(articles: list[Message], symbols: Sequence[str]) -> dict[str, Message]:
    """Newest first comes in; each symbol's newest goes out."""
    newest: dict[str, Message] = {}
    for article in articles:
        for symbol in ("*", *(article.get("symbols") or ())):
            if symbol in symbols or "*" in symbols:
                newest.setdefault(symbol, article)
    return newest


def keys(settings: Settings) -> tuple[str, str]:
    """Key id and secret for REST.

    Raises:
        ConfigError: none is set, or real ones would be sent unencrypted to another machine.
    """
    urls = {
        "TIDEWIRE_DATA_URL": settings.data_url,
        "TIDEWIRE_TRADING_URL": settings.tidewire_trading_url or _PAPER,
    }
    parts = {name: urlsplit(url) for name, url in urls.items()}
    for name, url in parts.items():
        if url.scheme not in ("http", "https"):
            raise ConfigError([f"{name} must begin with http:// or https:// (got {url.scheme}://)"])
    if settings.apca_api_key_id is None or settings.apca_api_secret_key is None:
        host = parts["TIDEWIRE_DATA_URL"].hostname
        if settings.tidewire_data_url is not None and is_loopback(host or ""):
            return credentials.DEMO_KEYS
        raise ConfigError(["APCA_API_KEY_ID and APCA_API_SECRET_KEY are not set: history needs them"])
    for name, url in parts.items():
        if url.scheme == "http" and not is_loopback(url.hostname or ""):
            raise ConfigError([f"{name} is unencrypted (http://{url.hostname}): your keys would be readable"])
    return settings.apca_api_key_id.get_secret_value(), settings.apca_api_secret_key.get_secret_value()
