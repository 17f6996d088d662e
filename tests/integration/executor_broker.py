"""The simulated broker as the tests of the executor see it: what others do there, what came of our orders."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import aiohttp

from simulator.app import Simulator
from simulator.faults import Fault

KEYS = "demo-key demo-secret"


class Broker:
    """The simulator's side, as account 1 sees it over REST."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self.simulator, self._session = simulator, session
        self.url = simulator.url
        key, secret = KEYS.split()
        self._said: dict[str, dict[str, Any]] = {}
        self._headers = {"APCA-API-KEY-ID": key, "APCA-API-SECRET-KEY": secret}

    async def ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """GET, or POST a body."""
        verb = method or ("GET" if body is None else "POST")
        async with self._session.request(
            verb, f"{self.url}/v2/{path}", headers=self._headers, json=body
        ) as answer:
            return None if answer.status == 204 else await answer.json()

    async def buy(self, symbol: str, quantity: str) -> None:
        """Hold so much of it once this returns."""
        tif = "gtc" if "/" in symbol else "day"
        body = {"symbol": symbol, "side": "buy", "type": "market", "qty": quantity, "time_in_force": tif}
        answer = await self.ask("orders", body)
        assert "id" in answer, answer
        await until(lambda: self.order(answer["id"]).status == "filled")

    async def sell_short(self, symbol: str, quantity: str) -> None:
        """Owe so much of it once this returns."""
        body = {"symbol": symbol, "side": "sell", "type": "market", "qty": quantity, "time_in_force": "day"}
        await self.ask("orders", body)
        await until(lambda: self.held(symbol) == -Decimal(quantity))

    async def rest(self, symbol: str, side: str, quantity: str, price: str, **more: Any) -> str:
        """A limit order of somebody else; returns its id."""
        body = {"symbol": symbol, "side": side, "type": "limit", "qty": quantity, "limit_price": price}
        answer = await self.ask("orders", body | {"time_in_force": "day"} | more)
        assert "id" in answer, answer
        return str(answer["id"])

    async def cancel(self, order_id: str) -> None:
        """As somebody does it by hand."""
        await self.ask(f"orders/{order_id}", method="DELETE")

    async def inflict(self, **fault: Any) -> None:
        """A fault of the trading API: see simulator/faults.py."""
        url = f"{self.url}/sim/faults"
        async with self._session.post(url, json={"venue": "trading", **fault}) as answer:
            assert answer.status == 200, await answer.text()

    async def posts(self) -> dict[str, int]:
        """How often each order of tidewire was sent, by client_order_id, whatever became of it."""
        async with self._session.get(f"{self.url}/sim/trading/requests") as answer:
            counted: dict[str, int] = (await answer.json())["orders"]
        return {name: count for name, count in counted.items() if name.startswith("tw-")}

    async def requests(self, method: str) -> int:
        """How many requests of a method came, those that were refused too."""
        async with self._session.get(f"{self.url}/sim/trading/requests") as answer:
            return int((await answer.json())["methods"].get(method, 0))

    async def says(self, path: str, **instead: Any) -> None:
        """From now on the broker says this instead of what it says of a path: another clock, a rare asset."""
        if path not in self._said:
            self._said[path] = await self.ask(path)
            fault = Fault("status_http", 200, 100_000, message=self._said[path], method="GET")
            # Not by /sim/faults, which has errors only.
            self.simulator.rest_faults.add((f"/v2/{path}",), fault)
        self._said[path].update(instead)

    def fill(self, order_id: str, quantity: str, price: str = "100") -> None:
        """Somebody trades with an order that rests."""
        exchange = self.simulator.broker.broker.exchange
        order = exchange.find(order_id)
        assert order is not None
        exchange.fill(order, Decimal(quantity), Decimal(price))
        self.simulator.broker.flush()

    def order(self, order_id: str) -> Any:
        """Any order."""
        return self.simulator.broker.broker.accounts[1].orders[order_id]

    def held(self, symbol: str) -> Decimal:
        """Quantity of a position; negative: short."""
        return self.simulator.broker.broker.accounts[1].book.quantity(symbol)

    def orders(self) -> list[Any]:
        """Every order of tidewire."""
        found = self.simulator.broker.broker.accounts[1].orders.values()
        return [order for order in found if order.client_order_id.startswith("tw-")]


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.01)


async def until_held(held: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Wait for a condition that has to be asked for."""
    deadline = time.monotonic() + seconds
    while not await held():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.1)
