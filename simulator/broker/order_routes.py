"""REST of orders: /v2/orders and what is below it. Thin: the broker decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from simulator.broker.engine import Broker
from simulator.broker.order_json import order_json
from simulator.broker.order_list import orders, read_query
from simulator.broker.rejections import not_found
from simulator.broker.trading_guard import TradingGuard, answer, json_body


class OrderRoutes:
    """`prepare` is waited for before an order is taken; `done` keeps and tells what a request changed."""

    def __init__(
        self,
        broker: Broker,
        guard: TradingGuard,
        prepare: Callable[[], Awaitable[None]],
        done: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._guard = guard
        self._prepare = prepare
        self._done = done

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        wrap = self._guard.wrap
        return [
            web.post("/v2/orders", wrap(self._submit)),
            web.get("/v2/orders", wrap(self._list)),
            web.delete("/v2/orders", wrap(self._cancel_all)),
            web.get("/v2/orders:by_client_order_id", wrap(self._by_client_id)),
            web.get("/v2/orders/{id}", wrap(self._one)),
            web.delete("/v2/orders/{id}", wrap(self._cancel)),
            web.patch("/v2/orders/{id}", wrap(self._replace)),
            web.get("/sim/trading/requests", self._requests),
        ]

    async def _requests(self, request: web.Request) -> web.Response:
        """Of ?account=1: how many requests came."""
        given = request.query.get("account", "1")
        n = int(given) if given.isascii() and given.isdigit() and len(given) < 9 else 0
        if n not in self._broker.accounts:
            return answer({"message": "account not found"}, 404)
        return answer(self._guard.requests.of(n))

    async def _submit(self, request: web.Request, n: int) -> Any:
        body = await json_body(request)
        await self._prepare()
        return self._then(lambda: self._broker.submit(n, body))

    async def _replace(self, request: web.Request, n: int) -> Any:
        body, order_id = await json_body(request), request.match_info["id"]
        return self._then(lambda: self._broker.replace(n, order_id, body))

    def _list(self, request: web.Request, n: int) -> Any:
        return orders(self._broker.accounts[n], read_query(request.query), self._broker.find)

    def _one(self, request: web.Request, n: int) -> Any:
        order = self._broker.order(n, request.match_info["id"])
        return order_json(order, self._broker.find)

    def _by_client_id(self, request: web.Request, n: int) -> Any:
        client_id = request.query.get("client_order_id", "")
        order_id = self._broker.accounts[n].by_client_id.get(client_id)
        if order_id is None:
            raise not_found(f"order not found for {client_id[:128]}")
        return order_json(self._broker.order(n, order_id), self._broker.find)

    def _cancel(self, request: web.Request, n: int) -> Any:
        order_id = request.match_info["id"]
        self._then(lambda: self._broker.cancel(n, order_id))
        return answer(None, 204)

    def _cancel_all(self, _: web.Request, n: int) -> Any:
        ids = self._then(lambda: self._broker.cancel_all(n))
        return answer([{"id": order_id, "status": 200} for order_id in ids], 207)

    def _then(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        finally:
            self._done()
