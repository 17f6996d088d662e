"""The gateway between real Kafka, PostgreSQL and sockets. Lost otherwise: a position nobody is told of."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import orjson
import pytest

from tests.integration import gateway_world
from tests.integration.gateway_world import ROOT, World, serving, talking, until, world
from tidewire.config import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


@pytest.fixture
async def place(settings: Settings) -> AsyncIterator[World]:
    async with world(settings) as made:
        yield made


async def test_snapshot_then_updates(place: World) -> None:
    """A client would not know what it holds, or not hear what becomes of it."""
    await place.position("one", "AAPL", 5, mark_price=Decimal("2.50"), unrealized_pnl=Decimal(1))
    await place.position("one", "GONE", 0)
    await place.order("one", "o-1", "new")
    await place.account("one", 1000)
    async with serving(place) as gateway, talking(str(gateway.url), place.cookie("anna")) as anna:
        first = await anna.next()
        assert (first["type"], first["userId"]) == ("batch", "anna")
        assert [p["symbol"] for p in first["data"]["positions"]] == ["AAPL"]
        assert first["data"]["positions"][0]["currentPrice"] == "2.5"
        assert [o["brokerOrderId"] for o in first["data"]["orders"]] == ["o-1"]
        assert first["data"]["account"]["equity"] == "1000"
        await place.fill("one", "o-1", 1)
        assert (await anna.next())["data"]["filledQty"] == "1"
        await place.fill("one", "o-1", 1)  # told twice by the stream: once to the client
        await place.order("one", "o-1", "filled")
        assert (await anna.next())["type"] == "order_update"
        started = time.monotonic()
        for price in range(1, 60):
            await place.position("one", "AAPL", 5, mark_price=Decimal(price), unrealized_pnl=Decimal(price))
            await asyncio.sleep(0.02)
        last = await anna.until(lambda m: "59" in str(m["data"]))
        assert last["type"] == "batch"
        assert len(anna.seen) < 4 + time.monotonic() - started + 3, "marks come in one batch a second"


async def test_a_fill_is_told_at_once_also_between_marks(place: World) -> None:
    """A filled position would be shown up to a second late."""
    async with serving(place) as gateway, talking(str(gateway.url), place.cookie("anna")) as anna:
        await anna.next()
        waits = []
        for number in range(1, 20):
            await place.position("one", "AAPL", number, mark_price=Decimal(1))
            await place.position("one", "AAPL", number, mark_price=Decimal(number))
            began = time.monotonic()
            await place.position("one", "AAPL", number + 1, mark_price=Decimal(number))
            await anna.until(lambda m, n=number: str(n + 1) in _quantities(m))  # type: ignore[misc]
            waits.append(time.monotonic() - began)
        assert sorted(waits)[len(waits) // 2] < 0.2


def _quantities(message: dict[str, Any]) -> list[str]:
    data = message["data"]
    return [p["quantity"] for p in data.get("positions", [data]) if "quantity" in p]


async def test_nobody_hears_of_another_users_account(place: World) -> None:
    """A user would see another's money."""
    async with (
        serving(place) as gateway,
        talking(str(gateway.url), place.cookie("anna")) as anna,
        talking(str(gateway.url), place.cookie("ben")) as ben,
        talking(str(gateway.url), place.cookie("carl")) as carl,
        talking(str(gateway.url), place.cookie("nobody")) as nobody,
    ):
        for round_ in range(4):
            for account in ("one", "two", "three", "four"):
                for symbol in ("A", "B"):
                    await place.position(account, symbol, round_ + 1, strategy=account, mark_price=Decimal(1))
                    await place.position(account, symbol, round_ + 1, strategy=account, mark_price=Decimal(2))
                await place.order(account, f"{account}-{round_}", "new", f"{account.upper()}")
                await place.fill(account, f"{account}-{round_}", 1, f"{account.upper()}")
                await place.account(account, round_)
            await asyncio.sleep(0.3)
        for client, account in ((anna, "one"), (ben, "two"), (carl, "three"), (carl, "four")):
            await place.order(account, "end", "new", "END")
            await client.until(lambda m: m["data"].get("symbol") == "END")
        await nobody.socket.send_json({"type": "ping"})
        assert (await nobody.next())["type"] == "pong"
        for client, own in ((anna, {"one"}), (ben, {"two"}), (carl, {"three", "four"})):
            text = orjson.dumps(client.seen).decode().lower()
            seen = {a for a in ("one", "two", "three", "four") if a in text}
            assert seen == own
            assert {m["userId"] for m in client.seen} == {{"one": "anna", "two": "ben"}.get(min(own), "carl")}
            assert any(m["type"] == "batch" for m in client.seen[1:])
        for path in ("/api/positions", "/api/orders?status=all", "/api/account"):
            async with aiohttp.ClientSession(headers={"Cookie": place.cookie("ben")}) as http:
                body = await (await http.get(str(gateway.url) + path)).text()
            assert "one" not in body.lower(), path
            assert "three" not in body, path


def symbols(message: dict[str, Any]) -> list[str]:
    """The positions of a message: changes that reach the gateway together are one batch."""
    data = message["data"]
    return [each["symbol"] for each in (data["positions"] if message["type"] == "batch" else [data])]


async def test_subscriptions_narrow_what_is_heard(place: World) -> None:
    """A client that wants one symbol would be flooded with all, or miss that one."""
    async with serving(place) as gateway, talking(str(gateway.url), place.cookie("anna")) as anna:
        await anna.next()
        await anna.socket.send_json({"type": "subscribe", "channels": ["positions"], "symbols": ["AAPL"]})
        assert (await anna.next())["type"] == "subscribed"
        assert (await anna.next())["data"] == {"positions": []}
        await place.order("one", "o-1", "new")
        await place.position("one", "MSFT", 1)
        await place.position("one", "AAPL", 1)
        assert symbols(await anna.next()) == ["AAPL"]
        await anna.socket.send_json({"type": "unsubscribe", "channels": ["nothing"]})
        assert (await anna.next())["type"] == "error"


async def test_stale_is_told_and_taken_back(place: World) -> None:
    """Old prices would look like new ones."""
    await place.alpaca("stocks:iex", "CONNECTED", time.time_ns() - 31 * 10**9)
    async with serving(place) as gateway, talking(str(gateway.url), place.cookie("anna")) as anna:
        assert (await anna.of_type("stale"))["data"]["stale"] is True
        async with aiohttp.ClientSession() as http:
            answer = await (await http.get(f"{gateway.url}/api/health")).json()
        assert (answer["status"], answer["stale"], answer["realtimeEnabled"]) == ("degraded", True, True)
        await place.alpaca("stocks:iex", "CONNECTED")
        assert (await anna.of_type("stale"))["data"]["stale"] is False


async def test_switched_off_it_says_so_and_rest_goes_on(place: World) -> None:
    """Clients would wait for a socket that never comes."""
    await place.position("one", "AAPL", 3)
    async with serving(place, enable_realtime_portfolio=False) as gateway:
        cookie = place.cookie("anna")
        assert await gateway_world.refusal(str(gateway.url), cookie) == 503
        async with aiohttp.ClientSession(headers={"Cookie": cookie}) as http:
            assert (await (await http.get(f"{gateway.url}/api/health")).json())["realtimeEnabled"] is False
            held = await (await http.get(f"{gateway.url}/api/positions")).json()
        assert held["positions"][0]["quantity"] == "3"


async def test_killed_it_comes_back_with_a_correct_snapshot(place: World) -> None:
    """After a crash clients would go on with what they knew before it."""
    cookie = place.cookie("anna")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TIDEWIRE_")},
        "KAFKA_BOOTSTRAP_SERVERS": str(place.settings.kafka_bootstrap_servers),
        "DATABASE_URL": place.database_url,
        "TIDEWIRE_TOPIC_PREFIX": place.settings.tidewire_topic_prefix,
        "TIDEWIRE_HOME": str(place.settings.tidewire_home),
        "TIDEWIRE_ACCOUNTS_FILE": str(place.settings.tidewire_accounts_file),
        "TIDEWIRE_GATEWAY_PORT": str(_free_port()),
    }
    url = f"http://127.0.0.1:{environment['TIDEWIRE_GATEWAY_PORT']}"
    code = "import sys; from sinks.gateway.app import main; from tidewire.config import load; "
    code += "sys.exit(main(load()))"
    for quantity in (1, 2):
        await place.position("one", "AAPL", quantity)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT, env=environment)
        try:
            first = await _first_message(url, cookie)
            assert first["data"]["positions"][0]["quantity"] == str(quantity)
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()


async def _first_message(url: str, cookie: str) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            async with talking(url, cookie) as talk:
                return await talk.next()
        except (aiohttp.ClientError, OSError):
            await asyncio.sleep(0.1)
    raise AssertionError("the gateway did not come back")


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def test_accounts_toml_is_followed(place: World) -> None:
    """A user who was taken off an account would go on watching it."""
    async with serving(place) as gateway, talking(str(gateway.url), place.cookie("anna")) as anna:
        await anna.next()
        place.settings.tidewire_accounts_file.write_text('[accounts.one]\nusers = ["ben"]\n')
        assert await anna.close_code() == 1012
        async with talking(str(gateway.url), place.cookie("anna")) as again:
            await place.position("one", "AAPL", 1)
            await again.socket.send_json({"type": "ping"})
            assert (await again.next())["type"] == "pong"
        await until(lambda: len(gateway.clients) == 0)
