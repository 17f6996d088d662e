"""Orders in a market of recorded ticks: its clock is years ago, and its exchange closes.

Without these a replayed day would stamp fills with today's time, or trade through the night.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from simulator.app import Simulator, SimulatorOptions
from tidewire.config import load

HEADER = "ms,bid,bid_size,ask,ask_size,exchange,condition,suspicious\n"
KEYS = {"APCA-API-KEY-ID": "demo-key", "APCA-API-SECRET-KEY": "demo-secret"}
HOUR_MS = 3_600_000
CLOSE_MS = 16 * HOUR_MS
ORDER = {"symbol": "BAC", "side": "buy", "type": "market", "qty": "30", "time_in_force": "day"}


@asynccontextmanager
async def replaying(home: Path) -> AsyncIterator[tuple[Simulator, aiohttp.ClientSession]]:
    """Quotes of BAC, 14.00 to 14.01, for hours before and after the close of 2013-10-07."""
    times = range(CLOSE_MS - 4 * HOUR_MS, CLOSE_MS + 3 * HOUR_MS, 10_000)
    rows = "".join(f"{ms},140000,9,140100,9,P,1,0\n" for ms in times)
    ticks = home / "bac_20131007_quote_tick.csv"
    ticks.write_text(HEADER + rows)
    options = SimulatorOptions(
        ticks=(ticks,), rate=200, fresh=True, wait_for_subscriber=True, orders_per_minute=None
    )
    simulator = Simulator(load(tidewire_home=home), options)
    await simulator.start()
    try:
        async with aiohttp.ClientSession(simulator.url, headers=KEYS) as http:
            yield simulator, http
    finally:
        await simulator.stop()


async def ask(http: aiohttp.ClientSession, path: str, body: Any = None) -> Any:
    method = "GET" if body is None else "POST"
    async with http.request(method, path, json=body) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def status(http: aiohttp.ClientSession, order: dict[str, Any], *wanted: str) -> dict[str, Any]:
    """The order, once it is in one of these states."""
    deadline = asyncio.get_running_loop().time() + 60
    while (found := await ask(http, f"/v2/orders/{order['id']}"))["status"] not in wanted:
        assert asyncio.get_running_loop().time() < deadline, f"it stayed {found['status']}"
        await asyncio.sleep(0.02)
    return dict(found)


async def test_a_replayed_day_ends(tmp_path: Path) -> None:
    async with replaying(tmp_path) as (simulator, http):
        assert simulator.broker.status()["updates"] == 0, "no house strategy in recorded ticks"
        async with http.post("/v2/orders", json={}) as answer:  # by now the exchange's calendar is loaded
            assert answer.status == 400
        ws = await http.ws_connect("/v2/iex")  # the tape starts with the first subscription
        await ws.send_json({"action": "auth", "key": "demo-key", "secret": "demo-secret"})
        await ws.send_json({"action": "subscribe", "trades": ["BAC"]})
        while simulator.prices.quote("BAC") is None:
            await asyncio.sleep(0.01)
        # 30 shares from quotes of 9: it takes four of them
        filled = await status(http, await ask(http, "/v2/orders", ORDER), "filled")
        assert "2013-10-07T16:00" <= filled["filled_at"] < "2013-10-07T20:00"
        assert filled["filled_avg_price"] == "14.01"
        (fill, *_) = await ask(http, "/v2/account/activities/FILL?direction=asc")
        assert "2013100712" <= fill["id"] < "2013100716", "by New York's clock"
        limit = {"type": "limit", "limit_price": "13"}
        expired = await status(http, await ask(http, "/v2/orders", ORDER | limit), "expired")
        # By the first tick after the close and after the order, however long that took to come in.
        assert "2013-10-07T20:00" <= expired["expired_at"] < "2013-10-07T21:00"
        late = await status(http, await ask(http, "/v2/orders", ORDER | {"qty": "1"}), "accepted")
        evening = {"type": "limit", "limit_price": "14.05", "extended_hours": True, "qty": "1"}
        traded = await status(http, await ask(http, "/v2/orders", ORDER | evening), "filled")
        assert "2013-10-07T20:00" < traded["filled_at"] < "2013-10-08"
        assert (await status(http, late, "accepted"))["expires_at"] == "2013-10-08T20:00:00Z"
        history = await ask(http, "/v2/account/portfolio/history?timeframe=1Min&period=1D")
        assert history["timestamp"][-1] // 86_400 == 15_985
