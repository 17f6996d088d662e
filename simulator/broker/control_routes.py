"""What a test may ask of the broker beyond Alpaca: busts, corrections, rare events, faults of the socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from simulator import faults
from simulator.broker import revisions
from simulator.broker.account_json import transfer_json
from simulator.broker.amounts import ZERO
from simulator.broker.engine import Broker
from simulator.broker.entry import number
from simulator.broker.order_json import order_json
from simulator.broker.orders import Order
from simulator.broker.rejections import invalid, malformed, not_found
from simulator.broker.trading_guard import json_body, respond
from simulator.broker.trading_socket import TradingSocket
from simulator.broker.updates import activity_id


class ControlRoutes:
    """/sim/trading/bust, /correct, /emit, /transfer and /faults; they need no keys, like all of /sim.

    /sim/faults reaches the trading socket too, as venue trading.
    """

    def __init__(
        self,
        broker: Broker,
        socket: TradingSocket,
        done: Callable[[], None],
        remember: Callable[[dict[str, Any]], None],
    ) -> None:
        self._broker = broker
        self._socket = socket
        self._done = done
        self._remember = remember

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        return [
            web.post("/sim/trading/bust", self._wrap(self._bust)),
            web.post("/sim/trading/correct", self._wrap(self._correct)),
            web.post("/sim/trading/emit", self._wrap(self._emit)),
            web.post("/sim/trading/transfer", self._wrap(self._transfer)),
            web.post("/sim/trading/faults", self._wrap(self._fault)),
        ]

    def _wrap(self, handler: Callable[[Mapping[str, Any]], Any]) -> Callable[[web.Request], Any]:
        async def act(request: web.Request, _: int) -> Any:
            body = await json_body(request)
            if not isinstance(body, Mapping):
                raise malformed("failed to decode request body")
            try:
                result = handler(body)
            finally:
                self._done()
            return order_json(result, self._broker.find) if isinstance(result, Order) else result

        async def handle(request: web.Request) -> web.Response:
            return await respond(act, request, 0)

        return handle

    def _bust(self, body: Mapping[str, Any]) -> Order:
        return revisions.bust(self._broker, str(body.get("execution_id") or body.get("order_id")))

    def _correct(self, body: Mapping[str, Any]) -> Order:
        qty, price = number(body, "qty") or ZERO, number(body, "price") or ZERO
        return revisions.correct(self._broker, str(body.get("execution_id")), qty, price)

    def _emit(self, body: Mapping[str, Any]) -> Order:
        reason = body.get("reason")
        return revisions.emit(
            self._broker,
            str(body.get("order_id")),
            str(body.get("event")),
            None if reason is None else str(reason),
        )

    def _transfer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        account = self._broker.accounts.get(body.get("account", 1))
        if account is None:
            raise not_found("account not found")
        ts = self._broker.exchange.stamp()
        try:
            shown = transfer_json(account, body, ts, activity_id(ts, self._broker.new_id()))
        except ValueError:
            raise malformed("net_amount must be a number") from None
        self._remember({"account": account.n, "transfer": shown})
        account.transfer(shown)
        return shown

    def _fault(self, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            fault = faults.parse(dict(body))
            return {"kind": fault.kind, "sockets": self._socket.inflict(fault)}
        except ValueError as error:
            raise invalid(str(error)) from None
