"""Corporate actions and option events on demand, and whether coins cost a fee.

Each route of /sim/trading answers with the activities that it brought about, as REST shows them. They need no
keys, like all of /sim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from aiohttp import web

from simulator.broker import corporate, option_events
from simulator.broker.amounts import ONE, ZERO, divide, text
from simulator.broker.engine import Broker
from simulator.broker.entry import number
from simulator.broker.rejections import invalid, malformed
from simulator.broker.trading_guard import json_body, respond

Rescale = Callable[[str, Decimal], None]
"""(symbol, factor): the market's prices of a symbol are multiplied from now on."""
Action = Callable[[Mapping[str, Any]], Any]


class ActionRoutes:
    """`done` keeps and tells what a request changed; `remember` keeps what has no activity."""

    def __init__(
        self,
        broker: Broker,
        done: Callable[[], None],
        remember: Callable[[dict[str, Any]], None],
        rescale: Rescale,
    ) -> None:
        self._broker, self._done, self._remember, self._rescale = broker, done, remember, rescale

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        actions: dict[str, Action] = {
            "split": self._split,
            "dividend": self._dividend,
            "expire": self._expire,
            "exercise": self._exercise,
            "assign": self._assign,
            "crypto-fees": self._crypto_fees,
        }
        return [web.post(f"/sim/trading/{name}", self._wrap(act)) for name, act in actions.items()]

    def _wrap(self, action: Action) -> Callable[[web.Request], Any]:
        async def act(request: web.Request, _: int) -> Any:
            body = await json_body(request)
            if not isinstance(body, Mapping):
                raise malformed("failed to decode request body")
            try:
                return action(body)
            finally:
                self._done()

        async def handle(request: web.Request) -> web.Response:
            return await respond(act, request, 0)

        return handle

    def _split(self, body: Mapping[str, Any]) -> Any:
        symbol, old, new = _symbol(body), number(body, "old_rate") or ONE, number(body, "new_rate") or ZERO
        posted = corporate.split(self._broker, symbol, old, new)
        factor = divide(old, new)
        self._remember({"rescaled": {"symbol": symbol, "factor": text(factor)}})
        self._rescale(symbol, factor)
        return posted

    def _dividend(self, body: Mapping[str, Any]) -> Any:
        return corporate.dividend(self._broker, _symbol(body), number(body, "rate") or ZERO)

    def _expire(self, body: Mapping[str, Any]) -> Any:
        return option_events.expire(self._broker, _symbol(body), exercised=body.get("exercise") is not False)

    def _exercise(self, body: Mapping[str, Any]) -> Any:
        return option_events.exercise(self._broker, _account(body), _symbol(body), number(body, "qty"))

    def _assign(self, body: Mapping[str, Any]) -> Any:
        return option_events.assign(self._broker, _account(body), _symbol(body), number(body, "qty"))

    def _crypto_fees(self, body: Mapping[str, Any]) -> Any:
        """`rate` is the part of a fill that is taken, as "0.0025"; 0 takes none."""
        rate = number(body, "rate", signed=True) or ZERO
        if not ZERO <= rate < ONE:
            raise invalid("rate must be at least 0 and below 1")
        self._broker.exchange.crypto_fee = rate
        self._remember({"crypto_fee": text(rate)})
        return {"rate": text(rate)}


def _symbol(body: Mapping[str, Any]) -> str:
    return str(body.get("symbol") or "").upper()


def _account(body: Mapping[str, Any]) -> int:
    n = body.get("account", 1)
    if not isinstance(n, int):
        raise malformed("account must be a number")
    return n
