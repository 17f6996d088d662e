"""The unmodified alpaca-py works against the simulator: stream, history, clock, calendar, assets.

Without these the demo would exercise another protocol than the one that a user meets at Alpaca.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from alpaca.common.exceptions import APIError
from alpaca.data.historical import StockHistoricalDataClient
from alpaca.data.live import StockDataStream
from alpaca.data.models import Quote, Trade
from alpaca.data.requests import (
    StockBarsRequest,
    StockLatestQuoteRequest,
    StockLatestTradeRequest,
    StockQuotesRequest,
    StockSnapshotRequest,
    StockTradesRequest,
)
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit
from alpaca.trading.client import TradingClient
from alpaca.trading.requests import GetCalendarRequest

from simulator.app import Simulator, SimulatorOptions
from tidewire.config import load

HEADER = "ms,price,size,exchange,condition,suspicious\n"
QUOTE_HEADER = "ms,bid,bid_size,ask,ask_size,exchange,condition,suspicious\n"
TRADES = 4_000
START = datetime(2013, 10, 7, tzinfo=UTC)


@pytest.fixture
def ticks(tmp_path: Path) -> Path:
    """Trades of IBM and quotes of BAC over ten minutes from 10:00 in New York."""
    folder = tmp_path / "ticks"
    folder.mkdir()
    trades = "".join(
        f"{36_000_000 + i * 150},{1_800_000 + i % 500},{100 + i % 7},N,1,0\n" for i in range(TRADES)
    )
    (folder / "ibm_20131007_trade_tick.csv").write_text(HEADER + trades)
    quotes = "".join(
        f"{36_000_000 + i * 600},140000,{i + 1},0,0,P,1,0\n{36_000_000 + i * 600},0,0,140100,5,Q,1,0\n"
        for i in range(1_000)
    )
    (folder / "bac_20131007_quote_tick.csv").write_text(QUOTE_HEADER + quotes)
    return folder


@asynccontextmanager
async def running(home: Path, **options: Any) -> AsyncIterator[Simulator]:
    simulator = Simulator(load(tidewire_home=home), SimulatorOptions(**options))
    await simulator.start()
    try:
        yield simulator
    finally:
        await simulator.stop()


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def streaming(simulator: Simulator, *, raw: bool) -> AsyncIterator[tuple[StockDataStream, list[Any]]]:
    url = simulator.url.replace("http", "ws") + "/v2/sip"
    stream = StockDataStream("demo-key", "demo-secret", raw_data=raw, url_override=url)
    got: list[Any] = []

    async def keep(message: Any) -> None:
        got.append(message)

    stream.subscribe_trades(keep, "IBM")
    stream.subscribe_quotes(keep, "*")
    stream.subscribe_bars(keep, "IBM")
    task = asyncio.create_task(stream._run_forever())
    try:
        yield stream, got
    finally:
        await stream.stop_ws()
        await asyncio.wait_for(task, 30)


async def test_the_raw_stream_gets_every_message_in_order(ticks: Path, tmp_path: Path) -> None:
    async with (
        running(tmp_path, ticks=(ticks,), rate="max", fresh=True) as simulator,
        streaming(simulator, raw=True) as (_, got),
    ):
        await until(lambda: len(got) >= TRADES + 1_000 + 10)
        trades = [m for m in got if m["T"] == "t"]
        quotes = [m for m in got if m["T"] == "q"]
        bars = [m for m in got if m["T"] == "b"]
    assert [m["i"] for m in trades] == list(range(1, TRADES + 1))
    assert trades[1] | {"t": 0} == {
        "T": "t", "S": "IBM", "i": 2, "x": "N", "p": 180.0001, "s": 101, "c": [" "], "t": 0, "z": "A",
    }  # fmt: skip
    assert [m["bs"] for m in quotes] == list(range(1, 1_001))
    assert {(m["bx"], m["ax"], m["bp"], m["ap"]) for m in quotes} == {("P", "Q", 14.0, 14.01)}
    assert sum(m["n"] for m in bars) == TRADES
    assert len(bars) == 10


async def test_the_model_stream_understands_every_message(ticks: Path, tmp_path: Path) -> None:
    async with (
        running(tmp_path, ticks=(ticks,), rate="max", fresh=True) as simulator,
        streaming(simulator, raw=False) as (_, got),
    ):
        await until(lambda: len(got) >= TRADES + 1_000 + 10)
    trade = next(m for m in got if isinstance(m, Trade))
    assert (trade.symbol, trade.id, trade.price, trade.size, trade.exchange) == ("IBM", 1, 180.0, 100.0, "N")
    assert trade.timestamp == datetime(2013, 10, 7, 14, tzinfo=UTC)
    assert sum(isinstance(m, Quote) for m in got) == 1_000


@pytest.fixture
def history() -> Callable[[Simulator], StockHistoricalDataClient]:
    return lambda simulator: StockHistoricalDataClient("demo-key", "demo-secret", url_override=simulator.url)


async def test_history_is_what_was_published(
    ticks: Path, tmp_path: Path, history: Callable[[Simulator], StockHistoricalDataClient]
) -> None:
    async with running(tmp_path, ticks=(ticks,), rate="max", fresh=True) as simulator:
        async with streaming(simulator, raw=True) as (_, got):
            await until(lambda: len(got) >= TRADES + 1_000 + 10)
        client = history(simulator)
        await asyncio.to_thread(check_history, client)


def check_history(client: StockHistoricalDataClient) -> None:
    trades = client.get_stock_trades(StockTradesRequest(symbol_or_symbols=["IBM", "BAC"], start=START))
    assert [t.id for t in trades.data["IBM"]] == list(range(1, TRADES + 1))
    some = client.get_stock_trades(
        StockTradesRequest(
            symbol_or_symbols="IBM",
            start=datetime(2013, 10, 7, 14, 0, 1, tzinfo=UTC),
            end=datetime(2013, 10, 7, 14, 0, 2, tzinfo=UTC),
        )
    )
    assert [t.id for t in some.data["IBM"]] == list(range(8, 15))  # 1.05 s ... 1.95 s
    quotes = client.get_stock_quotes(StockQuotesRequest(symbol_or_symbols="BAC", start=START, limit=999))
    assert [q.bid_size for q in quotes.data["BAC"]] == list(range(1, 1_000))
    minute = TimeFrame(1, TimeFrameUnit.Minute)
    bars = client.get_stock_bars(StockBarsRequest(symbol_or_symbols="IBM", timeframe=minute, start=START))
    assert sum(b.trade_count for b in bars.data["IBM"]) == TRADES
    day = client.get_stock_bars(
        StockBarsRequest(symbol_or_symbols="IBM", timeframe=TimeFrame.Day, start=START)
    )
    [bar] = day.data["IBM"]
    assert (bar.timestamp, bar.trade_count) == (datetime(2013, 10, 7, 4, tzinfo=UTC), TRADES)
    latest = client.get_stock_latest_trade(StockLatestTradeRequest(symbol_or_symbols="IBM"))
    assert latest["IBM"].id == TRADES
    assert (
        client.get_stock_latest_quote(StockLatestQuoteRequest(symbol_or_symbols="BAC"))["BAC"].bid_size
        == 1_000
    )
    snapshot = client.get_stock_snapshot(StockSnapshotRequest(symbol_or_symbols=["IBM"]))["IBM"]
    assert snapshot.latest_trade.id == TRADES
    assert snapshot.daily_bar.trade_count == TRADES


async def test_the_trading_client_reads_clock_calendar_and_assets(ticks: Path, tmp_path: Path) -> None:
    async with running(tmp_path, ticks=(ticks,), rate="max", fresh=True) as simulator:
        async with streaming(simulator, raw=True) as (_, got):
            await until(lambda: len(got) >= TRADES)
        client = TradingClient("demo-key", "demo-secret", url_override=simulator.url)
        await asyncio.to_thread(check_trading, client)


def check_trading(client: TradingClient) -> None:
    clock = client.get_clock()
    assert clock.is_open  # the tape's time is a Monday morning of 2013
    assert clock.next_close.astimezone(UTC) == datetime(2013, 10, 7, 20, tzinfo=UTC)
    days = client.get_calendar(GetCalendarRequest(start=date(2013, 11, 27), end=date(2013, 12, 2)))
    assert [(d.date.day, d.close.hour) for d in days] == [(27, 16), (29, 13), (2, 16)]
    assets = {asset.symbol: asset for asset in client.get_all_assets()}
    assert {"IBM", "BAC", "AAPL"} <= set(assets)
    assert client.get_asset("IBM").id == assets["IBM"].id
    with pytest.raises(APIError):
        client.get_asset("NOSUCH")


async def test_wrong_keys_and_too_many_requests_are_refused_as_by_alpaca(ticks: Path, tmp_path: Path) -> None:
    async with running(tmp_path, ticks=(ticks,), fresh=True, requests_per_minute=2) as simulator:
        wrong = TradingClient("demo-key", "wrong", url_override=simulator.url)
        right = TradingClient("demo-key", "demo-secret", url_override=simulator.url)
        right._retry = 0
        with pytest.raises(APIError) as refused:
            await asyncio.to_thread(wrong.get_all_assets)
        assert refused.value.status_code == 403
        # a minute may end in between, and the count begin anew: but five requests always meet the limit
        codes = [await asyncio.to_thread(status_of, right.get_all_assets) for _ in range(5)]
        assert codes[:1] == [200]
        assert 429 in codes


def status_of(request: Callable[[], object]) -> int:
    try:
        request()
    except APIError as error:
        return int(error.status_code)
    return 200


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no .env of the developer
