"""The unmodified alpaca-py works against the option venue; REST finds what the stream had.

Without these the first option message of a user would be the first that the producer ever met.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest
from alpaca.data.historical import OptionHistoricalDataClient
from alpaca.data.live import OptionDataStream
from alpaca.data.models import Quote, Trade
from alpaca.data.requests import (
    OptionBarsRequest,
    OptionLatestQuoteRequest,
    OptionLatestTradeRequest,
    OptionSnapshotRequest,
    OptionTradesRequest,
)
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit
from alpaca.trading.client import TradingClient
from alpaca.trading.requests import GetOptionContractsRequest

from simulator.app import Simulator, SimulatorOptions
from tests.contract.alpaca_py_stream import Keep, streaming
from tests.ledger_files import messages
from tidewire.config import load

KEYS = ("demo-key", "demo-secret")
ASKED = "AAPL491217C00250000"
START = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no .env of the developer


@asynccontextmanager
async def running(home: Path, **options: Any) -> AsyncIterator[Simulator]:
    defaults: dict[str, Any] = {"symbols": ("AAPL", "IBM"), "fresh": True, "option_limit": 600}
    chosen = SimulatorOptions(**(defaults | {"option_messages_per_second": 1_000.0} | options))
    simulator = Simulator(load(tidewire_home=home), chosen)
    await simulator.start()
    try:
        yield simulator
    finally:
        await simulator.stop()


def listening(simulator: Simulator, *, raw: bool) -> AbstractAsyncContextManager[list[Any]]:
    url = simulator.url.replace("http", "ws") + "/v1beta1/indicative"

    def subscribe(stream: OptionDataStream, keep: Keep) -> None:
        stream.subscribe_trades(keep, "*")
        stream.subscribe_quotes(keep, ASKED)

    return streaming(OptionDataStream(*KEYS, raw_data=raw, url_override=url), subscribe)


async def finished(simulator: Simulator) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http:
        for _ in range(1_500):
            async with http.get(f"{simulator.url}/sim/status") as answer:
                venue: dict[str, Any] = (await answer.json())["venues"]["options"]
            if venue["state"] == "finished":
                return venue
            await asyncio.sleep(0.02)
    raise AssertionError(f"the options never finished: {venue}")


def ledger(home: Path) -> list[dict[str, Any]]:
    return list(messages(home / "simulator" / "options" / "ledger"))


async def test_the_raw_stream_gets_what_the_ledger_holds_and_rest_finds_it(tmp_path: Path) -> None:
    """A completeness report of options would compare with something else than was sent."""
    async with running(tmp_path) as simulator:
        async with listening(simulator, raw=True) as got:
            status = await finished(simulator)
            while len(got) < sum(status["published"].values()):
                await asyncio.sleep(0.02)
        client = OptionHistoricalDataClient(*KEYS, url_override=simulator.url)
        await asyncio.to_thread(check_history, client, got)
        trading = TradingClient(*KEYS, url_override=simulator.url)
        request = GetOptionContractsRequest(underlying_symbols=["AAPL"])
        contracts = (await asyncio.to_thread(trading.get_option_contracts, request)).option_contracts
    assert got == ledger(tmp_path)
    assert {m["S"] for m in got if m["T"] == "q"} == {ASKED}
    assert contracts is not None
    assert len(contracts) == 6
    assert {c.symbol for c in contracts} & {m["S"] for m in got}


def check_history(client: OptionHistoricalDataClient, got: list[dict[str, Any]]) -> None:
    trades = [m for m in got if m["T"] == "t" and m["S"] == ASKED]
    quotes = [m for m in got if m["T"] == "q"]
    assert trades
    past = client.get_option_trades(OptionTradesRequest(symbol_or_symbols=ASKED, start=START)).data[ASKED]
    assert [(t.price, t.size) for t in past] == [(m["p"], m["s"]) for m in trades]
    minute = TimeFrame(1, TimeFrameUnit.Minute)
    bars = client.get_option_bars(OptionBarsRequest(symbol_or_symbols=ASKED, timeframe=minute, start=START))
    assert sum(bar.volume for bar in bars.data[ASKED]) == sum(m["s"] for m in trades)
    trade = client.get_option_latest_trade(OptionLatestTradeRequest(symbol_or_symbols=ASKED))[ASKED]
    quote = client.get_option_latest_quote(OptionLatestQuoteRequest(symbol_or_symbols=ASKED))[ASKED]
    assert (trade.price, quote.bid_price) == (trades[-1]["p"], quotes[-1]["bp"])
    snapshot = client.get_option_snapshot(OptionSnapshotRequest(symbol_or_symbols=ASKED))[ASKED]
    assert snapshot.latest_trade is not None
    assert snapshot.latest_trade.price == trades[-1]["p"]


async def test_the_model_stream_understands_every_message(tmp_path: Path) -> None:
    """alpaca-py drops the rest of a frame at the first message that it cannot read."""
    async with running(tmp_path) as simulator, listening(simulator, raw=False) as got:
        status = await finished(simulator)
        while len(got) < sum(status["published"].values()):
            await asyncio.sleep(0.02)
    assert sum(isinstance(m, Trade) for m in got) == status["published"]["trades"] > 0
    assert sum(isinstance(m, Quote) for m in got) == status["published"]["quotes"] > 0


async def test_the_plan_bounds_the_quotes_and_json_is_refused(tmp_path: Path) -> None:
    """How the producer lives with a plan's 200 quotes could not be tried."""
    headers = {"APCA-API-KEY-ID": KEYS[0], "APCA-API-SECRET-KEY": KEYS[1]}
    packed = {**headers, "Content-Type": "application/msgpack"}
    quotes = {"action": "subscribe", "quotes": [ASKED, ASKED.replace("C", "P")]}
    async with (
        running(tmp_path, option_quote_limit=1) as simulator,
        aiohttp.ClientSession(simulator.url) as http,
    ):
        async with http.ws_connect("/v1beta1/opra", headers=headers) as ws:
            await ws.receive()
            await ws.receive()
            await ws.send_json(quotes)
            assert (await ws.receive_json())[0]["code"] == 412
        async with http.ws_connect("/v1beta1/opra", headers=packed) as ws:
            await ws.receive()
            await ws.receive()
            await ws.send_bytes(msgpack.packb(quotes))
            assert msgpack.unpackb((await ws.receive()).data)[0]["code"] == 405


async def test_options_survive_a_restart(tmp_path: Path) -> None:
    """What was published before a restart would be missing in REST after it."""
    async with running(tmp_path) as simulator, listening(simulator, raw=True):
        await finished(simulator)
    before = ledger(tmp_path)
    trades = [m for m in before if m["T"] == "t" and m["S"] == ASKED]
    async with running(tmp_path, fresh=False) as simulator:
        status = await finished(simulator)
        client = OptionHistoricalDataClient(*KEYS, url_override=simulator.url)
        request = OptionTradesRequest(symbol_or_symbols=ASKED, start=START)
        past = (await asyncio.to_thread(client.get_option_trades, request)).data[ASKED]
    assert sum(status["published"].values()) == len(before)
    assert len(past) == len(trades)


FIXTURES = Path(__file__).parents[3] / "shared" / "data" / "alpaca" / "fixtures"


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="Alpaca's payloads are not beside the project")
async def test_contracts_have_alpacas_keys(tmp_path: Path) -> None:
    """Whoever looks for contracts by REST would find other fields at Alpaca."""
    async with running(tmp_path) as simulator, aiohttp.ClientSession(simulator.url) as http:
        headers = {"APCA-API-KEY-ID": KEYS[0], "APCA-API-SECRET-KEY": KEYS[1]}
        async with http.get("/v2/options/contracts?underlying_symbols=IBM", headers=headers) as answer:
            [ours, *_] = (await answer.json())["option_contracts"]
    for line in (FIXTURES / "rest_option_contract.jsonl").read_text().splitlines():
        payload = json.loads(line)["payload"]
        for row in payload.get("option_contracts", [payload]):
            if isinstance(row, dict) and isinstance(row.get("symbol"), str):
                assert set(row) <= set(ours)
    assert ours["symbol"].startswith("IBM")
    assert float(ours["strike_price"]) > 100
