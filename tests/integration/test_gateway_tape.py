"""The tape and slow clients over real sockets. Lost otherwise: trades for all because one client sleeps."""

from __future__ import annotations

import asyncio
import socket as sockets
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client import REGISTRY

from schemas.catalogue import CRYPTO_TRADES, STOCK_TRADES, SUBSCRIPTIONS
from sinks.gateway import client as gateway_client
from tests.integration.gateway_world import World, serving, talking, until, world
from tests.integration.test_gateway_security import _UPGRADE
from tidewire.config import Settings
from tidewire.kafka import client_arguments

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


@pytest.fixture
async def place(settings: Settings) -> AsyncIterator[World]:
    async with world(settings) as made:
        yield made


async def trade(place: World, symbol: str, price: float, topic: str = STOCK_TRADES) -> None:
    stem = "crypto_trade" if topic == CRYPTO_TRADES else "stock_trade"
    more: dict[str, Any] = {} if topic == CRYPTO_TRADES else {"exchange": "V", "conditions": ["@", "I"]}
    size = 0.25 if topic == CRYPTO_TRADES else 100
    await place.send(topic, stem, symbol, {"symbol": symbol, "price": price, "size": size} | more)


class Entries:
    """control.subscriptions, folded."""

    def __init__(self, place: World) -> None:
        self._place = place
        self._topic = place.settings.tidewire_topic_prefix + SUBSCRIPTIONS
        self.held: dict[str, dict[str, Any]] = {}

    async def follow(self) -> None:
        consumer = AIOKafkaConsumer(**client_arguments(self._place.settings), auto_offset_reset="earliest")
        consumer.assign([TopicPartition(self._topic, 0)])
        await consumer.start()
        try:
            async for record in consumer:
                key = record.key.decode()
                if record.value is None:
                    self.held.pop(key, None)
                else:
                    self.held[key] = self._place.codec.decode(record.value)[1]
        finally:
            await consumer.stop()


async def test_watched_symbols_are_subscribed_shown_and_released(place: World) -> None:
    """A watched symbol would stay silent, or be paid for when nobody watches it any more."""
    entries = Entries(place)
    following = asyncio.create_task(entries.follow())
    async with serving(place) as gateway:
        url = str(gateway.url)
        async with talking(url, place.cookie("anna"), "/ws/tape") as anna:
            await anna.socket.send_json({"action": "subscribe", "symbol": "aapl"})
            assert (await anna.next())["type"] == "connecting"
            await place.alpaca("stocks:iex", "CONNECTED")
            assert (await anna.next())["type"] == "subscribed"
            await anna.socket.send_json({"action": "subscribe", "symbols": ["BTC/USD"]})
            assert (await anna.next())["type"] == "connecting"
            await until(lambda: len(entries.held) == 2)
            entry = next(e for k, e in entries.held.items() if k.startswith("stocks:trades:AAPL:gateway:"))
            assert (entry["priority"], 50e9 < entry["expires_ts"] - time.time_ns() < 61e9) == ("client", True)
            async with talking(url, place.cookie("ben"), "/ws/tape") as ben:
                await ben.socket.send_json({"action": "subscribe", "symbol": "AAPL"})
                await ben.of_type("subscribed")
                await anna.socket.send_json({"action": "health"})
                assert await anna.next() == {
                    "type": "health", "alpaca_connected": True, "active_symbols": 2, "total_clients": 2,
                }  # fmt: skip
                sending = asyncio.create_task(_keep_trading(place))
                shown = await anna.until(lambda m: m.get("symbol") == "AAPL" and m["type"] == "trade")
                assert shown["data"]["price"] == "1.5"
                assert (shown["data"]["size"], shown["data"]["exchange"]) == ("100", "V")
                assert shown["data"]["conditions"] == ["@", "I"]
                crypto = await anna.until(lambda m: m.get("symbol") == "BTC/USD" and m["type"] == "trade")
                assert (crypto["data"]["price"], crypto["data"]["size"]) == ("60000.5", "0.25")
                await ben.of_type("trade")
                assert all(m.get("symbol") in ("AAPL", None) for m in ben.seen)
                sending.cancel()
            await anna.socket.send_json({"action": "unsubscribe", "symbol": "BTC/USD"})
            await anna.of_type("unsubscribed")
            await until(lambda: [k.split(":")[2] for k in entries.held] == ["AAPL"])
        await until(lambda: not entries.held)
        async with talking(url, place.cookie("anna"), "/ws/tape") as anna:
            await anna.socket.send_json({"action": "subscribe", "symbol": "MSFT"})
            await until(lambda: len(entries.held) == 1)
    await until(lambda: not entries.held, 5)
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following


async def _keep_trading(place: World) -> None:
    while True:
        await trade(place, "AAPL", 1.5)
        await trade(place, "TSLA", 2.5)
        await trade(place, "BTC/USD", 60000.5, CRYPTO_TRADES)
        await asyncio.sleep(0.05)


async def test_a_client_that_stops_reading_is_closed_and_disturbs_nobody(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sleeping laptop would freeze the prices of everybody else, or fill the memory."""
    monkeypatch.setattr(gateway_client, "STALLED_SECONDS", 2.0)
    async with serving(place) as gateway, talking(str(gateway.url), place.cookie("ben")) as ben:
        await ben.next()
        place.settings.tidewire_accounts_file.write_text('[accounts.one]\nusers = ["anna", "ben"]\n')
        assert await ben.close_code() == 1012
        stalled = _count("closed", socket="portfolio", reason="stalled")
        conflated = _count("conflated", socket="portfolio")
        sleeper = await _sleeping(str(gateway.url), place.cookie("anna"))
        async with talking(str(gateway.url), place.cookie("ben")) as other:
            await until(lambda: len(gateway.clients) == 2)
            note, waits, number, began = "x" * 1000, list[float](), 0, time.monotonic()
            while len(gateway.clients) == 2:
                assert time.monotonic() - began < 20, "the sleeping client was never closed"
                number += 1
                sent = time.monotonic()
                await asyncio.gather(*[place.order("one", f"o{n}", f"{number} {note}") for n in range(20)])
                await other.until(lambda m, n=number: str(m["data"].get("status", "")).startswith(f"{n} "))  # type: ignore[misc]
                waits.append(time.monotonic() - sent)
            assert sorted(waits)[int(len(waits) * 0.95)] < 0.5
            await until(lambda: _count("closed", socket="portfolio", reason="stalled") == stalled + 1)
            assert _count("conflated", socket="portfolio") > conflated
        sleeper.close()


def _count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"tidewire_gateway_{name}_total", labels) or 0.0


async def _sleeping(url: str, cookie: str) -> sockets.socket:
    """A client that shakes hands and never reads again, with a small window."""
    host, port = url.removeprefix("http://").split(":")
    client = sockets.socket()
    client.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 8192)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, (host, int(port)))
    headers = "".join(f"{k}: {v}\r\n" for k, v in (_UPGRADE | {"Host": host, "Cookie": cookie}).items())
    await loop.sock_sendall(client, f"GET /ws/portfolio HTTP/1.1\r\n{headers}\r\n".encode())
    return client
