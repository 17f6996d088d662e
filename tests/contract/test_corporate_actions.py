"""Unmodified alpaca-py against the simulated announcements, and activities as its models read them.

Without these the poller of corporate actions and the fold of activities would meet another protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from alpaca.data.enums import CorporateActionsType
from alpaca.data.historical.corporate_actions import CorporateActionsClient
from alpaca.data.models.corporate_actions import CorporateActionsSet
from alpaca.data.requests import CorporateActionsRequest
from alpaca.trading.models import NonTradeActivity

from simulator.app import Simulator, SimulatorOptions
from tidewire.config import load

FIXTURES = Path(__file__).parents[3] / "shared" / "data" / "alpaca" / "fixtures"
DAY = "2026-03-02"
KEYS = {"APCA-API-KEY-ID": "demo-key", "APCA-API-SECRET-KEY": "demo-secret"}


@asynccontextmanager
async def running(home: Path, **options: Any) -> AsyncIterator[Simulator]:
    chosen: dict[str, Any] = {
        "symbols": ("AAPL", "MSFT"),
        "wait_for_subscriber": False,
        "strategy": False,
    } | options
    simulator = Simulator(load(tidewire_home=home), SimulatorOptions(**chosen))
    await simulator.start()
    try:
        while not all(simulator.prices.quote(symbol) for symbol in ("AAPL", "MSFT", "BTC/USD")):
            await asyncio.sleep(0.02)
        yield simulator
    finally:
        await simulator.stop()


async def ask(simulator: Simulator, method: str, path: str, body: Any = None) -> Any:
    async with (
        aiohttp.ClientSession(headers=KEYS) as http,
        http.request(method, simulator.url + path, json=body) as response,
    ):
        data = await response.read()
        assert response.status < 300, (response.status, data)
        return orjson.loads(data) if data else None


async def announced(simulator: Simulator, **wanted: Any) -> dict[str, list[Any]]:
    client = CorporateActionsClient("demo-key", "demo-secret", url_override=simulator.url)
    asked = CorporateActionsRequest(**wanted)
    found = await asyncio.to_thread(client.get_corporate_actions, asked)
    assert isinstance(found, CorporateActionsSet)
    return {kind: list(actions) for kind, actions in found.data.items()}


def recorded() -> list[dict[str, Any]]:
    lines = (FIXTURES / "rest_corporate_actions.jsonl").read_bytes().splitlines()
    payloads = [orjson.loads(line)["payload"]["corporate_actions"] for line in lines[:2]]
    return [
        {"type": bucket[:-1], **action}
        for payload in payloads
        for bucket, actions in payload.items()
        for action in actions
    ]


@pytest.mark.skipif(not FIXTURES.exists(), reason="no recorded samples")
async def test_alpaca_py_reads_every_kind_as_it_was_recorded(tmp_path: Path) -> None:
    """A kind that only our own reading knows would pass here and fail at Alpaca."""
    async with running(tmp_path) as simulator:
        samples = recorded()
        for sample in samples:
            await ask(simulator, "POST", "/sim/corporate-actions", sample)
        found = await announced(simulator, start=date(2023, 1, 1), end=date(2024, 12, 31))
        raw = await ask(simulator, "GET", "/v1/corporate-actions?start=2023-01-01&end=2024-12-31&limit=1000")
    assert sum(map(len, found.values())) == len(samples)
    for sample in samples:
        kind = sample.pop("type") + "s"
        assert sample in raw["corporate_actions"][kind]


async def test_announcements_are_found_by_symbol_kind_and_day_page_by_page(tmp_path: Path) -> None:
    """A page that is not asked for is a split that nobody hears of."""
    async with running(tmp_path) as simulator:
        for n in range(7):
            body = {
                "type": "cash_dividend",
                "symbol": "AAPL",
                "rate": 0.25,
                "ex_date": f"2026-03-{n + 1:02d}",
            }
            await ask(simulator, "POST", "/sim/corporate-actions", body)
        split = {"type": "forward_split", "symbol": "MSFT", "old_rate": 1, "new_rate": 4, "ex_date": DAY}
        made = await ask(simulator, "POST", "/sim/corporate-actions", split)
        span = {"start": date(2026, 3, 1), "end": date(2026, 3, 31)}
        assert list(await announced(simulator, symbols=["MSFT"], **span)) == ["forward_splits"]
        kinds = [CorporateActionsType.CASH_DIVIDEND]
        assert list(await announced(simulator, types=kinds, **span)) == ["cash_dividends"]
        assert not await announced(simulator, symbols=["IBM"], **span)
        path = "/v1/corporate-actions?start=2026-03-01&end=2026-03-31&limit=3"
        pages, token = [], ""
        while token is not None:
            page = await ask(simulator, "GET", path + (f"&page_token={token}" if token else ""))
            pages.append(sum(map(len, page["corporate_actions"].values())))
            token = page["next_page_token"]
        assert pages == [3, 3, 2]
        await ask(simulator, "DELETE", f"/sim/corporate-actions/{made['id']}")
        assert not await announced(simulator, symbols=["MSFT"], **span)
        async with aiohttp.ClientSession(headers=KEYS) as http:
            for wrong in ("limit=0", "start=x", "sort=up", "page_token=x", "start=2026-04-01&end=2026-03-01"):
                async with http.get(f"{simulator.url}/v1/corporate-actions?{wrong}") as response:
                    assert response.status == 400, wrong


async def test_a_split_moves_prices_positions_and_activities_together(tmp_path: Path) -> None:
    """Quotes of the old basis after the split would set off every stop."""
    async with running(tmp_path) as simulator:
        order = {"symbol": "AAPL", "side": "buy", "type": "market", "qty": "8", "time_in_force": "day"}
        await ask(simulator, "POST", "/v2/orders", order)
        while simulator.broker.broker.accounts[1].book.quantity("AAPL") != 8:
            await asyncio.sleep(0.02)
        before = simulator.prices.quote("AAPL")
        assert before is not None
        await ask(simulator, "POST", "/sim/trading/split", {"symbol": "AAPL", "old_rate": 1, "new_rate": 4})
        at_once = simulator.prices.quote("AAPL")
        assert at_once is not None
        while (later := simulator.prices.quote("AAPL")) is None or later.ns <= before.ns:
            await asyncio.sleep(0.02)
        for quote in (at_once, later):
            assert abs(quote.ask * 4 / before.ask - 1) < Decimal("0.01")
            assert quote.bid < quote.ask
        (position,) = await ask(simulator, "GET", "/v2/positions")
        assert (position["qty"], position["qty_available"]) == ("32", "32")
        assert abs(Decimal(position["current_price"]) / later.ask - 1) < Decimal("0.01")
        shown = await ask(simulator, "GET", "/v2/account/activities/SPLIT?direction=asc")
        assert sorted(a["qty"] for a in shown) == ["-8", "32"]  # of one millisecond, as at Alpaca of one day
        assert len({a["group_id"] for a in shown}) == 1


async def test_activities_are_paged_filtered_and_read_by_alpaca_py(tmp_path: Path) -> None:
    """An activity that paging loses is a quantity that never again equals the broker's."""
    async with running(tmp_path) as simulator:
        await ask(simulator, "POST", "/sim/trading/crypto-fees", {"rate": "0.0025"})
        pair = {"symbol": "BTC/USD", "type": "market", "time_in_force": "gtc"}
        for side, qty in (("buy", "0.01"), ("buy", "0.02"), ("sell", "0.005")):
            await ask(simulator, "POST", "/v2/orders", pair | {"side": side, "qty": qty})
        order = {"symbol": "AAPL", "side": "buy", "type": "market", "qty": "8", "time_in_force": "day"}
        await ask(simulator, "POST", "/v2/orders", order)
        account = simulator.broker.broker.accounts[1]
        while account.holds.working["BTC/USD"] or account.holds.working["AAPL"]:
            await asyncio.sleep(0.02)
        await ask(simulator, "POST", "/sim/trading/dividend", {"symbol": "AAPL", "rate": "0.25"})
        await ask(simulator, "POST", "/sim/trading/split", {"symbol": "AAPL", "new_rate": 2})
        path = "/v2/account/activities"
        every = await ask(simulator, "GET", f"{path}?direction=asc")
        paged, token = [], ""
        while page := await ask(simulator, "GET", f"{path}?direction=asc&page_size=2{token}"):
            paged += page
            token = f"&page_token={page[-1]['id']}"
        assert paged == every == sorted(every, key=lambda a: str(a["id"]))
        kinds = [a["activity_type"] for a in every]
        assert kinds.count("CFEE") >= 3
        assert sorted(kinds[-3:]) == ["DIV", "SPLIT", "SPLIT"]
        others = await ask(simulator, "GET", f"{path}?category=non_trade_activity&direction=asc")
        assert others == [a for a in every if a["activity_type"] != "FILL"]
        for activity in others:
            read = NonTradeActivity(**activity)
            assert read.activity_type.value == activity["activity_type"]
        day = every[0]["id"][:4] + "-" + every[0]["id"][4:6] + "-" + every[0]["id"][6:8]
        assert await ask(simulator, "GET", f"{path}?date={day}&direction=asc") == every
        first, second = sorted(
            (a for a in every if a["activity_type"] == "SPLIT"), key=lambda a: str(a["created_at"])
        )
        assert await ask(simulator, "GET", f"{path}/SPLIT?after={first['created_at']}") == [second]
        assert await ask(simulator, "GET", f"{path}/SPLIT?until={first['created_at']}") == []


async def test_what_was_announced_and_split_is_so_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as simulator:
        body = {"type": "reverse_split", "symbol": "MSFT", "old_rate": 10, "new_rate": 1, "ex_date": DAY}
        made = await ask(simulator, "POST", "/sim/corporate-actions", body)
        before = simulator.prices.quote("MSFT")
        await ask(simulator, "POST", "/sim/trading/split", {"symbol": "MSFT", "old_rate": 10, "new_rate": 1})
    async with running(tmp_path) as simulator:
        found = await ask(simulator, "GET", f"/v1/corporate-actions?ids={made['id']}")
        assert found["corporate_actions"] == {"reverse_splits": [made]}
        quote = simulator.prices.quote("MSFT")
    assert before is not None
    assert quote is not None
    assert quote.ask > before.ask * 9
