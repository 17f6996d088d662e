"""The unmodified alpaca-py works against the crypto and the news venue; venues keep to themselves.

Without these the demo's crypto and news would follow another protocol than Alpaca's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from alpaca.common.exceptions import APIError
from alpaca.data.historical import CryptoHistoricalDataClient, NewsClient
from alpaca.data.live import CryptoDataStream, NewsDataStream, StockDataStream
from alpaca.data.models import News, Orderbook, Quote, Trade
from alpaca.data.requests import (
    CryptoBarsRequest,
    CryptoLatestBarRequest,
    CryptoLatestOrderbookRequest,
    CryptoLatestQuoteRequest,
    CryptoLatestTradeRequest,
    CryptoQuoteRequest,
    CryptoSnapshotRequest,
    CryptoTradesRequest,
    NewsRequest,
)
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import AssetClass
from alpaca.trading.requests import GetAssetsRequest

from simulator.app import Simulator, SimulatorOptions
from tests.contract.alpaca_py_stream import Keep, streaming
from tests.ledger_files import messages
from tidewire.config import load

ROWS = 2_000
FIRST = 1_723_161_254_000_000_000  # 2024-08-08 23:54:14 UTC
START = datetime(2024, 8, 8, tzinfo=UTC)
KEYS = ("demo-key", "demo-secret")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no .env of the developer


def write_recording(folder: Path) -> None:
    """A trade and a quote of BTC and a book's change of ETH every 150 ms: five minutes."""
    head = b'{"stream":"x","data":{"s":"%s",'
    btc, eth = head % b"BTCUSDT", head % b"ETHUSDT"
    rows = [b'%d {"lastUpdateId":0,"bids":[["9.00","1"]],"asks":[["11.00","2"]]}' % (FIRST + 1)]
    for i in range(ROWS):
        at = FIRST + i * 150_000_000
        ms = at // 1_000_000
        price = b"%d.5" % (60_000 + i % 300)
        rows += [
            b'%d %s"u":1,"b":"%s","B":"1.5","a":"%d","A":"0.25"}}' % (at, btc, price, 60_001 + i % 300),
            b'%d %s"e":"trade","t":%d,"p":"%s","q":"0.001","T":%d,"m":%s}}'
            % (at, btc, i + 1, price, ms, b"true" if i % 2 else b"false"),
            b'%d %s"e":"depthUpdate","E":%d,"U":%d,"u":%d,"b":[["8.%d","3"]],"a":[]}}'
            % (at, eth, ms, i + 1, i + 1, i % 7),
        ]
    rows.insert(0, rows.pop(3))  # a line that names ETH comes before its whole book
    (folder / "mixed_20240808").write_bytes(b"\n".join(rows) + b"\n")


def write_news(folder: Path, count: int = 60) -> None:
    lines = [f'{i},"Headline {i}, of them",neutral,1,dev\n' for i in range(1, count + 1)]
    (folder / "few_headlines.csv").write_text("id,headline,label,n_entities,split\n" + "".join(lines))
    lines = [f"{i},x,{'Apple' if i % 3 else 'Bitcoin'},neutral,dev\n" for i in range(1, count + 1)]
    (folder / "few_entities.csv").write_text("headline_id,headline,entity,label,split\n" + "".join(lines))


def write_stocks(folder: Path) -> None:
    lines = (f"{36_000_000 + i},{1_800_000 + i % 500},100,N,1,0\n" for i in range(ROWS))
    path = folder / "ibm_20131007_trade_tick.csv"
    path.write_text("ms,price,size,exchange,condition,suspicious\n" + "".join(lines))


@pytest.fixture
def ticks(tmp_path: Path) -> Path:
    """A folder with input for all three venues."""
    folder = tmp_path / "ticks"
    folder.mkdir()
    write_recording(folder)
    write_news(folder)
    write_stocks(folder)
    return folder


@asynccontextmanager
async def running(home: Path, **options: Any) -> AsyncIterator[Simulator]:
    simulator = Simulator(load(tidewire_home=home), SimulatorOptions(fresh=True, **options))
    await simulator.start()
    try:
        yield simulator
    finally:
        await simulator.stop()


def ws(simulator: Simulator, path: str) -> str:
    return simulator.url.replace("http", "ws") + path


def crypto(simulator: Simulator, *, raw: bool = True) -> CryptoDataStream:
    return CryptoDataStream(*KEYS, raw_data=raw, url_override=ws(simulator, "/v1beta3/crypto/us"))


def news(simulator: Simulator, *, raw: bool = True) -> NewsDataStream:
    return NewsDataStream(*KEYS, raw_data=raw, url_override=ws(simulator, "/v1beta1/news"))


def everything(stream: CryptoDataStream, keep: Keep) -> None:
    stream.subscribe_trades(keep, "*")
    stream.subscribe_quotes(keep, "BTC/USD")
    stream.subscribe_bars(keep, "*")
    stream.subscribe_daily_bars(keep, "*")
    stream.subscribe_updated_bars(keep, "*")
    stream.subscribe_orderbooks(keep, "ETH/USD")


async def status_of(simulator: Simulator) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(f"{simulator.url}/sim/status") as answer:
        status: dict[str, Any] = await answer.json()
        return status


async def state_until(simulator: Simulator, venue: str, state: str) -> dict[str, Any]:
    for _ in range(1_500):
        status = await status_of(simulator)
        if status["venues"][venue]["state"] == state:
            return status
        await asyncio.sleep(0.02)
    raise AssertionError(f"{venue} never became {state}: {status}")


def ledger(home: Path, *names: str) -> list[dict[str, Any]]:
    return list(messages(home.joinpath("simulator", *names) / "ledger"))


async def test_the_raw_crypto_stream_gets_what_the_ledger_holds(ticks: Path, tmp_path: Path) -> None:
    """A completeness report of crypto would compare with something else than was sent."""
    async with (
        running(tmp_path, ticks=(ticks,), rate="max") as simulator,
        streaming(crypto(simulator), everything) as got,
    ):
        status = await state_until(simulator, "crypto", "finished")
        published = status["venues"]["crypto"]["published"]
        while len(got) < sum(published.values()):
            await asyncio.sleep(0.02)
    assert published == {"trades": ROWS, "quotes": ROWS, "bars": published["bars"], "orderbooks": ROWS + 1}
    assert got == ledger(tmp_path, "crypto")
    trades = [m for m in got if m["T"] == "t"]
    assert [m["i"] for m in trades] == list(range(1, ROWS + 1))
    assert {m["tks"] for m in trades} == {"B", "S"}
    minutes = [m for m in got if m["T"] == "b"]
    assert sum(m["n"] for m in minutes) == ROWS
    assert sum(m["v"] for m in minutes) == pytest.approx(ROWS * 0.001)
    [book] = [m for m in got if m["T"] == "o" and m.get("r")]
    # the change in front of the snapshot is newer than it, and still holds
    assert (book["S"], book["b"]) == ("ETH/USD", [{"p": 9.0, "s": 1.0}, {"p": 8.0, "s": 3.0}])
    assert status["published"] == {"trades": 0, "quotes": 0, "bars": 0}  # the stocks'
    assert status["state"] == "waiting"  # for subscribers of the others
    assert ledger(tmp_path) == ledger(tmp_path, "news") == []


async def test_the_model_stream_understands_crypto_and_news(ticks: Path, tmp_path: Path) -> None:
    """alpaca-py drops the rest of a frame at the first message that it cannot read."""
    async with (
        running(tmp_path, ticks=(ticks,), rate="max") as simulator,
        streaming(crypto(simulator, raw=False), everything) as coins,
        streaming(news(simulator, raw=False), lambda s, keep: s.subscribe_news(keep, "*")) as articles,
    ):
        await state_until(simulator, "crypto", "finished")
        await state_until(simulator, "news", "finished")
        while len(articles) < 60 or sum(isinstance(m, Trade) for m in coins) < ROWS:
            await asyncio.sleep(0.02)
    kinds = [sum(isinstance(m, kind) for m in coins) for kind in (Trade, Quote, Orderbook)]
    assert kinds == [ROWS, ROWS, ROWS + 1]
    assert [(a.headline, a.symbols) for a in articles if isinstance(a, News)][:3] == [
        ("Headline 1, of them", ["APPL"]),
        ("Headline 2, of them", ["APPL"]),
        ("Headline 3, of them", ["BITC"]),
    ]


async def test_a_star_is_a_star_of_one_venue(ticks: Path, tmp_path: Path) -> None:
    """A stock subscriber would get crypto trades, or the reverse, and fold them into stocks."""

    def trades(stream: Any, keep: Keep) -> None:
        stream.subscribe_trades(keep, "*")

    async with running(tmp_path, ticks=(ticks,), rate="max") as simulator:
        stock_stream = StockDataStream(*KEYS, raw_data=True, url_override=ws(simulator, "/v2/iex"))
        async with (
            streaming(stock_stream, trades) as stocks,
            streaming(crypto(simulator), trades) as coins,
            streaming(news(simulator), lambda s, keep: s.subscribe_news(keep, "BITC")) as articles,
        ):
            for venue in ("stocks", "crypto", "news"):
                status = await state_until(simulator, venue, "finished")
            while (len(stocks), len(coins)) != (ROWS, ROWS) or len(articles) < 20:
                await asyncio.sleep(0.02)
    assert ({m["S"] for m in stocks}, {m["S"] for m in coins}) == ({"IBM"}, {"BTC/USD"})
    assert len(articles) == 20  # only those that name the symbol
    assert status["state"] == "finished"
    assert status["published"]["trades"] == ROWS
    assert status["venues"]["news"]["published"] == {"news": 20}
    assert {m["T"] for m in ledger(tmp_path, "news")} == {"n"}
    assert {m["S"] for m in ledger(tmp_path)} == {"IBM"}


async def test_crypto_history_is_what_was_published(ticks: Path, tmp_path: Path) -> None:
    """A backfill of crypto would find other records than the stream had, or other pages than Alpaca's."""
    async with running(tmp_path, ticks=(ticks,), rate="max") as simulator:
        async with streaming(crypto(simulator), everything):
            await state_until(simulator, "crypto", "finished")
        client = CryptoHistoricalDataClient(*KEYS, url_override=simulator.url)
        await asyncio.to_thread(check_history, client)
        trading = TradingClient(*KEYS, url_override=simulator.url)
        pairs = await asyncio.to_thread(
            trading.get_all_assets, GetAssetsRequest(asset_class=AssetClass.CRYPTO)
        )
        assert {"BTC/USD", "ETH/USD"} <= {asset.symbol for asset in pairs if not isinstance(asset, str)}


def check_history(client: CryptoHistoricalDataClient) -> None:
    both = ["BTC/USD", "ETH/USD"]
    trades = client.get_crypto_trades(CryptoTradesRequest(symbol_or_symbols=both, start=START))
    assert [t.id for t in trades.data["BTC/USD"]] == list(range(1, ROWS + 1))
    quotes = client.get_crypto_quotes(
        CryptoQuoteRequest(symbol_or_symbols="BTC/USD", start=START, limit=ROWS - 1)
    )
    assert len(quotes.data["BTC/USD"]) == ROWS - 1
    minute = TimeFrame(1, TimeFrameUnit.Minute)
    bars = client.get_crypto_bars(
        CryptoBarsRequest(symbol_or_symbols="BTC/USD", timeframe=minute, start=START)
    )
    assert sum(b.trade_count for b in bars.data["BTC/USD"]) == ROWS
    day = client.get_crypto_bars(
        CryptoBarsRequest(symbol_or_symbols="BTC/USD", timeframe=TimeFrame.Day, start=START)
    )
    [bar] = day.data["BTC/USD"]
    assert (bar.timestamp, bar.trade_count) == (datetime(2024, 8, 8, 5, tzinfo=UTC), ROWS)
    latest = client.get_crypto_latest_trade(CryptoLatestTradeRequest(symbol_or_symbols=both))
    assert {pair: trade.id for pair, trade in latest.items()} == {"BTC/USD": ROWS}
    quote = client.get_crypto_latest_quote(CryptoLatestQuoteRequest(symbol_or_symbols="BTC/USD"))
    assert (quote["BTC/USD"].bid_size, quote["BTC/USD"].ask_size) == (1.5, 0.25)
    bars_now = client.get_crypto_latest_bar(CryptoLatestBarRequest(symbol_or_symbols="BTC/USD"))
    assert bars_now["BTC/USD"].trade_count == bars.data["BTC/USD"][-1].trade_count
    book = client.get_crypto_latest_orderbook(CryptoLatestOrderbookRequest(symbol_or_symbols="ETH/USD"))
    assert [b.price for b in book["ETH/USD"].bids] == [9.0, 8.6, 8.5, 8.4, 8.3, 8.2, 8.1, 8.0]
    snapshot = client.get_crypto_snapshot(CryptoSnapshotRequest(symbol_or_symbols=both))
    assert snapshot["BTC/USD"].latest_trade.id == ROWS
    with pytest.raises(APIError, match="invalid symbol"):
        client.get_crypto_latest_trade(CryptoLatestTradeRequest(symbol_or_symbols="btc"))


async def test_the_news_client_pages_through_what_was_published(ticks: Path, tmp_path: Path) -> None:
    """A repair of missed news would skip articles or fetch them without end."""
    async with running(tmp_path, ticks=(ticks,), rate="max") as simulator:
        async with streaming(news(simulator), lambda s, keep: s.subscribe_news(keep, "*")):
            await state_until(simulator, "news", "finished")
        await asyncio.to_thread(check_news, NewsClient(*KEYS, url_override=simulator.url))
        raw = NewsClient(*KEYS, url_override=simulator.url, raw_data=True)
        pages, token = [], None
        while True:
            page = await asyncio.to_thread(raw.get, "/news", {"limit": 7, "sort": "asc", "page_token": token})
            pages += page["news"]
            if (token := page["next_page_token"]) is None:
                break
        assert [a["id"] % 1000 for a in pages] == list(range(1, 61))
        for wrong in ({"limit": 51}, {"sort": "up"}, {"page_token": "%"}, {"start": "now"}):
            with pytest.raises(APIError) as refused:
                await asyncio.to_thread(raw.get, "/news", wrong)
            assert refused.value.status_code == 400


def check_news(client: NewsClient) -> None:
    newest = client.get_news(NewsRequest(limit=3)).data["news"]
    assert [a.id % 1000 for a in newest] == [60, 59, 58]
    assert newest[0].content == ""
    assert len(newest[0].images) == 3
    bitcoin = client.get_news(NewsRequest(symbols="BITC", include_content=True, limit=50)).data["news"]
    assert [a.id % 1000 for a in bitcoin] == list(range(60, 0, -3))
    assert bitcoin[0].content == "<p>Headline 60, of them</p>"
    noon = datetime(2024, 8, 8, 12, tzinfo=UTC)
    later = client.get_news(NewsRequest(start=noon, sort="asc", limit=50)).data["news"]
    assert [a.id % 1000 for a in later] == list(range(31, 61))


async def test_made_up_venues_run_around_the_clock(tmp_path: Path) -> None:
    """A demo without recordings would show neither coins nor news, or revisions as further articles."""
    options = {"crypto_limit": 500, "crypto_messages_per_second": 5_000.0, "news_limit": 40}
    async with running(tmp_path, **options, news_seconds=0.05, symbols=("AAPL",)) as simulator:
        async with (
            streaming(crypto(simulator), everything) as coins,
            streaming(news(simulator), lambda s, keep: s.subscribe_news(keep, "*")) as articles,
        ):
            await state_until(simulator, "crypto", "finished")
            status = await state_until(simulator, "news", "finished")
            while len(articles) < 40:
                await asyncio.sleep(0.02)
        client = NewsClient(*KEYS, url_override=simulator.url)
        found = await asyncio.to_thread(client.get_news, NewsRequest(limit=50))
    assert status["state"] == "finished"  # the stocks have no end, and are not waited for
    assert {"t", "q", "o", "b"} <= {m["T"] for m in coins}
    assert {a.id for a in found.data["news"]} == {m["id"] for m in articles}
    assert ledger(tmp_path, "news") == articles


async def test_a_new_subscriber_of_order_books_gets_whole_ones_first(tmp_path: Path) -> None:
    """A client that joins a running market could never tell what the deltas change."""
    async with running(tmp_path, crypto_messages_per_second=500.0) as simulator:
        async with streaming(crypto(simulator), lambda s, keep: s.subscribe_trades(keep, "*")) as first:
            while not first:
                await asyncio.sleep(0.02)
        async with streaming(
            crypto(simulator), lambda s, keep: s.subscribe_orderbooks(keep, "ETH/USD")
        ) as books:
            while not books:
                await asyncio.sleep(0.02)
    assert (books[0]["S"], books[0]["r"]) == ("ETH/USD", True)
    assert len(books[0]["b"]) == len(books[0]["a"]) == 10
    assert next(m for m in ledger(tmp_path, "crypto") if m["T"] == "o") == books[0]


async def test_a_fault_names_its_venue(ticks: Path, tmp_path: Path) -> None:
    """A test of crypto's misfortunes would disturb the stocks instead."""
    async with (
        running(tmp_path, ticks=(ticks,), rate=1_000) as simulator,
        aiohttp.ClientSession() as http,
        http.ws_connect(ws(simulator, "/v1beta3/crypto/eu-1")) as coins,
        http.ws_connect(ws(simulator, "/v2/sip")) as stocks,
    ):
        for socket in (coins, stocks):
            await socket.send_json({"action": "auth", "key": "demo-key-2", "secret": "demo-secret-2"})
            assert [(await socket.receive_json())[0]["msg"] for _ in range(2)] == [
                "connected", "authenticated",
            ]  # fmt: skip
        fault = f"{simulator.url}/sim/faults"
        async with http.post(fault, json={"kind": "close", "code": 1012, "venue": "crypto"}) as answer:
            assert await answer.json() == {"kind": "close", "sockets": 1}
        assert (await coins.receive()).data == 1012
        async with http.post(fault, json={"kind": "drop", "venue": "bonds"}) as answer:
            assert answer.status == 400
        await stocks.send_json({"action": "subscribe", "trades": ["BTC/USD"]})
        assert (await stocks.receive_json())[0]["T"] in ("subscription", "error")


@pytest.mark.parametrize(
    ("path", "command", "code"),
    [
        ("/v1beta3/crypto/us", {"trades": ["BTCUSD"]}, 400),
        ("/v1beta3/crypto/us", {"statuses": ["*"]}, 410),
        ("/v1beta1/news", {"trades": ["AAPL"]}, 410),
        ("/v1beta1/news", {"news": ["not a symbol"]}, 400),
    ],
)
async def test_what_a_venue_does_not_have_is_refused(
    tmp_path: Path, path: str, command: dict[str, Any], code: int
) -> None:
    """A mistaken subscription would be a mute socket instead of an error."""
    async with (
        running(tmp_path) as simulator,
        aiohttp.ClientSession() as http,
        http.ws_connect(ws(simulator, path), headers=header()) as socket,
    ):
        await socket.receive_json()
        await socket.receive_json()
        await socket.send_json({"action": "subscribe", **command})
        assert (await socket.receive_json())[0]["code"] == code


def header() -> dict[str, str]:
    return {"APCA-API-KEY-ID": KEYS[0], "APCA-API-SECRET-KEY": KEYS[1]}
