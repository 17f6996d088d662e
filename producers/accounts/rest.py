"""Alpaca's trading REST API for one account: reading only, with time limits, and polite to its rate limit.

alpaca-py's TradingClient is not used: it has no timeouts at all, so one silent connection would hold an
account's snapshots for ever; it meets 429 with three tries 3 s apart, whatever X-RateLimit-Reset says; and
its errors carry the whole answer.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from pydantic import SecretStr

from schemas import trading_values as values
from schemas.trading_values import Json
from tidewire.clock import NS_PER_SECOND
from tidewire.errors import RecordError
from tidewire.metrics import TRADING_REST_REQUESTS
from tidewire.redaction import Redactor

REQUEST_SECONDS = 10.0
CONNECT_SECONDS = 5.0
PAGE_ACTIVITIES = 100
PAGE_ORDERS = 500
LONGEST_PAUSE_SECONDS = 65.0
"""Alpaca's limits count by the minute."""
_TRIES = 3
_ORDER_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")

Wall = Callable[[], float]


class RestError(Exception):
    """A request that was not answered as hoped. The text never holds keys. `status` 0: no answer at all."""

    def __init__(self, path: str, status: int, reason: str) -> None:
        self.status = status
        super().__init__(f"GET {path}: {f'HTTP {status}: ' if status else ''}{reason}")


class TradingApi:
    """`url` without /v2. The session is shared by all accounts and not closed here."""

    def __init__(
        self,
        session: ClientSession,
        url: str,
        key: SecretStr,
        secret: SecretStr,
        *,
        wall: Wall = time.time,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        self._session, self._base = session, url.rstrip("/") + "/v2"
        self._key, self._secret, self._redactor = key, secret, Redactor(key, secret)
        self._wall = wall
        self.made = 0
        """Requests made."""
        self._timeout = ClientTimeout(total=request_seconds, connect=CONNECT_SECONDS)

    async def account(self) -> Json:
        """The account. Raises RestError."""
        return _object(await self._get("/account"), "/account")

    async def clock(self) -> int:
        """What time it is at the broker, ns. Raises RestError."""
        answer = _object(await self._get("/clock"), "/clock")
        try:
            found = values.time(answer, "timestamp")
        except RecordError as error:
            raise RestError("/clock", 200, error.reason) from None
        if found is None:
            raise RestError("/clock", 200, "the time is missing")
        return found

    async def positions(self) -> list[Json]:
        """All positions. Raises RestError."""
        return _list(await self._get("/positions"), "/positions")

    async def order(self, order_id: str) -> Json:
        """One order with its legs. Raises RestError (404: there is none)."""
        if not _ORDER_ID.fullmatch(order_id):  # it came over the wire, and is to be part of an address
            raise RestError("/orders/{id}", 404, "not an order id")
        return _object(await self._get(f"/orders/{order_id}", nested="true"), "/orders/{id}")

    async def orders(self, **parameters: str) -> list[Json]:
        """A page of at most 500 orders, oldest first. Raises RestError."""
        fixed = {"limit": str(PAGE_ORDERS), "direction": "asc", "nested": "true"}
        return _list(await self._get("/orders", **fixed, **parameters), "/orders")

    async def fills(self, page_token: str | None = None, size: int = PAGE_ACTIVITIES) -> list[Json]:
        """A page of FILL activities, newest first, those before `page_token`. Raises RestError."""
        token = {} if page_token is None else {"page_token": page_token}
        path = "/account/activities/FILL"
        return _list(await self._get(path, direction="desc", page_size=str(size), **token), path)

    async def activities(self, booked_after: int | None, page_token: str | None = None) -> list[Json]:
        """A page of at most 100 activities that are no fills, newest first, those before `page_token`.

        `booked_after`: only those that Alpaca booked after this time (ns); None: all. Raises RestError.
        """
        token = {} if page_token is None else {"page_token": page_token}
        after = {} if booked_after is None else {"after": rfc3339(booked_after)}
        path, size = "/account/activities", str(PAGE_ACTIVITIES)
        fixed = {"category": "non_trade_activity", "direction": "desc", "page_size": size}
        return _list(await self._get(path, **fixed, **after, **token), path)

    async def _get(self, path: str, **parameters: str) -> Any:
        kind = path.split("/")[1]
        for attempt in range(1, _TRIES + 1):
            status, headers, body = await self._once(path, kind, parameters)
            if status != 429 or attempt == _TRIES:
                break
            await asyncio.sleep(self._pause(headers))
        if status != 200:
            raise RestError(path, status, self._reason(body))
        try:
            return values.parse(body)
        except RecordError as error:
            raise RestError(path, status, self._redactor.text(error.reason)) from None

    async def _once(
        self, path: str, kind: str, parameters: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        self.made += 1
        headers = {
            "APCA-API-KEY-ID": self._key.get_secret_value(),
            "APCA-API-SECRET-KEY": self._secret.get_secret_value(),
        }
        try:
            async with self._session.get(
                self._base + path, params=parameters, headers=headers, timeout=self._timeout,
                allow_redirects=False,  # keys go to this address and no other
            ) as response:  # fmt: skip
                body = await response.read()
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            TRADING_REST_REQUESTS.labels(kind, "none").inc()
            words = str(error) or "no answer in time"
            # `from None`: what aiohttp chains to it shows the request.
            raise RestError(path, 0, self._redactor.text(f"{type(error).__name__}: {words}")[:300]) from None
        TRADING_REST_REQUESTS.labels(kind, str(response.status)).inc()
        return response.status, response.headers, body

    def _pause(self, headers: Mapping[str, str]) -> float:
        try:
            seconds = float(headers.get("X-RateLimit-Reset", "")) - self._wall()
        except ValueError:
            seconds = 1.0
        return min(max(seconds, 0.0), LONGEST_PAUSE_SECONDS) + random.random()

    def _reason(self, body: bytes) -> str:
        try:
            said = values.parse(body)
        except RecordError:
            return "the answer is no JSON"
        words = said.get("message") if isinstance(said, dict) else None
        return self._redactor.text(str(words or "no reason given"))[:200]


def rfc3339(ns: int) -> str:
    """A time in ns as Alpaca reads it."""
    moment = datetime.fromtimestamp(ns // NS_PER_SECOND, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % NS_PER_SECOND:09d}Z"


def _object(answer: Any, path: str) -> Json:
    if not isinstance(answer, dict):
        raise RestError(path, 200, f"an object expected, got {type(answer).__name__}")
    return answer


def _list(answer: Any, path: str) -> list[Json]:
    if not isinstance(answer, list) or not all(isinstance(part, dict) for part in answer):
        raise RestError(path, 200, f"a list of objects expected, got {type(answer).__name__}")
    return answer
