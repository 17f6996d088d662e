"""What REST tells beside the stream: all that passed, final bars, the plan's delay, clock and calendar.

Without these a backfill or an audit that is right against the simulator could be wrong against Alpaca.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from simulator.app import Simulator, SimulatorOptions
from tidewire.config import load

KEYS = {"APCA-API-KEY-ID": "demo-key", "APCA-API-SECRET-KEY": "demo-secret"}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no .env of the developer


@asynccontextmanager
async def running(home: Path, **options: Any) -> AsyncIterator[aiohttp.ClientSession]:
    defaults: dict[str, Any] = {"symbols": ("AAPL", "MSFT"), "fresh": True, "strategy": False}
    simulator = Simulator(load(tidewire_home=home), SimulatorOptions(**(defaults | options)))
    await simulator.start()
    try:
        async with aiohttp.ClientSession(simulator.url, headers=KEYS) as http:
            yield http
    finally:
        await simulator.stop()


async def get(http: aiohttp.ClientSession, path: str, status: int = 200, **query: Any) -> Any:
    async with http.get(path, params=query) as answer:
        assert answer.status == status, await answer.text()
        if path.startswith("/v") and status != 404:
            assert int(answer.headers["X-RateLimit-Remaining"]) < int(answer.headers["X-RateLimit-Limit"])
            assert int(answer.headers["X-RateLimit-Reset"]) > 0
        return await answer.json()


async def pages(http: aiohttp.ClientSession, path: str, kind: str, **query: Any) -> list[Any]:
    """All rows of one symbol."""
    rows: list[Any] = []
    token: str | None = ""
    while token is not None:
        body = await get(http, path, start="2020-01-01", page_token=token, **query)
        rows += [row for of_symbol in body[kind].values() for row in of_symbol]
        token = body["next_page_token"]
    return rows


async def ended(http: aiohttp.ClientSession, *venues: str) -> dict[str, Any]:
    for _ in range(1_500):
        status: dict[str, Any] = (await get(http, "/sim/status"))["venues"]
        if all(status[venue]["state"] == "finished" for venue in venues):
            return status
        await asyncio.sleep(0.02)
    raise AssertionError(f"the tapes never ended: {status}")


async def subscribe(ws: aiohttp.ClientWebSocketResponse, **channels: list[str]) -> None:
    await ws.send_json({"action": "subscribe", **channels})


async def test_rest_has_what_nobody_was_subscribed_to_and_the_ledger_has_not(tmp_path: Path) -> None:
    """Trades between the first and the second piece of a subscription could never be backfilled."""
    async with (
        running(tmp_path, limit=6_000, rate="max") as http,
        http.ws_connect("/v2/sip", headers=KEYS) as ws,
    ):
        await subscribe(ws, trades=["MSFT"])
        status = await ended(http, "stocks")
        apple = await pages(http, "/v2/stocks/trades", "trades", symbols="AAPL", limit="500")
        bars = await pages(http, "/v2/stocks/bars", "bars", symbols="AAPL", timeframe="1Min")
        microsoft = await pages(http, "/v2/stocks/trades", "trades", symbols="MSFT", limit="500")
    assert len(apple) > 500
    assert status["stocks"]["published"]["trades"] == len(microsoft) > 0
    counted = [row for row in apple if not {"M", "Q", "9"} & set(row["c"])]
    assert sum(bar["n"] for bar in bars) == len(counted)
    assert sum(bar["v"] for bar in bars) == sum(row["s"] for row in counted)
    async with running(tmp_path, limit=6_000, rate="max", fresh=False) as http:
        again = await pages(http, "/v2/stocks/trades", "trades", symbols="AAPL", limit="500")
    assert again == apple


async def test_bars_are_final_once_late_trades_are_in(tmp_path: Path) -> None:
    """An audit would ask for minutes again and again that only the simulator's bars had wrong."""
    async with (
        running(tmp_path, limit=12_000, rate="max", symbols=("AAPL",)) as http,
        http.ws_connect("/v2/sip", headers=KEYS, max_msg_size=0) as ws,
    ):
        await subscribe(ws, trades=["AAPL"], updatedBars=["AAPL"])
        corrected: set[str] = set()
        reading = asyncio.create_task(_corrections(ws, corrected))
        await ended(http, "stocks")
        trades = await pages(http, "/v2/stocks/trades", "trades", symbols="AAPL", limit="10000")
        bars = await pages(http, "/v2/stocks/bars", "bars", symbols="AAPL", timeframe="1Min")
        reading.cancel()
    volumes: dict[str, int] = {}
    for row in trades:
        minute = row["t"][:16] + ":00Z"
        volumes[minute] = volumes.get(minute, 0) + row["s"]
    volumes = {
        minute: volume for minute, volume in volumes.items() if minute >= bars[0]["t"]
    }  # late from before
    assert {bar["t"]: bar["v"] for bar in bars} == volumes
    assert corrected <= set(volumes)


async def _corrections(ws: aiohttp.ClientWebSocketResponse, found: set[str]) -> None:
    while True:
        found |= {message["t"] for message in await ws.receive_json() if message["T"] == "u"}


async def test_crypto_and_news_by_start_end_and_page(tmp_path: Path) -> None:
    """A gap's two ends would not be those of what is fetched."""
    async with (
        running(
            tmp_path, crypto_limit=800, crypto_messages_per_second=8_000.0, news_limit=30, news_seconds=0.05
        ) as http,
        http.ws_connect("/v1beta3/crypto/us", headers=KEYS) as coins,
        http.ws_connect("/v1beta1/news", headers=KEYS) as articles,
    ):
        await subscribe(coins, trades=["*"], quotes=["*"], orderbooks=["*"])
        await subscribe(articles, news=["*"])
        await ended(http, "crypto", "news")
        base = "/v1beta3/crypto/us"
        for kind in ("trades", "quotes"):
            rows = await pages(http, f"{base}/{kind}", kind, symbols="BTC/USD", limit="7")
            times = [row["t"] for row in rows]
            assert len(rows) > 14
            assert times == sorted(times, key=parsed)
            inside = await get(
                http, f"{base}/{kind}", symbols="BTC/USD", start=times[3], end=times[9], limit="1000"
            )
            assert inside[kind]["BTC/USD"] == [
                r for r in rows if parsed(times[3]) <= parsed(r["t"]) <= parsed(times[9])
            ]
            newest = await get(http, f"{base}/latest/{kind}", symbols="BTC/USD")
            assert newest[kind]["BTC/USD"] in rows
        books = await get(http, f"{base}/latest/orderbooks", symbols="BTC/USD")
        assert books["orderbooks"]["BTC/USD"]["b"]
        first = await get(http, "/v1beta1/news", sort="asc", limit="10")
        second = await get(http, "/v1beta1/news", sort="asc", limit="10", page_token=first["next_page_token"])
        both = first["news"] + second["news"]
        assert len({a["id"] for a in both}) == 20
        later = await get(
            http, "/v1beta1/news", sort="asc", limit="50", start=second["news"][0]["updated_at"]
        )
        assert {a["id"] for a in second["news"]} <= {a["id"] for a in later["news"]}
        early = await get(http, "/v1beta1/news", limit="50", end=first["news"][0]["updated_at"])
        assert first["news"][0]["id"] in {a["id"] for a in early["news"]}


def parsed(text: str) -> tuple[str, str]:
    """A time that can be compared: seconds, then digits behind them."""
    seconds, _, part = text.rstrip("Z").partition(".")
    return seconds, part.ljust(9, "0")


async def test_a_plan_keeps_recent_sip_data_back(tmp_path: Path) -> None:
    """Whether an audit waits as long as the plan demands could not be seen."""
    async with (
        running(tmp_path, history_delay_minutes=15, messages_per_second=500.0) as http,
        http.ws_connect("/v2/sip", headers=KEYS) as ws,
    ):
        await subscribe(ws, trades=["*"])
        while (await get(http, "/sim/status"))["published"]["trades"] < 20:
            await asyncio.sleep(0.02)
        now = datetime.now(UTC)
        recent = (now - timedelta(minutes=5)).isoformat()
        old = (now - timedelta(minutes=16)).isoformat()
        path = "/v2/stocks/trades"
        symbols: dict[str, Any] = {"symbols": "AAPL,MSFT", "start": old}
        refused = await get(http, path, 403, **symbols, end=recent)
        assert refused == {
            "code": 42210000,
            "message": "subscription does not permit querying recent SIP data",
        }
        await get(http, path, 403, symbols="AAPL", start=recent)
        assert (await get(http, path, **symbols))["trades"] == {}  # ends where the plan does
        assert (await get(http, path, **symbols, feed="iex"))["trades"]
        assert (await get(http, "/v2/stocks/trades/latest", symbols="AAPL,MSFT"))["trades"]
        await get(http, "/v2/stocks/trades/latest", 403, symbols="AAPL", feed="sip")
        await get(http, "/v2/stocks/snapshots", 403, symbols="AAPL", feed="sip")


async def test_a_market_that_never_rests_says_so(tmp_path: Path) -> None:
    """At night and on Sundays a mute socket of the demo would be taken for a closed market."""
    async with running(tmp_path) as http:
        clock = await get(http, "/v2/clock")
        assert clock["is_open"]
        assert datetime.fromisoformat(clock["next_close"]) > datetime.fromisoformat(
            clock["timestamp"][:26] + clock["timestamp"][-6:]
        )
        days = await get(http, "/v2/calendar", start="2026-11-20", end="2026-11-23")
        assert [day["date"][-2:] for day in days] == ["20", "21", "22", "23"]
        assert {(d["open"], d["close"], d["session_open"], d["session_close"]) for d in days} == {
            ("00:00", "23:59", "0000", "2359")
        }
    async with running(tmp_path, exchange_hours=True) as http:
        days = await get(http, "/v2/calendar", start="2026-11-20", end="2026-11-28")
        assert [(d["date"][-2:], d["close"]) for d in days] == [
            ("20", "16:00"), ("23", "16:00"), ("24", "16:00"), ("25", "16:00"), ("27", "13:00"),
        ]  # fmt: skip


async def test_the_book_of_rest_is_the_fold_of_what_was_sent(tmp_path: Path) -> None:
    """An audit of order books would find differences that are not there."""
    options = {"crypto_limit": 3_000, "crypto_messages_per_second": 3_000.0}
    async with (
        running(tmp_path, **options) as http,
        http.ws_connect("/v1beta3/crypto/us", headers=KEYS, max_msg_size=0) as ws,
    ):
        await subscribe(ws, trades=["*"])
        sides: dict[str, tuple[dict[float, float], dict[float, float]]] = {}
        while not any(message["T"] == "t" for message in await ws.receive_json()):
            pass
        await subscribe(ws, orderbooks=["BTC/USD", "ETH/USD"])  # in the middle of it
        reading = asyncio.create_task(_fold(ws, sides))
        status = await ended(http, "crypto")
        assert status["crypto"]["published"]["orderbooks"] > 100
        shown = await get(http, "/v1beta3/crypto/us/latest/orderbooks", symbols="BTC/USD,ETH/USD")
        expected = {p: (levels(b["b"]), levels(b["a"])) for p, b in shown["orderbooks"].items()}
        for _ in range(500):
            if sides == expected:
                break
            await asyncio.sleep(0.02)
        reading.cancel()
    assert sides == expected


def levels(rows: list[dict[str, float]]) -> dict[float, float]:
    return {row["p"]: row["s"] for row in rows}


async def _fold(ws: aiohttp.ClientWebSocketResponse, sides: Any) -> None:
    while True:
        for message in await ws.receive_json():
            if message["T"] != "o":
                continue
            if message.get("r"):
                sides[message["S"]] = ({}, {})
            for side, name in zip(sides[message["S"]], "ba", strict=True):
                side.update(levels(message[name]))
                for price in [price for price, size in side.items() if not size]:
                    del side[price]
