"""The producer as the process that a user runs: how it ends, what it says, and what it never says."""

from __future__ import annotations

import asyncio
import json
import signal
import time
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import pytest
from websockets.asyncio.server import ServerConnection, serve

from schemas import cluster
from schemas.catalogue import TOPICS
from tests.integration.producer_process import start
from tidewire.config import Settings

pytestmark = pytest.mark.kafka

CANARY_ID, CANARY_SECRET = "CANARYKEYID7Q", "CANARYSECRET9Z"


async def _alpaca(socket: ServerConnection) -> None:
    """Takes the canary keys once with data; the second time it refuses them."""

    async def say(*messages: Any) -> None:
        await socket.send(msgpack.packb(list(messages)))

    await say({"T": "success", "msg": "connected"})
    keys = msgpack.unpackb(await socket.recv())
    socket.server.seen.append(keys)  # type: ignore[attr-defined]
    if len(socket.server.seen) > 1:  # type: ignore[attr-defined]
        await say({"T": "error", "code": 402, "msg": "auth failed"})
        return
    await say({"T": "success", "msg": "authenticated"})
    wish = msgpack.unpackb(await socket.recv())
    wish.pop("action")
    await say({"T": "subscription", **wish})
    trade = {"T": "t", "S": "AAPL", "x": "V", "p": 1.5, "s": 10, "c": ["@"], "z": "C"}
    for number in range(10_000):
        await say({**trade, "i": number, "t": msgpack.Timestamp(1_763_740_800, number)})
        if socket.server.drop.is_set():  # type: ignore[attr-defined]
            return
        await asyncio.sleep(0.005)


@pytest.fixture
async def alpaca() -> AsyncIterator[Any]:
    server = await serve(_alpaca, "127.0.0.1", 0)
    server.seen, server.drop = [], asyncio.Event()  # type: ignore[attr-defined]
    yield server
    server.close()
    await server.wait_closed()


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    wanted = ("alpaca.stocks.", "alpaca.gaps", "control.")
    await cluster.apply(settings, [topic.name for topic in TOPICS if topic.name.startswith(wanted)])
    return settings


def _url(server: Any) -> str:
    return f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def _get(port: int, path: str) -> str:
    def fetch() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return str(response.read().decode())

    return await asyncio.to_thread(fetch)


async def test_the_keys_are_sent_to_alpaca_and_appear_nowhere_else(ready: Settings, alpaca: Any) -> None:
    keys = {"APCA_API_KEY_ID": CANARY_ID, "APCA_API_SECRET_KEY": CANARY_SECRET}
    process = await start(ready, TIDEWIRE_STREAM_URL=_url(alpaca), TIDEWIRE_SYMBOLS="AAPL", **keys)
    port = (await process.said("started"))["http_port"]
    await process.said("subscribed")
    public = await _get(port, "/metrics") + await _get(port, "/health")
    alpaca.drop.set()
    code, log = await process.end(30)
    assert code == 5
    assert "402" in log
    assert "APCA_API_KEY_ID and APCA_API_SECRET_KEY" in log
    assert alpaca.seen[0] == {"action": "auth", "key": CANARY_ID, "secret": CANARY_SECRET}
    for secret in (CANARY_ID, CANARY_SECRET):
        assert secret not in log
        assert secret not in public
    assert "Traceback" not in log


async def test_sigterm_ends_it_in_time_with_everything_read_in_kafka(ready: Settings, alpaca: Any) -> None:
    process = await start(ready, TIDEWIRE_STREAM_URL=_url(alpaca), TIDEWIRE_SYMBOLS="AAPL")
    port = (await process.said("started"))["http_port"]
    await process.said("subscribed")
    health = json.loads(await _get(port, "/health"))
    deadline = time.monotonic() + 20
    while health["last_message_time"] is None or health["status"] != "healthy":
        assert time.monotonic() < deadline, health
        health = json.loads(await _get(port, "/health"))
    assert {"websocket_connected", "subscribed_symbols", "reconnect_attempts", "last_message_time"} <= set(
        health
    )
    assert (health["status"], health["websocket_connected"]) == ("healthy", True)
    asked = time.monotonic()
    process.process.send_signal(signal.SIGTERM)
    code, log = await process.end(10)
    assert code == 0
    assert time.monotonic() - asked < 5
    assert "lost" not in log


async def test_without_keys_it_ends_at_once_and_says_which_and_where(ready: Settings) -> None:
    process = await start(ready)
    code, log = await process.end(30)
    assert code == 2
    assert "APCA_API_KEY_ID and APCA_API_SECRET_KEY are not set" in log
    assert "Traceback" not in log
