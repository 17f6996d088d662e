"""Unmodified alpaca-py trades against the simulated broker: orders, positions, account, trade updates.

Without these the account side of a demo would exercise another protocol than the one that a user meets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderClass, OrderSide, OrderStatus, QueryOrderStatus, TimeInForce
from alpaca.trading.models import TradeUpdate
from alpaca.trading.requests import (
    ClosePositionRequest,
    GetOrdersRequest,
    GetPortfolioHistoryRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    OptionLegRequest,
    ReplaceOrderRequest,
    StopLossRequest,
    TakeProfitRequest,
    TrailingStopOrderRequest,
)
from alpaca.trading.stream import TradingStream

from simulator.app import Simulator, SimulatorOptions
from tidewire.config import load

BUY, SELL, DAY, GTC = OrderSide.BUY, OrderSide.SELL, TimeInForce.DAY, TimeInForce.GTC


@asynccontextmanager
async def running(home: Path, **options: Any) -> AsyncIterator[Simulator]:
    defaults: dict[str, Any] = {"symbols": ("AAPL", "MSFT"), "wait_for_subscriber": False, "strategy": False}
    simulator = Simulator(load(tidewire_home=home), SimulatorOptions(**(defaults | options)))
    await simulator.start()
    try:
        await until(lambda: all(simulator.prices.quote(s) for s in ("AAPL", "MSFT", "BTC/USD")))
        yield simulator
    finally:
        await simulator.stop()


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def listening(simulator: Simulator, n: int, *, raw: bool) -> AsyncIterator[list[Any]]:
    suffix = "" if n == 1 else f"-{n}"
    url = simulator.url.replace("http", "ws") + "/stream"
    stream = TradingStream(f"demo-key{suffix}", f"demo-secret{suffix}", raw_data=raw, url_override=url)
    got: list[Any] = []

    async def keep(update: Any) -> None:
        got.append(update)

    stream.subscribe_trade_updates(keep)
    task = asyncio.create_task(stream._run_forever())
    before = sum(c.session.listening for c in simulator.broker.socket.clients)
    await until(lambda: sum(c.session.listening for c in simulator.broker.socket.clients) > before)
    try:
        yield got
    finally:
        task.cancel()  # stop_ws() would wait for its five seconds of silence
        await asyncio.gather(task, return_exceptions=True)
        await stream.close()


def client(simulator: Simulator, n: int = 1) -> TradingClient:
    suffix = "" if n == 1 else f"-{n}"
    return TradingClient(f"demo-key{suffix}", f"demo-secret{suffix}", url_override=simulator.url)


async def test_an_order_lives_and_every_socket_of_its_account_hears_it(tmp_path: Path) -> None:
    async with (
        running(tmp_path, fresh=True) as simulator,
        listening(simulator, 1, raw=True) as first,
        listening(simulator, 1, raw=False) as second,
        listening(simulator, 2, raw=True) as foreign,
    ):
        request = MarketOrderRequest(symbol="AAPL", qty=3, side=BUY, time_in_force=DAY, client_order_id="me")
        order = await asyncio.to_thread(client(simulator).submit_order, request)
        assert order.status == OrderStatus.PENDING_NEW
        await until(lambda: len(first) >= 3 and len(second) >= 3)
        assert not foreign
    assert [u["data"]["event"] for u in first] == ["pending_new", "new", "fill"]
    assert {u["stream"] for u in first} == {"trade_updates"}
    assert all(isinstance(update, TradeUpdate) for update in second)
    assert (second[-1].qty, second[-1].position_qty) == (3, 3)
    assert second[-1].order.client_order_id == "me"


def trade(api: TradingClient) -> None:
    """A day's work with the client; runs in a thread."""
    entry = api.submit_order(
        LimitOrderRequest(
            symbol="MSFT", qty=2, side=BUY, time_in_force=DAY, limit_price=1, order_class=OrderClass.BRACKET,
            take_profit=TakeProfitRequest(limit_price=2), stop_loss=StopLossRequest(stop_price=0.5),
        )
    )  # fmt: skip
    assert [leg.status for leg in entry.legs] == [OrderStatus.HELD, OrderStatus.HELD]
    replaced = api.replace_order_by_id(entry.id, ReplaceOrderRequest(limit_price=1.5))
    assert replaced.replaces == entry.id
    assert api.get_order_by_id(entry.id).status == OrderStatus.REPLACED
    nested = api.get_orders(GetOrdersRequest(nested=True))
    assert [(o.id, len(o.legs)) for o in nested] == [(replaced.id, 2)]
    assert len(api.get_orders(GetOrdersRequest(symbols=["MSFT"]))) == 3
    api.cancel_order_by_id(replaced.id)
    assert api.get_orders() == []
    everything = api.get_orders(GetOrdersRequest(status=QueryOrderStatus.ALL))
    assert {o.status for o in everything} == {OrderStatus.CANCELED, OrderStatus.REPLACED}
    later = GetOrdersRequest(status=QueryOrderStatus.ALL, after=entry.submitted_at)
    assert replaced.id in {o.id for o in api.get_orders(later)}

    bought = api.submit_order(MarketOrderRequest(symbol="AAPL", notional=900, side=BUY, time_in_force=DAY))
    assert bought.qty is None
    coins = api.submit_order(MarketOrderRequest(symbol="BTC/USD", qty=0.01, side=BUY, time_in_force=GTC))
    assert api.get_order_by_client_id(coins.client_order_id).id == coins.id
    stop = TrailingStopOrderRequest(symbol="AAPL", qty=1, side=SELL, time_in_force=DAY, trail_percent=50)
    with pytest.raises(APIError) as refused:
        api.submit_order(TrailingStopOrderRequest(**{**stop.model_dump(), "qty": 1_000}))
    assert (refused.value.status_code, refused.value.code) == (403, 40310000)
    assert refused.value.message.startswith("insufficient qty available for order (requested: 1000")
    api.submit_order(stop)


def option_spread(api: TradingClient) -> None:
    """A multi-leg order; runs in a thread."""
    legs = [
        OptionLegRequest(symbol=f"AAPL351221C{strike * 1000:08d}", side=side, ratio_qty=1)
        for strike, side in ((200, BUY), (300, SELL))
    ]
    order = api.submit_order(
        MarketOrderRequest(qty=1, time_in_force=DAY, order_class=OrderClass.MLEG, legs=legs)
    )
    filled = api.get_order_by_id(order.id)
    assert filled.status == OrderStatus.FILLED
    assert [leg.filled_qty for leg in filled.legs] == ["1", "1"]


def look(api: TradingClient) -> None:
    """Everything that can be read; runs in a thread."""
    account = api.get_account()
    assert (account.status.value, account.currency, account.multiplier) == ("ACTIVE", "USD", "4")
    assert float(account.equity) == pytest.approx(1_000_000, rel=0.01)
    positions = {p.symbol: p for p in api.get_all_positions()}
    assert {"AAPL", "BTCUSD", "AAPL351221C00200000"} <= positions.keys()
    held = positions["AAPL"]
    assert float(held.qty) - float(held.qty_available) == 1
    assert api.get_open_position("BTCUSD").asset_class.value == "crypto"
    assert api.get_open_position("BTC/USD").qty == "0.01"
    asset = api.get_asset("BTC/USD")
    assert (asset.asset_class.value, asset.fractionable, asset.shortable) == ("crypto", True, False)
    history = api.get_portfolio_history(GetPortfolioHistoryRequest(period="1D", timeframe="1Min"))
    assert history.equity
    assert len(history.equity) == len(history.timestamp) == len(history.profit_loss)
    configuration = api.get_account_configurations()
    configuration.suspend_trade = True
    assert api.set_account_configurations(configuration).suspend_trade
    with pytest.raises(APIError, match="suspended"):
        api.submit_order(MarketOrderRequest(symbol="AAPL", qty=1, side=BUY, time_in_force=DAY))
    configuration.suspend_trade = False
    api.set_account_configurations(configuration)
    fills = api.get("/account/activities/FILL", {"page_size": 2})
    rest = api.get("/account/activities/FILL", {"page_token": fills[-1]["id"]})
    ids = [f["id"] for f in (*fills, *rest)]
    assert ids == sorted(set(ids), reverse=True)
    assert len(api.get("/account/activities", {"activity_types": "FILL"})) == len(ids)
    assert ids[::-1] == [f["id"] for f in api.get("/account/activities/FILL", {"direction": "asc"})]
    after = api.get("/account/activities/FILL", {"after": rest[-1]["transaction_time"]})
    assert len(after) == len(ids) - 1


def leave(api: TradingClient) -> None:
    """Close everything; runs in a thread."""
    half = api.close_position("BTCUSD", ClosePositionRequest(percentage="50"))
    assert (half.side, half.qty) == (SELL, "0.005")
    answers = api.close_all_positions(cancel_orders=True)
    assert {a.status for a in answers} == {200}
    assert api.cancel_orders() == []


async def test_the_trading_client_finds_everything_as_at_alpaca(tmp_path: Path) -> None:
    async with running(tmp_path, fresh=True) as simulator:
        api = client(simulator)
        book = simulator.broker.broker.accounts[1].book
        for step in (trade, option_spread):
            await asyncio.to_thread(step, api)
        await until(lambda: len(book.open_positions()) == 4)
        await asyncio.to_thread(look, api)
        await asyncio.to_thread(leave, api)
        await until(lambda: not book.open_positions())
        assert client(simulator, 2).get_all_positions is not None
        assert await asyncio.to_thread(client(simulator, 2).get_all_positions) == []


async def test_keys_and_the_rate_limit(tmp_path: Path) -> None:
    async with (
        running(tmp_path, fresh=True, orders_per_minute=3) as simulator,
        aiohttp.ClientSession(simulator.url) as http,
    ):
        async with http.get("/v2/account") as answer:
            assert answer.status == 401
            assert (await answer.json())["code"] == 40110000
        headers = {"APCA-API-KEY-ID": "demo-key", "APCA-API-SECRET-KEY": "demo-secret"}
        statuses = []
        for _ in range(5):
            async with http.get("/v2/positions", headers=headers) as answer:
                statuses.append(answer.status)
                assert answer.headers["X-RateLimit-Limit"] == "3"
    assert statuses[:3] == [200] * 3
    assert 429 in statuses


async def test_the_stream_speaks_alpacas_protocol(tmp_path: Path) -> None:
    async with (
        running(tmp_path, fresh=True) as simulator,
        aiohttp.ClientSession(simulator.url) as http,
        http.ws_connect("/stream") as ws,
    ):
        await ws.send_json({"action": "listen", "data": {"streams": ["trade_updates"]}})
        await ws.send_json({"action": "auth", "key": "demo-key", "secret": "wrong"})
        await ws.send_bytes(b'{"action":"auth","key":"demo-key","secret":"demo-secret"}')
        await ws.send_json({"action": "listen", "data": {"streams": ["trade_updates", "other"]}})
        await ws.send_json({"action": "listen", "data": {"streams": []}})
        answers = [await ws.receive() for _ in range(5)]
        assert {a.type for a in answers} == {aiohttp.WSMsgType.BINARY}
        assert [a.json() for a in answers] == [
            {"stream": "authorization", "data": {"status": "unauthorized", "action": "listen"}},
            {"stream": "authorization", "data": {"status": "unauthorized", "action": "authenticate"}},
            {"stream": "authorization", "data": {"status": "authorized", "action": "authenticate"}},
            {"stream": "listening", "data": {"streams": ["trade_updates"]}},
            {"stream": "listening", "data": {"streams": []}},
        ]
        async with http.post("/sim/trading/faults", json={"kind": "error"}) as answer:
            assert (await answer.json())["sockets"] == 1
        message = (await ws.receive()).json()
        assert message == {"action": "error", "data": {"error_message": "internal server error"}}
        assert (await ws.receive()).type == aiohttp.WSMsgType.CLOSE


async def test_a_client_that_does_not_read_is_closed(tmp_path: Path) -> None:
    async with (
        running(tmp_path, fresh=True, trading_bytes=100_000, orders_per_minute=None) as simulator,
        aiohttp.ClientSession(simulator.url) as http,
        http.ws_connect("/stream", autoclose=False) as ws,
    ):
        await ws.send_json({"action": "auth", "key": "demo-key", "secret": "demo-secret"})
        await ws.send_json({"action": "listen", "data": {"streams": ["trade_updates"]}})
        (slow,) = simulator.broker.socket.clients
        await until(lambda: slow.session.listening)
        order = {"symbol": "AAPL", "side": "buy", "type": "market", "qty": "1", "time_in_force": "day"}
        for _ in range(200):  # without a pause, so that nothing leaves in between
            simulator.broker.broker.submit(1, order)
        simulator.broker.flush()
        assert slow.ending
        await until(lambda: not simulator.broker.socket.clients or slow.ending)
