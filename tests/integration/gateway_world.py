"""A gateway with its Kafka and PostgreSQL for the tests: records in, clients out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiokafka import AIOKafkaProducer

from schemas import catalogue, cluster
from schemas.catalogue import (
    CONNECTIONS,
    CRYPTO_TRADES,
    PORTFOLIO_ACCOUNTS,
    PORTFOLIO_ORDERS,
    PORTFOLIO_POSITIONS,
    STOCK_TRADES,
    SUBSCRIPTIONS,
    TRADE_UPDATES,
)
from schemas.codec import Codec, load_codec
from sinks.gateway import users
from sinks.gateway.app import Gateway
from sinks.postgres import connection
from tidewire.config import Settings
from tidewire.health import Health
from tidewire.kafka import client_arguments

TOPICS = (
    CONNECTIONS, CRYPTO_TRADES, PORTFOLIO_ACCOUNTS, PORTFOLIO_ORDERS, PORTFOLIO_POSITIONS, STOCK_TRADES,
    SUBSCRIPTIONS, TRADE_UPDATES,
)  # fmt: skip
COMMON = {"source": "ws", "event_id": b"12345678"}
ACCOUNTS = """
[accounts.one]
users = ["anna"]
[accounts.two]
users = ["ben"]
[accounts.three]
users = ["carl"]
[accounts.four]
users = ["carl"]
"""


def filled(stem: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with a plain value for every field that the test does not care about."""
    plain: dict[str, Any] = {"string": "", "long": 0, "boolean": False, "double": 0.0, "bytes": b"12345678"}
    full: dict[str, Any] = {}
    for field_ in catalogue.schema(stem)["fields"]:
        kind = field_["type"]
        if isinstance(kind, list):
            full[field_["name"]] = None
        elif isinstance(kind, dict):
            simple = {"enum": "ws", "array": []}.get(kind["type"])
            full[field_["name"]] = Decimal(0) if kind.get("logicalType") == "decimal" else simple
        else:
            full[field_["name"]] = plain[kind]
    return full | {"received_ts": time.time_ns(), "ts": time.time_ns()} | dict(record)


@dataclass
class World:
    settings: Settings
    codec: Codec
    producer: AIOKafkaProducer
    health: dict[str, int] = field(default_factory=dict)

    @property
    def database_url(self) -> str:
        return connection.url(self.settings)

    def cookie(self, user: str) -> str:
        users.ensure_user(self.database_url, user)
        return users.mint_session(self.database_url, user)

    async def send(self, topic: str, stem: str, key: str, record: Mapping[str, Any] | None) -> None:
        value = None if record is None else self.codec.encode(stem, filled(stem, record))
        name = self.settings.tidewire_topic_prefix + topic
        await self.producer.send_and_wait(name, key=key.encode(), value=value)

    async def position(self, account: str, symbol: str, quantity: int | str, **more: Any) -> None:
        record = {
            "account": account,
            "symbol": symbol,
            "quantity": Decimal(quantity),
            "cost_basis": Decimal(1),
        }
        await self.send(PORTFOLIO_POSITIONS, "portfolio_position", f"{account}:{symbol}", record | more)

    async def order(self, account: str, order_id: str, status: str, symbol: str = "AAPL") -> None:
        record = {"account": account, "order_id": order_id, "status": status, "symbol": symbol, "side": "buy"}
        await self.send(PORTFOLIO_ORDERS, "portfolio_order", f"{account}:{order_id}", record)

    async def account(self, account: str, equity: int) -> None:
        record = {"account": account, "equity": Decimal(equity)}
        await self.send(PORTFOLIO_ACCOUNTS, "portfolio_account", account, record)

    async def fill(self, account: str, order_id: str, cumulative: int, symbol: str = "AAPL") -> None:
        record = {
            "account": account, "order_id": order_id, "event": "fill", "symbol": symbol, "side": "buy",
            "quantity": Decimal(1), "price": Decimal("1.5"), "cumulative_quantity": Decimal(cumulative),
            "event_id": f"{order_id}{cumulative}".encode()[-8:].rjust(8),
        }  # fmt: skip
        await self.send(TRADE_UPDATES, "trade_update", account, record)

    async def alpaca(self, feed: str, state: str, last_message_ts: int | None = None) -> None:
        heard = time.time_ns() if last_message_ts is None else last_message_ts
        record = {"feed": feed, "state": state, "last_message_ts": heard}
        await self.send(CONNECTIONS, "connection", feed, record)


@asynccontextmanager
async def world(settings: Settings) -> AsyncIterator[World]:
    """Topics, an accounts.toml, and a producer; no gateway yet."""
    path = settings.tidewire_home / "accounts.toml"
    path.write_text(ACCOUNTS)
    settings = settings.model_copy(update={"tidewire_accounts_file": path, "tidewire_partitions": 2})
    await cluster.apply(settings, only=TOPICS)
    producer = AIOKafkaProducer(**client_arguments(settings))
    await producer.start()
    await producer.client.set_topics([settings.tidewire_topic_prefix + topic for topic in TOPICS])
    try:
        yield World(settings, load_codec(settings), producer)
    finally:
        await producer.stop()


@asynccontextmanager
async def serving(place: World, **settings: Any) -> AsyncIterator[Gateway]:
    """A gateway in this process; leaves as with SIGTERM."""
    gateway = Gateway(place.settings.model_copy(update=settings))
    health, stop = Health("gateway"), asyncio.Event()
    task = asyncio.create_task(gateway.run(health, stop))
    try:
        await until(lambda: health.not_ready is None or task.done())
        yield gateway
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)


class Talk:
    """A client's socket; messages are kept as they are read."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.seen: list[dict[str, Any]] = []

    async def next(self, seconds: float = 10) -> dict[str, Any]:
        frame = await self.socket.receive(seconds)
        assert frame.type is aiohttp.WSMsgType.TEXT, f"{frame} ({self.socket.close_code})"
        message: dict[str, Any] = orjson.loads(frame.data)
        self.seen.append(message)
        return message

    async def until(self, test: Callable[[dict[str, Any]], bool], seconds: float = 10) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            while True:
                message = await self.next(seconds)
                if test(message):
                    return message

    async def of_type(self, *types: str) -> dict[str, Any]:
        return await self.until(lambda message: message["type"] in types)

    async def close_code(self, seconds: float = 10) -> int | None:
        async with asyncio.timeout(seconds):
            while not self.socket.closed:
                await self.socket.receive()
        return self.socket.close_code


@asynccontextmanager
async def talking(
    gateway_url: str, cookie: str | None, path: str = "/ws/portfolio", headers: Sequence[tuple[str, str]] = ()
) -> AsyncIterator[Talk]:
    own = dict(headers) | ({"Cookie": cookie} if cookie else {})
    async with aiohttp.ClientSession(headers=own) as http, http.ws_connect(gateway_url + path) as socket:
        yield Talk(socket)


async def refusal(
    gateway_url: str, cookie: str | None, path: str = "/ws/portfolio", headers: Sequence[tuple[str, str]] = ()
) -> int:
    """The status of an upgrade; 101 when it was taken."""
    try:
        async with talking(gateway_url, cookie, path, headers):
            return 101
    except aiohttp.WSServerHandshakeError as error:
        return error.status


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.01)


ROOT = Path(__file__).parents[2]
