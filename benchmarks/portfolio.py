"""From an order at the broker to position_update at signed-in clients, with the whole line running.

`tidewire demo` runs with one account a user; every account holds every symbol, so each mark changes fifty
positions. Those whose price alone moves come in a batch a second: more than a thousand position updates a
second go out to the hundred clients, all told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import psutil

from benchmarks import portfolio_stages as stages
from benchmarks import stillness
from benchmarks.line import end, home, start, wait_for_line
from benchmarks.process import side

USERS = 50
CONNECTIONS = 2
"""Of each user: 100 clients in all."""
SYMBOLS = "AAPL,AMZN,CVX,DIS,GOOGL,JPM,KO,META,MSFT,NVDA,PG,SPY,TSLA,XOM"
MARKET_RATE = 63
ORDERS_PER_SECOND = 10
SECONDS = 30
_WARM_SECONDS = 5
_LAST_SECONDS = 3
_PATIENCE = 120.0


def measure(_: int, say: Callable[[str], None]) -> tuple[float, dict[str, float]]:
    """99th percentile in ms, from just before the POST of an order to each client's position_update."""
    with home() as folder:
        options = ["--accounts", str(1 + USERS), "--no-strategy", "--symbols", SYMBOLS, "--no-screen"]
        say(f"{USERS * CONNECTIONS} clients, {ORDERS_PER_SECOND} orders a second for {SECONDS} s")
        process = start(folder, *options, "--rate", str(MARKET_RATE))
        try:
            wait_for_line(folder, process)
            answer = side("benchmarks.portfolio:clients", {}, {"TIDEWIRE_HOME": str(folder)})
        finally:
            end(process)
    return float(answer.pop("p99")), {name: round(float(v), 1) for name, v in answer.items()}


def clients() -> dict[str, float]:
    """The measuring side, in a process of its own beside the line."""
    return asyncio.run(_clients())


@dataclass(slots=True)
class _User:
    """One user: an account, its keys at the broker, five sockets, and what each was told last."""

    number: int
    quantities: list[dict[str, str]] = field(default_factory=list)
    updates: int = 0
    waiting: dict[str, list[int]] = field(default_factory=dict)
    """Symbol of the order on its way -> the connections that have not yet told of it."""
    told_at: list[tuple[str, int]] = field(default_factory=list)
    """Of each connection that has: the symbol, and when, ns."""

    def told(self, connection: int, position: dict[str, Any]) -> None:
        self.updates += 1
        symbol, quantity = position["symbol"], position["quantity"]
        before = self.quantities[connection].get(symbol)
        self.quantities[connection][symbol] = quantity
        if before != quantity and symbol in self.waiting:
            left = self.waiting[symbol]
            if connection in left:
                left.remove(connection)
                self.told_at.append((symbol, time.time_ns()))
            if not left:
                del self.waiting[symbol]


async def _clients() -> dict[str, float]:
    from console.client import sign_in
    from tidewire import config, stack
    from tidewire.supervision import run_files

    settings = config.load()
    url = sign_in.gateway_url(settings)
    services = run_files.read_services(settings.tidewire_home)
    broker = str(services["simulator"]["status"]).removesuffix("/sim/status")
    gateway = psutil.Process(int(services["services"]["gateway"]["pid"]))
    before = gateway.memory_info().rss
    users = [_User(n) for n in range(2, USERS + 2)]  # the demo's own screen is the first account's client
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        tasks = [
            asyncio.create_task(_listen(http, url, sign_in.as_operator(settings, name_of(user.number)), user))
            for user in users
            for _ in range(CONNECTIONS)
        ]
        await _open_positions(http, broker, users)
        marks_from, measured_from = sum(u.updates for u in users), time.monotonic()
        async with stillness.watched() as still:
            orders = await _trade(http, broker, users)
        seconds = time.monotonic() - measured_from
        told = sum(u.updates for u in users) - marks_from
        after = gateway.memory_info().rss
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    pushed = [(orders[user.number, symbol], at) for user in users for symbol, at in user.told_at]
    unanswered = sum(len(left) for user in users for left in user.waiting.values())
    if unanswered or not pushed:
        raise RuntimeError(f"{len(pushed)} updates came for orders, {unanswered} never did")
    found = await stages.stamps(stack.fill_in(settings), pushed)
    return stages.figures(found) | {
        "updates_for_orders": float(len(found)),
        "clients": float(USERS * CONNECTIONS),
        "position_updates_per_s": told / seconds,
        "gateway_mb": after / 1e6,
        "mb_for_connections": (after - before) / 1e6,
        **still,
    }


def name_of(number: int) -> str:
    """The user of the demo's account `number`."""
    from console.commands.runs.demo_accounts import user_of

    return user_of(number)


async def _listen(http: aiohttp.ClientSession, url: str, cookie: str, user: _User) -> None:
    connection = len(user.quantities)
    user.quantities.append({})
    async with http.ws_connect(f"{url}/ws/portfolio", headers={"Cookie": cookie}, compress=0) as socket:
        await socket.send_str('{"type":"subscribe","channels":["positions","orders","account","trades"]}')
        async for frame in socket:
            message = orjson.loads(frame.data)
            data = message.get("data") or {}
            if message["type"] == "position_update":
                user.told(connection, data)
            elif message["type"] == "batch":
                for position in data.get("positions") or ():
                    user.told(connection, position)


async def _open_positions(http: aiohttp.ClientSession, broker: str, users: list[_User]) -> None:
    """Every account buys every symbol, a few a second, until every client holds them all."""
    symbols = SYMBOLS.split(",")
    for symbol in symbols:
        await asyncio.gather(*(_order(http, broker, user, symbol) for user in users))
        await asyncio.sleep(0.5)
    deadline = time.monotonic() + _PATIENCE
    while any(len(held) < len(symbols) for user in users for held in user.quantities):
        if time.monotonic() > deadline:
            raise RuntimeError("the positions were never pushed to every client")
        await asyncio.sleep(0.2)
    await asyncio.sleep(_WARM_SECONDS)


async def _trade(
    http: aiohttp.ClientSession, broker: str, users: list[_User]
) -> dict[tuple[int, str], stages.Order]:
    """One order a symbol and user at most; returns them, by these."""
    orders: dict[tuple[int, str], stages.Order] = {}
    symbols = SYMBOLS.split(",")
    began = time.monotonic()
    for n in range(ORDERS_PER_SECOND * SECONDS):
        user, symbol = users[n % len(users)], symbols[n // len(users) % len(symbols)]
        await asyncio.sleep(max(0.0, began + n / ORDERS_PER_SECOND - time.monotonic()))
        user.waiting[symbol] = list(range(CONNECTIONS))
        sent = time.time_ns()
        await _order(http, broker, user, symbol)
        orders[user.number, symbol] = stages.Order(user.number, symbol, sent, time.time_ns())
    await asyncio.sleep(_LAST_SECONDS)
    return orders


async def _order(http: aiohttp.ClientSession, broker: str, user: _User, symbol: str) -> None:
    from simulator.options import key_pair

    key, secret = key_pair(user.number)
    order = {"symbol": symbol, "qty": "1", "side": "buy", "type": "market", "time_in_force": "gtc"}
    headers = {"APCA-API-KEY-ID": key, "APCA-API-SECRET-KEY": secret}
    async with http.post(f"{broker}/v2/orders", json=order, headers=headers) as answer:
        if answer.status != 200:
            raise RuntimeError(f"the broker refuses an order: {answer.status} {await answer.text()}")
