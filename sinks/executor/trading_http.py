"""One request to Alpaca and the three ways in which it can end badly. Nothing here is ever sent twice.

Why not alpaca-py's client: docs/decisions/0041-broker.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout, ConnectionTimeoutError
from pydantic import SecretStr
from yarl import URL

from schemas import trading_values as values
from sinks.executor.broker_types import Refused, Unknown
from sinks.executor.limiter import Turnstile
from tidewire.errors import RecordError
from tidewire.metrics import BROKER_REQUESTS
from tidewire.redaction import Redactor

REQUEST_SECONDS = 10.0
LOOK_SECONDS = 4.0
"""Of a request that only looks: it is repeated at once, so that a connection that has died unseen costs less
than the time in which an exit goes stale."""
CONNECT_SECONDS = 5.0
_MAYBE_DONE = frozenset({408, 499})
"""Refusals of somebody in between, who may have handed the request on before."""


class TradingHttp:
    """Requests with one account's keys to one base address, each after its turn at the turnstile.

    The session is shared and not closed here.
    """

    def __init__(
        self,
        session: ClientSession,
        base: str,
        key: SecretStr,
        secret: SecretStr,
        turnstile: Turnstile,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        self._session, self._base, self._turnstile = session, base.rstrip("/"), turnstile
        self._key, self._secret, self._redactor = key, secret, Redactor(key, secret)
        self._timeout = ClientTimeout(total=request_seconds, connect=CONNECT_SECONDS)
        self._look = ClientTimeout(total=min(request_seconds, LOOK_SECONDS), connect=CONNECT_SECONDS)

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """Send a request whose turn has come (see `Turnstile.enter`), and leave the turnstile.

        Returns:
            The JSON of the answer; None of an empty one.

        Raises:
            Refused, Unknown, Limited: see broker_types.py.
        """
        headers: Mapping[str, str] = {}
        try:
            status, headers, raw = await self._once(method, path, query or {}, body)
            if status == 429:
                raise self._turnstile.refused(headers)
        finally:
            self._turnstile.leave(headers)
        return self._judge(method, path, status, raw)

    async def _once(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        headers = {
            "APCA-API-KEY-ID": self._key.get_secret_value(),
            "APCA-API-SECRET-KEY": self._secret.get_secret_value(),
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        address = URL(self._base + path, encoded=True).update_query(query)
        outcome = "none"
        try:
            async with self._session.request(
                method, address, headers=headers,
                timeout=self._look if method == "GET" else self._timeout,
                data=None if body is None else orjson.dumps(body),
                allow_redirects=False,  # keys go to this address and no other, and an order goes once
            ) as response:  # fmt: skip
                raw = await response.read()
                outcome = str(response.status)
                return response.status, response.headers, raw
        except (ClientConnectorError, ConnectionTimeoutError) as error:
            raise self._unknown(method, path, error, sent=False) from None
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            # `from None`: what aiohttp chains to it shows the request with its keys.
            raise self._unknown(method, path, error, sent=True) from None
        finally:
            BROKER_REQUESTS.labels(method, outcome).inc()

    def _judge(self, method: str, path: str, status: int, raw: bytes) -> Any:
        where = f"{method} {path}: HTTP {status}"
        if 200 <= status < 300:
            if not raw:
                return None
            try:
                return values.parse(raw)
            except RecordError:
                raise Unknown(f"{where}, and the answer is no JSON") from None
        code, message = self._reason(raw)
        if 400 <= status < 500 and status not in _MAYBE_DONE:
            raise Refused(status, code, message)
        raise Unknown(f"{where}: {message}")

    def _reason(self, raw: bytes) -> tuple[int, str]:
        try:
            said = values.parse(raw)
        except RecordError:
            return 0, "no reason given"
        if not isinstance(said, dict):
            return 0, "no reason given"
        code = said.get("code")
        message = str(said.get("message") or "no reason given")
        return code if type(code) is int else 0, self._redactor.text(message)[:300]

    def _unknown(self, method: str, path: str, error: BaseException, *, sent: bool) -> Unknown:
        words = self._redactor.text(str(error)) or "no answer in time"
        return Unknown(f"{method} {path}: {type(error).__name__}: {words}"[:300], sent=sent)
